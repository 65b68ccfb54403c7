"""One pass over spikes against the sums written out, for every number type that a recording comes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkd_deploy.evaluate.reach import count_active
from snnkd_deploy.evaluate.tally import channel_sums, tally

SHAPES = [(7,), (300,), (1, 5, 4), (3, 2, 2), (16, 9), (260, 2, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("most", [1, 3, 300])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
@pytest.mark.parametrize("once", [False, True])
def test_equals_the_sums_written_out(shape: tuple[int, ...], most: int, dtype: torch.dtype, once: bool) -> None:
    if dtype == torch.uint8:
        most = min(most, 255)
    rng = np.random.default_rng(len(shape) + most)
    x = rng.integers(0, most + 1, (3, 500, *shape)) * (rng.random((3, 500, *shape)) < 0.4)
    found = tally(torch.from_numpy(x).to(dtype), once=once)
    counted = (x != 0).astype(np.int64) if once else x
    assert np.array_equal(found.sums, counted.sum((0, 1)).ravel())
    assert found.single == (once or x.max() <= 1)
    if len(shape) == 1:
        assert np.array_equal(found.firing, x.any(2))
    else:
        assert np.array_equal(found.firing, (x != 0).sum(2))


def test_no_sample_at_all() -> None:
    found = tally(torch.zeros((4, 0, 2, 3), dtype=torch.uint8))
    assert found.sums.tolist() == [0] * 6 and found.single and found.firing.shape == (4, 0, 3)


@given(st.integers(1, 700))
def test_channel_sums_do_not_overflow(channels: int) -> None:
    assert channel_sums(np.ones((2, channels, 3), np.uint8)).tolist() == [[channels] * 3] * 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alike", ["all", "channels", "nothing"])
@pytest.mark.parametrize("most", [1, 4])
def test_active_is_reached_or_fired(shape: tuple[int, ...], alike: str, most: int) -> None:
    """`alike`: which elements of a layer the mask of reached ones treats alike."""
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.integers(0, most + 1, (2, 9, *shape)) * (rng.random((2, 9, *shape)) < 0.2))
    masked = {"all": (1,), "channels": (1, *shape[1:]), "nothing": shape}[alike]
    reached = torch.from_numpy(rng.random((2, 9, *masked)) < 0.5)
    wide = reached.reshape(2, 9, *[1] * (len(shape) - len(masked)), *masked)
    fired = tally(x.to(torch.uint8))
    assert count_active(reached, fired, shape) == int(((x > 0) | wide).sum())
    assert count_active(reached, None, shape) == int(wide.expand(x.shape).sum())
    assert count_active(None, fired, shape) == int((x > 0).sum())
