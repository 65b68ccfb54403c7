"""Randomness without state: a 64-bit hash of (seed, counters) that is the same on every machine.

Library generators may change their streams between versions and carry a hidden position. Splits, epoch orders
and rate coding here depend on integers only, so a run resumed at any point, on CPU or CUDA, with another
version of torch, sees the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MUL1 = 0xBF58476D1CE4E5B9
_MUL2 = 0x94D049BB133111EB


def to_signed64(value: int) -> int:
    """The int64 with the low 64 bits of `value` (any Python integer, negative ones too)."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def _shift(z: Tensor, bits: int) -> Tensor:
    # int64 shifts right arithmetically; the mask makes it the logical shift that the hash is defined with.
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix64(z: Tensor) -> Tensor:
    """One splitmix64 output per element (int64 in and out, any shape): Steele, Lea & Flood, OOPSLA 2014.

    int64 products wrap modulo 2**64, which is what the hash needs.
    """
    z = z + to_signed64(_GOLDEN)
    z = (z ^ _shift(z, 30)) * to_signed64(_MUL1)
    z = (z ^ _shift(z, 27)) * to_signed64(_MUL2)
    return z ^ _shift(z, 31)


def hash64(seed: int, *counters: int | Tensor, device: torch.device | None = None) -> Tensor:
    """Hash of the seed and the counters, int64; tensor counters (int64) broadcast against each other.

    The order of the counters matters. Without a tensor counter the result is a scalar tensor.
    """
    for counter in counters:
        if isinstance(counter, Tensor):
            device = counter.device
            break
    state = mix64(torch.tensor(to_signed64(seed), dtype=torch.int64, device=device))
    for counter in counters:
        state = mix64(state ^ (counter if isinstance(counter, Tensor) else to_signed64(counter)))
    return state


def hash_u32(seed: int, *counters: int | Tensor) -> Tensor:
    """Uniform integers in [0, 2**32) as int64, shaped like the broadcast counters."""
    return _shift(hash64(seed, *counters), 32)


def permutation(n: int, seed: int, *counters: int) -> Tensor:
    """A permutation of 0..n-1, int64 (n,), that depends only on the integers given."""
    keys = hash64(seed, *counters, torch.arange(n, dtype=torch.int64))
    return torch.argsort(keys, stable=True)
