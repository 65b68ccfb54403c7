"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in each form that people have them.

The binary release (one record: label byte or bytes, then 3072 pixel bytes, red, green, blue planes), the python
release (read without unpickling, see `pickle_subset`), both as folder or as the archive they come in, and
lossless WebP mosaics (100 x 100 tiles a batch, row by row) with an `index.npz` of labels.
"""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.data.cifar_names import CIFAR10_CLASSES, CIFAR100_CLASSES, CIFAR100_SUPERCLASSES
from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.download import Remote
from snnkd_deploy.data.locate import Layout
from snnkd_deploy.data.mosaic import read_mosaics
from snnkd_deploy.data.pickle_subset import read_batch
from snnkd_deploy.data.request import Request, obtain
from snnkd_deploy.errors import DataError

_PIXELS = 3 * 32 * 32
_URL = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class CifarSpec:
    """How one of the two sets is stored: batch names, samples in each, labels of a record."""

    folder: str
    stem: str
    binary_folder: str
    python_folder: str
    train: tuple[str, ...]
    test: str
    records: dict[str, int]
    label_bytes: int
    label_keys: tuple[str, ...]
    md5: str

    @property
    def batches(self) -> tuple[str, ...]:
        return (*self.train, self.test)


CIFAR10 = CifarSpec(
    folder="CIFAR10",
    stem="cifar-10",
    binary_folder="cifar-10-batches-bin",
    python_folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test="test_batch",
    records={f"data_batch_{i}": 10000 for i in range(1, 6)} | {"test_batch": 10000},
    label_bytes=1,
    label_keys=("labels",),
    md5="c32a1d4ab5d03f1284b67883e8d87530",
)
CIFAR100 = CifarSpec(
    folder="CIFAR100",
    stem="cifar-100",
    binary_folder="cifar-100-binary",
    python_folder="cifar-100-python",
    train=("train",),
    test="test",
    records={"train": 50000, "test": 10000},
    label_bytes=2,
    label_keys=("coarse_labels", "fine_labels"),
    md5="03b5dce01913d631647c71ecec9e9cb8",
)


def read_cifar10(request: Request) -> Source:
    """CIFAR-10: 50,000 + 10,000 images, uint8 (N, 3, 32, 32)."""
    return _read(request, CIFAR10, 0, CIFAR10_CLASSES)


def read_cifar100(request: Request) -> Source:
    """CIFAR-100: 50,000 + 10,000 images, uint8 (N, 3, 32, 32); option `coarse`: the 20 superclasses."""
    if request.flag("coarse"):
        return _read(request, CIFAR100, 0, CIFAR100_SUPERCLASSES)
    return _read(request, CIFAR100, 1, CIFAR100_CLASSES)


def _read(request: Request, spec: CifarSpec, label: int, classes: tuple[str, ...]) -> Source:
    remote = Remote(f"{spec.folder}/{spec.stem}-binary.tar.gz", (f"{_URL}{spec.stem}-binary.tar.gz",), spec.md5)
    form, files = obtain(request, _layouts(spec), (remote,))
    packed = form in (BINARY_TAR, PYTHON_TAR)
    if form == MOSAICS:
        arrays = read_mosaics(files, spec.batches, spec.records)
    else:
        decode, suffix = (_binary, ".bin") if form in (BINARY, BINARY_TAR) else (_python, "")
        members = tuple(name + suffix for name in spec.batches)
        raws = _tar_members(files[0], members) if packed else map(_file_bytes, files)
        where = [f"{files[0]}:{member}" for member in members] if packed else list(map(str, files))
        arrays = [decode(raw, spec, *names) for raw, *names in zip(raws, spec.batches, where, strict=True)]
    for name, (_, labels) in zip(spec.batches, arrays, strict=True):
        if int(labels[:, label].max()) >= len(classes):
            raise DataError("labels out of range", where=f"{files[0].parent}, {name}", need=f"< {len(classes)}")
    train = Pool(torch.cat([x for x, _ in arrays[:-1]]), torch.cat([y[:, label] for _, y in arrays[:-1]]))
    test = Pool(arrays[-1][0], arrays[-1][1][:, label].clone())
    return Source("image", train, test, classes, 255, str(files[0] if packed else files[0].parent))


# The order of the layouts below.
BINARY, BINARY_TAR, PYTHON, PYTHON_TAR, MOSAICS = range(5)


def _layouts(spec: CifarSpec) -> tuple[Layout, ...]:
    tops = (f"{spec.folder}/", f"{spec.folder.lower()}/", f"{spec.stem}/", "")

    def under(name: str) -> tuple[str, ...]:
        return (*(f"{top}{name}".rstrip("/") for top in tops), "")

    layouts: tuple[Layout, ...] = (
        Layout(under(spec.binary_folder), tuple((f"{name}.bin",) for name in spec.batches)),
        Layout(under(""), ((f"{spec.stem}-binary.tar.gz",),)),
        Layout(under(spec.python_folder), tuple((name,) for name in spec.batches)),
        Layout(under(""), ((f"{spec.stem}-python.tar.gz",),)),
    )
    if spec.label_bytes == 1:
        layouts += (Layout(under(""), (("index.npz",), *((f"{name}.webp",) for name in spec.batches))),)
    return layouts


def _binary(raw: bytes, spec: CifarSpec, batch: str, where: str) -> tuple[Tensor, Tensor]:
    """(uint8 (N, 3, 32, 32), int64 labels (N, label_bytes)) of one binary batch."""
    record, count = spec.label_bytes + _PIXELS, spec.records[batch]
    if len(raw) != record * count:
        raise DataError(
            "truncated file" if len(raw) < record * count else "file longer than the official one",
            where=where,
            need=f"{record * count} bytes ({count} records)",
            have=f"{len(raw)} bytes",
        )
    table = torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(count, record).copy())
    return table[:, spec.label_bytes :].reshape(-1, 3, 32, 32), table[:, : spec.label_bytes].long()


def _python(raw: bytes, spec: CifarSpec, batch: str, where: str) -> tuple[Tensor, Tensor]:
    """As `_binary`, from one batch of the python release."""
    content = read_batch(raw, where)
    columns = [content.get(key) for key in spec.label_keys]
    data, count = content.get("data"), spec.records[batch]
    if not isinstance(data, np.ndarray) or data.shape != (count, _PIXELS):
        raise DataError(
            "no pixel array of the official shape",
            where=where,
            need=f"data ({count}, {_PIXELS})",
            have=getattr(data, "shape", "none"),
        )
    for key, column in zip(spec.label_keys, columns, strict=True):
        if not isinstance(column, list) or len(column) != count or not all(type(v) is int for v in column):
            raise DataError(
                f"{key} do not belong to the images",
                where=where,
                need=f"{count} integers",
                have=f"{len(column) if isinstance(column, list) else 'none'}",
            )
    labels = torch.tensor(columns, dtype=torch.int64).T.contiguous()
    if int(labels.min()) < 0:
        raise DataError("negative labels", where=where)
    return torch.from_numpy(data.reshape(count, 3, 32, 32).copy()), labels


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"unreadable: {error}", where=str(path)) from error


def _tar_members(path: Path, names: tuple[str, ...]) -> list[bytes]:
    """The contents of `names` (without their folder), straight from the archive: nothing is extracted."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                if name in names and member.isfile():
                    stream = archive.extractfile(member)
                    assert stream is not None
                    found[name] = stream.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"damaged archive: {error}", where=str(path), remedy="delete the file and fetch it again"
        ) from error
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError("archive lacks " + ", ".join(missing), where=str(path), have=", ".join(found) or "none")
    return [found[name] for name in names]
