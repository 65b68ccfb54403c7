"""N-MNIST (Orchard et al. 2015): MNIST digits seen by a moving event camera, 34 x 34, two polarities.

The original is one `.bin` a sample, five bytes an event: x, y, then polarity (1 bit, 1 = ON) and time (23 bits,
microseconds). It is read from the folders Train/<digit>/ and Test/<digit>/, or straight from the two zip files.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.download import Remote
from snnkd_deploy.data.event_pools import EventOptions, Recording, finish, store_of
from snnkd_deploy.data.events import EventStore
from snnkd_deploy.data.events_npz import source_of, sparse_parts
from snnkd_deploy.data.locate import Layout
from snnkd_deploy.data.npz import read_npz
from snnkd_deploy.data.request import Request, obtain
from snnkd_deploy.errors import DataError

SHAPE = (2, 34, 34)
_TOPS = ("NMNIST", "N-MNIST", "nmnist", "")
_MENDELEY = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/"
_REMOTES = (
    Remote(
        "NMNIST/Train.zip",
        (f"{_MENDELEY}39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",),
        "20959b8e626244a1b502305a9e6e2031",
    ),
    Remote(
        "NMNIST/Test.zip",
        (f"{_MENDELEY}05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",),
        "69ca8762b2fe404d9b9bad1103e97832",
    ),
)
_LAYOUTS = (
    Layout(_TOPS, (("Train.zip", "train.zip"), ("Test.zip", "test.zip"))),
    Layout(("NMNIST_small", "nmnist_small", *_TOPS), (("nmnist_small.npz",),)),
)
_HINT = "the unpacked folders NMNIST/Train/<digit>/*.bin and NMNIST/Test/<digit>/*.bin will do as well"
# The ATIS marks an overflow of its clock by an event on this row, outside the sensor.
_OVERFLOW_ROW, _OVERFLOW_US = 240, 1 << 13


def read_nmnist(request: Request) -> Source:
    """N-MNIST: 60,000 + 10,000 recordings of about 0.3 s; or the subset of 1,000 + 100 in nmnist_small.npz,
    where that is what is found (its accuracies do not compare with published ones)."""
    options = EventOptions.of(request)
    for place in request.places():
        for top in _TOPS:
            folders = [place.path / top / part for part in ("Train", "Test")]
            if all(folder.is_dir() for folder in folders):
                return _originals(request, [_from_folder(f) for f in folders], str(folders[0].parent), options)
    number, files = obtain(request, _LAYOUTS, _REMOTES, hints=(_HINT,))
    if number == 0:
        return _originals(request, [_from_zip(f) for f in files], str(files[0].parent), options)
    return _subset(request, files[0], options)


def decode_bin(raw: bytes, where: str) -> Recording:
    """The events of one `.bin` file."""
    if len(raw) % 5:
        raise DataError("truncated file", where=where, need="five bytes an event", have=f"{len(raw)} bytes")
    b = np.frombuffer(raw, np.uint8).reshape(-1, 5).astype(np.int64)
    x, y, p = b[:, 0], b[:, 1], b[:, 2] >> 7
    t = ((b[:, 2] & 0x7F) << 16) | (b[:, 3] << 8) | b[:, 4]
    overflow = y == _OVERFLOW_ROW
    t = t + _OVERFLOW_US * np.cumsum(overflow)
    keep = ~overflow
    return Recording(x[keep], y[keep], p[keep], t[keep])


def _originals(
    request: Request, parts: list[Iterator[tuple[int, bytes, str]]], where: str, options: EventOptions
) -> Source:
    pools: list[EventStore | Tensor] = []
    labels: list[Tensor] = []
    for part in parts:
        digits: list[int] = []
        pools.append(store_of(_recordings(part, digits), SHAPE, where, options))
        labels.append(torch.tensor(digits, dtype=torch.int64))
    train, test = (Pool(x, y) for x, y in zip(finish(pools, options), labels, strict=True))
    return Source("events", train, test, tuple("0123456789"), options.cap, where)


def _recordings(part: Iterator[tuple[int, bytes, str]], digits: list[int]) -> Iterator[Recording]:
    """Every recording of a part; its digit is appended to `digits`."""
    for digit, raw, name in part:
        digits.append(digit)
        yield decode_bin(raw, name)


def _from_folder(folder: Path) -> Iterator[tuple[int, bytes, str]]:
    """(digit, file content, name) in the order of the file names, which is MNIST's order."""
    files = sorted((path.name, path) for path in folder.glob("*/*.bin") if re.fullmatch("[0-9]", path.parent.name))
    if not files:
        raise DataError("no recordings", where=str(folder), need="<digit>/*.bin")
    for _, path in files:
        yield int(path.parent.name), path.read_bytes(), str(path)


def _from_zip(path: Path) -> Iterator[tuple[int, bytes, str]]:
    """As `_from_folder`, straight from the archive: nothing is extracted."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.namelist() if re.search(r"(^|/)[0-9]/[^/]+\.bin$", m)]
            if not members:
                raise DataError("no recordings", where=str(path), need="<digit>/*.bin")
            for member in sorted(members, key=lambda m: m.rsplit("/", 1)[-1]):
                yield int(member.split("/")[-2]), archive.read(member), f"{path}:{member}"
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"damaged archive: {error}", where=str(path), remedy="fetch it again") from error


def _subset(request: Request, path: Path, options: EventOptions) -> Source:
    arrays = read_npz(path)
    parts = [
        {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
        for prefix in ("train_", "test_")
    ]
    labels, pools = sparse_parts(request, parts, str(path), options, SHAPE)
    for part in parts:
        part["class_names"] = np.array(list("0123456789"))
    return source_of(request, parts, labels, pools, f"{path} (a subset)", options)
