"""Events one by one into a current that clips in between: the order of the chip, in Python integers."""

import numpy as np
import pytest
import torch
from family_nets import FamilyNet, with_shift
from family_twins import clip16, xylo_leak
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd_deploy.arithmetic import ShiftNeuron
from snnkd_deploy.arithmetic.events import order_is_free
from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import EVENT_ORDER, Record, concatenate

torch.set_num_threads(1)


def one_layer(weights, loop, shift, dash_syn, dash_mem, vth):
    """Inputs -> hidden (hears itself where `loop` is given) -> one silent output."""
    net = FamilyNet((weights.shape[1],), levels=15, chip="xylo_a2")
    net.chip = with_shift(net.chip, shift)
    fed = net.dense("fc", "input", weights)
    net.population("h", fed, vth=vth, dash_syn=dash_syn, dash_mem=dash_mem)
    if loop is not None:
        net.loop("rec", "h", loop)
    net.dense("fc_out", "h", np.zeros((1, len(weights)), dtype=np.int64), delay=(1,))
    net.population("out", "fc_out", vth=1, dash_syn=1, dash_mem=1, max_spikes=1)
    return net.model("out", reset="subtract", fires=">=")


def in_order(x, weights, loop, shift, dash_syn, dash_mem, threshold):
    """Twin: currents (T, N) and counts (T, N) of one sample, every event added on its own."""
    neurons = len(weights)
    i, v, sent = [0] * neurons, [0] * neurons, [0] * neurons
    currents, counts = [], []
    for events in x:
        for n in range(neurons):
            for k, count in enumerate(events):
                for _ in range(count):
                    i[n] = clip16(i[n] + (int(weights[n, k]) << shift))
            for k in range(neurons if loop is not None else 0):
                for _ in range(sent[k]):
                    i[n] = clip16(i[n] + (int(loop[n, k]) << shift))
        i = [c - xylo_leak(c, dash_syn) for c in i]
        v = [clip16(u + clip16(-xylo_leak(u, dash_mem) + c)) for u, c in zip(v, i, strict=True)]
        sent = [min(31, max(0, u // threshold)) for u in v]
        v = [u - n * threshold for u, n in zip(v, sent, strict=True)]
        currents.append(list(i))
        counts.append(sent)
    return np.array(currents), np.array(counts)


def run(model, x):
    return ExactBackend().run(model, make_inputs(np.asarray(x)[:, None], model), Record(states=True))


@given(st.integers(0, 2**31), st.integers(0, 7), st.integers(1, 15), st.integers(1, 15), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_chips_order(seed, shift, dash_syn, dash_mem, hears_itself):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (3, 4))
    loop = rng.integers(-128, 128, (3, 3)) if hears_itself else None
    x = rng.integers(0, 16, (6, 4))
    vth = int(rng.integers(1, (32767 >> shift) + 1))
    trace = run(one_layer(weights, loop, shift, dash_syn, dash_mem, vth), x)
    currents, counts = in_order(x.tolist(), weights, loop, shift, dash_syn, dash_mem, vth << shift)
    np.testing.assert_array_equal(trace.u["h"][:, 0].numpy(), currents)
    np.testing.assert_array_equal(trace.spikes["h"][:, 0].numpy(), counts)


@pytest.mark.parametrize(("weights", "after"), [([127, -128], 0), ([-128, 127], 30720)])
def test_known_answers(weights, after):
    """15 events on either channel at shift 8 and dash_syn 4: which comes first decides. Results of xylosim 0.1.3."""
    model = one_layer(np.array([weights]), None, 8, 4, 1, 127)
    x = [[15 if w > 0 else 1 for w in weights]] if after == 0 else [[15, 15]]
    trace = run(model, x)
    assert int(trace.u["h"][0, 0, 0]) == after
    entries, changed = trace.meta[EVENT_ORDER]["h"]
    assert (entries, changed) == (1, 1)


def test_counted_over_chunks_and_silent_where_nothing_clips():
    strong = one_layer(np.array([[127, -128]]), None, 8, 4, 1, 127)
    trace = run(strong, [[15, 1]])
    assert concatenate([trace, trace]).meta[EVENT_ORDER] == {"h": [2, 2]}
    weak = one_layer(np.array([[127, -128]]), None, 0, 4, 1, 127)
    assert EVENT_ORDER not in run(weak, [[15, 1]]).meta


@pytest.mark.parametrize("dash", [1, 3, 7, 15])
def test_the_bound_that_spares_the_work(dash):
    """The largest sums that it lets through, for ever: the current stays inside its register; it is not much larger."""
    neuron = ShiftNeuron(1, 1, 0, 16, dash)
    free = [bound for bound in range(0, 20_000) if order_is_free(neuron, bound)]
    top = max(free, default=0)
    for sign in (1, -1):
        i, largest = 0, 0
        for _ in range(200 << min(dash, 8)):
            i += sign * top
            largest = max(largest, abs(i))
            i -= xylo_leak(i, dash)
        assert largest <= 32767
        if dash < 8:
            assert largest > 32767 * 0.9
