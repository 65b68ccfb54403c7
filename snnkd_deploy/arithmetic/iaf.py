"""Integrate-and-fire without decay, in integers: Speck (as sinabs models it) and TrueNorth's deterministic neuron.

One timestep::

    v = v + sum + bias
    v = v - sgn(v) * min(|v|, leak)              toward zero and not across it (TrueNorth: lambda < 0, epsilon = 1)
    n = v div th where v > 0                     as many as fit (Speck), or one where v >= th (TrueNorth)
    v = v - n * th                               or 0 where n > 0
    v = max(v, v_min)                            the floor last, once a step

Speck: sinabs 3.1 `IAFSqueeze`, multi-spike, subtract, `min_v_mem`. TrueNorth: Cassidy et al. 2013 with gamma = 1,
kappa = 1, alpha = th, beta = -v_min: a spike removes one threshold, so the floor is never met in the same step.
Neither models the overflow of its membrane register: a network that could reach it is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from snnkd_deploy.arithmetic.neuron import Level, count_spikes, reset_by_subtraction, reset_to_zero


@dataclass(frozen=True)
class IafNeuron:
    """Integer parameters of one population; `bias` broadcasts over (B, *shape), in units of v."""

    vth: int
    v_min: int | None = None
    leak: int = 0
    max_spikes: int = 0  # 0: as many as thresholds fit
    reset_kind: Literal["zero", "subtract"] = "subtract"
    bias: Tensor | None = None

    @property
    def level(self) -> float:
        return float(self.vth)

    @property
    def floor(self) -> float:
        return -math.inf if self.v_min is None else float(self.v_min)

    def current(self, u: Tensor, drive: Tensor | None) -> Tensor:
        return torch.zeros_like(u) if drive is None else drive

    def membrane(self, v: Tensor, u: Tensor) -> Tensor:
        v = v + u
        if self.bias is not None:
            v = v + self.bias
        if self.leak:
            v = v - v.clamp(-float(self.leak), float(self.leak))
        return v

    def fire(self, v: Tensor, level: Level) -> Tensor:
        return count_spikes(v, level, self.max_spikes)

    def reset(self, v: Tensor, spikes: Tensor, level: Level, floor: Level) -> Tensor:
        if self.reset_kind == "zero":
            return reset_to_zero(v, spikes, floor)
        return reset_by_subtraction(v, spikes, level, floor)
