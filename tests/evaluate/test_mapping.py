"""Mapping: every neuron on one core, no core over a limit, and the core counts of a published compile log."""

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd_deploy.chips import Quantity, load_chip
from snnkd_deploy.evaluate import count_ops, expected_counts, fit
from snnkd_deploy.evaluate.mapping.loihi1 import list_words
from snnkd_deploy.evaluate.mapping.placement import Mesh
from snnkd_deploy.evaluate.mapping.region import mask_of, sources_of_box
from snnkd_deploy.evaluate.wiring import wiring
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import Profile
from snnkd_deploy.report.schema import Fit

# lava-dl, PilotNet-LIF benchmark notebook: cores of each layer in the compile log, 74 in all.
COMPILE_LOG = {"in": 13, "n1": 25, "n2": 13, "n3": 3, "n4": 3, "n5": 2, "n6": 12, "n7": 1, "n8": 1, "n9": 1}


def test_pilotnet_core_counts(make):
    report = fit(make.pilotnet(), "loihi2")
    for layer, cores in COMPILE_LOG.items():
        assert report.cores_by_layer[layer] == pytest.approx(cores, rel=0.2), layer
    assert report.cores == pytest.approx(74, rel=0.2)
    assert report.fits
    assert report.chips == 1
    assert set(report.unchecked) == {"in_axons_per_core", "out_axons_per_core"}
    Fit.model_validate(report.to_dict())


@st.composite
def networks(draw, make):
    net = make.Net((draw(st.integers(1, 8)), draw(st.integers(5, 24)), draw(st.integers(5, 24))))
    for i in range(draw(st.integers(1, 2))):
        size = min(net.shape()[1:])
        kernel = draw(st.integers(1, min(3, size)))
        net.conv(f"c{i}", draw(st.sampled_from([4, 16, 48])), kernel, draw(st.integers(1, 2)), draw(st.integers(0, 1)))
        net.lif(f"n{i}")
    net.flatten("f").linear("w", draw(st.integers(1, 300))).lif("o")
    return net.build()


@settings(max_examples=15, deadline=None)
@given(data=st.data(), chip=st.sampled_from(["loihi1", "loihi2"]), share=st.booleans())
def test_every_neuron_once_and_no_core_over_a_limit(make, data, chip, share):
    model = data.draw(networks(make))
    report = fit(model, chip, share=share)
    for layer in wiring(model).layers:
        placed = np.zeros(model.shapes[layer], dtype=int)
        for tile in report.tiles:
            if tile.layer == layer:
                placed[tuple(slice(a, b) for a, b in tile.box)] += 1
        assert (placed == 1).all()
    assert report.placement is not None
    limits = report.placement.limits
    use: dict[tuple[int, int], dict[str, float]] = {}
    for tile in report.tiles:
        core = use.setdefault((tile.chip, tile.core), {})
        for key, amount in tile.need.items():
            core[key] = core.get(key, 0.0) + amount
    over = [key for core in use.values() for key, amount in core.items() if key in limits and amount > limits[key]]
    assert bool(over) == (not report.fits)
    assert report.fits or report.violations
    assert len(use) == report.cores
    assert max(core for _, core in use) < 128


def test_violations_name_resource_numbers_and_remedy(make):
    model = make.Net((5000,)).linear("w", 8).lif("o").build()
    report = fit(model, "loihi1")
    assert report.fits is False
    (problem,) = report.violations
    assert problem.where == "o"
    assert "5000 in-axons" in problem.need
    assert "4096" in problem.have
    assert problem.remedy


def test_spill_to_more_chips(make):
    model = make.Net((1,)).linear("w", 200_000).lif("o").build()
    report = fit(model, "loihi1")
    assert report.fits
    assert report.chips == 2
    assert {t.chip for t in report.tiles} == {0, 1}
    assert max(t.core for t in report.tiles) == 127


def test_soft_reset_takes_two_compartments(make):
    hard = make.Net((4,)).linear("w", 900).lif("o").build()
    soft = make.Net((4,), reset="subtract").linear("w", 900).lif("o").build()
    assert fit(hard, "loihi1").cores == 1
    assert fit(soft, "loihi1").cores == 2


def test_unknown_limits_are_listed_not_used(make):
    chip = load_chip("loihi1")
    unknown = Quantity(unit="unknown", kind="unknown", source="-")
    chip = chip.model_copy(update={"limits": chip.limits | {"in_axons_per_core": unknown}})
    report = fit(make.Net((5000,)).linear("w", 8).lif("o").build(), chip)
    assert "in_axons_per_core" in report.unchecked
    assert report.fits


def test_axon_packing():
    """64-bit words of a synapse list: blocks of 64 weights of 8 bits with a 10-bit header."""
    assert list_words(1) == 1
    assert list_words(6) == 1  # 58 bits
    assert list_words(7) == 2  # 66 bits
    assert list_words(64) == 9  # 522 bits
    assert list_words(128) == 18


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_sources_of_a_block_are_those_of_the_connection_matrix(make, data):
    import torch

    from snnkd_deploy.backends.layers import linear_map

    net = make.Net((4, 7, 6))
    if data.draw(st.booleans()):
        net.pool("p", 2)
    net.conv(
        "c",
        4,
        data.draw(st.integers(1, 2)),
        data.draw(st.integers(1, 2)),
        data.draw(st.integers(0, 1)),
        groups=data.draw(st.sampled_from([1, 2])),
    )
    model = net.lif("n").build()
    connection = wiring(model).connections[0]
    arrival = connection.arrivals[0]
    box = tuple(
        (start := data.draw(st.integers(0, size - 1)), data.draw(st.integers(start + 1, size)))
        for size in model.shapes["n"]
    )
    eye = torch.eye(4 * 7 * 6).reshape(-1, 4, 7, 6)
    if "p" in model.nodes:
        eye = torch.nn.functional.avg_pool2d(eye, 2)
    out = linear_map(model.nodes["c"], torch.ones(np.asarray(model.nodes["c"].weight).shape))(eye)
    inside = out[(slice(None), *(slice(a, b) for a, b in box))].flatten(1).sum(1) > 0
    assert np.array_equal(mask_of(sources_of_box(model, connection, arrival, box)).flatten(), inside.numpy())


def test_messages_and_hops_of_a_layer_on_three_cores(make):
    """Each spike is one message per destination core; hops follow the snake over the tiles."""
    model = make.Net((4,)).linear("w1", 4).lif("a").linear("w2", 3000).lif("b").build()
    report = fit(model, "loihi1")
    assert report.cores_by_layer == {"a": 1, "b": 3}
    trace, inputs = make.random_run(model, 5, 2)
    counts = count_ops(model, trace, inputs)
    assert report.placement is not None
    routed = report.placement.route(counts)
    spikes = counts.layer("a").spikes_per_sample
    assert routed.layer("a").messages == pytest.approx(3 * spikes)
    assert routed.layer("b").messages == 0
    assert routed.layer("b").messages_in == pytest.approx(3 * spikes)
    assert routed.input_messages == pytest.approx(counts.input_spikes)
    assert routed.messages_intra_tile == pytest.approx(3 * spikes)  # four cores a tile
    assert (routed.hops_ew, routed.hops_ns) == (0, 0)


def test_snake_order():
    mesh = Mesh(columns=8, rows=4, cores_per_tile=4)
    assert mesh.position(0) == mesh.position(3) == (0, 0)
    assert mesh.position(31) == (7, 0)
    assert mesh.position(32) == (7, 1)
    assert mesh.position(127) == (0, 3)


def test_loihi2_has_no_published_mesh(make):
    model = make.Net((4,)).linear("w1", 4).lif("a").linear("w2", 3).lif("b").build()
    report = fit(model, "loihi2")
    assert report.placement is not None
    routed = report.placement.route(expected_counts(model, 0.5, 4, input_rate=0.5))
    assert routed.hops_ew is None
    assert routed.layer("a").messages == pytest.approx(8)


def test_a_population_of_bias_currents_needs_no_synapses(make):
    net = make.Net((2, 4, 4), encoding="current").lif("n")
    report = fit(net.build(), "loihi2")
    assert report.fits
    assert report.tiles[0].need["synapse memory"] == 0
    assert isinstance(net.nodes["n"], nir.LIF)


def hops(report, counts):
    routed = report.placement.route(counts)
    return routed.hops_ew + routed.hops_ns


def test_swapping_cores_shortens_the_way(make):
    """Branches whose cores lie apart at first: 2-opt may not be worse, and must keep every neuron."""
    net = make.Net((4,))
    for branch in range(6):
        net.linear(f"w{branch}", 1500, source="input").lif(f"a{branch}")
    for branch in range(6):
        net.linear(f"v{branch}", 40, source=f"a{branch}").lif(f"b{branch}")
    net.add("output", nir.Output({"output": np.array([40])}), [f"b{branch}" for branch in range(6)])
    graph = nir.NIRGraph(net.nodes, net.edges, type_check=False)
    model = Model(graph, Profile(dt_s=1e-3, reset="zero", encoding=net.encoding))
    counts = expected_counts(model, 0.3, 5, input_rate=0.3)
    before, after = fit(model, "loihi1"), fit(model, "loihi1", counts=counts)
    assert hops(after, counts) < hops(before, counts)
    assert sorted((t.layer, t.box) for t in before.tiles) == sorted((t.layer, t.box) for t in after.tiles)
    assert len({(t.chip, t.core) for t in after.tiles}) == after.cores
    assert fit(model, "loihi1", counts=counts).tiles == after.tiles


def test_small_layers_share_a_core_on_request(make):
    model = make.Net((20,)).linear("w1", 50).lif("a").linear("w2", 10).lif("b").linear("w3", 900).lif("c").build()
    assert fit(model, "loihi1").cores == 3
    report = fit(model, "loihi1", share=True)
    assert report.cores == 2
    assert report.tiles[0].core == report.tiles[1].core
    assert report.fits
    assert all(use <= 1 for use in report.utilisation.values())
    counts = expected_counts(model, 0.1, 4, input_rate=0.1)
    assert report.placement is not None
    routed = report.placement.route(counts)
    assert routed.layer("a").messages == pytest.approx(counts.layer("a").spikes_per_sample)
