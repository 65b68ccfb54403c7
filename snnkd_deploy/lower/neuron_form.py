"""NIR neurons in the one form that Loihi's CUBA neuron has: u = v - v_reset, decays, gain, threshold, drive.

With a = dt/tau_syn, b = dt/tau_mem (specification: forward Euler)::

    node      Du        Dv        gain on the input     drive per step
    CubaLIF   4096 a    4096 b    a w_in r b            b (v_leak - v_reset)
    LIF       4096      4096 b    r b                   b (v_leak - v_reset)
    IF        4096      0         dt r                  0
    Threshold 4096      4096      1                     0

Decays must be equal over a population. A threshold or gain that differs from neuron to neuron is a factor on the
neuron's weights and drive: with a hard reset the spikes do not change when a membrane is scaled as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np

from snnkd_deploy.arithmetic.cuba import DECAY_ONE
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.topology import Shape


@dataclass(frozen=True)
class NeuronForm:
    """A population on the way to the chip. Arrays broadcast over its shape, real units of one common membrane.

    `factor` multiplies the weights into each neuron. `bias_gain` multiplies a constant input that the chip can
    only add to the membrane (for a current with memory: its steady state). `threshold` None: an integrator.
    """

    Du: int
    Dv: int
    factor: np.ndarray
    bias_gain: np.ndarray
    drive: np.ndarray
    threshold: float | None
    decay_error: float
    notes: tuple[str, ...] = ()


def neuron_form(node: nir.NIRNode, shape: Shape, dt_s: float, name: str) -> NeuronForm | list[Problem]:
    """The form of a node, or everything that Loihi's neuron cannot do of it."""
    problems: list[Problem] = []
    notes: list[str] = []

    def array(key: str) -> np.ndarray:
        return np.broadcast_to(np.asarray(getattr(node, key), dtype=np.float64), shape)

    def decay(key: str) -> tuple[float, int, float]:
        """(dt/tau, decay of 4096, rounding error) of a time constant that must be one number."""
        tau = array(key)
        if np.ptp(tau) > 1e-6 * np.abs(tau).max():
            need, have = "one value a population", f"{tau.min():g}..{tau.max():g} s"
            remedy = "split the layer into one population a time constant"
            problems.append(Problem(f"{key} differs between neurons", name, need, have, remedy))
        exact = dt_s / float(tau.flat[0])
        if exact > 1 and exact < 1 + 1e-6:
            exact = 1.0
        rounded = round(DECAY_ONE * exact)
        if rounded == 0:
            need, have = f"at most {2 * DECAY_ONE} timesteps", f"{1 / exact:.0f}"
            problems.append(Problem(f"{key} is too long for a 12-bit decay", name, need, have, "a larger timestep"))
        return exact, rounded, abs(rounded / DECAY_ONE - exact)

    Du, Dv, error = DECAY_ONE, 0, 0.0
    factor, bias_gain, drive = np.ones(shape), np.ones(shape), np.zeros(shape)
    reset = array("v_reset") if hasattr(node, "v_reset") else np.zeros(shape)
    if isinstance(node, nir.CubaLIF | nir.CubaLI):
        a, Du, error_u = decay("tau_syn")
        b, Dv, error_v = decay("tau_mem")
        error = max(error_u, error_v)
        factor = a * array("w_in") * array("r") * b
        # A constant input settles at w_in in the current; the chip adds it to the membrane from the first step.
        bias_gain = array("w_in") * array("r") * b
        drive = b * (array("v_leak") - reset)
    elif isinstance(node, nir.LIF | nir.LI):
        b, Dv, error = decay("tau")
        factor = bias_gain = array("r") * b
        drive = b * (array("v_leak") - reset)
    elif isinstance(node, nir.IF | nir.I):
        factor = bias_gain = dt_s * array("r")
    elif isinstance(node, nir.Threshold):
        Dv = DECAY_ONE
    else:
        problems.append(Problem(f"{type(node).__name__} has no counterpart on the chip", name))
    threshold: float | None = None
    if isinstance(node, nir.Threshold) or hasattr(node, "v_threshold"):
        wanted = array("threshold") if isinstance(node, nir.Threshold) else array("v_threshold") - reset
        threshold = float(wanted.flat[0])
        if np.ptp(wanted) > 1e-6 * np.abs(wanted).max():
            if wanted.min() <= 0:
                remedy = "thresholds above v_reset everywhere"
                problems.append(Problem("thresholds differ and some are not above v_reset", name, remedy=remedy))
            else:
                threshold = float(wanted.max())
                scale = threshold / wanted
                factor, bias_gain, drive = factor * scale, bias_gain * scale, drive * scale
                notes.append("thresholds differ between neurons: folded into the weights")
        if threshold < 0:
            problems.append(Problem("a threshold below v_reset fires without input", name, "> v_reset"))
    if np.any(reset != 0):
        notes.append("v_reset is not 0: the chip starts at v_reset where the graph starts at 0")
    if problems:
        return problems
    return NeuronForm(Du, Dv, factor, bias_gain, drive, threshold, error, tuple(notes))
