"""Every neuron family: exact == training forward == the slow twin, bit for bit, 500 random cases each and the edges."""

import numpy as np
import pytest
import torch
from family_twins import float_neuron, shift_neuron, speck_neuron, truenorth_neuron, xylo_neuron
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd_deploy.arithmetic import FloatNeuron, IafNeuron, ShiftNeuron, State, run
from snnkd_deploy.nets.neurons import ChipNeuron, Lif, lif_over_time
from snnkd_deploy.nets.surrogate import sigmoid4

CASES = settings(max_examples=500, deadline=None)


@st.composite
def drives(draw, largest=(1, 40, 3000)):
    """Integer sums (T, N) with a silent neuron now and then, T = 1 included."""
    steps, neurons, size = draw(st.integers(1, 9)), draw(st.integers(1, 5)), draw(st.sampled_from(largest))
    drive = np.random.default_rng(draw(st.integers(0, 2**31))).integers(-size, size + 1, (steps, neurons))
    if draw(st.booleans()):
        drive[:, -1] = 0
    return drive


def exact(drive, neuron, dtype=torch.float32):
    """(spikes, u, v), each (T, N), of the exact simulator's loop."""
    x = torch.from_numpy(drive).to(dtype)[:, None]
    return [a[:, 0].numpy() for a in run(x, neuron, State.zeros(x[0]), keep_states=True)]


def trained(drive, neuron, lif, shift=0, bias=None):
    """Spikes (T, N) of the training's forward pass, whose gradient must be finite."""
    x = torch.from_numpy(drive).to(torch.float32)[:, None].requires_grad_()
    row = None if bias is None else torch.full(x.shape[2:], float(bias))
    spikes = lif_over_time(x, lif, ChipNeuron(neuron, 16.0, shift), bias=row)
    spikes.sum().backward()
    assert torch.isfinite(x.grad).all()
    return spikes[:, 0].detach().numpy()


def columns(drive, function):
    """A twin over all neurons: a tuple of (T, N)."""
    outs = [function([int(d) for d in drive[:, n]]) for n in range(drive.shape[1])]
    return [np.array([o[k] for o in outs]).T for k in range(len(outs[0]))]


def lif_like(neuron, threshold, **more):
    return Lif(0.5, threshold / 16.0, sigmoid4, fires=">=", max_spikes=getattr(neuron, "max_spikes", 1), **more)


@given(
    drives(),
    st.sampled_from([1, 2, 40, 128, 5000]),
    st.sampled_from([0, 1, 3]),
    st.booleans(),
    st.sampled_from(["zero", "subtract"]),
)
@CASES
def test_speck(drive, th, most, floored, reset):
    if abs(int(drive[0, 0])) > 0:
        th = abs(int(drive[0, 0]))  # a tie in the first step
    v_min = -th if floored else None
    neuron = IafNeuron(th, v_min, 0, most, reset)
    spikes, _, v = exact(drive, neuron)
    want_spikes, want_v = columns(drive, lambda d: speck_neuron(d, th, v_min, most, reset))
    np.testing.assert_array_equal(spikes, want_spikes)
    np.testing.assert_array_equal(v, want_v)
    lif = lif_like(neuron, th, reset_kind=reset, floored=floored)
    np.testing.assert_array_equal(trained(drive, neuron, lif), want_spikes)


@given(drives(), st.sampled_from([1, 64, 700]), st.integers(0, 90), st.sampled_from([None, -80, 0, 37]))
@CASES
def test_truenorth(drive, alpha, leak, bias):
    """The one leak register, as a leak toward zero (epsilon = 1) or as a bias (epsilon = 0)."""
    if bias is not None:
        leak = 0
    neuron = IafNeuron(alpha, -alpha, leak, 1, "subtract", None if bias is None else torch.tensor(float(bias)))
    lam, epsilon = (-leak, 1) if bias is None else (bias, 0)
    spikes, _, v = exact(drive, neuron)
    want_spikes, want_v = columns(drive, lambda d: truenorth_neuron(d, alpha, alpha, lam, epsilon))
    np.testing.assert_array_equal(spikes, want_spikes)
    np.testing.assert_array_equal(v, want_v)
    lif = lif_like(neuron, alpha, reset_kind="subtract", floored=True)
    without = IafNeuron(alpha, -alpha, leak, 1, "subtract")
    np.testing.assert_array_equal(trained(drive, without, lif, bias=bias), want_spikes)


@given(
    drives(largest=(1, 40, 3000, 60_000)),
    st.integers(0, 7),
    st.integers(1, 15),
    st.integers(1, 15),
    st.sampled_from([1, 5, 200, 4095]),
    st.sampled_from([0, 1, -1, 60, -4095]),
    st.sampled_from([1, 31]),
)
@CASES
def test_xylo(drive, shift, dash_syn, dash_mem, vth, bias, most):
    """Currents and membranes that clip included."""
    vth = min(vth, 32767 >> shift)
    register = max(-32768, min(32767, bias << shift))
    held = torch.tensor(float(register)) if bias else None
    neuron = ShiftNeuron(dash_mem, vth, shift, 16, dash_syn, most, "subtract", held)
    spikes, u, v = exact(drive, neuron)
    want = columns(drive, lambda d: xylo_neuron(d, shift, dash_syn, dash_mem, vth << shift, register, most))
    for name, have, expected in zip(("spikes", "u", "v"), (spikes, u, v), want, strict=True):
        np.testing.assert_array_equal(have, expected, err_msg=name)
    lif = lif_like(neuron, vth, reset_kind="subtract", leak_u=1 - 2.0**-dash_syn, filtered=True)
    without = ShiftNeuron(dash_mem, vth, shift, 16, dash_syn, most, "subtract")
    found = trained(drive, without, lif, shift, register / (1 << shift) if bias else None)
    np.testing.assert_array_equal(found, want[0])


@given(
    drives(largest=(1, 40, 3000, 600_000)),
    st.integers(0, 6),
    st.integers(0, 15),
    st.sampled_from([1, 5, 200, 4095]),
    st.sampled_from([0, 60, -4095]),
    st.sampled_from(["zero", "subtract"]),
)
@CASES
def test_generic_int8(drive, shift, dash, vth, bias, reset):
    held = torch.tensor(float(bias << shift), dtype=torch.float64) if bias else None
    neuron = ShiftNeuron(dash, vth, shift, 24, None, 1, reset, held)
    spikes, _, v = exact(drive, neuron, torch.float64)
    want_spikes, want_v = columns(drive, lambda d: shift_neuron(d, shift, 24, dash, vth << shift, bias << shift, reset))
    np.testing.assert_array_equal(spikes, want_spikes)
    np.testing.assert_array_equal(v, want_v)
    if np.abs(drive).max() << shift < 2**23:  # training's float32: a single sum that passes 2^24 never occurs there
        lif = lif_like(neuron, vth, reset_kind=reset)
        without = ShiftNeuron(dash, vth, shift, 24, None, 1, reset)
        np.testing.assert_array_equal(trained(drive, without, lif, shift, bias or None), want_spikes)


@given(
    drives(largest=(1, 40, 3000, 2**22)),
    st.sampled_from([1.0, 0.5, 0.9, 0.0, 0.37]),
    st.sampled_from([None, 0.5, 0.8]),
    st.sampled_from([1, 5, 200, 100_000]),
    st.sampled_from([0, 60, -4095]),
    st.sampled_from(["zero", "subtract"]),
)
@CASES
def test_single_precision(drive, alpha, alpha_syn, vth, bias, reset):
    alpha, alpha_syn = float(np.float32(alpha)), None if alpha_syn is None else float(np.float32(alpha_syn))
    neuron = FloatNeuron(alpha, vth, alpha_syn, reset, torch.tensor(float(bias)) if bias else None)
    spikes, _, v = exact(drive, neuron)
    want_spikes, want_v = columns(drive, lambda d: float_neuron(d, alpha, alpha_syn, vth, bias, reset))
    np.testing.assert_array_equal(spikes, want_spikes)
    np.testing.assert_array_equal(v.view(np.uint32), want_v.astype(np.float32).view(np.uint32))
    lif = Lif(alpha, vth / 16.0, sigmoid4, reset_kind=reset)
    without = FloatNeuron(alpha, vth, alpha_syn, reset)
    np.testing.assert_array_equal(trained(drive, without, lif, bias=bias or None), want_spikes)


@pytest.mark.parametrize(
    ("weight", "dash_syn", "dash_mem", "vth", "events", "currents", "membranes", "counts"),
    [
        (64, 2, 3, 32767, [1], [48, 36, 27, 21, 16, 12, 9, 7], [48, 78, 96, 105, 108, 107, 103, 98], [0] * 8),
        (-64, 2, 3, 32767, [1], [-48, -36, -27, -20, -15, -11], [-48, -78, -95, -103, -105, -102], [0] * 6),
        (64, 1, 4, 32, [1], None, [0, 16, 23], [1, 0, 0]),
        (62, 1, 4, 32, [1], None, [31], [0]),
        (80, 1, 4, 15, [15], None, [135, 7, 6, 5, 12], [31, 28, 10, 5, 2]),
    ],
)
def test_xylo_known_answers(weight, dash_syn, dash_mem, vth, events, currents, membranes, counts):
    """The table of xylosim runs in the specification, section 3.8."""
    drive = np.zeros((len(membranes), 1), dtype=np.int64)
    drive[0, 0] = events[0] * weight
    spikes, u, v = exact(drive, ShiftNeuron(dash_mem, vth, 0, 16, dash_syn, 31))
    assert v[:, 0].tolist() == membranes
    assert spikes[:, 0].tolist() == counts
    if currents is not None:
        assert u[:, 0].tolist() == currents
