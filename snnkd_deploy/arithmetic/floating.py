"""LIF neurons in single precision with integer weights: SpiNNaker 2 (py-spinnaker2 `lif`, `lif_curr_exp`).

One timestep, every operation rounded to float32, in this order::

    I = fl(fl(syn_decay * I) + sum)         or just the sum, which is an exact integer, without a synaptic current
    v = fl(fl(alpha * v) + fl(I + bias))
    spike where v > th + 1/2                th is an integer, so > and >= decide alike for integer membranes
    v = 0, or fl(v - (th + 1/2)), where it fired

The chip's own choice between > and >= is not documented; the half makes it matter only where v is just th + 1/2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from snnkd_deploy.arithmetic.neuron import Level


@dataclass(frozen=True)
class FloatNeuron:
    """Parameters of one population: decays are shares kept per step, `vth` and `bias` in synaptic integers.

    Tensors must be float32: the rounding is the arithmetic.
    """

    alpha: float
    vth: int
    alpha_syn: float | None = None
    reset_kind: Literal["zero", "subtract"] = "zero"
    bias: Tensor | None = None

    @property
    def level(self) -> float:
        return self.vth + 0.5

    @property
    def floor(self) -> float:
        return -math.inf

    def current(self, u: Tensor, drive: Tensor | None) -> Tensor:
        added = torch.zeros_like(u) if drive is None else drive
        return added if self.alpha_syn is None else u * self.alpha_syn + added

    def membrane(self, v: Tensor, u: Tensor) -> Tensor:
        return v * self.alpha + (u if self.bias is None else u + self.bias)

    def fire(self, v: Tensor, level: Level) -> Tensor:
        return (v > level).to(v.dtype)

    def reset(self, v: Tensor, spikes: Tensor, level: Level, floor: Level) -> Tensor:
        after = torch.zeros_like(v) if self.reset_kind == "zero" else v - level
        return torch.where(spikes > 0, after, v)
