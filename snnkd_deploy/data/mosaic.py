"""CIFAR batches stored as lossless WebP mosaics, with labels in `index.npz`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.data.npz import read_npz
from snnkd_deploy.data.pillow import open_image
from snnkd_deploy.errors import DataError


def read_mosaics(files: list[Path], batches: tuple[str, ...], records: dict[str, int]) -> list[tuple[Tensor, Tensor]]:
    """Per batch (uint8 (N, 3, 32, 32), int64 labels (N, 1)). `files`: the index, then one mosaic a batch.

    The train batches share `train_labels` in their order; the last batch has `test_labels`.
    """
    index = read_npz(files[0], ("train_labels", "test_labels"))
    total = sum(records[name] for name in batches[:-1])
    for key, need in (("train_labels", total), ("test_labels", records[batches[-1]])):
        if index[key].shape != (need,):
            raise DataError(f"{key} of another length", where=str(files[0]), need=need, have=index[key].shape)
    result, start = [], 0
    for name, path in zip(batches, files[1:], strict=True):
        count = records[name]
        labels = index["test_labels"] if name == batches[-1] else index["train_labels"][start : start + count]
        start += count
        result.append((_tiles(path, count), torch.from_numpy(labels.astype(np.int64)).unsqueeze(1)))
    return result


def _tiles(path: Path, count: int) -> Tensor:
    mosaic = open_image(path, "RGB")
    side = round(count**0.5)
    if side * side != count or mosaic.shape != (side * 32, side * 32, 3):
        raise DataError("mosaic of another size", where=str(path), need=f"{side * 32}x{side * 32}", have=mosaic.shape)
    tiles = mosaic.reshape(side, 32, side, 32, 3).transpose(0, 2, 4, 1, 3).reshape(count, 3, 32, 32)
    return torch.from_numpy(np.ascontiguousarray(tiles))
