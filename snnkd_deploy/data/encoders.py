"""From integer pixels to time: the input encodings that a chip's host computes.

Every function takes uint8 (B, ...) and gives uint8 (T, B, ...). Nothing is drawn from a hidden generator: the same
sample under the same seed gives the same spikes, whatever its batch, device or the step of training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnkd_deploy.data.stateless import hash_u32
from snnkd_deploy.errors import UsageError


def repeat_constant(x: Tensor, T: int) -> Tensor:
    """The same image at every step: (T, B, ...) as a view of `x`, which costs no memory."""
    _check(x, T)
    return x.unsqueeze(0).expand(T, *x.shape)


def rate(x: Tensor, T: int, *, levels: int, seed: int, indices: Tensor) -> Tensor:
    """Bernoulli spikes: at each step a pixel of value v fires with probability v / `levels`, independently.

    0 never fires and `levels` always does. `indices` int64 (B,) are the samples' numbers in the data set (offset
    them per epoch for fresh spikes): together with `seed` they decide every spike. `UsageError` if a pixel
    exceeds `levels`.
    """
    _check(x, T, levels)
    B = x.shape[0]
    if indices.shape != (B,):
        raise UsageError("one index a sample is needed", need=(B,), have=tuple(indices.shape))
    pixels = torch.arange(math.prod(x.shape[1:]), device=x.device)
    sample = indices.to(device=x.device, dtype=torch.int64).view(1, B, 1)
    flat = x.reshape(1, B, -1).to(torch.int64)
    spikes = torch.empty((T, B, pixels.numel()), dtype=torch.uint8, device=x.device)
    for t in range(T):  # a step at a time: the hash needs eight bytes a pixel
        # An exact integer form of u / 2**32 < v / levels.
        spikes[t] = (hash_u32(seed, sample, t, pixels) * levels < flat << 32)[0]
    return spikes.view(T, *x.shape)


def latency(x: Tensor, T: int, *, levels: int) -> Tensor:
    """Time to first spike: a pixel of value v > 0 fires once, at step floor((levels - v) * T / levels).

    The brightest fire at step 0, the faintest at or near T - 1, pixels of value 0 never. `UsageError` if a pixel
    exceeds `levels`.
    """
    _check(x, T, levels)
    when = torch.div((levels - x.to(torch.int64)) * T, levels, rounding_mode="floor")
    when = torch.where(x > 0, when, T)
    steps = torch.arange(T, device=x.device).view(T, *([1] * x.ndim))
    return (when.unsqueeze(0) == steps).to(torch.uint8)


def _check(x: Tensor, T: int, levels: int | None = None) -> None:
    if x.dtype != torch.uint8:
        raise UsageError("encoders take pixel integers", need="uint8", have=x.dtype)
    if T < 1:
        raise UsageError("the number of steps must be at least 1", have=f"T={T}")
    if levels is not None and (levels < 1 or (x.numel() and int(x.max()) > levels)):
        raise UsageError("a pixel exceeds levels", need=f"<= {levels}", have=int(x.max()) if x.numel() else "none")
