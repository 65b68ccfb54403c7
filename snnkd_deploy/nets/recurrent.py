"""A population that hears its own spikes of the last step: trainable, float or in the chip's integers.

The loop over time cannot be taken out of the weights here, so this is one autograd node with the recurrent
weights inside. It runs the same `step` as every other population.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from snnkd_deploy.arithmetic.events import EventByEvent
from snnkd_deploy.nets.neurons import (
    ChipNeuron,
    Lif,
    Numbers,
    bias_gradient,
    input_gradient,
    step,
    step_gradient,
    with_bias,
)


def recurrent_lif(
    x: Tensor,
    weight: Tensor,
    lif: Lif,
    chip: ChipNeuron | None = None,
    bias: Tensor | None = None,
    order: EventByEvent | None = None,
) -> Tensor:
    """Spikes (T, B, N) of neurons driven by x[t] + W s[t-1], s[-1] = 0, from zero state.

    x (T, B, N), weight (N, N) with W[i, j] from neuron j to neuron i; both in real units, or with `chip` in
    synaptic integers. `bias` (N,) as in `lif_over_time`. `order`: takes the sums in the chip's order; its last
    arrivals are those of the loop.
    """
    return _RecurrentLif.apply(x, weight, bias, lif, chip, order)


class _RecurrentLif(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        lif: Lif,
        chip: ChipNeuron | None,
        order: EventByEvent | None,
    ) -> Tensor:
        biased, numbers = with_bias(chip, bias), Numbers.of(x, lif, chip)
        u = v = s = torch.zeros_like(x[0])
        membrane, spikes = [], []
        for drive in x:
            total = drive + F.linear(s, weight)
            if order is not None:
                order.hear_loop(s)
                total = order.effective_step(u, total)
            u, before, s, v = step(u, v, total, bias, lif, biased, numbers)
            membrane.append(before)
            spikes.append(s)
        out = torch.stack(spikes)
        ctx.save_for_backward(torch.stack(membrane), out, weight)
        ctx.lif, ctx.chip, ctx.bias_shape = lif, chip, None if bias is None else bias.shape
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None, None]:
        membrane, spikes, weight = ctx.saved_tensors
        lif, chip = ctx.lif, ctx.chip
        grad_x = torch.empty_like(spikes)
        grad_v = torch.zeros_like(membrane[0])
        grad_u = torch.zeros_like(membrane[0])
        grad_weight = torch.zeros_like(weight)
        numbers = Numbers.of(membrane, lif, chip)
        for t in range(len(spikes) - 1, -1, -1):
            grad_s = grads[0][t]
            if t + 1 < len(spikes):  # s[t] is heard one step later
                grad_s = grad_s + grad_x[t + 1] @ weight
            grad = step_gradient(grad_s, grad_v, membrane[t], lif, chip, numbers)
            grad_v = lif.leak_v * grad
            grad_u = grad if lif.leak_u == 0 else grad + lif.leak_u * grad_u
            grad_x[t] = input_gradient(grad_u, lif, chip, numbers)
            if t > 0:
                grad_weight += grad_x[t].T @ spikes[t - 1]
        grad_bias = None if ctx.bias_shape is None else bias_gradient(grad_x, lif, ctx.bias_shape)
        return grad_x, grad_weight, grad_bias, None, None, None
