"""Arrays from `.npz` files. Object arrays would be pickles: they are refused."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path

import numpy as np

from snnkd_deploy.errors import DataError

_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
)


def read_npz(path: Path, required: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Every array of the file by name. `DataError` if it is damaged, holds objects, or lacks a `required` name."""
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError("a single array, not an .npz archive", where=str(path), remedy="np.savez(path, x=x, y=y)")
        with archive:
            arrays = {name: archive[name] for name in archive.files}
        strangers = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
        if strangers:
            raise ValueError(f"no array: {', '.join(strangers)}")
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:  # the file may be sound: nobody could look
            remedy = "its name and its permissions"
            raise DataError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from error
        # numpy offers to unpickle whatever it does not know, which would run the file's code.
        what = "no archive of arrays, or Python objects in it" if "pickle" in str(error) else str(error)
        raise DataError(
            f"damaged or unreadable .npz: {what}", where=str(path), remedy="write it again with np.savez"
        ) from error
    missing = [name for name in required if name not in arrays]
    if missing:
        raise DataError(
            "the .npz lacks " + ", ".join(missing),
            where=str(path),
            have=", ".join(sorted(arrays)) or "no arrays",
        )
    return arrays
