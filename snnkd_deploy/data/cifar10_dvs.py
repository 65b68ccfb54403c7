"""CIFAR10-DVS (Li et al. 2017): CIFAR-10 images moved before an event camera, 128 x 128, two polarities.

Ten folders <class>/*.aedat (AEDAT 2.0), or the publisher's ten zip files.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch

from snnkd_deploy.data.aedat import read_aedat2_dvs128
from snnkd_deploy.data.cifar_names import CIFAR10_CLASSES
from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.download import Remote
from snnkd_deploy.data.event_pools import EventOptions, Recording, finish, store_of
from snnkd_deploy.data.locate import Layout
from snnkd_deploy.data.request import Request, obtain
from snnkd_deploy.errors import DataError

SHAPE = (2, 128, 128)
_TOPS = ("CIFAR10DVS", "CIFAR10-DVS", "cifar10-dvs", "")
_FIGSHARE = "https://ndownloader.figshare.com/files/"
_FILES = {
    "airplane": ("7712788", "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": ("7712791", "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": ("7712794", "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": ("7712812", "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": ("7712815", "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": ("7712818", "f379ebdf6703d16e0a690782e62639c3"),
    "frog": ("7712842", "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": ("7712851", "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": ("7712836", "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": ("7712839", "89f3922fd147d9aeff89e76a2b0b70a7"),
}
_REMOTES = tuple(Remote(f"CIFAR10DVS/{name}.zip", (_FIGSHARE + n,), md5) for name, (n, md5) in _FILES.items())
_HINT = "the unpacked CIFAR10DVS/<class>/*.aedat will do as well"
_ZIPS = Layout(_TOPS, tuple((f"{name}.zip",) for name in CIFAR10_CLASSES))


def read_cifar10_dvs(request: Request) -> Source:
    """CIFAR10-DVS: 10,000 recordings of about 1.3 s, without a test part: a tenth is set aside by seed.

    Two thousand million events take 14 GB: option `steps` bins while reading and keeps frames instead. By default
    T frames divide each recording's own duration (see option window_us).
    """
    options = EventOptions.of(request, window_us="sample")
    folders = _find_folders(request)
    if folders is None:
        _, files = obtain(request, (_ZIPS,), _REMOTES, hints=(_HINT,))
        parts, where = [_from_zip(path) for path in files], files[0].parent
    else:
        parts, where = [_from_folder(path) for path in folders], folders[0].parent
    labels: list[int] = []

    def recordings() -> Iterator[Recording]:
        for label, part in enumerate(parts):
            for raw, name in part:
                labels.append(label)
                yield upright(read_aedat2_dvs128(raw, name))

    (x,) = finish([store_of(recordings(), SHAPE, str(where), options)], options)
    pool = Pool(x, torch.tensor(labels, dtype=torch.int64))
    return Source("events", pool, None, CIFAR10_CLASSES, options.cap, str(where), test_fraction=0.1)


def upright(events: Recording) -> Recording:
    """The camera's coordinates as image coordinates, times from the first event.

    x = 127 - y, y = 127 - x, polarity inverted: the camera's bit is 1 for OFF, and its picture is turned. This is
    the orientation of the published results (SpikingJelly's and tonic's readers).
    """
    t = events.t_us - (events.t_us.min() if events.t_us.size else 0)
    return Recording(127 - events.y, 127 - events.x, 1 - events.p, t)


def _find_folders(request: Request) -> list[Path] | None:
    for place in request.places():
        for top in _TOPS:
            folders = [place.path / top / name for name in CIFAR10_CLASSES]
            # By content: an image folder of CIFAR-10 has the same class names.
            if all(folder.is_dir() for folder in folders) and any(folders[0].glob("*.aedat")):
                return folders
    return None


def _order(name: str) -> tuple[int, str]:
    """cifar10_airplane_2.aedat before cifar10_airplane_10.aedat."""
    number = re.search(r"(\d+)\.aedat$", name)
    return (int(number[1]) if number else -1, name)


def _from_folder(folder: Path) -> Iterator[tuple[bytes, str]]:
    files = sorted(folder.glob("*.aedat"), key=lambda p: _order(p.name))
    if not files:
        raise DataError("no recordings", where=str(folder), need="*.aedat")
    for path in files:
        yield path.read_bytes(), str(path)


def _from_zip(path: Path) -> Iterator[tuple[bytes, str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted((m for m in archive.namelist() if m.endswith(".aedat")), key=_order)
            if not members:
                raise DataError("no recordings", where=str(path), need="*.aedat")
            for member in members:
                yield archive.read(member), f"{path}:{member}"
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"damaged archive: {error}", where=str(path), remedy="fetch it again") from error
