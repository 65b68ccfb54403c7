"""From real weights of a population to the chip's integers: the scale, the roundings, what they cost.

With S integers per real unit: weight rint(S w) on the grid, threshold rint(S th), bias mantissa rint(S d).
Any real S is legal. Wanted is the one that uses the weight grid fully and keeps the states inside their registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnkd_deploy.chips.spec import ChipSpec, IntGrid
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.netx_weights import changed_by_netx
from snnkd_deploy.lower.neuron_form import NeuronForm
from snnkd_deploy.lower.registers import capacity, is_bound, worst_case
from snnkd_deploy.nets.scales import weight_scale

# The share of the register that the largest current may fill after the scale has been chosen.
_FILL = 0.98
_SMALLEST_THRESHOLD = 2


@dataclass(frozen=True)
class Quantised:
    """Integers of one population. `weights` in the order given; `bias` mantissas with exponent `input_shift`."""

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
    form: NeuronForm,
    chip: ChipSpec,
    name: str,
    *,
    fires: str,
    steps: int | None = None,
    largest_current: float | None = None,
) -> Quantised | Problem:
    """weights (out, ...) real and in membrane units, `loudest` the largest value of each one's source.

    fires: the graph's threshold test. `steps`: how long it runs, where that is known. `largest_current`: measured
    |c| in real units, used in place of the worst case that the weights allow.
    """
    grids, threshold = chip.parameters, form.threshold

    def worst(parts: list[np.ndarray], bias: float, level: float, measured: float | None) -> float:
        total = sum(f * _row_sum(w) for w, f in zip(parts, loudest, strict=True))
        if measured is not None:
            total = measured * (1.0 - form.keep_u)
        if chip.neuron.family != "cuba_lif":  # Loihi's bias does not pass the current, which is its narrow register
            total += bias
        largest = max((float(np.abs(w).max()) for w in parts if w.size), default=0.0)
        return worst_case(chip, form.keep_u, total=total, largest=largest, threshold=level, steps=steps)

    if threshold == 0 and 0 not in grids.threshold:
        return Problem("a threshold of 0", name, f"{grids.threshold.lo} or more", "0", "a threshold above v_reset")
    widest = float(np.abs(bias).max(initial=0.0))
    limit = np.inf
    if threshold:
        limit = min(limit, grids.threshold.hi / threshold)
    if widest:
        limit = min(limit, grids.bias.mantissa.span / widest)
    reach = worst(weights, widest, threshold or 0.0, largest_current)
    if reach > 0 and (is_bound(chip) or largest_current is not None):
        limit = min(limit, _FILL * capacity(chip) / reach)
    lowest = max(_SMALLEST_THRESHOLD, grids.threshold.lo) / threshold if threshold else 0.0
    exact = exact_scale(weights, threshold, grids.weight, limit, lowest)
    # Thresholds that must exceed every weight (Speck) ask for more than the weight grid would.
    raised = lowest if grids.threshold.lo > _SMALLEST_THRESHOLD else 0.0
    scale = exact or min(max(weight_scale(weights, grids.weight), raised), limit)
    half = 0.5 if chip.neuron.family == "float_lif" else 0.0  # such thresholds lie half an integer up
    if threshold and exact is None and scale * threshold >= max(8, grids.threshold.lo + 1):
        scale = (np.floor(scale * threshold) - half) / threshold  # a whole threshold has no rounding error
    vth = None if threshold is None else max(0, _threshold(scale * threshold, fires, half))
    if threshold and vth is not None and vth < lowest * threshold - half * 2:
        largest = max((float(np.abs(w).max()) for w in weights if w.size), default=0.0)
        return Problem(
            "the threshold would round to nothing" if grids.threshold.lo <= 2 else "the threshold has no legal integer",
            name,
            f"{lowest * threshold:.0f} or more, with weights below {grids.weight.hi / lowest / threshold:g} thresholds",
            f"{vth}, largest weight {largest:g}, bias {widest:g}, threshold {threshold:g}",
            "smaller weights, or --calibrate where the worst case limits the scale",
        )
    integers = []
    saturated = 0
    for weight in weights:
        rounded = np.rint(weight * scale / grids.weight.step) * grids.weight.step
        clipped = np.clip(rounded, grids.weight.lo, grids.weight.hi).astype(np.int64)
        saturated += int((clipped != rounded).sum())
        integers.append(_past_netx(clipped, grids.weight.step) if chip.neuron.family == "cuba_lif" else clipped)
    mantissa = np.rint(bias * scale)
    allowed = grids.bias.mantissa
    clipped_bias = np.clip(mantissa, allowed.lo, allowed.hi)
    saturated += int((clipped_bias != mantissa).sum())
    peak = max((float(np.abs(w).max()) for w in weights if w.size), default=0.0) or 1.0
    errors = np.concatenate([(w - q / scale).ravel() for w, q in zip(weights, integers, strict=True)]) / peak
    measured = None if largest_current is None else largest_current * scale
    filled = worst(integers, float(np.abs(clipped_bias).max(initial=0.0)), float(vth or 0), measured)
    return Quantised(
        scale=float(scale),
        weights=tuple(integers),
        vth=vth,
        bias=clipped_bias.astype(np.int64),
        saturated=saturated,
        weight_error_max=float(np.abs(errors).max(initial=0.0)),
        weight_error_rms=float(np.sqrt((errors**2).mean())) if errors.size else 0.0,
        threshold_error=abs((vth + half) / scale - threshold) / threshold if threshold and vth is not None else 0.0,
        bias_error=float(np.abs(clipped_bias / scale - bias).max(initial=0.0)) / (threshold or peak),
        headroom=capacity(chip) / filled if filled else np.inf,
    )


def _threshold(level: float, fires: str, half: float) -> int:
    """The register for a threshold of `level` integers. Half an integer up it says both > and >= of integers."""
    if not half:
        return round(level)
    return int(np.floor(level + 1e-9)) if fires == ">" else int(np.ceil(level - 1e-9)) - 1


def _row_sum(weight: np.ndarray) -> float:
    return float(np.abs(weight).reshape(weight.shape[0], -1).sum(1).max(initial=0.0))


def exact_scale(
    weights: list[np.ndarray], threshold: float | None, grid: IntGrid, limit: float, lowest: float = 0.0
) -> float | None:
    """A scale in lowest..limit at which every weight is on the grid as it is (networks quantised before), or None."""
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
    for factor in range(most, max(0, int(np.ceil(lowest / base * (1 - 1e-9))) - 1), -1):
        scale = base * factor
        if not threshold or abs(scale * threshold - round(scale * threshold)) < 1e-6 * scale * threshold:
            return scale
    return base * most if most >= 1 and base * most >= lowest * (1 - 1e-9) else None


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
