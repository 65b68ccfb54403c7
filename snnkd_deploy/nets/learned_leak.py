"""A population whose decay is trained with its weights (float phase): step by step, gradients by autograd.

The share of the membrane kept per step is a sigmoid of one parameter a population (PLIF, Fang et al. 2021). On
entering the chip's integers it is rounded to the chip's decay grid and stays; its learned threshold is the gain of
the batch normalisation in front, which any chip scale takes in.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from snnkd_deploy.nets.neurons import Lif, surrogate_slope


def raw_of(keep: float) -> Tensor:
    """The parameter that stands for keeping this share of the membrane; 1 and 0 are out of a sigmoid's reach."""
    inside = min(max(keep, 0.02), 0.98)
    return torch.tensor(math.log(inside / (1.0 - inside)))


def learned_lif_over_time(x: Tensor, lif: Lif, keep: Tensor, steps: int, bias: Tensor | None = None) -> Tensor:
    """`lif_over_time` in float with `keep` (a scalar that requires gradients) in place of lif.leak_v."""
    u = v = torch.zeros_like(x[0])
    spikes = []
    for t in range(steps):
        u = lif.current(u, x[t if len(x) > 1 else 0])
        v = keep * v + u
        if bias is not None:
            v = v + bias
        fired = _Fire.apply(v, lif)
        spikes.append(fired)
        if lif.reset_kind == "zero" and lif.max_spikes == 1:
            v = v * (1.0 - fired)
        else:
            v = lif.reset(v, fired, lif.level, lif.floor)
    return torch.stack(spikes)


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, lif: Lif) -> Tensor:
        ctx.save_for_backward(v)
        ctx.lif = lif
        return lif.fire(v, lif.level)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (v,) = ctx.saved_tensors
        return grads[0] * surrogate_slope(v, torch.tensor(ctx.lif.threshold, dtype=v.dtype), ctx.lif), None
