"""A user's own `.npz` files: finding them, and taking their train and test parts apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.data.npz import read_npz
from snnkd_deploy.data.request import Request
from snnkd_deploy.errors import DataError, Problem, UsageError

Arrays = dict[str, np.ndarray]


def resolve(request: Request, option: str, value: str) -> Path:
    """The file or folder that a path option names: absolute, or below one of the places. `DataError` if nowhere."""
    tried = []
    for place in request.places():
        path = place.path / Path(value).expanduser()
        if path.exists():
            return path
        tried.append(str(path))
    raise DataError(
        f"option {option} of data set {request.name}: not found",
        where=value,
        have="looked for " + ", ".join(tried),
        remedy=f"--data DIR with the folder that {option} is relative to, or an absolute path",
    )


def split_fraction(request: Request) -> float:
    """Option `test_percent` (default 20) as a fraction, for a source without a test part of its own."""
    percent = request.integer("test_percent", 20)
    if not 1 <= percent <= 90:
        raise UsageError("option test_percent", need="1..90", have=percent)
    return percent / 100


def load_parts(request: Request) -> tuple[Arrays, Arrays | None, str]:
    """(train arrays, test arrays or None, where they were found).

    The file is option `file` (and `test_file`), or the explicit root if that is a file, or in the explicit root
    train.npz with test.npz, or its only .npz. One file may hold both parts, as train_* and test_* arrays; arrays
    without such a prefix (class names, a shape) belong to both.
    """
    file, test_file = request.text("file"), request.text("test_file")
    if file is not None:
        path = resolve(request, "file", file)
    elif request.root is None:
        raise UsageError(
            f"data set {request.name} is a file of your own",
            remedy="--data FILE.npz, or option file=<path of the .npz>",
        )
    else:
        path, test_file = _in_root(request, test_file)
    arrays = read_npz(path)
    if test_file is not None:
        other = resolve(request, "test_file", test_file)
        return arrays, read_npz(other), f"{path}, {other}"
    if not any(name.startswith("train_") for name in arrays):
        return arrays, None, str(path)
    common = {name: a for name, a in arrays.items() if not name.startswith(("train_", "test_"))}
    parts = [
        common | {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
        for prefix in ("train_", "test_")
    ]
    return parts[0], parts[1] if len(parts[1]) > len(common) else None, str(path)


def _in_root(request: Request, test_file: str | None) -> tuple[Path, str | None]:
    root = request.places()[0].path
    if root.is_file():
        return root, test_file
    if test_file is None and (root / "train.npz").is_file() and (root / "test.npz").is_file():
        return root / "train.npz", str((root / "test.npz").absolute())
    found = sorted(path for path in root.glob("*.npz") if path.is_file())
    if len(found) == 1:
        return found[0], test_file
    names = ", ".join(path.name for path in found[:8]) or "none"
    raise DataError(
        f"data set {request.name}: which .npz?",
        where=str(root),
        need="one .npz, or train.npz and test.npz",
        have=names,
        remedy="option file=<name>",
    )


def labels_of(arrays: Arrays, names: tuple[str, ...], where: str) -> Tensor:
    """The first of `names` that is there, as class numbers int64 (N,)."""
    for name in names:
        if name in arrays:
            return integers(arrays[name], name, where, 1).to(torch.int64)
    raise DataError("the .npz has no labels", where=where, need=" or ".join(names), have=", ".join(sorted(arrays)))


def integers(array: np.ndarray, name: str, where: str, ndim: int) -> Tensor:
    """An integer array of `ndim` dimensions as int64, or uint8 where it is stored so. `DataError` otherwise:
    nothing is rounded here, because pixel integers are what the chip will get."""
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.ndim != ndim or array.dtype.kind not in "iu":
        raise DataError(
            f"{name} is not an integer array of {ndim} dimensions",
            where=where,
            have=f"{array.dtype} {array.shape}",
            remedy="quantise floats yourself, e.g. round((x - low) / (high - low) * 255) to uint8",
        )
    if array.dtype != np.uint8:
        array = array.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(array))


def bytes_of(array: np.ndarray, name: str, where: str, ndim: int) -> Tensor:
    """As `integers`, for values that fit in a byte: uint8."""
    values = integers(array, name, where, ndim)
    if values.dtype != torch.uint8 and values.numel() and (int(values.min()) < 0 or int(values.max()) > 255):
        raise DataError(
            f"{name} out of range", where=where, need="0..255", have=f"{int(values.min())}..{int(values.max())}"
        )
    return values.to(torch.uint8)


def class_names(parts: list[Arrays | None], labels: list[Tensor], where: str) -> tuple[str, ...]:
    """The array `class_names` if there is one, else the numbers 0 .. largest label."""
    need = 1 + max((int(y.max()) for y in labels if y.numel()), default=0)
    for arrays in parts:
        if arrays is not None and "class_names" in arrays:
            names = [n.decode() if isinstance(n, bytes) else str(n) for n in arrays["class_names"].tolist()]
            if len(names) < need:
                problem = Problem("fewer class names than classes", where, need=str(need), have=str(len(names)))
                raise DataError(problem)
            return tuple(names)
    return tuple(str(i) for i in range(need))
