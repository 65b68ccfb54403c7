"""What a framework's neuron has to compute, and whether it can.

One step of a population, with x the input in units of the membrane::

    u = beta u + x ;   z = [u > threshold] ;   u = 0 where z  (or u - threshold, soft)

A model in real units becomes that by x = gain I + drive and u = v - v_reset (`float_operators.py`). A model on
Loihi's grid becomes that where its truncating decay truncates nothing: no decay, a complete one, or powers of two
for as many steps as the integers have bits to spare. There float64 holds every value exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import nir
import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.arithmetic.cuba import DECAY_ONE, INPUT_SHIFT
from snnkd_deploy.backends.float_operators import FloatNeuron
from snnkd_deploy.backends.float_reference import number_type
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import NeuronParams

NEVER = math.inf
_EXACT = "the same model on --backend exact or lava"


@dataclass(frozen=True)
class Membrane:
    """`beta` and `threshold` broadcast over the population's shape; `start` is u before the first step."""

    beta: Tensor
    threshold: Tensor
    start: Tensor
    soft: bool
    strict: bool

    @property
    def dtype(self) -> torch.dtype:
        return self.beta.dtype

    def threshold_for(self, strict: bool) -> Tensor:
        """The threshold for a neuron that tests `>` (strict) or `>=`: the next number, where the tests differ."""
        if strict == self.strict:
            return self.threshold
        towards = torch.full_like(self.threshold, -math.inf if strict else math.inf)
        return torch.nextafter(self.threshold, towards)


def float_membrane(model: Model, name: str) -> tuple[Membrane, FloatNeuron]:
    """Of a population in real units, with the operator that knows its gain, drive and synaptic current."""
    neuron = FloatNeuron(model, name, number_type(model), torch.device("cpu"))
    assert neuron.threshold is not None
    shape = model.shapes[name]
    values = (neuron.beta.expand(shape), neuron.threshold.expand(shape), neuron.start_at.expand(shape))
    return Membrane(*values, soft=neuron.soft, strict=not neuron.at_threshold), neuron


def chip_membrane(model: Model, name: str) -> Membrane:
    """Of a population on Loihi's grid, in the chip's integers."""
    params = model.neuron(name)
    shape = model.shapes[name]

    def full(value: float) -> Tensor:
        return torch.full(shape, value, dtype=torch.float64)

    beta = (DECAY_ONE - params.Dv) / DECAY_ONE
    return Membrane(full(beta), full(float(params.vth << INPUT_SHIFT)), full(0.0), soft=False, strict=True)


def exact_steps(model: Model, name: str) -> float:
    """For how many steps v of a population on the grid stays an integer without any rounding."""
    params = model.neuron(name)
    keep = DECAY_ONE - params.Dv
    if keep in (0, DECAY_ONE):
        return NEVER
    bits_a_step = 12 - _trailing_zeros(keep)
    # Synaptic sums enter shifted by 6; a current that decays is any integer.
    spare = INPUT_SHIFT if params.Du == DECAY_ONE else 0
    for bias in np.unique(model.bias_int(name)):
        spare = min(spare, _trailing_zeros(int(bias))) if bias else spare
    return 1 + spare // bits_a_step


def _trailing_zeros(value: int) -> int:
    return (value & -value).bit_length() - 1


def grid_problems(model: Model, framework: str) -> list[Problem]:
    """Why a framework of real numbers cannot run these integers."""
    assert model.profile.chip is not None
    chip = model.profile.chip.neuron
    if chip.family != "cuba_lif" or chip.reset != "zero" or chip.fires != ">":
        have = f"{chip.family}, reset {chip.reset}, fires {chip.fires}"
        what = f"{framework} is configured for Loihi's neuron only"
        return [Problem(what, "chip", "cuba_lif, reset zero, fires >", have, _EXACT)]
    problems = []
    for name in model.spiking:
        params = model.profile.nodes.get(name)
        if not isinstance(params, NeuronParams):
            problems.append(Problem("no integer parameters", name, remedy="lower the model again"))
        elif (model.profile.steps or NEVER) > (possible := exact_steps(model, name)):
            problems.append(rounding_problem(framework, name, params.Dv, possible, model.profile.steps))
    return problems


def rounding_problem(framework: str, name: str, decay: int, possible: float, steps: int | None) -> Problem:
    return Problem(
        f"Loihi's decay drops fractions at every step, {framework} keeps them",
        name,
        f"Dv 0 or 4096 (any other here for {possible:g} steps at most)",
        f"Dv {decay}" + (f", {steps} steps" if steps is not None else ""),
        f"a student without leak (student.leak = 1), or {_EXACT}",
    )


def structure_problems(model: Model) -> list[Problem]:
    """Nodes that only the float reference runs and whose spikes are no neuron's."""
    return [
        Problem("a comparison without a membrane is no neuron of this framework", name)
        for name, node in model.nodes.items()
        if isinstance(node, nir.Threshold)
    ]
