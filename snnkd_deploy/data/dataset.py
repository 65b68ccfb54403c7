"""The values this room hands out: a data set with its three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.data.events import EventStore
from snnkd_deploy.errors import UsageError

Kind = Literal["image", "events", "series"]


@dataclass(frozen=True, eq=False)
class Split:
    """Samples of one split.

    `x`: images uint8 (N, C, H, W), series uint8 (N, T, F), dense event frames uint8 (N, T, P, H, W), or an
    `EventStore` of N recordings. Integers as the source has them, never normalised: they are the chip's input.
    `y`: int64 (N,) class numbers. `index`: int64 (N,) positions in the source's own order (of its train part
    for train and val, of its test part for test; of the whole where the source has no test part).
    """

    x: Tensor | EventStore
    y: Tensor
    index: Tensor

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def spread(self, count: int) -> Tensor:
        """`count` positions (int64, at most all), evenly spaced: the first ones of a folder would be one class."""
        count = min(count, len(self))
        return torch.arange(count) * len(self) // max(count, 1)

    def take(self, rows: Tensor) -> Split:
        """The samples at `rows` (int64 positions within this split), in that order."""
        return Split(self.x[rows], self.y[rows], self.index[rows])

    def frames(self, indices: Tensor, T: int) -> Tensor:
        """The samples at `indices` (positions within this split) as uint8 with time first.

        Recordings give (T, B, P, H, W) by binning their events; dense event frames and series give their own
        steps and need `T` to be their length. Images have no time: `UsageError` (see `encoders`).
        """
        if isinstance(self.x, EventStore):
            return self.x.frames(indices, T)
        if self.x.ndim == 4:
            raise UsageError("images have no time axis", remedy="an encoder: encoders.rate, latency or repeat_constant")
        if self.x.shape[1] != T:
            raise UsageError(
                "these samples are stored as frames of a fixed length",
                need=f"T={self.x.shape[1]}",
                have=f"T={T}",
            )
        return self.x[indices].movedim(1, 0).contiguous()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set ready for training.

    `shape` is that of one sample: (C, H, W), (P, H, W) for events (of one step), (T, F) for series. `levels` is
    the largest value a sample can hold (255; digits 16; events: the count at which a bin saturates). `source`
    says where the samples came from. `sha256` identifies the samples and labels of the source, whatever file
    format they were stored in and however they are split here.
    """

    name: str
    kind: Kind
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    levels: int
    source: str
    sha256: str
    split_seed: int = 0
    validation: float = 0.1
    options: Mapping[str, Any] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        """What a run manifest records of its data, as plain JSON values."""
        x = self.train.x
        binning = {"window_us": x.window_us, "cap": x.cap} if isinstance(x, EventStore) else None
        return {
            "binning": binning,
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "levels": self.levels,
            "classes": list(self.classes),
            "samples": {"train": len(self.train), "val": len(self.val), "test": len(self.test)},
            "source": self.source,
            "sha256": self.sha256,
            "split_seed": self.split_seed,
            "validation": self.validation,
            "options": {key: _plain(value) for key, value in sorted(self.options.items())},
        }


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples in the source's order, before anything is split: what the readers return."""

    x: Tensor | EventStore
    y: Tensor


@dataclass(frozen=True, eq=False)
class Source:
    """What a reader found. `test` is None where the source has no test part: then `test_fraction` of the
    samples is set aside by seed, whole `groups` (int64 (N,), e.g. speakers) at a time where they are given."""

    kind: Kind
    train: Pool
    test: Pool | None
    classes: tuple[str, ...]
    levels: int
    found: str
    test_fraction: float = 0.2
    groups: Tensor | None = None


def content_hash(*pools: Pool | None) -> str:
    """sha256 over dtype, shape and bytes of samples and labels, part by part."""
    digest = hashlib.sha256()
    for pool in pools:
        if pool is None:
            digest.update(b"none;")
            continue
        arrays = pool.x.tensors() if isinstance(pool.x, EventStore) else {"x": pool.x}
        for name, tensor in {**arrays, "label": pool.y}.items():
            array = np.ascontiguousarray(tensor.numpy())
            digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def sample_shape(x: Tensor | EventStore) -> tuple[int, ...]:
    """Shape of one sample; of one step for event frames."""
    if isinstance(x, EventStore):
        return x.shape
    return tuple(x.shape[2:] if x.ndim == 5 else x.shape[1:])


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)
