"""Trainable LIF populations: one autograd node over all timesteps, float or in the chip's integers.

The chip's forward is `arithmetic.cuba`, the very function that the exact simulator runs; the backward is
that of the float neuron in real units, straight through the roundings. The reset is not detached
(specification of both papers): dv[t]/dv-[t] = (1 - s) - v- ds/dv.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from snnkd_deploy.arithmetic.cuba import INPUT_SHIFT, CubaParams, next_current, next_membrane
from snnkd_deploy.nets.surrogate import Surrogate


@dataclass(frozen=True)
class ChipNeuron:
    """Integer side of a population: its parameters and the synaptic integers that make one real unit."""

    params: CubaParams
    scale: float


@dataclass(frozen=True)
class Lif:
    """A leaky integrate-and-fire population in real units.

    v-[t] = leak_v v[t-1] + u[t];  u[t] = leak_u u[t-1] + x[t];  s = v- > threshold (or >=);  hard reset to 0.
    leak_u = 0 is the neuron without a synaptic current state (u = x).
    """

    leak_v: float
    threshold: float
    surrogate: Surrogate
    leak_u: float = 0.0
    fires: Literal[">", ">="] = ">"


class _LifOverTime(torch.autograd.Function):
    """Saves the membrane before reset only: spikes follow from it in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lif: Lif, chip: ChipNeuron | None) -> Tensor:
        membrane = torch.empty_like(x)
        spikes = torch.empty_like(x)
        v = torch.zeros_like(x[0])
        u = torch.zeros_like(x[0])
        for t in range(x.shape[0]):
            if chip is None:
                u = x[t] if lif.leak_u == 0 else lif.leak_u * u + x[t]
                v = torch.mul(v, lif.leak_v, out=membrane[t]).add_(u)
                fired = v > lif.threshold if lif.fires == ">" else v >= lif.threshold
            else:
                u = next_current(u, x[t], chip.params)
                v = next_membrane(v, u, chip.params)
                membrane[t] = v
                fired = v > float(chip.params.vth << INPUT_SHIFT)
            spikes[t] = fired
            v = v.masked_fill(fired, 0.0)
        ctx.save_for_backward(membrane)
        ctx.lif, ctx.chip = lif, chip
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (membrane,) = ctx.saved_tensors
        lif, chip = ctx.lif, ctx.chip
        grad_spikes = grads[0]
        grad_x = torch.empty_like(membrane)
        grad_v = torch.zeros_like(membrane[0])
        grad_u = torch.zeros_like(membrane[0]) if lif.leak_u else None
        # In integers: v = real * scale * 64, x = real * scale. The threshold in real units is the integer one.
        unit = 1.0 if chip is None else 1.0 / (chip.scale * (1 << INPUT_SHIFT))
        threshold = lif.threshold if chip is None else chip.params.vth / chip.scale
        for t in range(membrane.shape[0] - 1, -1, -1):
            v = membrane[t] * unit if chip is not None else membrane[t]
            fired = v > threshold if lif.fires == ">" else v >= threshold
            slope = lif.surrogate(v - threshold)
            # dL/dv- = dL/ds ds/dv + dL/dv ((1 - s) - v- ds/dv)
            grad_membrane = (grad_spikes[t] - grad_v * v) * slope + grad_v.masked_fill(fired, 0.0)
            if grad_u is None:
                grad_x[t] = grad_membrane
            else:
                grad_u = grad_membrane + lif.leak_u * grad_u
                grad_x[t] = grad_u
            grad_v = lif.leak_v * grad_membrane
        if chip is not None:
            grad_x.mul_(1.0 / chip.scale)
        return grad_x, None, None


def lif_over_time(x: Tensor, lif: Lif, chip: ChipNeuron | None = None) -> Tensor:
    """Spikes (T, B, ...) of a population driven by x (T, B, ...), from zero state.

    With `chip`, x holds the chip's synaptic integers (bias included, in the same unit) and the forward
    pass is the chip's arithmetic; gradients come back with respect to those integers.
    """
    return _LifOverTime.apply(x, lif, chip)
