"""When floating point is exact: integers held in floats, chosen by a computed bound."""

from __future__ import annotations

import torch
from torch import Tensor

# Every integer of at most this magnitude is exact, and so is any sum whose partial sums stay below it.
EXACT_FLOAT32 = 2**24
EXACT_FLOAT64 = 2**53


def exact_dtype(bound: float) -> torch.dtype:
    """The narrowest float type in which sums of integers bounded by `bound` are exact.

    Raises OverflowError where even float64 is not.
    """
    if bound <= EXACT_FLOAT32:
        return torch.float32
    if bound <= EXACT_FLOAT64:
        return torch.float64
    raise OverflowError(f"sums up to {bound:.3g} are not exact in float64 (limit 2^53)")


def shift_right_round(x: Tensor, shift: int) -> Tensor:
    """(x + 2^(shift-1)) >> shift on integers held in floats: round half up. Shift 0 is the identity."""
    if shift == 0:
        return x
    return torch.floor((x + float(2 ** (shift - 1))) * 2.0**-shift)
