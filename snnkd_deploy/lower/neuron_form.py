"""NIR neurons in the one form that all chips have: u = v - v_reset, shares kept, gain, threshold, drive.

With a = dt/tau_syn, b = dt/tau_mem (specification: forward Euler)::

    node      keeps of u   keeps of v   gain on the input   drive per step
    CubaLIF   1 - a        1 - b        a w_in r b          b (v_leak - v_reset)
    LIF       0            1 - b        r b                 b (v_leak - v_reset)
    IF        0            1            dt r                0
    Threshold 0            0            1                   0

Time constants go to the nearest one that the chip has, before gains and drives are taken from them: what a constant
input settles at stays. A current that decays in its own step already (Xylo) needs a gain larger by 1 / keep.

Decays must be equal over a population. A threshold or gain that differs from neuron to neuron is a factor on the
neuron's weights and drive: the spikes do not change when a membrane is scaled as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

from snnkd_deploy.arithmetic import decay_numbers, kept
from snnkd_deploy.chips import list_chips, load_chip
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.topology import Shape

# What a network can be changed to where a chip lacks a neuron.
_INSTEAD: dict[str, dict[str, str]] = {
    "lif": {"cuba_lif": "CubaLIF neurons (a synaptic current before the membrane)", "if": "IF neurons"},
    "cuba_lif": {"lif": "LIF neurons (no synaptic current)", "if": "IF neurons"},
    "if": {
        "lif": "LIF neurons with a long time constant",
        "cuba_lif": "CubaLIF neurons with a long time constant of the membrane",
    },
}
# A decay that lies further than this from all of the chip's is another neuron.
_FAR = 0.25


@dataclass(frozen=True)
class NeuronForm:
    """A population on the way to the chip. Arrays broadcast over its shape, real units of one common membrane.

    `factor` multiplies the weights into each neuron. `bias_gain` multiplies a constant input that the chip can
    only add to the membrane (for a current with memory: its steady state). `threshold` None: an integrator.
    `numbers`: the chip's decays (none without a chip); `keep_v`, `keep_u` what they keep per step.
    """

    keep_v: float
    keep_u: float
    factor: np.ndarray
    bias_gain: np.ndarray
    drive: np.ndarray
    threshold: float | None
    decay_error: float = 0.0
    numbers: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def operation_of(keep_v: float, keep_u: float, spiking: bool) -> str:
    """What chip files call such a neuron."""
    if not spiking:
        return "integrator"
    return "cuba_lif" if keep_u > 0 else "if" if keep_v == 1.0 else "lif"


def neuron_form(
    node: nir.NIRNode, shape: Shape, dt_s: float, name: str, chip: ChipSpec | None = None
) -> NeuronForm | list[Problem]:
    """The form of a node, or everything that the chip's neuron cannot do of it. Without a chip: decays as they are."""
    problems: list[Problem] = []
    notes: list[str] = []

    def array(key: str) -> np.ndarray:
        return np.broadcast_to(np.asarray(getattr(node, key), dtype=np.float64), shape)

    def keeps(key: str) -> float:
        """1 - dt/tau of a time constant that must be one number."""
        tau = array(key)
        if np.ptp(tau) > 1e-6 * np.abs(tau).max():
            need, have = "one value a population", f"{tau.min():g}..{tau.max():g} s"
            remedy = "split the layer into one population a time constant"
            problems.append(Problem(f"{key} differs between neurons", name, need, have, remedy))
        share = dt_s / float(tau.flat[0])
        return 0.0 if 1 < share < 1 + 1e-6 else 1.0 - share

    spiking = isinstance(node, nir.Threshold) or hasattr(node, "v_threshold")
    cuba, leaky = isinstance(node, nir.CubaLIF | nir.CubaLI), isinstance(node, nir.LIF | nir.LI)
    taus = ("tau_mem", "tau_syn") if cuba else ("tau",) if leaky else ()
    wanted = [keeps(key) for key in taus]
    if isinstance(node, nir.Threshold):
        wanted = [0.0]
    keep_v, keep_u = (*wanted, *(1.0, 0.0)[len(wanted) :])
    numbers: Mapping[str, Any] = {}
    gain_u, error = 1.0, 0.0
    if chip is not None:
        operation = operation_of(keep_v, keep_u, spiking)
        lacking = chip.lacks(operation)
        if lacking is not None:
            what = f"{chip.id} cannot run '{operation}': {lacking}"
            problems.append(Problem(what, name, remedy=_instead(chip, operation)))
        else:
            asked = (keep_v, keep_u)
            numbers = decay_numbers(chip, keep_v, keep_u)
            keep_v, keep_u = kept(chip.neuron, numbers)
            for key, was, now in zip(taus or ("memory",), asked, (keep_v, keep_u), strict=False):
                error = max(error, abs(now - was))
                problems += _too_far(chip, key, was, now, name)
            if chip.neuron.family == "shift_lif" and keep_u > 0:
                gain_u = keep_u
    factor, bias_gain, drive = np.ones(shape), np.ones(shape), np.zeros(shape)
    reset = array("v_reset") if hasattr(node, "v_reset") else np.zeros(shape)
    b = 1.0 - keep_v
    if cuba:
        factor = (1.0 - keep_u) * array("w_in") * array("r") * b / gain_u
        # A constant input settles at w_in in the current; the chip adds it to the membrane from the first step.
        bias_gain = array("w_in") * array("r") * b
        drive = b * (array("v_leak") - reset)
    elif leaky:
        factor = bias_gain = array("r") * b
        drive = b * (array("v_leak") - reset)
    elif isinstance(node, nir.IF | nir.I):
        factor = bias_gain = dt_s * array("r")
    elif not isinstance(node, nir.Threshold):
        problems.append(Problem(f"{type(node).__name__} has no counterpart on the chip", name))
    threshold: float | None = None
    if spiking:
        level = array("threshold") if isinstance(node, nir.Threshold) else array("v_threshold") - reset
        threshold = float(level.flat[0])
        if np.ptp(level) > 1e-6 * np.abs(level).max():
            if level.min() <= 0:
                remedy = "thresholds above v_reset everywhere"
                problems.append(Problem("thresholds differ and some are not above v_reset", name, remedy=remedy))
            else:
                threshold = float(level.max())
                scale = threshold / level
                factor, bias_gain, drive = factor * scale, bias_gain * scale, drive * scale
                notes.append("thresholds differ between neurons: folded into the weights")
        if threshold < 0:
            problems.append(Problem("a threshold below v_reset fires without input", name, "> v_reset"))
    if np.any(reset != 0):
        notes.append("v_reset is not 0: the chip starts at v_reset where the graph starts at 0")
    if problems:
        return problems
    return NeuronForm(keep_v, keep_u, factor, bias_gain, drive, threshold, error, numbers, tuple(notes))


def _instead(chip: ChipSpec, operation: str) -> str:
    """The nearest neuron that this chip does have, and the chips that have the one asked for."""
    if operation == "integrator":
        return "a spiking population at the end, whose spikes are counted"
    nearest = [words for name, words in _INSTEAD[operation].items() if chip.lacks(name) is None][:1]
    others = [name for name in list_chips() if load_chip(name).lacks(operation) is None]
    return ", or ".join([*nearest, f"a chip that has it ({', '.join(others)})"])


def _too_far(chip: ChipSpec, key: str, wanted: float, now: float, name: str) -> list[Problem]:
    """Decays that the chip's registers do not reach."""
    if now == 1.0 and wanted < 1.0:
        bits = chip.neuron.decay_bits
        what = f"{key} is too long for {f'a {bits}-bit decay' if bits else 'the decays of ' + chip.id}"
        need = f"at most {2 << bits} timesteps" if bits else "a decay that the chip can hold"
        return [Problem(what, name, need, f"{1 / (1 - wanted):.0f} timesteps", "a larger timestep")]
    if abs(now - wanted) > _FAR:
        need, have = f"keeping {now:g} per step, the nearest there is", f"{wanted:g}"
        return [Problem(f"{key} is too short for the decays of {chip.id}", name, need, have, "a smaller timestep")]
    return []
