"""How maps lie in memory: no number depends on it, the time of a convolution does."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(weight: Tensor) -> Tensor:
    """A convolution's weights (O, I, K, K) with the strides of channels last.

    oneDNN then takes and gives maps channels last, without reordering a batch on either side. Where I = 1 torch itself
    leaves the strides as they are, and the maps with them.
    """
    if weight.shape[1] == 1:
        height, width = weight.shape[2:]
        return weight.contiguous().as_strided(weight.shape, (height * width, 1, width, 1))
    return weight.contiguous(memory_format=torch.channels_last)
