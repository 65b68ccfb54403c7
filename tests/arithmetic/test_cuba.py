"""exact == training forward == the slow twin, bit for bit, over random parameters and at the edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from twin import cuba, decay

from snnkd_deploy.arithmetic import CubaNeuron, State, integrate, run
from snnkd_deploy.arithmetic.cuba import accumulate, decay_toward_zero, run_in_range
from snnkd_deploy.nets.neurons import ChipNeuron, Lif, lif_over_time
from snnkd_deploy.nets.surrogate import sigmoid4

DECAYS = st.one_of(st.sampled_from([0, 1, 1024, 2048, 3277, 4095, 4096]), st.integers(0, 4096))


@st.composite
def populations(draw):
    steps, neurons = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    size = draw(st.sampled_from([3, 300, 20_000, 140_000, 2**24]))  # the last two wrap u and saturate v
    seed = draw(st.integers(0, 2**31))
    generator = np.random.default_rng(seed)
    drive = generator.integers(-size, size + 1, (steps, neurons))
    bias = generator.integers(-4096, 4096, neurons) << draw(st.integers(0, 7))
    if draw(st.booleans()):  # put some neurons exactly onto the threshold in the first step
        vth = int(drive[0, 0]) if 0 <= drive[0, 0] <= 131071 else 0
        bias[0] = 0
    else:
        vth = draw(st.integers(0, 131071))
    if draw(st.booleans()):
        drive[:, -1] = 0
    return drive, draw(DECAYS), draw(DECAYS), vth, bias


@given(populations())
@settings(max_examples=500, deadline=None)
def test_exact_equals_the_twin(case):
    drive, Du, Dv, vth, bias = case
    expected = cuba(drive, Du, Dv, vth, bias)
    x = torch.from_numpy(drive).to(torch.float64)[:, None]
    state = State.zeros(x[0])
    params = CubaNeuron(Du, Dv, vth, torch.from_numpy(bias).to(torch.float64))
    found = run(x, params, state, keep_states=True)
    for name, want, have in zip(("spikes", "u", "v"), expected, found, strict=True):
        np.testing.assert_array_equal(have[:, 0].numpy().astype(np.int64), want, err_msg=name)


@given(populations(), st.sampled_from([2048, 1024, 3277, 4096, 77]))
@settings(max_examples=500, deadline=None)
def test_training_forward_equals_the_twin(case, Dv):
    drive, _, _, vth, bias = case
    # Training keeps the worst case inside the register, and adds the bias (exponent 6) to the drive.
    drive = drive % 60_000 - 30_000
    total = drive + (bias >> 7)
    expected, _, _ = cuba(total, 4096, Dv, vth, np.zeros_like(bias))
    chip = ChipNeuron(CubaNeuron(4096, Dv, vth, None, u_in_range=True), scale=100.0, shift=6)
    lif = Lif(1 - Dv / 4096, vth / 100, sigmoid4)
    found = lif_over_time(torch.from_numpy(total).to(torch.float32)[:, None], lif, chip)
    np.testing.assert_array_equal(found[:, 0].numpy().astype(np.int64), expected)


@given(st.integers(-(2**23), 2**23), st.integers(0, 4096), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=500, deadline=None)
def test_decay_is_exact_in_both_float_types(x, amount, dtype):
    assert int(decay_toward_zero(torch.tensor([float(x)], dtype=dtype), amount)) == decay(x, amount)


def test_calls_continue_where_the_last_one_stopped():
    generator = torch.Generator().manual_seed(0)
    drive = torch.randint(-400, 500, (12, 3, 5), generator=generator).float()
    params = CubaNeuron(4096, 700, 300)

    def in_parts(parts):
        state = State.zeros(torch.zeros(3, 5))
        return torch.cat([run(part, params, state)[0] for part in parts])

    assert torch.equal(in_parts([drive]), in_parts(list(drive.split(1))))


def test_a_tie_does_not_fire_and_one_more_does():
    drive = torch.tensor([10.0, 11.0]).view(1, 1, 2)
    state = State(torch.zeros(1, 2), torch.zeros(1, 2))
    spikes, _, v = run(drive, CubaNeuron(4096, 0, 10), state, keep_states=True)
    assert spikes.flatten().tolist() == [0.0, 1.0]
    assert v.flatten().tolist() == [640.0, 0.0]


@pytest.mark.parametrize("size", [3, 7])
def test_hand_computed_membrane(size):
    # decay 1/2 toward zero: 64*size -> ... each step v = trunc(v / 2) + 64 size, below the threshold.
    drive = torch.full((4, 1, 1), float(size))
    state = State(torch.zeros(1, 1), torch.zeros(1, 1))
    _, _, v = run(drive, CubaNeuron(4096, 2048, 1000), state, keep_states=True)
    assert v.flatten().tolist() == [64 * size, 96 * size, 112 * size, 120 * size]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decays", [(4096, 2048), (4096, 0), (4096, 4096), (2048, 512), (0, 137), (1000, 3072)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_in_place_run_is_run(dtype: torch.dtype, decays: tuple[int, int], with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    size = 8000 if decays[0] else 800  # a current that does not decay piles up
    drive = torch.randint(-size, size, (9, 5, 40), generator=generator).to(dtype)
    bias = torch.randint(-(2**19), 2**19, (40,), generator=generator).to(dtype) if with_bias else None
    neuron = CubaNeuron(*decays, vth=3000, bias=bias, u_in_range=True)
    expected, found = State.zeros(drive[0]), State.zeros(drive[0])
    for part in (drive[:4], drive[4:]):  # states carry over from call to call
        spikes, _, _ = run(part, neuron, expected)
        assert torch.equal(run_in_range(part, neuron, found), spikes)
        assert 0.01 < float(spikes.mean()) < 0.99
        assert torch.equal(found.v, expected.v)
        assert torch.equal(found.u, expected.u)


def test_in_place_run_in_another_memory_order() -> None:
    """Maps channels last, held for all steps, of a membrane that is known to stay in range."""
    maps = torch.randint(-400, 400, (5, 6, 4, 3), generator=torch.Generator().manual_seed(4)).float()
    bias = torch.arange(72.0).reshape(6, 4, 3)
    plain = CubaNeuron(4096, 2048, vth=300, bias=bias, u_in_range=True)
    proved = CubaNeuron(4096, 2048, vth=300, bias=bias, u_in_range=True, v_in_range=True)
    drive = maps.to(memory_format=torch.channels_last).expand(7, *maps.shape)
    expected = State.zeros(maps)
    spikes, _, _ = run(maps.expand(7, *maps.shape), plain, expected)
    found = State.zeros(drive[0])
    assert torch.equal(run_in_range(drive, proved, found), spikes)
    assert torch.equal(found.v, expected.v)
    assert 0.01 < float(spikes.mean()) < 0.99


def test_accumulate_is_integrate() -> None:
    drive = torch.randint(-400, 400, (8, 3, 10), generator=torch.Generator().manual_seed(0)).float()
    neuron = CubaNeuron(4096, 0, vth=0, bias=torch.arange(10.0), u_in_range=True)
    expected, found = State.zeros(drive[0]), State.zeros(drive[0])
    for part in (drive[:3], drive[3:]):
        for a, b in zip(accumulate(part, neuron, found), integrate(part, neuron, expected), strict=True):
            assert torch.equal(a, b)
        assert torch.equal(found.v, expected.v)
