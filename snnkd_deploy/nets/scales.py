"""Choose the scale of a population: how many synaptic integers make one real unit of its membrane.

Threshold and bias scale along, so any real scale is legal; the best one uses the weight grid fully
without clipping what matters and keeps the worst case inside the chip's state registers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from snnkd_deploy.arithmetic.cuba import DECAY_ONE, INPUT_SHIFT, STATE_MAX
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
    Du: int,
    chip: ChipSpec,
    unit_input: Sequence[float] = (),
) -> float:
    """Scale of one population: the weight grid used well, inside the limits of threshold, bias and state.

    weights: real weights of every synapse into it, (out, in, ...). `unit_input`: what one input of each can bring
    per unit of its weight (1, a spike, where it is not given). Raises ChipError where no scale is legal.
    """
    grids = chip.parameters
    arrays = [w.detach().double().cpu().numpy() for w in weights]
    scale = weight_scale(arrays, grids.weight)
    scale = min(scale, grids.threshold.hi / threshold if threshold else scale)
    if bias is not None and (largest := float(bias.detach().abs().max())) > 0:
        scale = min(scale, HEADROOM * grids.bias.mantissa.span / largest)
    # |u| <= 64 * (sum |w| + |bias|) * 4096 / Du must stay below 2^23, so that u never wraps.
    each = unit_input or [1.0] * len(arrays)
    rows = sum(f * np.abs(a).reshape(a.shape[0], -1).sum(1).max() for a, f in zip(arrays, each, strict=True) if a.size)
    reach = float(rows) + (float(bias.detach().abs().max()) if bias is not None and bias.numel() else 0.0)
    if reach > 0:
        scale = min(scale, HEADROOM * STATE_MAX * Du / (DECAY_ONE * (1 << INPUT_SHIFT)) / reach)
    if round(scale * threshold) < 2:
        raise ChipError(
            "no scale fits: the threshold would round to nothing",
            need=f"weights below {grids.weight.hi / 2:g} thresholds",
            have=f"largest weight {max(float(np.abs(a).max()) for a in arrays):g}, threshold {threshold:g}",
            remedy="train with weight decay or batch normalisation, or raise the threshold",
        )
    return scale
