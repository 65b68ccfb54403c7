"""From a chip's neuron specification and a population's integers to the neuron that computes.

`numbers` are the integers that the profile of a model stores for a population; which ones there are depends on
the family:

    cuba_lif   Du, Dv (parts of 4096), vth
    iaf        vth, v_min, leak, max_spikes
    shift_lif  dash_syn, dash_mem, vth, max_spikes
    float_lif  alpha, alpha_syn, vth
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from snnkd_deploy.arithmetic.cuba import DECAY_ONE, CubaNeuron
from snnkd_deploy.arithmetic.floating import FloatNeuron
from snnkd_deploy.arithmetic.iaf import IafNeuron
from snnkd_deploy.arithmetic.neuron import Neuron
from snnkd_deploy.arithmetic.shift import ShiftNeuron
from snnkd_deploy.chips.spec import ChipArithmetic, IntGrid, NeuronSpec

FIELDS: dict[str, tuple[str, ...]] = {
    "cuba_lif": ("Du", "Dv", "vth"),
    "iaf": ("vth", "v_min", "leak", "max_spikes"),
    "shift_lif": ("dash_syn", "dash_mem", "vth", "max_spikes"),
    "float_lif": ("alpha", "alpha_syn", "vth"),
}


def make_neuron(
    spec: NeuronSpec,
    numbers: Mapping[str, Any],
    bias: Tensor | None = None,
    *,
    u_in_range: bool = False,
    v_in_range: bool = False,
    wraps_int32: bool = False,
) -> Neuron:
    """The neuron of a population. `bias` in units of v. The last three are what is proved of Loihi's registers.

    A readout has no `vth`; it is then run by `integrate`, which does not test it. `max_spikes` in `numbers`
    overrules the chip's (Xylo's output neurons send one spike a step, its hidden ones 31).
    """
    vth = numbers.get("vth") or 0
    most = numbers.get("max_spikes")
    most = spec.max_spikes if most is None else most
    if spec.family == "cuba_lif":
        return CubaNeuron(numbers["Du"], numbers["Dv"], vth, bias, u_in_range, v_in_range, wraps_int32)
    if spec.family == "iaf":
        v_min, leak = numbers.get("v_min"), numbers.get("leak") or 0
        return IafNeuron(vth, v_min, leak, most, spec.reset, bias)
    if spec.family == "shift_lif":
        return ShiftNeuron(
            dash_mem=numbers["dash_mem"],
            vth=vth,
            shift=spec.input_shift,
            bits=spec.v_bits,
            dash_syn=numbers.get("dash_syn"),
            max_spikes=most,
            reset_kind=spec.reset,
            bias=bias,
        )
    return FloatNeuron(numbers["alpha"], vth, numbers.get("alpha_syn"), spec.reset, bias)


def decay_numbers(chip: ChipArithmetic, keep_v: float, keep_u: float) -> dict[str, Any]:
    """The stored decays nearest to keeping these shares of membrane and current per step (keep_u 0: no current)."""
    spec, grid = chip.neuron, chip.parameters.decay
    if spec.family == "cuba_lif":
        return {"Du": round(DECAY_ONE * (1.0 - keep_u)), "Dv": round(DECAY_ONE * (1.0 - keep_v))}
    if spec.family == "iaf":
        return {}
    if spec.family == "shift_lif":
        assert grid is not None, "the loader asks for it"
        syn = _dash(keep_u, grid) if spec.u_bits else None
        return {"dash_syn": syn, "dash_mem": _dash(keep_v, grid)}
    return {"alpha": _float32(keep_v), "alpha_syn": _float32(keep_u) if keep_u > 0 else None}


def kept(spec: NeuronSpec, numbers: Mapping[str, Any]) -> tuple[float, float]:
    """Inverse of `decay_numbers`: the shares of membrane and current that these integers keep (roundings aside)."""
    if spec.family == "cuba_lif":
        return 1.0 - numbers["Dv"] / DECAY_ONE, 1.0 - numbers["Du"] / DECAY_ONE
    if spec.family == "iaf":
        return 1.0, 0.0
    if spec.family == "shift_lif":
        syn, mem = numbers.get("dash_syn"), numbers["dash_mem"]
        return 1.0 - 2.0**-mem if mem else 1.0, 0.0 if syn is None else 1.0 - 2.0**-syn
    return float(numbers["alpha"]), float(numbers.get("alpha_syn") or 0.0)


def _float32(x: float) -> float:
    """What a single-precision register makes of x."""
    return struct.unpack("f", struct.pack("f", x))[0]


def _dash(keep: float, grid: IntGrid) -> int:
    """The shift d with 1 - 2^-d nearest to `keep`. 0, where the chip has it, is no decay at all."""
    shifts = range(max(1, grid.lo), grid.hi + 1)
    if grid.lo == 0 and keep > 1.0 - 2.0 ** -(grid.hi + 1):
        return 0
    return min(shifts, key=lambda d: (abs(1.0 - 2.0**-d - keep), d))
