"""Images in a user's `.npz`: `x` bytes, (N, H, W), (N, C, H, W) or (N, H, W, C), and `y` (N,)."""

from __future__ import annotations

from torch import Tensor

from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.request import Request
from snnkd_deploy.data.user_files import Arrays, bytes_of, class_names, labels_of, load_parts, split_fraction
from snnkd_deploy.errors import DataError

# What a last axis of this length holds, where the second axis is longer, is colours.
_COLOURS = (1, 3, 4)


def read_images_npz(request: Request) -> Source:
    """A user's own images as uint8 (N, C, H, W); without a test part one is set aside by seed (`test_percent`).

    Largest level: that of the file, so that 0/1 images and 4-bit ones use the whole range of the first layer.
    """
    train, test, found = load_parts(request)
    parts = [train] if test is None else [train, test]
    pools = [Pool(_images(arrays, found), labels_of(arrays, ("y", "label", "labels"), found)) for arrays in parts]
    if len({tuple(pool.x.shape[1:]) for pool in pools}) > 1:
        have = ", ".join(str(tuple(pool.x.shape[1:])) for pool in pools)
        raise DataError("train and test images differ in shape", where=found, have=have)
    levels = max(int(pool.x.max()) if len(pool.x) else 0 for pool in pools if isinstance(pool.x, Tensor))
    names = class_names(list(parts), [pool.y for pool in pools], found)
    test_pool = pools[1] if len(pools) > 1 else None
    fraction = split_fraction(request)
    return Source("image", pools[0], test_pool, names, max(1, levels), found, test_fraction=fraction)


def _images(arrays: Arrays, where: str) -> Tensor:
    for name in ("x", "X"):
        if name in arrays:
            array = arrays[name]
            break
    else:
        need = "x (N, H, W), (N, C, H, W) or (N, H, W, C), and y (N,)"
        raise DataError("the .npz lacks x", where=where, need=need, have=", ".join(sorted(arrays)))
    if array.ndim == 3:
        return bytes_of(array[:, None], name, where, 4)
    x = bytes_of(array, name, where, 4)
    last = array.shape[3] in _COLOURS and array.shape[1] > array.shape[3]
    return x.permute(0, 3, 1, 2).contiguous() if last else x
