"""How far the worst case is from the end of a chip's state registers.

`worst_case` is in synaptic integers where its arguments are, and in real units where they are: it grows in
proportion, so one function serves both the choice of a scale (real) and the proof afterwards (integers).
"""

from __future__ import annotations

import math

from snnkd_deploy.arithmetic.exact import EXACT_FLOAT32
from snnkd_deploy.chips.spec import ChipSpec


def capacity(chip: ChipSpec) -> float:
    """Synaptic integers that fit the register which the worst case fills first."""
    spec = chip.neuron
    if spec.family == "float_lif":
        return float(EXACT_FLOAT32)
    bits = spec.u_bits or spec.v_bits
    return float(2 ** (bits - 1) - (spec.family == "iaf")) / (1 << spec.input_shift)


def is_bound(chip: ChipSpec) -> bool:
    """True where leaving the register is not an option: it wraps, nobody documents it, or sums stop being exact."""
    return chip.neuron.family in ("cuba_lif", "iaf", "float_lif")


def worst_case(
    chip: ChipSpec, keep_u: float, *, total: float, largest: float, threshold: float, steps: int | None
) -> float:
    """The largest magnitude there can be.

    total: largest sum of |weight| into one neuron, its bias included. largest: one weight alone. Sources are taken
    to send one spike a step. `steps`: how long a membrane without a decay piles up; None: one step.
    """
    spec = chip.neuron
    if spec.family == "iaf":
        if spec.floor == "none":
            return threshold + total * (steps or 1)
        if spec.max_spikes != 1:  # events come one by one, and each fires at once what it can
            return largest + threshold
        return 2 * threshold + max(0.0, total - threshold) * (steps or 1)
    if keep_u >= 1.0:
        return math.inf if total else 0.0
    return total * (keep_u if spec.family == "shift_lif" and keep_u > 0 else 1.0) / (1.0 - keep_u)


def safe_steps(chip: ChipSpec, *, total: float, threshold: float) -> int | None:
    """Steps of the worst input that a membrane bears which loses one threshold a step; None: any number."""
    spec = chip.neuron
    if spec.family != "iaf" or (spec.floor != "none" and (spec.max_spikes != 1 or total <= threshold)):
        return None
    room, growth = capacity(chip) - threshold, total
    if spec.floor != "none":
        room, growth = room - threshold, total - threshold
    return int(room / growth) if growth else None
