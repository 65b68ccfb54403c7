"""Order sensitivity on Speck: the one-sided bound, layers that are free of order, and the figure itself."""

import numpy as np
import pytest
import torch
from family_nets import FamilyNet
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd_deploy.arithmetic import IafNeuron, State, run
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.errors import BackendError
from snnkd_deploy.evaluate.event_order import order_problems, order_sensitivity, play, shuffled_events

torch.set_num_threads(1)


@given(st.integers(0, 2**31), st.sampled_from([128, 200, 1000]), st.sampled_from(["mixed", "first", "one sign"]))
@settings(max_examples=300, deadline=None)
def test_never_fewer_spikes_than_synchronously(seed, threshold, kind):
    """Without a floor, cumulated to the end of every step. Equal where inhibition comes first, or has no opposite."""
    rng = np.random.default_rng(seed)
    steps, events, neurons = 5, 7, 4
    weights = rng.integers(-127, 128, (steps, events, 1, neurons))
    if kind == "first":
        weights = np.sort(weights, axis=1)
    elif kind == "one sign":
        weights = np.abs(weights) * rng.choice([-1, 1], neurons)
    additions = torch.from_numpy(weights).float()
    v = torch.zeros(1, neurons)
    one_by_one = torch.stack([play(v, step, threshold, -np.inf) for step in additions]).cumsum(0)
    drive = additions.sum(1)
    spikes, _, _ = run(drive, IafNeuron(threshold), State.zeros(drive[0]))
    together = spikes.cumsum(0)
    assert (one_by_one >= together).all()
    if kind != "mixed":
        assert torch.equal(one_by_one, together)
    # What has been emitted after k events is max(0, floor of the largest partial sum so far / threshold).
    partial = additions.flatten(0, 1).cumsum(0)
    bound = torch.floor(partial.cummax(0).values / threshold).clamp_min(0)
    assert torch.equal(one_by_one, bound[events - 1 :: events])


def net(sign, bias=None):
    build = FamilyNet((2, 4, 4), levels=3, seed=1, chip="speck2f")
    build.conv("c", "input", build.integers((4, 2, 3, 3), *sign), padding=1)
    build.population("n", "c", bias, vth=300, v_min=-300)
    build.flatten("f", build.pool("p", "n", 2))
    build.dense("fc", "f", build.integers((3, 16), *sign))
    build.population("out", "fc", vth=400, v_min=-400)
    model = build.model("out", reset="subtract", fires=">=")
    x = build.rng.integers(0, 3, (6, 20, 2, 4, 4))
    return model, make_inputs(x, model)


def test_weights_of_one_sign_are_free_of_order():
    model, inputs = net((0, 127))
    found = order_sensitivity(model, inputs, orders=3)
    assert found.synchronous_spikes > 100 and set(found.spikes) == {found.synchronous_spikes} and found.changed == 0


@pytest.mark.parametrize("pooled", [False, True])
def test_an_input_that_is_flattened_and_summed_first(pooled):
    """One sign: equal to the synchronous run, so every event has found its weights."""
    build = FamilyNet((2, 4, 4), levels=3, seed=1, chip="speck2f")
    build.flatten("f", build.pool("p", "input", 2) if pooled else "input")
    build.dense("fc", "f", build.integers((3, build.shape("f")[0]), 0, 127))
    build.population("out", "fc", vth=400, v_min=-400)
    model = build.model("out", reset="subtract", fires=">=")
    inputs = make_inputs(build.rng.integers(0, 3, (4, 6, 2, 4, 4)), model)
    found = order_sensitivity(model, inputs, orders=2)
    assert set(found.spikes) == {found.synchronous_spikes} and found.synchronous_spikes > 50


def test_mixed_signs_spread_and_the_seed_fixes_them():
    model, inputs = net((-128, 127))
    labels = torch.zeros(20, dtype=torch.int64)
    found = order_sensitivity(model, inputs, labels, orders=4, seed=3)
    assert len(set(found.spikes)) > 1 and min(found.spikes) != found.synchronous_spikes
    assert len(found.accuracy) == 4 and f"{100 * max(found.accuracy):.1f} %" in str(found)
    assert order_sensitivity(model, inputs, labels, orders=4, seed=3) == found


def test_biases_are_one_tick_a_step_and_said_so():
    model, inputs = net((0, 127), bias=5)
    found = order_sensitivity(model, inputs, orders=2)
    assert set(found.spikes) == {found.synchronous_spikes} and "slow-clock tick" in str(found)
    assert "slow-clock" not in str(order_sensitivity(*net((0, 127)), orders=1))


def test_other_chips_are_refused():
    build = FamilyNet((4,), chip="loihi2")
    model = build.model(build.lif("out", build.dense("fc", "input", build.weights((3, 4)))))
    assert order_problems(model)
    with pytest.raises(BackendError):
        order_sensitivity(model, make_inputs(np.zeros((2, 1, 4)), model))


def test_every_event_once():
    counts = torch.tensor([[2, 0, 1], [0, 0, 0]])
    events = shuffled_events(counts, torch.Generator().manual_seed(0))
    assert sorted(events[0].tolist()) == [0, 0, 2] and events[1].tolist() == [3, 3, 3]
