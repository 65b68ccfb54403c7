"""From recordings to the samples of a data set, under the options that all event sets share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.data.events import EventStore, make_store
from snnkd_deploy.data.request import Request
from snnkd_deploy.errors import DataError, UsageError

# The options every event set takes, for the registry.
EVENT_OPTIONS = ("cap", "downsample", "window_us", "steps")
# Recordings are put together in chunks, bounded in number and in events (a gesture may have a million).
_CHUNK = 256
_CHUNK_EVENTS = 1 << 24


class Recording(NamedTuple):
    """One sample as its file has it: integer arrays (E,), times in microseconds from the sample's start."""

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    t_us: np.ndarray


@dataclass(frozen=True)
class EventOptions:
    """`cap`: events that a bin can hold (1..255). `downsample`: merge k x k pixels. `window_us`: the time that
    the frames cover: microseconds, "sample" (each recording its own), or None (the longest recording, so that
    nothing is left out). `steps`: bin at load into this many frames, to keep frames instead of events in
    memory; 0 keeps the events."""

    cap: int
    downsample: int
    window_us: int | str | None
    steps: int

    @classmethod
    def of(cls, request: Request, window_us: int | str | None = None) -> EventOptions:
        """The options of a request; `window_us` is the data set's own default. `UsageError` if one is wrong."""
        cap, k, steps = (request.integer(*pair) for pair in (("cap", 1), ("downsample", 1), ("steps", 0)))
        window = request.options.get("window_us", window_us)
        if not 1 <= cap <= 255:
            raise UsageError("option cap: counts are kept in a byte", need="1..255", have=cap)
        if k < 1 or steps < 0:
            raise UsageError("options downsample >= 1 and steps >= 0", have=f"downsample={k}, steps={steps}")
        if window not in (None, "sample") and not (type(window) is int and window > 0):
            raise UsageError('option window_us is a number of microseconds, or "sample"', have=repr(window))
        return cls(cap, k, window, steps)


def store_of(
    recordings: Iterable[Recording], shape: tuple[int, int, int], where: str, options: EventOptions
) -> EventStore | Tensor:
    """The recordings as a store, or as dense frames (N, T, P, H, W) if `options.steps`.

    With `steps` no more than a few hundred recordings are held as events, so a set larger than memory can be
    read; its window must be known beforehand then.
    """
    if options.steps and options.window_us is None:
        raise UsageError(
            "option steps needs option window_us here",
            remedy='window_us=<microseconds>, or window_us="sample" for each recording\'s own duration',
        )
    dense: list[Tensor] = []
    stores: list[EventStore] = []
    chunk: list[Recording] = []
    events = 0
    for recording in recordings:
        chunk.append(recording)
        events += len(recording.x)
        if len(chunk) == _CHUNK or events > _CHUNK_EVENTS:
            _flush(chunk, shape, where, options, stores, dense)
            events = 0
    _flush(chunk, shape, where, options, stores, dense)
    if not (dense or stores):
        raise DataError("no recordings", where=where)
    return torch.cat(dense) if options.steps else join(stores)


def finish(pools: Sequence[EventStore | Tensor], options: EventOptions) -> list[EventStore | Tensor]:
    """Give all parts of a data set one window, and bin them if `options.steps` asks for it."""
    window = options.window_us
    stores = [pool for pool in pools if isinstance(pool, EventStore)]
    if window is None:
        window = max((int(s.t_us.max()) + 1 for s in stores if s.t_us.numel()), default=1)
    result: list[EventStore | Tensor] = []
    for pool in pools:
        if isinstance(pool, EventStore):
            pool = replace(pool, window_us=None if window == "sample" else int(window))
            result.append(_binned(pool, options.steps) if options.steps else pool)
        else:
            result.append(pool)
    return result


def join(stores: Sequence[EventStore]) -> EventStore:
    """One store with the recordings of all (at least one; of equal shape and options), in order."""
    count = torch.cat([s.count for s in stores])
    return replace(
        stores[0],
        x=torch.cat([s.x for s in stores]),
        y=torch.cat([s.y for s in stores]),
        p=torch.cat([s.p for s in stores]),
        t_us=torch.cat([s.t_us for s in stores]),
        start=torch.cumsum(count, 0) - count,
        count=count,
    )


def _flush(
    chunk: list[Recording],
    shape: tuple[int, int, int],
    where: str,
    options: EventOptions,
    stores: list[EventStore],
    dense: list[Tensor],
) -> None:
    if not chunk:
        return
    x, y, p, t = (
        torch.from_numpy(np.concatenate([getattr(r, name) for r in chunk]).astype(np.int64))
        for name in Recording._fields
    )
    count = torch.tensor([len(r.x) for r in chunk])
    store = make_store(x, y, p, t, count, shape=shape, where=where, downsample=options.downsample, cap=options.cap)
    chunk.clear()
    if options.steps:
        window = None if options.window_us == "sample" else options.window_us
        assert not isinstance(window, str)
        dense.append(_binned(replace(store, window_us=window), options.steps))
    else:
        stores.append(store)


def _binned(store: EventStore, steps: int) -> Tensor:
    rows = torch.arange(len(store))
    parts = [store.frames(part, steps).movedim(0, 1) for part in rows.split(_CHUNK)]
    return torch.cat(parts) if parts else torch.zeros((0, steps, *store.shape), dtype=torch.uint8)
