"""Loihi's integer CUBA neuron as a NIR node: the same dynamics in NIR's forward-Euler equations.

With S = `scale` synaptic integers per real unit, a = Du/4096 and b = Dv/4096:

    Du = 4096, Dv = 0    IF(r = 1/dt)                       v += I
    Du = 4096            LIF(tau = dt/b, r = 1)             v = (1-b) v + b I      (b goes into the weights)
    else                 CubaLIF(tau = dt/a, dt/b, w_in = 1/a, r = 1/b)   c = (1-a) c + I ; v = (1-b) v + c

Other families have the same three forms (`membrane_node`), a and b being the shares that they lose per step.
Reset kinds, floors and roundings are the profile's.

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
    node, leak_scale = _cuba(shape, Du, Dv, vth / scale, scale, dt_s, bias)
    return node, NeuronParams(Du=Du, Dv=Dv, vth=vth, bias_exp=bias_exp, leak_scale=leak_scale, scale=scale)


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
    node, leak_scale = _cuba(shape, Du, Dv, None, scale, dt_s, bias)
    return node, ReadoutParams(
        Du=Du, Dv=Dv, read="u" if read == "u" else "v", leak_scale=leak_scale, scale=scale, silent=silent
    )


def _cuba(
    shape: Shape, Du: int, Dv: int, threshold: float | None, scale: float, dt_s: float, bias: np.ndarray | None
) -> tuple[nir.NIRNode, float]:
    """The node, and `leak_scale`: what turns its v_leak back into the bias register."""
    unit = scale * (1 << INPUT_SHIFT)
    return membrane_node(
        shape,
        keep_v=1.0 - Dv / DECAY_ONE,
        keep_u=1.0 - Du / DECAY_ONE,
        threshold=threshold,
        dt_s=dt_s,
        unit=unit,
        bias=bias,
    )


def membrane_node(
    shape: Shape,
    *,
    keep_v: float,
    keep_u: float,
    threshold: float | None,
    dt_s: float,
    unit: float,
    bias: np.ndarray | None = None,
    gain_u: float = 1.0,
) -> tuple[nir.NIRNode, float]:
    """The NIR node of a membrane that keeps these shares per step; without a `threshold` an integrator.

    `gain_u`: what a step's input is multiplied with on its way through the current. `bias`: what is added every
    step, in units of v, `unit` of which are one real unit. Also returns `leak_scale`, see `NeuronParams`.
    """
    ends: dict[str, np.ndarray] = {}
    if threshold is not None:
        ends = {"v_threshold": np.full(shape, threshold), "v_reset": np.zeros(shape)}
    steps_v, steps_u = _steps(keep_v), _steps(keep_u)
    # NIR multiplies v_leak by the share that the membrane loses.
    leak_scale = 0.0 if bias is None else unit / steps_v
    leak = np.zeros(shape) if bias is None else np.broadcast_to(bias, shape) / leak_scale
    if keep_u > 0 or (keep_v == 1.0 and bias is not None):
        form = {
            "tau_syn": np.full(shape, dt_s * steps_u),
            "tau_mem": np.full(shape, dt_s * steps_v),
            "r": np.full(shape, steps_v),
            "v_leak": np.ascontiguousarray(leak),
            "w_in": np.full(shape, gain_u * steps_u),
        }
        return (nir.CubaLIF(**form, **ends) if ends else nir.CubaLI(**form)), leak_scale
    if keep_v < 1.0:
        form = {"tau": np.full(shape, dt_s * steps_v), "r": np.ones(shape), "v_leak": np.ascontiguousarray(leak)}
        return (nir.LIF(**form, **ends) if ends else nir.LI(**form)), leak_scale
    r = np.full(shape, 1.0 / dt_s)
    return (nir.IF(r=r, **ends) if ends else nir.I(r=r)), leak_scale


def _steps(keep: float) -> float:
    """Time constant in timesteps."""
    return 1.0 / (1.0 - keep) if keep < 1.0 else _FOREVER
