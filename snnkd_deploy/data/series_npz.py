"""Time series in a user's `.npz`: speech features, sensor traces. `X` (N, T, F) bytes and `y` (N,)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.request import Request
from snnkd_deploy.data.user_files import Arrays, bytes_of, class_names, labels_of, load_parts, split_fraction
from snnkd_deploy.errors import DataError, UsageError


def read_series_npz(request: Request) -> Source:
    """A user's own series, uint8 (N, T, F); without a test part one is set aside by seed (`test_percent`).

    Option `group` names an array (N,) whose equal entries must stay on one side of every split, such as the
    speaker: a split that puts one speaker on both sides measures too well. Option `group_until` cuts text entries
    at the first occurrence of that mark ("ab12_nohash_0.wav" until "_nohash_" is speaker "ab12"). Option
    `channels`: means of neighbouring features, this many of them, for chips with few inputs (Xylo: 16).
    """
    train, test, found = load_parts(request)
    parts = [train] if test is None else [train, test]
    channels = request.integer("channels", 0)
    series = [_merged(_series(arrays, found), channels, found) for arrays in parts]
    pools = [Pool(x, labels_of(a, ("y", "label"), found)) for x, a in zip(series, parts, strict=True)]
    names = class_names(list(parts), [pool.y for pool in pools], found)
    return Source(
        kind="series",
        train=pools[0],
        test=pools[1] if len(pools) > 1 else None,
        classes=names,
        levels=255,
        found=found,
        test_fraction=split_fraction(request),
        groups=_groups(request, train, len(pools[0].y), found),
    )


def _series(arrays: Arrays, where: str) -> Tensor:
    for name in ("X", "x"):
        if name in arrays:
            return bytes_of(arrays[name], name, where, 3)
    raise DataError("the .npz lacks X", where=where, need="X (N, T, F) and y (N,)", have=", ".join(sorted(arrays)))


def _merged(x: Tensor, channels: int, where: str) -> Tensor:
    """(N, T, F) -> (N, T, channels): rounded means of neighbouring features, in groups that differ by one at most."""
    features = x.shape[2]
    if channels == 0:
        return x
    if not 0 < channels <= features:
        what = "option channels is the number of features that are left"
        raise UsageError(what, where=where, need=f"1..{features}", have=channels)
    ends = [features * i // channels for i in range(channels + 1)]
    means = [x[:, :, a:b].float().mean(2).round() for a, b in pairwise(ends)]
    return torch.stack(means, 2).to(torch.uint8)


def _groups(request: Request, arrays: Arrays, n: int, where: str) -> Tensor | None:
    key, mark = request.text("group"), request.text("group_until")
    if key is None:
        if mark is not None:
            raise UsageError("option group_until needs option group")
        return None
    if key not in arrays or arrays[key].shape != (n,):
        raise DataError(
            f"option group: no array {key!r} with one entry a sample", where=where, have=", ".join(sorted(arrays))
        )
    entries = [e.decode("latin-1") if isinstance(e, bytes) else str(e) for e in arrays[key].tolist()]
    if mark is not None:
        entries = [entry.split(mark)[0] for entry in entries]
    _, number = np.unique(np.array(entries), return_inverse=True)
    return torch.from_numpy(number.reshape(-1).astype(np.int64))
