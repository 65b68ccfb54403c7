"""Rules of Speck, Xylo, TrueNorth and SpiNNaker 2: by hand, and what must hold on every chip."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd_deploy.chips import list_chips, load_chip
from snnkd_deploy.evaluate import check_fit, fit
from snnkd_deploy.evaluate.mapping.matching import match
from snnkd_deploy.evaluate.mapping.truenorth import AXONS, SPLITTER, TrueNorth
from snnkd_deploy.evaluate.wiring import wiring
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.zoo import build_student
from snnkd_deploy.report.schema import Fit

MAPPED = [name for name in list_chips() if load_chip(name).cores.mapping != "none"]


@st.composite
def networks(draw, make):
    """Small nets of which some fit each chip: maps of few channels, or flat ones."""
    if draw(st.booleans()):
        size = draw(st.integers(5, 14))
        net = make.Net((draw(st.integers(1, 3)), size, size))
        for i in range(draw(st.integers(1, 2))):
            kernel = draw(st.integers(1, min(3, *net.shape()[1:])))
            net.conv(
                f"c{i}", draw(st.sampled_from([2, 6, 20])), kernel, draw(st.integers(1, 2)), draw(st.integers(0, 1))
            )
            net.lif(f"n{i}")
        net.flatten("f")
    else:
        net = make.Net((draw(st.integers(1, 40)),)).linear("h", draw(st.integers(1, 300))).lif("n")
    return net.linear("w", draw(st.integers(1, 40))).lif("o").build()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), name=st.sampled_from(MAPPED))
def test_every_neuron_once_and_no_core_over_a_limit(make, data, name):
    model = data.draw(networks(make))
    chip = load_chip(name)
    report = fit(model, chip)
    Fit.model_validate(report.to_dict())
    assert report.fits is (not report.violations)
    assert all(p.what and p.where for p in report.violations)
    if not report.fits:
        return
    for layer in wiring(model).layers:
        placed = np.zeros(model.shapes[layer], dtype=int)
        for tile in report.tiles:
            if tile.layer == layer:
                placed[tuple(slice(a, b) for a, b in tile.box)] += 1
        assert (placed == 1).all()
    assert report.placement is not None
    use: dict[tuple[int, int], dict[str, float]] = {}
    for tile in report.tiles:
        core = use.setdefault((tile.chip, tile.core), {})
        for key, amount in tile.need.items():
            core[key] = core.get(key, 0.0) + amount
    for (_, number), core in use.items():
        limits = report.core_limits.get(number, report.placement.limits)
        assert all(amount <= limits[key] for key, amount in core.items() if key in limits)
    assert len(use) == report.cores
    assert all(0 <= used <= 1 for used in report.utilisation.values())
    assert max(number for _, number in use) < (report.cores_available or math.inf)


def test_speck_memories_by_hand(make):
    """conv 2 -> 12, 3x3 on 10x9: kernel 2 * 2^(4 + 4), neuron 12 * 2^(4 + 4); then the map as a linear kernel."""
    model = make.Net((2, 12, 12)).conv("c", 12, 3).lif("n").flatten("f").linear("w", 10).lif("o").build()
    report = fit(model, "speck2f")
    need = {row["name"]: row["need"] for row in report.layers}
    assert need["n"] == {"kernel memory": 512, "neuron memory": 12 * 256, "bias memory": 0}
    assert need["o"]["kernel memory"] == 12 * 2 ** (7 + 4)  # 10 x 10 taps
    assert need["o"]["neuron memory"] == 10
    # The second layer needs 24 Ki words of kernels: cores 3 to 6 only.
    assert {t.layer: t.core for t in report.tiles} == {"n": 0, "o": 3}
    assert report.utilisation["kernel memory"] == pytest.approx(0.75)


def test_speck_shortage_names_the_layers_that_share_too_few_cores(make):
    """Three layers of 64 Ki kernel words, two cores that hold as many."""
    net = make.Net((64, 4, 4))
    for i in range(3):
        net.conv(f"c{i}", 64, 3, 1, 1).lif(f"n{i}")
    report = fit(net.build(), "speck2f")
    assert not report.fits
    (problem,) = [p for p in report.violations if "only" in p.what]
    assert set(problem.where.split(", ")) <= {"n0", "n1", "n2"}
    assert "cores 5, 6" in problem.have


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda net: net.conv("c", 4, 3, 3), "stride"),
        (lambda net: net.conv("c", 4, 3, 1, 1, groups=2), "groups"),
        (lambda net: net.conv("c", 4, 3, 1, 2, dilation=2), "dilated"),
        (lambda net: net.conv("c", 4, (3, 1)), "not square"),
        (lambda net: net.conv("c", 4, 3, 1, 8), "padding"),
        (lambda net: net.pool("p", 3).conv("c", 4, 3), "pools by 3"),
    ],
)
def test_speck_refuses_what_the_chip_would_not_compute(make, change, where):
    report = fit(change(make.Net((2, 24, 24))).lif("n").build(), "speck2f")
    assert any(where in p.what for p in report.violations), report.violations


def test_a_matching_moves_earlier_layers_out_of_the_way():
    placed, short = match({"a": [0, 1], "b": [0], "c": [1, 2]})
    assert short is None
    assert placed == {"a": 1, "b": 0, "c": 2}
    _, short = match({"a": [0, 1], "b": [0], "c": [0, 1]})
    assert short == (["c", "b", "a"], [0, 1]) or (short is not None and set(short[0]) == {"a", "b", "c"})


def test_xylo_counts_stored_pairs(make):
    """A hidden layer of 65 behind another: fan-out 65 > 64 on Audio 2; no limit of Audio 3 is near."""
    model = make.Net((16,)).linear("a", 20).lif("h1").linear("b", 65).lif("h2").linear("c", 8).lif("o").build()
    (problem,) = fit(model, "xylo_a2").violations
    assert (problem.where, problem.need) == ("h1", "65")
    report = fit(model, "xylo_a3")
    assert report.fits
    assert report.utilisation["hidden synapses"] == pytest.approx(20 * 65 / 31744)
    assert report.utilisation["neurons that feed outputs"] == pytest.approx(65 / 128)


def test_xylo_takes_no_image_from_the_host(make):
    model = make.Net((16,), encoding="current").linear("a", 20).lif("h").linear("b", 8).lif("o").build()
    assert any("host" in p.what for p in fit(model, "xylo_a2").violations)


def test_truenorth_fan_in_wall(make):
    """128 signed inputs fill the 256 axons of a core; one more does not fit, however the layer is cut."""
    assert fit(make.Net((128,)).linear("w", 300).lif("o").build(), "truenorth").cores == 2
    report = fit(make.Net((129,)).linear("w", 300).lif("o").build(), "truenorth")
    assert not report.fits
    assert report.violations[0].need.startswith("258 axons")


def test_truenorth_splitters(make):
    """100 neurons, each heard on two axons of two cores: four copies each, 64 repeated neurons a splitter core."""
    model = make.Net((10,)).linear("a", 100).lif("h").linear("b", 300).lif("o").build()
    report = fit(model, "truenorth")
    assert report.cores_by_layer == {"h": 1, "o": 2, "h" + SPLITTER: 2}
    copies = [t for t in report.tiles if t.layer == "h" + SPLITTER]
    assert [(t.neurons, t.need[AXONS]) for t in copies] == [(256, 64), (144, 36)]


def test_truenorth_splitters_of_many_copies_are_trees():
    rules = TrueNorth(load_chip("truenorth"))
    tiles = rules._pack("h", np.array([1, 0, 600]))
    # 600 copies: two full splitters of 256, and a first one that feeds them and the 88 that are left.
    assert sum(t.neurons for t in tiles) == 256 + 256 + 2 + 88
    assert sum(t.need[AXONS] for t in tiles) == 3


def test_spinnaker2_cuts_by_neurons_and_by_memory(make):
    assert fit(make.Net((10,)).linear("w", 600).lif("o").build(), "spinnaker2").cores == 3
    report = fit(make.Net((10_000,)).linear("w", 30).lif("o").build(), "spinnaker2")
    assert report.fits
    # 96 KiB: 4 bytes for each of 10 000 sources, then 5 neurons' weights of 10 000 bytes.
    assert report.cores_by_layer["o"] == 6
    assert report.layers[0]["need"]["data memory"] == 5 * 10_000 + 4 * 10_000 + 20 * 5
    assert "tick_deadline" in report.unchecked


@pytest.mark.parametrize("name", ["generic_int8", "float32"])
def test_an_arithmetic_has_nothing_to_fit_into(make, name):
    report = fit(make.Net((10_000,)).linear("w", 3000).lif("o").build(), name)
    assert report.fits is None
    assert not report.violations
    assert "without cores" in report.note


def plan(**more):
    return StudentPlan(net="conv", input_shape=(2, 16, 16), classes=10, levels=1, steps=4, encoding="events", **more)


def test_a_student_is_checked_before_it_is_trained():
    student = build_student(plan())
    assert check_fit(student, "loihi2") == []
    problems = check_fit(student, "xylo_a2")
    assert any("input channels" in p.what and p.need == "512" for p in problems)
    assert all(p.where for p in problems)


def test_an_outline_has_the_shapes_of_the_lowered_student(make):
    from snnkd_deploy.evaluate.mapping import outline

    for net, options in (("conv", {}), ("vgg", {"channels": (4, 8)}), ("resnet20", {}), ("mlp", {"hidden": (20,)})):
        student = build_student(StudentPlan(net, (1, 16, 16), 10, 255, 2, width=0.25, options=options))
        model = outline(student)
        assert all(tuple(model.shapes[p.name]) == tuple(p.shape) for p in student)
        assert fit(model, "loihi2").fits
