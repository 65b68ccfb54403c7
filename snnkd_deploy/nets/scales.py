"""Choose the scale of a population: how many synaptic integers make one real unit of its membrane.

Threshold and bias scale along, so any real scale is legal; the best one uses the weight grid fully
without clipping what matters and keeps the worst case inside the chip's state registers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from snnkd_deploy.chips.spec import ChipSpec, IntGrid
from snnkd_deploy.errors import ChipError

# Weights and biases move while training goes on at a fixed scale.
HEADROOM = 0.75


def quantise(values: np.ndarray, scale: float, grid: IntGrid) -> np.ndarray:
    """Nearest grid integers, clipped (float64 array)."""
    return np.clip(np.rint(values * scale / grid.step), grid.lo / grid.step, grid.hi / grid.step) * grid.step


def weight_scale(weights: list[np.ndarray], grid: IntGrid) -> float:
    """The scale of least squared error among those that clip up to a third of the largest weight."""
    largest = max((float(np.abs(w).max()) for w in weights if w.size), default=0.0)
    if largest == 0.0:
        return float(grid.span)
    best, best_error = grid.span / largest, np.inf
    for share in np.linspace(1.0, 0.34, 23):
        scale = grid.span / (largest * share)
        error = sum(float(((quantise(w, scale, grid) / scale - w) ** 2).sum()) for w in weights)
        if error < best_error:
            best, best_error = scale, error
    return float(best)


def population_scale(
    weights: Sequence[Tensor],
    bias: Tensor | None,
    threshold: float,
    chip: ChipSpec,
    *,
    largest_sum: float = np.inf,
    unit_input: Sequence[float] = (),
) -> float:
    """Scale of one population: the weight grid used well, inside the limits of threshold, bias and state.

    weights: real weights of every synapse into it, (out, in, ...). largest_sum: the synaptic sum (integers) that the
    state registers bear. `unit_input`: what one input of each can bring per unit of its weight (1, a spike, where it
    is not given). Raises ChipError where no scale is legal.
    """
    grids = chip.parameters
    arrays = [w.detach().double().cpu().numpy() for w in weights]
    each = unit_input or [1.0] * len(arrays)
    rows = sum(f * np.abs(a).reshape(a.shape[0], -1).sum(1).max() for a, f in zip(arrays, each, strict=True) if a.size)
    largest = float(bias.detach().abs().max()) if bias is not None and bias.numel() else 0.0
    reach = float(rows) + largest
    register = HEADROOM * largest_sum / reach if reach else np.inf
    highest = min(grids.threshold.hi / threshold, register)
    wanted = min(weight_scale(arrays, grids.weight), highest)
    if largest:
        wanted = min(wanted, HEADROOM * grids.bias.mantissa.span / largest)
    # A grid whose thresholds start high (Speck's must exceed every weight) asks for more: weights and biases clip.
    lowest = max(2, grids.threshold.lo) / threshold
    scale = max(wanted, lowest) if grids.threshold.lo > 2 else wanted
    if round(scale * threshold) < max(2, grids.threshold.lo) or scale > highest:
        what = "the register of the current" if register < lowest else "the grid of thresholds, weights and biases"
        raise ChipError(
            f"no scale fits {what}: the threshold would round to nothing",
            need=f"at least {lowest:.3g} integers per real unit",
            have=f"{min(wanted, highest):.3g}; threshold {threshold:g}, sum of weights {reach:g}, "
            f"largest weight {max(float(np.abs(a).max()) for a in arrays):g}, largest bias {largest:g}",
            remedy="train with weight decay or batch normalisation, or another student.threshold",
        )
    return scale
