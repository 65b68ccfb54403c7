"""The IDX format of MNIST (magic: two zero bytes, type code, number of dimensions; then big-endian sizes)."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.errors import DataError

_UNSIGNED_BYTE = 0x08
# No IDX file read here is larger; a small packed file that unpacks to more is damaged or hostile.
MAX_BYTES = 1 << 30


def read_idx(path: Path, ndim: int) -> Tensor:
    """An IDX file of unsigned bytes, plain or `.gz`, as a uint8 tensor of `ndim` dimensions.

    `DataError` for a damaged gz, a wrong magic, other dimensions, or more or fewer bytes than the header says.
    """
    raw = _bytes(path)
    if len(raw) < 4 or raw[0] or raw[1]:
        raise DataError("not an IDX file (wrong magic)", where=str(path), need="00 00 08", have=raw[:4].hex(" "))
    if raw[2] != _UNSIGNED_BYTE or raw[3] != ndim:
        raise DataError(
            "this IDX file holds something else (type code, dimensions)",
            where=str(path),
            need=f"08 {ndim:02x}",
            have=raw[2:4].hex(" "),
        )
    start = 4 + 4 * ndim
    if len(raw) < start:
        raise DataError("truncated header", where=str(path), need=f"{start} bytes", have=f"{len(raw)} bytes")
    sizes = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(ndim)]
    need = start + math.prod(sizes)
    if len(raw) != need:
        what = "truncated file" if len(raw) < need else "file longer than its header says"
        raise DataError(what, where=str(path), need=f"{need} bytes for {sizes}", have=f"{len(raw)} bytes")
    array = np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(sizes)
    return torch.from_numpy(array.copy())


def _bytes(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as plain:
                raw = plain.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"damaged or unreadable: {error}", where=str(path), remedy="delete the file and fetch it again"
        ) from error
    if len(raw) > MAX_BYTES:
        raise DataError("unpacks to more than any IDX file here holds", where=str(path), need=f"<= {MAX_BYTES} bytes")
    return raw
