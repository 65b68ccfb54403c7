from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd_deploy.data.events import EventStore, make_store
from snnkd_deploy.errors import DataError, UsageError


def store(events: list[list[tuple[int, int, int, int]]], shape=(2, 3, 4), **more: int) -> EventStore:  # type: ignore[no-untyped-def]
    """From (x, y, p, t) per recording."""
    flat = torch.tensor([e for r in events for e in r], dtype=torch.int64).reshape(-1, 4)
    count = torch.tensor([len(r) for r in events])
    return make_store(*flat.unbind(1), count, shape=shape, where="test", **more)


def naive(events: list[list[tuple[int, int, int, int]]], rows: list[int], T: int, shape, window, cap):  # type: ignore[no-untyped-def]
    out = torch.zeros(T, len(rows), *shape, dtype=torch.int64)
    for b, r in enumerate(rows):
        times = [t for *_, t in events[r]]
        first, length = (
            (0, window) if window else (min(times, default=0), max(times, default=0) - min(times, default=0) + 1)
        )
        for x, y, p, t in events[r]:
            if t - first < length:
                out[(t - first) * T // length, b, p, y, x] += 1
    return out.clamp(max=cap).to(torch.uint8)


EVENT = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1), st.integers(0, 40))
EVENTS = st.lists(st.lists(EVENT, max_size=12), min_size=1, max_size=4)


@settings(deadline=None)
@given(EVENTS, st.integers(1, 7), st.sampled_from([None, 1, 20, 41, 100]), st.sampled_from([1, 2, 255]), st.data())
def test_frames_equal_a_loop_over_events(events, T, window, cap, data) -> None:  # type: ignore[no-untyped-def]
    rows = data.draw(st.lists(st.integers(0, len(events) - 1), max_size=5))
    s = replace(store(events, cap=cap), window_us=window)
    got = s.frames(torch.tensor(rows, dtype=torch.int64), T)
    assert got.dtype == torch.uint8
    assert torch.equal(got, naive(events, rows, T, (2, 3, 4), window, cap))


@settings(deadline=None)
@given(EVENTS, st.integers(1, 7), st.sampled_from([None, 20, 100]), st.sampled_from([1, 2, 255]))
def test_lost_accounts_for_every_event(events, T, window, cap) -> None:  # type: ignore[no-untyped-def]
    s = replace(store(events, cap=cap), window_us=window)
    rows = torch.arange(len(events))
    outside, capped = s.lost(rows, T)
    assert int(s.frames(rows, T).long().sum()) + outside + capped == sum(map(len, events))
    if window is None:
        assert outside == 0


def test_selections_share_events_and_keep_their_order() -> None:
    events = [[(i, 0, 0, 5)] * (i + 1) for i in range(4)]
    s = replace(store(events, cap=255), window_us=10)
    part = s[torch.tensor([3, 1])][torch.tensor([1])]
    assert len(part) == 1 and part.x.data_ptr() == s.x.data_ptr()
    assert torch.equal(part.frames(torch.tensor([0]), 2), s.frames(torch.tensor([1]), 2))


def test_downsampling_merges_pixels() -> None:
    s = store([[(3, 2, 1, 0), (2, 2, 1, 0), (0, 0, 0, 0)]], downsample=2, cap=255)
    assert s.shape == (2, 2, 2)
    frame = s.frames(torch.tensor([0]), 1)[0, 0]
    assert frame[1].tolist() == [[0, 0], [0, 2]] and frame[0].tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize(
    "event", [(4, 0, 0, 0), (0, 3, 0, 0), (0, 0, 2, 0), (-1, 0, 0, 0), (0, 0, 0, -1), (0, 0, 0, 1 << 31)]
)
def test_events_outside_the_sensor_or_time_are_refused(event: tuple[int, int, int, int]) -> None:
    with pytest.raises(DataError, match="out of range"):
        store([[event]])


def test_impossible_requests() -> None:
    s = store([[(0, 0, 0, 0)]])
    with pytest.raises(UsageError, match="out of range"):
        s.frames(torch.tensor([1]), 4)
    with pytest.raises(UsageError, match="sensible"):
        s.frames(torch.tensor([0]), 0)
    with pytest.raises(UsageError, match="sensible"):
        s.frames(torch.tensor([0]), 10**9)
    with pytest.raises(DataError, match="do not belong together"):
        make_store(*(torch.zeros(3, dtype=torch.int64),) * 4, torch.tensor([2]), shape=(1, 1, 1), where="here")


def test_large_sensors_use_wider_coordinates() -> None:
    s = store([[(599, 400, 1, 7)]], shape=(2, 480, 640))
    assert s.frames(torch.tensor([0]), 1)[0, 0, 1, 400, 599] == 1
