"""Spiking Heidelberg Digits (Cramer et al. 2020): spoken digits through a cochlea model, 700 channels.

shd_train.h5 and shd_test.h5, or the publisher's zip of each: spikes/times (seconds) and spikes/units (channel) have
one variable-length row a recording, labels its class, extra/keys the class names.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.download import Remote
from snnkd_deploy.data.event_pools import EventOptions, Recording, finish, store_of
from snnkd_deploy.data.locate import Layout
from snnkd_deploy.data.request import Request, obtain
from snnkd_deploy.errors import DataError

SHAPE = (1, 1, 700)
N_CLASSES = 20
_TOPS = ("SHD", "shd", "")
_URL = "https://zenkelab.org/datasets/"
_REMOTES = (
    Remote("SHD/shd_train.h5.zip", (f"{_URL}shd_train.h5.zip",), "f3252aeb598ac776c1b526422d90eecb"),
    Remote("SHD/shd_test.h5.zip", (f"{_URL}shd_test.h5.zip",), "1503a5064faa34311c398fb0a1ed0a6f"),
)
_LAYOUT = Layout(_TOPS, (("shd_train.h5", "shd_train.h5.zip"), ("shd_test.h5", "shd_test.h5.zip")))


def read_shd(request: Request) -> Source:
    """SHD: 8,156 + 2,264 recordings of up to 1.4 s, as events of shape (1, 1, 700). Two speakers are in the test
    part alone. Option `downsample` merges neighbouring channels."""
    options = EventOptions.of(request)
    _, files = obtain(request, (_LAYOUT,), _REMOTES)
    parts = []
    names: tuple[str, ...] = ()
    for path in files:
        times, units, label, names = _content(path)
        recordings = _recordings(times, units, path)
        parts.append((store_of(recordings, SHAPE, str(path), options), label))
    stores = finish([store for store, _ in parts], options)
    train, test = (Pool(x, label) for x, (_, label) in zip(stores, parts, strict=True))
    return Source("events", train, test, names, options.cap, str(files[0].parent))


def _content(path: Path) -> tuple[Any, Any, torch.Tensor, tuple[str, ...]]:
    """Rows of times, rows of units, labels int64 (N,), class names."""
    import h5py

    try:
        source: Any = path
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                source = io.BytesIO(archive.read(path.stem))
        with h5py.File(source, "r") as file:
            times, units, labels = file["spikes/times"][:], file["spikes/units"][:], file["labels"][:]
            names = _names(file, path)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"damaged, or not an SHD file: {error}", where=str(path)) from error
    if not len(times) == len(units) == len(labels):
        have = f"{len(times)} times, {len(units)} units, {len(labels)} labels"
        raise DataError("rows do not belong together", where=str(path), have=have)
    return times, units, torch.from_numpy(np.asarray(labels).astype(np.int64)), names


def _names(file: Any, path: Path) -> tuple[str, ...]:
    if "extra/keys" not in file:  # copies without it are about; we do not guess the order of the languages
        return tuple(str(i) for i in range(N_CLASSES))
    names = [k.decode() if isinstance(k, bytes) else str(k) for k in file["extra/keys"][:]]
    if len(names) != N_CLASSES:
        raise DataError("another number of classes", where=str(path), need=N_CLASSES, have=len(names))
    return tuple(names)


def _recordings(times: Any, units: Any, path: Path) -> Iterator[Recording]:
    for i, (t, unit) in enumerate(zip(times, units, strict=True)):
        t = np.asarray(t, dtype=np.float64)
        if len(t) != len(unit) or not np.isfinite(t).all():
            raise DataError(f"recording {i}: times and units do not belong together", where=str(path))
        channel = np.asarray(unit).astype(np.int64)
        nothing = np.zeros_like(channel)
        # Times are stored as float16 seconds: coarse, but exact in float64, so this rounding is the only one.
        yield Recording(channel, nothing, nothing, np.rint(t * 1e6).astype(np.int64))
