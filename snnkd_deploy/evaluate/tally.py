"""Spikes of one source, read once: how often each element spiked, and how many channels fire at each position.

Counting would otherwise go over a recording four times, and its bytes come from memory far slower than they are
added: here a block at a time is in the processor's cache while everything is taken from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# Bytes of a block that stays in the cache, and rows of zeros and ones whose sum a byte holds.
_BLOCK_BYTES, _BYTE_ROWS = 1 << 20, 255

Counts = NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Tally:
    """What `tally` found.

    spikes: (T, B, *shape) as they were given. sums: int64, flat: spikes of each element over T and B.
    single: no element sent more than one in a step. firing: (T, B, *shape[1:]): how many elements of the first axis
    spike there, of a flat layer only whether any does.
    """

    spikes: Tensor
    sums: NDArray[np.int64]
    single: bool
    firing: Counts


def tally(spikes: Tensor, *, once: bool = False) -> Tally:
    """Sums of spikes (T, B, *shape), of any number type. `once`: what is not zero is one spike, whatever its value."""
    rows = spikes.flatten(0, 1).cpu().numpy()
    shape = rows.shape[1:]
    sums = np.zeros(shape)
    firing: list[Counts] = []
    most, plain, size = 1, True, max(1, _BLOCK_BYTES // max(1, sums.size * rows.itemsize))
    for start in range(0, rows.shape[0], size):
        block = rows[start : start + size]
        if block.dtype == np.uint8 and block.max(initial=0) <= 1:
            ones = block
        else:
            ones, plain = (block != 0).view(np.uint8), False
        if once or ones is block:
            for first in range(0, len(ones), _BYTE_ROWS):
                sums += ones[first : first + _BYTE_ROWS].sum(0, dtype=np.uint8)
        else:
            most = max(most, block.max())
            sums += block.sum(0, dtype=np.float64)
        firing.append(channel_sums(ones) if len(shape) > 1 else np.any(ones.view(np.bool_), axis=1).astype(np.uint8))
    if plain and len(shape) > 1 and shape[0] == 1:
        found: Counts = rows[:, 0]  # one channel: nothing was added
    else:
        found = np.concatenate(firing) if firing else np.zeros((0, *shape[1:]), np.uint8)
    lead = spikes.shape[:2]
    return Tally(spikes, np.rint(sums).astype(np.int64).ravel(), bool(most <= 1), found.reshape(*lead, *shape[1:]))


def channel_sums(ones: NDArray[np.uint8]) -> Counts:
    """(N, C, ...) of zeros and ones summed over C >= 1.

    Halves are added, as long rows are what a processor adds fastest.
    """
    total: Counts = ones.astype(np.min_scalar_type(ones.shape[1]), copy=False)
    while total.shape[1] > 1:
        half, odd = divmod(total.shape[1], 2)
        folded = total[:, :half] + total[:, half : 2 * half]
        if odd:
            folded[:, 0] += total[:, -1]
        total = folded
    return total[:, 0]
