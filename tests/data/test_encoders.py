import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd_deploy.data import latency, rate, repeat_constant
from snnkd_deploy.errors import UsageError


def test_repeat_constant_is_a_view() -> None:
    x = torch.arange(6, dtype=torch.uint8).view(2, 1, 3, 1)
    out = repeat_constant(x, 5)
    assert out.shape == (5, 2, 1, 3, 1) and out.data_ptr() == x.data_ptr()
    assert all(torch.equal(step, x) for step in out)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 255), st.data())
def test_latency_fires_once_at_the_step_of_its_formula(T: int, levels: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, levels), min_size=1, max_size=8))
    out = latency(torch.tensor([values], dtype=torch.uint8), T, levels=levels)
    assert out.shape == (T, 1, len(values)) and out.dtype == torch.uint8
    for i, v in enumerate(values):
        assert out[:, 0, i].nonzero().flatten().tolist() == ([(levels - v) * T // levels] if v else [])


def test_latency_orders_brightness() -> None:
    out = latency(torch.tensor([[255, 128, 1, 0]], dtype=torch.uint8), 8, levels=255)
    assert out[:, 0].argmax(0)[:3].tolist() == [0, 3, 7]
    assert int(out[:, 0, 3].sum()) == 0


def test_rate_has_the_probability_of_the_pixel() -> None:
    levels, n = 16, 4000
    x = torch.arange(levels + 1, dtype=torch.uint8).repeat(n, 1)
    out = rate(x, 5, levels=levels, seed=1, indices=torch.arange(n))
    mean = out.double().mean((0, 1))
    want = torch.arange(levels + 1) / levels
    sigma = (want * (1 - want) / (5 * n)).sqrt()
    assert bool(((mean - want).abs() <= 5 * sigma).all())  # 0 and `levels`: sigma 0, so exactly never and always


def test_rate_depends_on_the_sample_not_on_its_batch() -> None:
    x = torch.randint(0, 256, (6, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    indices = torch.tensor([10, 3, 77, 4, 5, 6])
    whole = rate(x, 8, levels=255, seed=2, indices=indices)
    part = rate(x[[4, 1]], 8, levels=255, seed=2, indices=indices[[4, 1]])
    assert torch.equal(part, whole[:, [4, 1]])
    longer = rate(x, 12, levels=255, seed=2, indices=indices)
    assert torch.equal(longer[:8], whole)
    assert not torch.equal(whole, rate(x, 8, levels=255, seed=3, indices=indices))
    assert not torch.equal(whole, rate(x, 8, levels=255, seed=2, indices=indices + 1))


def test_rate_is_independent_between_samples_steps_and_pixels() -> None:
    x = torch.full((50, 64), 128, dtype=torch.uint8)
    out = rate(x, 50, levels=255, seed=0, indices=torch.arange(50)).double()
    for a, b in ((out[1:], out[:-1]), (out[:, 1:], out[:, :-1]), (out[..., 1:], out[..., :-1])):
        correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
        assert abs(float(correlation)) < 0.02


def test_wrong_calls() -> None:
    x = torch.full((1, 2), 17, dtype=torch.uint8)
    for encode in (
        lambda: latency(x, 4, levels=16),
        lambda: rate(x, 4, levels=16, seed=0, indices=torch.tensor([0])),
        lambda: rate(x, 4, levels=255, seed=0, indices=torch.tensor([0, 1])),
        lambda: latency(x.float(), 4, levels=255),
        lambda: repeat_constant(x, 0),
    ):
        with pytest.raises(UsageError):
            encode()
