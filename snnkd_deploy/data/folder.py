"""A user's own folder of images: one sub-folder a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.pillow import open_image
from snnkd_deploy.data.request import Request
from snnkd_deploy.data.user_files import resolve, split_fraction
from snnkd_deploy.errors import DataError, Problem, UsageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
# All images are held in memory: a folder of large photographs needs `size`.
MAX_BYTES = 1 << 35


def read_folder(request: Request) -> Source:
    """Images of ROOT/train/<class>/ and ROOT/test/<class>/, or of ROOT/<class>/ with a test part set aside by
    seed (`test_percent`), as uint8 (N, 3, H, W), or (N, 1, H, W) with option `grayscale`.

    ROOT is the explicit folder, or option `path` below it. Options `train_folder` and `test_folder` rename the
    two. All images must be of one size, or be resized to option `size` (a number, or [H, W]). Classes and files
    are taken in alphabetical order.
    """
    root = _root(request)
    train_name = request.text("train_folder", "train") or "train"
    test_name = request.text("test_folder", "test") or "test"
    split = (root / train_name).is_dir()
    classes = _classes(root / train_name if split else root)
    test_root = root / test_name if split and (root / test_name).is_dir() else None
    if "test_folder" in request.options and test_root is None:
        raise DataError("no such test folder", where=str(root / test_name), have=f"split by folder: {split}")
    if split and test_root is None:
        _refuse_other_splits(root, train_name)
    x, y = _images(root / train_name if split else root, classes, request)
    test = None
    if test_root is not None:
        test_x, test_y = _images(test_root, classes, request)
        if test_x.shape[1:] != x.shape[1:]:
            have = f"{tuple(x.shape[1:])}, {tuple(test_x.shape[1:])}"
            raise DataError("train and test images differ in size", where=str(root), have=have, remedy="option size")
        test = Pool(test_x, test_y)
    fraction = split_fraction(request)
    return Source("image", Pool(x, y), test, tuple(classes), 255, str(root), test_fraction=fraction)


def _root(request: Request) -> Path:
    path = request.text("path")
    if path is not None:
        root = resolve(request, "path", path)
    elif request.root is None:
        raise UsageError("data set folder is a folder of your own", remedy="--data DIR, or option path=DIR")
    else:
        root = request.places()[0].path
    if not root.is_dir():
        raise DataError("not a folder", where=str(root))
    return root


def _classes(root: Path) -> list[str]:
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise DataError(
            "one sub-folder for each class is needed", where=str(root), need="2 or more", have=", ".join(names) or 0
        )
    return names


def _refuse_other_splits(root: Path, train_name: str) -> None:
    # Taking the test part from train while an unused "val" lies beside it would be a guess.
    others = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name != train_name and p.name[0] != ".")
    if others:
        raise UsageError(
            f"{train_name} has no test folder beside it, but there is {', '.join(others)}",
            where=str(root),
            remedy=f"option test_folder={others[0]}, or move it away to split {train_name} by seed",
        )


def _files(root: Path, classes: list[str]) -> list[tuple[Path, int]]:
    present = [p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")]
    problems = [
        Problem(f"class {name!r} is not in train", str(root / name)) for name in sorted(set(present) - set(classes))
    ]
    files = []
    for label, name in enumerate(classes):
        folder = root / name
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
        if not found:
            problems.append(Problem("no images", str(folder), need=" ".join(sorted(SUFFIXES))))
        files += [(path, label) for path in found]
    if problems:
        raise DataError.from_problems(problems)
    return files


def _images(root: Path, classes: list[str], request: Request) -> tuple[Tensor, Tensor]:
    """(uint8 (N, C, H, W), int64 labels (N,)) of the class folders below `root`."""
    files = _files(root, classes)
    size = _size(request)
    mode = "L" if request.flag("grayscale") else "RGB"
    first = open_image(files[0][0], mode, size)
    if first.nbytes * len(files) > MAX_BYTES:
        raise DataError(
            "these images do not fit in memory",
            where=str(root),
            need=f"{first.nbytes * len(files) >> 30} GiB",
            remedy="option size",
        )
    images = np.empty((len(files), *first.shape), dtype=np.uint8)
    for i, (path, _) in enumerate(files):
        image = open_image(path, mode, size)
        if image.shape != first.shape:
            raise DataError(
                "images differ in size",
                where=str(path),
                need="{}x{} as {}".format(*first.shape[:2], files[0][0].name),
                have="{}x{}".format(*image.shape[:2]),
                remedy="option size=<pixels> or size=[H, W] to resize all",
            )
        images[i] = image
    x = torch.from_numpy(images)
    x = x.unsqueeze(1) if mode == "L" else x.permute(0, 3, 1, 2).contiguous()
    return x, torch.tensor([label for _, label in files], dtype=torch.int64)


def _size(request: Request) -> tuple[int, int] | None:
    size = request.options.get("size")
    if size is None:
        return None
    pair = [size, size] if type(size) is int else size
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(type(v) is int and 0 < v <= 4096 for v in pair):
        raise UsageError("option size is a number of pixels or [H, W]", need="1..4096", have=repr(size))
    return (pair[0], pair[1])
