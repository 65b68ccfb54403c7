"""Event recordings in a user's `.npz`, sparse or as dense frames.

Sparse: `x`, `y`, `p`, `t` (microseconds since the sample's start; or `dt_us`, the time since the sample's previous
event) of all events one after another, `ptr` (N+1,) with sample i in ptr[i]:ptr[i+1], `label` (N,). `p` may be
0/1, -1/1, or 0/1 packed by np.packbits. `shape` (P, H, W) or the option of that name gives the sensor; without
either it is the smallest that holds every event. Dense: `x` (N, T, P, H, W) event counts, `y` or `label` (N,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.event_pools import EventOptions, finish
from snnkd_deploy.data.events import EventStore, make_store
from snnkd_deploy.data.request import Request
from snnkd_deploy.data.user_files import (
    Arrays,
    bytes_of,
    class_names,
    integers,
    labels_of,
    load_parts,
    split_fraction,
)
from snnkd_deploy.errors import DataError, UsageError

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Events:
    """Sparse events of one part, decoded but not yet bound to a sensor's shape."""

    x: Tensor
    y: Tensor
    p: Tensor
    t_us: Tensor
    count: Tensor
    label: Tensor


def read_events_npz(request: Request) -> Source:
    """A user's own recordings; without a test part, a fifth is set aside by seed (option
    `test_percent`)."""
    options = EventOptions.of(request)
    train, test, found = load_parts(request)
    parts = [train] if test is None else [train, test]
    if train.get("x", np.zeros(0)).ndim == 5:
        return _dense(request, parts, found)
    labels, pools = sparse_parts(request, parts, found, options)
    return source_of(request, parts, labels, pools, found, options)


def sparse_parts(
    request: Request, parts: list[Arrays], found: str, options: EventOptions, shape: Shape | None = None
) -> tuple[list[Tensor], list[EventStore | Tensor]]:
    """Labels and samples of every part, all on one sensor and one window."""
    events = [_decode(arrays, found) for arrays in parts]
    shape = shape or _sensor(request, parts, events)
    stores: list[EventStore | Tensor] = [
        make_store(
            e.x, e.y, e.p, e.t_us, e.count, shape=shape, where=found, downsample=options.downsample, cap=options.cap
        )
        for e in events
    ]
    return [e.label for e in events], finish(stores, options)


def source_of(
    request: Request,
    parts: list[Arrays],
    labels: list[Tensor],
    pools: list[EventStore | Tensor],
    found: str,
    options: EventOptions,
) -> Source:
    """The parts as a source: the second is the test part, if there is one."""
    made = [Pool(x, y) for x, y in zip(pools, labels, strict=True)]
    names = class_names(list(parts), labels, found)
    test = made[1] if len(made) > 1 else None
    return Source("events", made[0], test, names, options.cap, found, test_fraction=split_fraction(request))


def _dense(request: Request, parts: list[Arrays], found: str) -> Source:
    for option in ("cap", "downsample", "window_us", "steps"):
        if option in request.options:
            raise UsageError(f"option {option} is for recordings; {found} holds frames that are binned already")
    pools = [Pool(bytes_of(a["x"], "x", found, 5), labels_of(a, ("y", "label"), found)) for a in parts]
    levels = max(1, *(int(pool.x.max()) for pool in pools if isinstance(pool.x, Tensor) and pool.x.numel()))
    test = pools[1] if len(pools) > 1 else None
    names = class_names(list(parts), [pool.y for pool in pools], found)
    return Source("events", pools[0], test, names, levels, found, test_fraction=split_fraction(request))


def _decode(arrays: Arrays, where: str) -> _Events:
    missing = [name for name in ("x", "y", "p", "ptr") if name not in arrays]
    if not {"t", "t_us", "dt_us"} & set(arrays):
        missing.append("t")
    if missing:
        raise DataError(
            "the .npz lacks " + ", ".join(missing),
            where=where,
            need="x, y, p, t, ptr, label (or dense x (N,T,P,H,W) and y)",
            have=", ".join(sorted(arrays)),
        )
    x, y = integers(arrays["x"], "x", where, 1), integers(arrays["y"], "y", where, 1)
    ptr = integers(arrays["ptr"], "ptr", where, 1).long()
    if not ptr.numel() or int(ptr[0]) != 0 or int(ptr[-1]) != x.numel() or bool((ptr.diff() < 0).any()):
        have = f"{ptr[:1].tolist()} .. {ptr[-1:].tolist()}"
        raise DataError("ptr must rise from 0 to the number of events", where=where, need=x.numel(), have=have)
    return _Events(
        x=x,
        y=y,
        p=_polarity(arrays["p"], x.numel(), where),
        t_us=_times(arrays, ptr, where),
        count=ptr.diff(),
        label=labels_of(arrays, ("label", "labels"), where),
    )


def _polarity(p: np.ndarray, n: int, where: str) -> Tensor:
    if p.dtype == np.uint8 and p.ndim == 1 and p.size == -(-n // 8) and p.size != n:
        return torch.from_numpy(np.unpackbits(p)[:n].copy())
    values = integers(p, "p", where, 1)
    if values.numel() and int(values.min()) == -1:
        if bool((values.abs() != 1).any()):
            raise DataError("p mixes -1 with other values", where=where, need="0/1 or -1/1")
        return (values > 0).to(torch.uint8)
    return values


def _times(arrays: Arrays, ptr: Tensor, where: str) -> Tensor:
    for name in ("t", "t_us"):
        if name in arrays:
            return integers(arrays[name], name, where, 1)
    delta = integers(arrays["dt_us"], "dt_us", where, 1).long()
    if delta.numel() != int(ptr[-1]):
        raise DataError("dt_us and x differ in length", where=where, need=int(ptr[-1]), have=delta.numel())
    running = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(delta, 0)])
    # The running sum goes on across samples: each starts again from the sum at its first event.
    return running[1:] - torch.repeat_interleave(running[ptr[:-1]], ptr.diff())


def _sensor(request: Request, parts: list[Arrays], events: list[_Events]) -> Shape:
    given = request.options.get("shape")
    if given is None:
        given = next((arrays["shape"].tolist() for arrays in parts if "shape" in arrays), None)
    if given is not None:
        if not isinstance(given, (list, tuple)) or len(given) != 3 or not all(type(v) is int and v > 0 for v in given):
            raise UsageError("the sensor's shape is (P, H, W)", have=repr(given))
        return (given[0], given[1], given[2])
    largest = [max((int(getattr(e, n).max()) for e in events if e.x.numel()), default=0) for n in ("p", "y", "x")]
    return (max(largest[0], 1) + 1, largest[1] + 1, largest[2] + 1)
