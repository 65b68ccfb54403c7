"""Straight-through rounding. The forward value is exactly the integer, unlike `x + (q - x).detach()`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnkd_deploy.chips.spec import IntGrid


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _ShiftRound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: int) -> Tensor:
        ctx.shift = shift
        if shift == 0:
            return x.clone()
        return torch.floor((x + float(2 ** (shift - 1))) * 2.0**-shift)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * 2.0**-ctx.shift, None


class _ShiftFloor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: int) -> Tensor:
        ctx.shift = shift
        return torch.floor(x * 2.0**-shift)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * 2.0**-ctx.shift, None


def shift_right_floor_ste(x: Tensor, shift: int) -> Tensor:
    """`x >> shift` on integers, as the chip's weight exponent does it; gradient of the division by 2^shift."""
    return _ShiftFloor.apply(x, shift)


def round_ste(x: Tensor) -> Tensor:
    """Nearest integer (half to even), gradient 1."""
    return _Round.apply(x)


def shift_right_round_ste(x: Tensor, shift: int) -> Tensor:
    """`arithmetic.shift_right_round` with the gradient of the division by 2^shift."""
    return _ShiftRound.apply(x, shift)


def to_grid(x: Tensor, scale: float, grid: IntGrid) -> Tensor:
    """Integers of `grid` nearest to x * scale, as floats. Gradient `scale` inside the grid, 0 outside."""
    step = float(grid.step)
    return round_ste((x * (scale / step)).clamp(grid.lo / step, grid.hi / step)) * step
