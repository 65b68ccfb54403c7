"""Name -> data set: `load_dataset` and what it can load."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnkd_deploy.data.cifar import read_cifar10, read_cifar100
from snnkd_deploy.data.cifar10_dvs import read_cifar10_dvs
from snnkd_deploy.data.dataset import (
    Dataset,
    Kind,
    Pool,
    Source,
    Split,
    content_hash,
    sample_shape,
)
from snnkd_deploy.data.digits import read_digits
from snnkd_deploy.data.dvs_gesture import read_dvs_gesture
from snnkd_deploy.data.event_pools import EVENT_OPTIONS
from snnkd_deploy.data.events_npz import read_events_npz
from snnkd_deploy.data.folder import read_folder
from snnkd_deploy.data.images_npz import read_images_npz
from snnkd_deploy.data.mnist import read_fashion_mnist, read_mnist
from snnkd_deploy.data.nmnist import read_nmnist
from snnkd_deploy.data.request import Request
from snnkd_deploy.data.series_npz import read_series_npz
from snnkd_deploy.data.shd import read_shd
from snnkd_deploy.data.splits import grouped, stratified
from snnkd_deploy.errors import DataError, Problem, UsageError

# Salts keep the three seeded choices independent of each other.
_TEST, _VALIDATION, _LIMIT = 1, 2, 3
_COMMON_OPTIONS = ("limit_train", "limit_test")


@dataclass(frozen=True)
class DatasetInfo:
    """What can be said of a data set without loading it. `options` are its own, beside those of all."""

    name: str
    kind: Kind
    about: str
    read: Callable[[Request], Source]
    options: tuple[str, ...] = ()
    downloads: bool = False


DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo("digits", "image", "8x8 digits of scikit-learn; needs no files", read_digits),
        DatasetInfo("mnist", "image", "28x28 digits", read_mnist, downloads=True),
        DatasetInfo("fashion-mnist", "image", "28x28 garments", read_fashion_mnist, downloads=True),
        DatasetInfo("cifar10", "image", "32x32 colour, 10 classes", read_cifar10, downloads=True),
        DatasetInfo("cifar100", "image", "32x32 colour, 100 classes", read_cifar100, ("coarse",), downloads=True),
        DatasetInfo(
            "folder",
            "image",
            "your own images, one sub-folder a class",
            read_folder,
            ("path", "size", "grayscale", "train_folder", "test_folder", "test_percent"),
        ),
        DatasetInfo(
            "images-npz", "image", "your own images in arrays", read_images_npz, ("file", "test_file", "test_percent")
        ),
        DatasetInfo("nmnist", "events", "N-MNIST, 34x34", read_nmnist, EVENT_OPTIONS, downloads=True),
        DatasetInfo("dvs-gesture", "events", "DVS128 Gesture, 128x128", read_dvs_gesture, EVENT_OPTIONS),
        DatasetInfo(
            "cifar10-dvs", "events", "CIFAR10-DVS, 128x128 (7 GB)", read_cifar10_dvs, EVENT_OPTIONS, downloads=True
        ),
        DatasetInfo(
            "shd", "events", "Spiking Heidelberg Digits, 700 channels", read_shd, EVENT_OPTIONS, downloads=True
        ),
        DatasetInfo(
            "events-npz",
            "events",
            "your own recordings or event frames",
            read_events_npz,
            ("file", "test_file", "test_percent", "shape", *EVENT_OPTIONS),
        ),
        DatasetInfo(
            "series-npz",
            "series",
            "your own series, e.g. speech features",
            read_series_npz,
            ("file", "test_file", "test_percent", "group", "group_until", "channels"),
        ),
    )
}


def load_dataset(
    name: str,
    *,
    root: Path | None = None,
    split_seed: int = 0,
    validation: float = 0.1,
    download: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Load `name` and split it.

    Files are sought in `root` alone where it is given, else in the folder that the environment variable
    SNNKD_DATA names, else in the cache folder; what is found nowhere is downloaded where the publisher allows it
    and `download` is true. The test split is the official one, or set aside by `split_seed` where there is none.
    `validation` is the fraction of the train part that becomes `val`: seeded, stratified, 0 for none.
    Options of all sets: `limit_train`, `limit_test`, a number of samples to keep (seeded, stratified; train
    counts before the validation split). `UsageError` for unknown names and options, `DataError` for files
    that are missing or damaged.
    """
    options = dict(options or {})
    problems = option_problems(name, options)
    if problems:
        raise UsageError.from_problems(problems)
    info = _info(name)
    if not 0.0 <= validation < 1.0:
        raise UsageError("validation is a fraction of the train part", need="0 <= validation < 1", have=validation)
    request = Request(name, None if root is None else Path(root), download, options)
    source = info.read(request)
    _check(name, source)
    return split_source(name, source, split_seed=split_seed, validation=validation, request=request)


def split_source(name: str, source: Source, *, split_seed: int, validation: float, request: Request) -> Dataset:
    """The `Dataset` of what a reader found: test, limits, then validation, each by its own seeded choice."""
    digest = content_hash(source.train, source.test)
    rows = torch.arange(len(source.train.y))
    if source.test is None:
        count = _count(source.test_fraction, rows.numel())
        keep, aside = _divide(source, rows, count, split_seed, _TEST)
        test = _split(source.train, aside)
        rows = keep
    else:
        test = _split(source.test, torch.arange(len(source.test.y)))
    rows = _limited(source.train.y, rows, request.integer("limit_train", 0), split_seed)
    test_rows = _limited(test.y, torch.arange(len(test)), request.integer("limit_test", 0), split_seed)
    if test_rows.numel() < len(test):
        test = test.take(test_rows)
    keep, aside = _divide(source, rows, _count(validation, rows.numel()), split_seed, _VALIDATION)
    return Dataset(
        name=name,
        kind=source.kind,
        train=_split(source.train, keep),
        val=_split(source.train, aside),
        test=test,
        classes=source.classes,
        shape=sample_shape(source.train.x),
        levels=source.levels,
        source=source.found,
        sha256=digest,
        split_seed=split_seed,
        validation=validation,
        options=dict(request.options),
    )


def _info(name: str) -> DatasetInfo:
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name.lower().replace("_", "-"), DATASETS, n=1, cutoff=0.5)
    raise UsageError(
        f"unknown data set {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        remedy="one of " + ", ".join(sorted(DATASETS)),
    )


def option_problems(name: str, options: Mapping[str, Any]) -> list[Problem]:
    """What can be said against a data set's name and options without looking for its files."""
    try:
        info = _info(name)
    except UsageError as error:
        return list(error.problems)
    known = (*info.options, *_COMMON_OPTIONS)
    problems = []
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            what, remedy = f"data set {name} has no option {key!r}", f"{hint}one of {', '.join(known)}"
            problems.append(Problem(what, f"data.options.{key}", remedy=remedy))
    for key in _COMMON_OPTIONS:
        value = options.get(key, 0)
        if type(value) is not int or value < 0:
            problems.append(Problem("a number of samples, 0 for all", f"data.options.{key}", ">= 0", repr(value)))
    return problems


def _check(name: str, source: Source) -> None:
    """What every reader must deliver; also the last guard against an empty or half-read source."""
    for part, pool in (("train", source.train), ("test", source.test)):
        if pool is None:
            continue
        if len(pool.y) == 0:
            raise DataError(f"{name}: the {part} part is empty", where=source.found)
        if len(pool.x) != len(pool.y):
            raise DataError(
                f"{name}: {part} samples and labels differ in number",
                where=source.found,
                have=f"{len(pool.x)} samples, {len(pool.y)} labels",
            )
        low, high = int(pool.y.min()), int(pool.y.max())
        if low < 0 or high >= len(source.classes):
            raise DataError(
                f"{name}: {part} labels out of range",
                where=source.found,
                need=f"0..{len(source.classes) - 1}",
                have=f"{low}..{high}",
            )


def _count(fraction: float, n: int) -> int:
    """The number of samples that a fraction asks for: rounded up, but never all of them."""
    # Rounding first takes away the 0.1 * 30 = 3.0000000000000004 of binary fractions.
    return min(int(-(-round(fraction * n, 6) // 1)), max(n - 1, 0))


def _divide(source: Source, rows: Tensor, count: int, seed: int, salt: int) -> tuple[Tensor, Tensor]:
    if source.groups is not None:
        kept, aside = grouped(source.groups[rows], count, seed, salt)
    else:
        kept, aside = stratified(source.train.y[rows], count, seed, salt)
    return rows[kept], rows[aside]


def _limited(y: Tensor, rows: Tensor, limit: int, seed: int) -> Tensor:
    if limit == 0 or limit >= rows.numel():
        return rows
    _, aside = stratified(y[rows], limit, seed, _LIMIT)
    return rows[aside]


def _split(pool: Pool, rows: Tensor) -> Split:
    return Split(pool.x[rows], pool.y[rows], rows)
