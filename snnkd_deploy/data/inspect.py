"""What a user's data is: which reader takes it, and with which options."""

from __future__ import annotations

import difflib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from snnkd_deploy.data.folder import SUFFIXES
from snnkd_deploy.data.npz import read_npz
from snnkd_deploy.data.pillow import image_facts
from snnkd_deploy.data.registry import DATASETS
from snnkd_deploy.errors import DataError, UsageError

# Images larger than this are resized: the networks here are small, and so are the chips.
LARGEST_SIDE = 64
_RESIZED = 32
# This many images, evenly spread, tell of all.
_LOOKED_AT = 200


@dataclass(frozen=True)
class Found:
    """A reader's name and options. `why` is what was seen, in words; `other` what else it could have been."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    other: str = ""


def inspect(source: str) -> Found:
    """A folder of images, a folder or file of arrays, or the name of a data set. Raises UsageError, DataError."""
    path = Path(source).expanduser()
    if path.is_file():
        return _arrays(path, {"file": str(path.absolute())})
    if path.is_dir():
        return _folder(path)
    if source in DATASETS:
        info = DATASETS[source]
        if {"file", "path"} & set(info.options):
            raise UsageError(f"'{source}' is the format of own data", remedy="snnkd new FOLDER or FILE.npz")
        return Found(source, why=info.about)
    near = difflib.get_close_matches(source, DATASETS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    names = [name for name, info in DATASETS.items() if not {"file", "path"} & set(info.options)]
    raise UsageError(
        "no such file, folder or data set",
        where=source,
        remedy=f"{hint}a folder of images, an .npz, or one of {', '.join(names)}",
    )


def _folder(path: Path) -> Found:
    arrays = sorted(path.glob("*.npz"))
    if (path / "train.npz").is_file() and (path / "test.npz").is_file():
        files = {"file": path / "train.npz", "test_file": path / "test.npz"}
        return _arrays(path / "train.npz", {key: str(file.absolute()) for key, file in files.items()})
    if len(arrays) == 1:
        return _arrays(arrays[0], {"file": str(arrays[0].absolute())})
    images = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not images:
        raise DataError(
            "no data found in it",
            where=str(path),
            need="images in one sub-folder a class (or train/ and test/ with these), or one .npz",
            have=", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing",
        )
    facts = [image_facts(p) for p in images[:: max(1, len(images) // _LOOKED_AT)]]
    sizes = {(h, w) for h, w, _ in facts}
    options: dict[str, Any] = {"path": str(path.absolute())}
    if all(gray for *_, gray in facts):
        options["grayscale"] = True
    if len(sizes) > 1 or max(max(sizes)) > LARGEST_SIDE:
        options["size"] = _RESIZED
    shown = " and other sizes" if len(sizes) > 1 else ""
    h, w = min(sizes)
    return Found("folder", options, f"{len(images)} images of {h}x{w} pixels{shown}")


def _arrays(path: Path, options: dict[str, Any]) -> Found:
    if path.suffix != ".npz" or not zipfile.is_zipfile(path):
        raise DataError("not an .npz file", where=str(path), remedy="np.savez(path, x=x, y=y), x as uint8")
    arrays = read_npz(path)
    names = ("x", "X", "train_x", "train_X")
    x = next((arrays[name] for name in names if name in arrays), np.zeros(0))
    shown = ", ".join(f"{name} {array.shape}" for name, array in sorted(arrays.items()))
    if "ptr" in arrays or "train_ptr" in arrays or x.ndim == 5:
        return Found("events-npz", options, shown)
    if x.ndim == 4:
        return Found("images-npz", options, shown)
    if x.ndim == 3:
        if x.shape[1] == x.shape[2]:
            return Found("images-npz", options, shown, 'as wide as high, so images; a time series is "series-npz"')
        return Found("series-npz", options, shown, 'steps x features, so a series; images are "images-npz"')
    raise DataError(
        "these arrays are no data set",
        where=str(path),
        need="x of images (N, H, W) / (N, C, H, W), series (N, T, F) or frames (N, T, P, H, W), and y (N,); "
        "or events x, y, p, t, ptr, label",
        have=shown,
    )
