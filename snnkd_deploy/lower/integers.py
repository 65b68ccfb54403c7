"""From real weights of a population to the chip's integers: the scale, the roundings, what they cost.

With S integers per real unit: weight rint(S w) on the grid, threshold rint(S th), bias rint(S d) with exponent 6.
Any real S is legal. Wanted is the one that uses the weight grid fully and keeps the current inside its register.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkd_deploy.arithmetic.cuba import DECAY_ONE, INPUT_SHIFT, STATE_MAX
from snnkd_deploy.chips.spec import ChipSpec, IntGrid
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.netx_weights import changed_by_netx
from snnkd_deploy.nets.scales import weight_scale

# The share of the register that the largest current may fill after the scale has been chosen.
_FILL = 0.98
_SMALLEST_THRESHOLD = 2


@dataclass(frozen=True)
class Quantised:
    """Integers of one population. `weights` in the order given; `bias` mantissas with exponent 6."""

    scale: float
    weights: tuple[np.ndarray, ...]
    vth: int | None
    bias: np.ndarray
    saturated: int
    weight_error_max: float
    weight_error_rms: float
    threshold_error: float
    bias_error: float
    headroom: float


def quantise_population(
    weights: list[np.ndarray],
    loudest: list[float],
    bias: np.ndarray,
    threshold: float | None,
    Du: int,
    chip: ChipSpec,
    name: str,
    *,
    largest_current: float | None = None,
) -> Quantised | Problem:
    """weights (out, ...) real and in membrane units, `loudest` the largest value of each one's source.

    `largest_current`: measured |c| in real units, used in place of the worst case that the weights allow.
    """
    grids = chip.parameters
    limit = _limit(weights, loudest, bias, threshold, Du, chip, largest_current)
    scale = exact_scale(weights, threshold, grids.weight, limit) or min(weight_scale(weights, grids.weight), limit)
    if threshold and scale * threshold >= 8 and exact_scale(weights, threshold, grids.weight, limit) is None:
        scale = np.floor(scale * threshold) / threshold  # a whole threshold has no rounding error
    if threshold and round(scale * threshold) < _SMALLEST_THRESHOLD:
        largest = max(float(np.abs(w).max()) for w in weights if w.size)
        return Problem(
            "the threshold would round to nothing",
            name,
            f"weights below {grids.weight.hi / _SMALLEST_THRESHOLD:g} thresholds",
            f"largest weight {largest:g}, threshold {threshold:g}",
            "smaller weights, or --calibrate where the worst case limits the scale",
        )
    integers = []
    saturated = 0
    for weight in weights:
        steps = np.rint(weight * scale / grids.weight.step) * grids.weight.step
        clipped = np.clip(steps, grids.weight.lo, grids.weight.hi)
        saturated += int((clipped != steps).sum())
        integers.append(_past_netx(clipped.astype(np.int64), grids.weight.step))
    mantissa = np.rint(bias * scale)
    allowed = grids.bias.mantissa
    kept = np.clip(mantissa, allowed.lo, allowed.hi)
    saturated += int((kept != mantissa).sum())
    peak = max((float(np.abs(w).max()) for w in weights if w.size), default=0.0) or 1.0
    errors = np.concatenate([(w - q / scale).ravel() for w, q in zip(weights, integers, strict=True)]) / peak
    vth = None if threshold is None else round(scale * threshold)
    return Quantised(
        scale=float(scale),
        weights=tuple(integers),
        vth=vth,
        bias=kept.astype(np.int64),
        saturated=saturated,
        weight_error_max=float(np.abs(errors).max(initial=0.0)),
        weight_error_rms=float(np.sqrt((errors**2).mean())) if errors.size else 0.0,
        threshold_error=abs(vth / scale - threshold) / threshold if threshold and vth is not None else 0.0,
        bias_error=float(np.abs(kept / scale - bias).max(initial=0.0)) / (threshold or peak),
        headroom=_headroom(integers, loudest, Du, scale, largest_current),
    )


def _limit(
    weights: list[np.ndarray],
    loudest: list[float],
    bias: np.ndarray,
    threshold: float | None,
    Du: int,
    chip: ChipSpec,
    largest_current: float | None,
) -> float:
    """Largest legal scale: threshold register, bias register, and a current that never wraps."""
    grids = chip.parameters
    limit = np.inf
    if threshold:
        limit = min(limit, grids.threshold.hi / threshold)
    if np.any(bias):
        limit = min(limit, grids.bias.mantissa.span / float(np.abs(bias).max()))
    reach = largest_current
    if reach is None:
        reach = sum(f * _row_sum(w) for w, f in zip(weights, loudest, strict=True)) * DECAY_ONE / Du
    if reach > 0:
        limit = min(limit, _FILL * STATE_MAX / (1 << INPUT_SHIFT) / reach)
    return float(limit)


def _row_sum(weight: np.ndarray) -> float:
    return float(np.abs(weight).reshape(weight.shape[0], -1).sum(1).max(initial=0.0))


def _headroom(
    integers: list[np.ndarray], loudest: list[float], Du: int, scale: float, largest_current: float | None
) -> float:
    if largest_current is not None:
        reach = largest_current * scale
    else:
        reach = sum(f * _row_sum(w) for w, f in zip(integers, loudest, strict=True)) * DECAY_ONE / Du
    return STATE_MAX / (reach * (1 << INPUT_SHIFT)) if reach else np.inf


def exact_scale(weights: list[np.ndarray], threshold: float | None, grid: IntGrid, limit: float) -> float | None:
    """A scale at which every weight is on the grid as it is (networks that were quantised before), or None."""
    values = np.unique(np.abs(np.concatenate([np.ravel(w) for w in weights]))) if weights else np.zeros(0)
    values = values[values > 0]
    if values.size == 0 or values.size > grid.span // grid.step + 1:
        return None
    largest = float(values[-1])
    unit = largest
    for value in values:
        unit = _common_divisor(unit, float(value), largest * 1e-6)
        if unit * (grid.span // grid.step) < largest * (1 - 1e-6):
            return None
    base = grid.step / unit
    most = int(min(limit, grid.span / largest * (1 + 1e-9)) / base)
    for factor in range(most, 0, -1):
        scale = base * factor
        if not threshold or abs(scale * threshold - round(scale * threshold)) < 1e-6 * scale * threshold:
            return scale
    return base * most if most >= 1 else None


def _common_divisor(a: float, b: float, tolerance: float) -> float:
    while b > tolerance:
        a, b = b, a - b * round(a / b)
        b = abs(b)
    return a


def _past_netx(weight: np.ndarray, step: int) -> np.ndarray:
    """Move the minimum of a matrix without positive weights off a power of two, where Lava's loader breaks it."""
    if weight.ndim == 2 and weight.size and weight.any() and weight.max() <= 0 and changed_by_netx(weight):
        return np.where(weight == weight.min(), weight + step, weight)
    return weight


# -- the host's part ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HostQuantised:
    """A first layer computed outside the chip: `mantissa = (w_int x + bias_int + half) >> shift`."""

    scale: float  # bias mantissas per real unit of the membrane
    shift: int
    weight: np.ndarray
    bias: np.ndarray
    weight_error_max: float
    weight_error_rms: float


HOST_GRID = IntGrid(lo=-127, hi=127)


def quantise_host(weight: np.ndarray, bias: np.ndarray, levels: int, chip: ChipSpec) -> HostQuantised:
    """8-bit weights, and the smallest shift at which no image of integers 0..levels can leave the bias register."""
    accumulators = weight_scale([weight], HOST_GRID)
    integers = np.clip(np.rint(weight * accumulators), HOST_GRID.lo, HOST_GRID.hi)
    offset = np.rint(bias * accumulators)
    reach = _row_sum(integers) * levels + float(np.abs(offset).max(initial=0.0))
    span = chip.parameters.bias.mantissa.span
    shift = max(0, int(np.ceil(np.log2(max(reach, 1.0) / span))))
    peak = float(np.abs(weight).max(initial=0.0)) or 1.0
    errors = (weight - integers / accumulators) / peak
    return HostQuantised(
        scale=accumulators / 2.0**shift,
        shift=shift,
        weight=integers.astype(np.int64),
        bias=offset.astype(np.int64),
        weight_error_max=float(np.abs(errors).max(initial=0.0)),
        weight_error_rms=float(np.sqrt((errors**2).mean())),
    )
