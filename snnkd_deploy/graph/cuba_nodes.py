"""Loihi's integer CUBA neuron as a NIR node: the same dynamics in NIR's forward-Euler equations.

With S = `scale` synaptic integers per real unit, a = Du/4096 and b = Dv/4096:

    Du = 4096, Dv = 0    IF(r = 1/dt)                       v += I
    Du = 4096            LIF(tau = dt/b, r = 1)             v = (1-b) v + b I      (b goes into the weights)
    else                 CubaLIF(tau = dt/a, dt/b, w_in = 1/a, r = 1/b)   c = (1-a) c + I ; v = (1-b) v + c

A decay of 0 has an infinite time constant, which NIR readers refuse. 2^60 timesteps are finite, and 1 - 2^-60
rounds to exactly 1 in float64 and float32.
"""

from __future__ import annotations

import nir
import numpy as np

from snnkd_deploy.arithmetic.cuba import DECAY_ONE, INPUT_SHIFT
from snnkd_deploy.graph.profile import NeuronParams, NodeParams, ReadoutParams
from snnkd_deploy.graph.topology import Shape

_FOREVER = 2.0**60


def input_gain(Du: int, Dv: int) -> float:
    """What the node multiplies its input with: weights are written as `w_int / (S * gain)`."""
    return Dv / DECAY_ONE if Du == DECAY_ONE and Dv > 0 else 1.0


def takes_bias_through_synapse(Du: int) -> bool:
    """Loihi adds biases to v, NIR's affine bias goes through the current: the same only without current memory."""
    return Du == DECAY_ONE


def spiking_node(
    shape: Shape,
    *,
    Du: int,
    Dv: int,
    vth: int,
    scale: float,
    dt_s: float,
    bias: np.ndarray | None = None,
    bias_exp: int = INPUT_SHIFT,
) -> tuple[nir.NIRNode, NodeParams]:
    """A spiking population. `bias`: register in units of v, per neuron, for what no synapse can carry."""
    threshold = np.full(shape, vth / scale)
    zeros = np.zeros(shape)
    leak, leak_scale = _leak(shape, Dv, scale, bias)
    params = NeuronParams(Du=Du, Dv=Dv, vth=vth, bias_exp=bias_exp, leak_scale=leak_scale, scale=scale)
    if Du == DECAY_ONE and Dv == 0 and bias is None:
        return nir.IF(r=np.full(shape, 1.0 / dt_s), v_threshold=threshold, v_reset=zeros), params
    if Du == DECAY_ONE and Dv > 0:
        tau = np.full(shape, dt_s * DECAY_ONE / Dv)
        return nir.LIF(tau=tau, r=np.ones(shape), v_leak=leak, v_threshold=threshold, v_reset=zeros), params
    return nir.CubaLIF(**_cuba(shape, Du, Dv, dt_s, leak), v_threshold=threshold, v_reset=zeros), params


def readout_node(
    shape: Shape,
    *,
    Du: int,
    Dv: int,
    read: str,
    scale: float,
    dt_s: float,
    bias: np.ndarray | None = None,
    silent: bool = False,
) -> tuple[nir.NIRNode, NodeParams]:
    """The same without a threshold. `read` is the state that holds the answer, "u" or "v"."""
    leak, leak_scale = _leak(shape, Dv, scale, bias)
    params = ReadoutParams(
        Du=Du, Dv=Dv, read="u" if read == "u" else "v", leak_scale=leak_scale, scale=scale, silent=silent
    )
    if Du == DECAY_ONE and Dv == 0 and bias is None:
        return nir.I(r=np.full(shape, 1.0 / dt_s)), params
    if Du == DECAY_ONE and Dv > 0:
        return nir.LI(tau=np.full(shape, dt_s * DECAY_ONE / Dv), r=np.ones(shape), v_leak=leak), params
    return nir.CubaLI(**_cuba(shape, Du, Dv, dt_s, leak)), params


def _steps(decay: int) -> float:
    """Time constant in timesteps."""
    return DECAY_ONE / decay if decay else _FOREVER


def _leak(shape: Shape, Dv: int, scale: float, bias: np.ndarray | None) -> tuple[np.ndarray, float]:
    """v_leak that adds `bias` every step (NIR multiplies it by b), and the factor that gives the integer back."""
    if bias is None:
        return np.zeros(shape), 0.0
    per_step = scale * (1 << INPUT_SHIFT) / _steps(Dv)
    return np.broadcast_to(bias, shape) / per_step, per_step


def _cuba(shape: Shape, Du: int, Dv: int, dt_s: float, leak: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "tau_syn": np.full(shape, dt_s * _steps(Du)),
        "tau_mem": np.full(shape, dt_s * _steps(Dv)),
        "r": np.full(shape, _steps(Dv)),
        "v_leak": np.ascontiguousarray(leak),
        "w_in": np.full(shape, _steps(Du)),
    }
