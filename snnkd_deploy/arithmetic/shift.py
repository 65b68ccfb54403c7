"""LIF neurons that decay by bit shifts and saturate, in integers: Xylo (core 2, xylosim 0.1.3) and plain int8 hardware.

One timestep, everything clipped to `bits` signed bits::

    leak(x, d) = x >> d, but 1 where that is 0 and x > 0
    i = clip(i + (sum << shift));  i = i - leak(i, dash_syn)    this step's events are decayed once already
    d = clip(clip(-leak(v, dash_mem) + i) + bias);  v = clip(v + d)
    n = min(most, v div th) where v >= th;  v = v - n * th       or 0 where n > 0

Without `dash_syn` there is no synaptic current: i is this step's sum. Events add up one after the other on the
chip; where no partial sum leaves the register that is the sum, and `backends.exact` reports where one might.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from snnkd_deploy.arithmetic.neuron import Level, count_spikes, reset_by_subtraction, reset_to_zero


@dataclass(frozen=True)
class ShiftNeuron:
    """Integer parameters of one population. The threshold is `vth << shift`; `bias` is in units of v.

    `dash_mem` 0 is no decay. (Xylo's own 0 clears the membrane; its chip file does not allow it.)
    """

    dash_mem: int
    vth: int
    shift: int
    bits: int
    dash_syn: int | None = None
    max_spikes: int = 1
    reset_kind: Literal["zero", "subtract"] = "subtract"
    bias: Tensor | None = None

    @property
    def level(self) -> float:
        return float(self.vth << self.shift)

    @property
    def floor(self) -> float:
        return -math.inf

    def clip(self, x: Tensor) -> Tensor:
        """Saturate to the register."""
        return x.clamp(-(2.0 ** (self.bits - 1)), 2.0 ** (self.bits - 1) - 1)

    def current(self, u: Tensor, drive: Tensor | None) -> Tensor:
        added = drive * float(1 << self.shift) if drive is not None else torch.zeros_like(u)
        if self.dash_syn is None:
            return self.clip(added)
        total = self.clip(u + added)
        return total - shift_leak(total, self.dash_syn)

    def membrane(self, v: Tensor, u: Tensor) -> Tensor:
        change = self.clip(u - shift_leak(v, self.dash_mem) if self.dash_mem else u)
        if self.bias is not None:
            change = self.clip(change + self.bias)
        return self.clip(v + change)

    def fire(self, v: Tensor, level: Level) -> Tensor:
        return count_spikes(v, level, self.max_spikes)

    def reset(self, v: Tensor, spikes: Tensor, level: Level, floor: Level) -> Tensor:
        if self.reset_kind == "zero":
            return reset_to_zero(v, spikes, -math.inf)
        return reset_by_subtraction(v, spikes, level, -math.inf)


def shift_leak(x: Tensor, dash: int) -> Tensor:
    """What one decay takes away: `x >> dash`, at least 1 of a positive value. Integer-valued x, exact."""
    leak = torch.floor(x * 2.0**-dash)
    return torch.where((leak == 0) & (x > 0), torch.ones_like(x), leak)
