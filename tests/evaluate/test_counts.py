"""Operation counts: the golden net, borders, and what must hold for every network."""

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.errors import DataError, UsageError
from snnkd_deploy.evaluate import OpCounter, add_samples, count_ops, layer_from_rates
from snnkd_deploy.evaluate.fanout import fan_out
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import Encoding, Profile


def test_golden_net(make, golden):
    model, trace, inputs = make.toy()
    counts = count_ops(model, trace, inputs)
    total = counts.total
    assert counts.input_spikes == golden["spikes"]["input"]
    assert counts.exact["h"]["spikes"] == golden["spikes"]["h"]
    assert counts.exact["o"]["spikes"] == golden["spikes"]["o"]
    assert total.sop_dense == golden["dense_sops"]
    assert total.sop_event == golden["event_sops_all_weights"]
    assert total.sop_nonzero == golden["event_sops_nonzero_weights"]
    assert total.updates == golden["neuron_updates"]


@pytest.mark.parametrize(
    ("size", "stride", "padding", "channels", "key"),
    [
        (4, 1, 1, 2, "4x4 k3 s1 p1 cout2 all-spike"),
        (4, 1, 0, 2, "4x4 k3 s1 p0 cout2 all-spike"),
        (8, 2, 1, 1, "8x8 k3 s2 p1 cout1 all-spike"),
    ],
)
def test_borders(make, golden, size, stride, padding, channels, key):
    model = make.Net((1, size, size)).conv("c", channels, 3, stride, padding).lif("n").build()
    spikes = {"n": torch.zeros((1, 1, *model.shapes["n"]), dtype=torch.uint8)}
    counts = count_ops(model, Trace(torch.zeros(1, 1), spikes), Inputs(torch.ones(1, 1, 1, size, size), 1))
    assert counts.total.sop_event == golden["conv_border"][key]


@st.composite
def networks(draw, make, flat_only=False):
    """A small net of convolutions (strides, dilation, groups), pools and linear layers."""
    seed = draw(st.integers(0, 1000))
    if not flat_only and draw(st.booleans()):
        size, width = draw(st.integers(4, 7)), draw(st.integers(4, 7))
        net = make.Net((2, size, width), seed=seed)
        net.conv(
            "c1",
            draw(st.sampled_from([2, 4])),
            draw(st.integers(1, 3)),
            draw(st.integers(1, 2)),
            draw(st.integers(0, 2)),
            draw(st.integers(1, 2)) if min(size, width) > 5 else 1,
            draw(st.sampled_from([1, 2])),
            zeros=draw(st.sampled_from([0.0, 0.4])),
        ).lif("n1")
        net.flatten("f")
    else:
        net = make.Net((draw(st.integers(1, 9)),), seed=seed)
    net.linear("w2", draw(st.integers(1, 6)), zeros=draw(st.sampled_from([0.0, 0.5]))).lif("n2")
    return net.build(), seed


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_invariants(make, data):
    model, seed = data.draw(networks(make))
    steps, samples = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    trace, inputs = make.random_run(model, steps, samples, data.draw(st.sampled_from([0.0, 0.2, 0.9])), seed)
    counts = count_ops(model, trace, inputs)
    for layer in counts.layers:
        assert layer.sop_nonzero <= layer.sop_event <= layer.sop_dense <= steps * layer.macs_framework
        assert layer.updates == layer.neurons * steps
        assert 0 <= layer.updates_active <= layer.updates
        assert layer.updates_active >= layer.spikes_per_sample
    # A fully connected layer: every spike costs every output.
    last = counts.layer("n2")
    assert last.sop_event == pytest.approx(last.spikes_in * last.neurons)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_counts_add_over_samples_and_time(make, data):
    model, seed = data.draw(networks(make))
    trace, inputs = make.random_run(model, 4, 3, 0.4, seed)
    whole = count_ops(model, trace, inputs)

    def part(steps, samples):
        spikes = {k: s[steps][:, samples] for k, s in trace.spikes.items()}
        x = inputs.x[steps][:, samples]
        piece = Trace(trace.logits[samples], spikes)
        return piece, Inputs(x, x.shape[0])

    counter = OpCounter(model)
    for start, stop in ((0, 1), (1, 3)):
        counter.update(*part(slice(None), slice(start, stop)))
    streamed = counter.result()
    assert streamed == whole
    joined = add_samples([count_ops(model, *part(slice(None), slice(a, b))) for a, b in ((0, 1), (1, 3))])
    assert joined.exact == whole.exact
    early, late = (count_ops(model, *part(slice(a, b), slice(None))) for a, b in ((0, 1), (1, 4)))
    for name, row in whole.exact.items():
        for key in ("spikes", "sop_event", "sop_nonzero", "sop_dense", "updates_active", "updates_idle"):
            assert early.exact[name][key] + late.exact[name][key] == row[key]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_against_a_dense_matrix(make, data):
    """Fan-out, SOPs and active updates from the explicit connection matrix."""
    model, seed = data.draw(networks(make))
    trace, inputs = make.random_run(model, 3, 2, 0.2, seed)
    counts = count_ops(model, trace, inputs)
    from snnkd_deploy.backends.layers import linear_map

    for name, source, target in (("c1", "input", "n1"), ("w2", "n1" if "c1" in model.nodes else "input", "n2")):
        if name not in model.nodes:
            continue
        shape = model.shapes[model.sources[name][0]]
        weight = torch.from_numpy(np.asarray(model.nodes[name].weight))
        eye = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
        connects = linear_map(model.nodes[name], torch.ones_like(weight))(eye).flatten(1).numpy()
        present = linear_map(model.nodes[name], (weight != 0).double())(eye).flatten(1).numpy()
        spikes = (inputs.x if source == "input" else trace.spikes[source]).flatten(2).numpy().astype(float)
        row = counts.exact[target]
        assert np.array_equal(fan_out(model, name).flatten().numpy(), connects.sum(1))
        assert row["sop_event"] == (spikes @ connects).sum()
        assert row["sop_nonzero"] == (spikes @ present).sum()
        reached = (spikes @ connects) > 0
        fired = trace.spikes[target].flatten(2).numpy() > 0
        assert row["updates_active"] == (reached | fired).sum()


def test_pool_costs_the_fan_out_of_the_pooled_position(make):
    net = make.Net((1, 5, 5)).pool("p", 2).conv("c", 3, 2, padding=1).lif("n")
    model = net.build()
    one = torch.zeros(1, 1, 1, 5, 5)
    one[..., 0, 0] = 1  # pooled to (0, 0), which a 2x2 kernel with padding 1 reaches with all 4 taps
    one[..., 4, 4] = 1  # the pool drops the last row and column
    silent = Trace(torch.zeros(1, 1), {"n": torch.zeros((1, 1, *model.shapes["n"]), dtype=torch.uint8)})
    counts = count_ops(model, silent, Inputs(one, 1))
    assert counts.total.sop_event == 4 * 3
    assert counts.total.updates_active == 4 * 3
    one[..., 1, 1] = 1  # the same pooled pixel: a spike of its own, the same neurons
    counts = count_ops(model, silent, Inputs(one, 1))
    assert counts.total.sop_event == 2 * 4 * 3
    assert counts.total.updates_active == 4 * 3


def test_residual_adds_both_streams(make):
    net = make.Net((2, 4, 4)).conv("c1", 2, 3, padding=1).lif("n1").conv("c2", 2, 3, padding=1)
    net.conv("skip", 2, 1, source="n1").lif("n2", ["c2", "skip"])
    model = net.build()
    trace, inputs = make.random_run(model, 3, 2)
    layer = count_ops(model, trace, inputs).layer("n2")
    sums = trace.spikes["n1"].sum((0, 1)).flatten()
    fans = fan_out(model, "c2").flatten() + fan_out(model, "skip").flatten()
    assert layer.sop_event * 2 == int((sums * fans).sum())


def test_recurrent_spikes_arrive_a_step_later(make):
    net = make.Net((3,)).linear("w", 4).lif("n")
    net.nodes["back"] = nir.Linear(weight=np.ones((4, 4)))
    net.add("output", nir.Output({"output": np.array([4])}))
    net.edges += [("n", "back"), ("back", "n")]
    graph = nir.NIRGraph(net.nodes, net.edges, type_check=False)
    model = Model(graph, Profile(dt_s=1e-3, reset="zero", encoding=Encoding(kind="events")))
    model.__dict__["shapes"] = {"input": (3,), "w": (4,), "n": (4,), "back": (4,), "output": (4,)}
    spikes = torch.zeros(3, 1, 4, dtype=torch.uint8)
    spikes[0, 0, 1] = 1
    counts = count_ops(model, Trace(torch.zeros(1, 4), {"n": spikes}), Inputs(torch.zeros(3, 1, 3), 3))
    assert counts.total.sop_event == 4
    assert counts.total.updates_active == 1 + 4  # it fired at step 0; all four are reached at step 1


def test_delayed_spikes_make_neurons_active_when_they_arrive(make):
    net = make.Net((2,))
    net.add("d", nir.Delay(np.array([0.0, 2e-3])))
    model = net.linear("w", 3).lif("n").build()
    x = torch.zeros(4, 1, 2)
    x[0] = 1  # one arrives at step 0, the other at step 2
    silent = Trace(torch.zeros(1, 3), {"n": torch.zeros(4, 1, 3, dtype=torch.uint8)})
    counts = count_ops(model, silent, Inputs(x, 4))
    assert counts.total.sop_event == 6
    assert counts.total.updates_active == 6


def test_conv1d(make):
    model = make.Net((2, 9)).conv("c", 4, 3, 2, 1).lif("n").build()
    trace, inputs = make.random_run(model, 3, 2)
    row = count_ops(model, trace, inputs).exact["n"]
    x = inputs.x.flatten(0, 1)
    ones = torch.nn.functional.conv1d(x, torch.ones(4, 2, 3), None, 2, 1)
    assert row["sop_event"] == int(ones.sum())
    fired = trace.spikes["n"].flatten(0, 1) > 0
    assert row["updates_active"] == int(((ones > 0) | fired).sum())


def test_current_encoding_costs_no_sops_in_the_first_layer(make):
    net = make.Net((1, 4, 4), encoding="current").conv("c1", 2, 3, padding=1).lif("n1").flatten("f").linear("w", 3)
    model = net.lif("n2").build()
    trace, _ = make.random_run(model, 5, 2)
    counts = count_ops(model, trace)
    first = counts.layer("n1")
    assert (first.sop_event, first.sop_dense) == (0, 0)
    assert first.macs_analog == 200  # the border golden; once a sample, not five times
    assert first.updates_active == first.spikes_per_sample
    assert any("first_layer_repeats = 1" in note for note in counts.notes)


def test_float_input_repeats_every_step(make):
    model = make.Net((4,), encoding="float").linear("w", 3).lif("n").build()
    trace, _ = make.random_run(model, 5, 2)
    assert count_ops(model, trace).total.macs_analog == 5 * 12


def test_a_readout_without_neuron_is_a_layer(make):
    model = make.Net((4,)).linear("w1", 3).lif("n").linear("w2", 2).build()
    trace, inputs = make.random_run(model, 5, 2)
    counts = count_ops(model, trace, inputs)
    assert [layer.name for layer in counts.layers] == ["n", "w2"]
    assert counts.layer("w2").sop_event == counts.layer("n").spikes_per_sample * 2
    assert counts.layer("w2").updates == 0


def test_what_is_missing_is_said(make):
    model = make.Net((4,)).linear("w1", 3).lif("n").build()
    trace, inputs = make.random_run(model, 2, 1)
    with pytest.raises(UsageError, match="give the inputs"):
        count_ops(model, trace)
    with pytest.raises(DataError, match="lacks spikes of n"):
        count_ops(model, Trace(trace.logits), inputs)
    with pytest.raises(UsageError, match="no trace"):
        OpCounter(model).result()


def test_rates_give_the_same_counts_as_a_fully_connected_trace():
    layer = layer_from_rates("h", 32, 20, rate=0.5, inputs=16, input_rate=0.25)
    assert layer.sop_event == 20 * 16 * 32 * 0.25
    assert layer.sop_dense == 20 * 16 * 32
    assert layer.updates == 640
    assert layer.spikes_per_sample == 320
    with pytest.raises(UsageError, match=r"0\.\.1"):
        layer_from_rates("h", 32, 20, rate=1.5)


def test_several_spikes_in_a_step_are_several_operations(make):
    """n spikes of a neuron in one step: n operations per synapse, n spikes, one active update of each target."""
    model = make.Net((3,)).linear("w", 4).lif("h").linear("v", 2).lif("o").build()
    hidden = torch.tensor([[[5, 0, 0, 300]]], dtype=torch.int32)
    spikes = {"h": hidden, "o": torch.zeros(1, 1, 2, dtype=torch.uint8)}
    counts = count_ops(model, Trace(torch.zeros(1, 2), spikes), Inputs(torch.tensor([[[2.0, 0.0, 7.0]]]), 1))
    assert counts.input_spikes == 9
    assert counts.layer("h").sop_event == 9 * 4
    assert counts.layer("h").spikes_per_sample == 305
    assert counts.layer("o").sop_event == 305 * 2
    assert counts.layer("o").updates_active == 2
