"""Fan-out: how many taps a spike reaches. Exact at borders, with stride, dilation, groups and pools.

Counting padding taps overstates a 3x3 convolution on an 8x8 map by 22 %; here every tap exists.
"""

from __future__ import annotations

from collections.abc import Callable

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from snnkd_deploy.backends.layers import linear_map
from snnkd_deploy.errors import GraphError
from snnkd_deploy.evaluate.wiring import POOLS
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import SynapseParams
from snnkd_deploy.graph.topology import conv_padding, pair


def fan_out(
    model: Model, synapse: str, *, nonzero: bool = False, chain: tuple[str, ...] = (), source: str = ""
) -> Tensor:
    """Taps reached by one spike of each element, int64, in the shape of what feeds the weight node.

    With `nonzero`, taps whose (quantised) weight is exactly 0 are left out. With `chain` and `source`
    the answer is for the elements of `source`, whose spikes pass those pools and flattens first: each
    costs the fan-out of its pooled position.
    """
    entered = source or model.sources[(*chain, synapse)[0]][0]
    shape = model.shapes[entered]
    x = torch.zeros((1, *shape), requires_grad=True)
    # The adjoint of the layer applied to ones: torch computes it as a transposed convolution.
    # Fan-outs stay far below 2^24, so float32 holds them exactly.
    with torch.enable_grad():
        (taps,) = torch.autograd.grad(_sum_of_outputs(model, synapse, nonzero, pass_chain(model, chain, x)), x)
    return taps[0].round().to(torch.int64)


def _sum_of_outputs(model: Model, synapse: str, nonzero: bool, x: Tensor) -> Tensor:
    """Sum of everything the layer would put out with unit weights: output channels are summed beforehand."""
    node = model.nodes[synapse]
    weight = _unit_weight(model, synapse, nonzero)
    if isinstance(node, nir.Affine | nir.Linear):
        return (x * weight.sum(0)).sum()
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        groups = int(np.asarray(node.groups))
        kernels = weight.unflatten(0, (groups, -1)).sum(1).flatten(0, 1).unsqueeze(1)
        stride, padding, dilation = pair(node.stride), conv_padding(node), pair(node.dilation)
        if weight.ndim == 4:
            return F.conv2d(x, kernels, None, stride, padding, dilation, x.shape[1]).sum()
        return F.conv1d(x, kernels, None, stride[0], padding[0], dilation[0], x.shape[1]).sum()
    return linear_map(node, weight)(x).sum()


def pass_chain(model: Model, chain: tuple[str, ...], x: Tensor, channels: int | None = None) -> Tensor:
    """Send (N, *shape) through pools and flattens. `channels` replaces the first axis of their shapes."""
    for name in chain:
        x = _structure(model, name, x.shape[1] if channels is not None else None)(x)
    return x


def _structure(model: Model, name: str, channels: int | None) -> Callable[[Tensor], Tensor]:
    node = model.nodes[name]
    if isinstance(node, nir.Flatten):
        out = model.shapes[name]
        return lambda x: x.reshape(x.shape[0], *out)
    if isinstance(node, POOLS):
        # An average pool on a chip is a sum pool whose factor went into the next weights.
        kernel, stride, padding = pair(node.kernel_size), pair(node.stride), pair(node.padding)
        count = channels or model.shapes[name][0]
        ones = torch.ones(count, 1, *kernel)
        return lambda x: F.conv2d(x, ones.to(x.dtype), None, stride, padding, 1, count)
    if isinstance(node, nir.Delay):
        return lambda x: x
    raise GraphError(f"spikes cannot be followed through a {type(node).__name__}", where=name)


def _unit_weight(model: Model, synapse: str, nonzero: bool) -> Tensor:
    weight = np.asarray(model.nodes[synapse].weight)
    if not nonzero:
        return torch.ones(weight.shape)
    if isinstance(model.profile.nodes.get(synapse), SynapseParams):
        weight = model.weight_int(synapse)
    return torch.from_numpy((weight != 0).astype(np.float32))


def macs_framework(model: Model, synapse: str) -> int:
    """Multiply-accumulates of one pass as frameworks and most papers count them: padding taps included."""
    node = model.nodes[synapse]
    weight = np.asarray(node.weight)
    shape = model.shapes[synapse]
    if isinstance(node, nir.Scale):
        return int(np.prod(shape))
    # A linear layer may sit at each position of the leading axes, a convolution at each of the trailing.
    positions = shape[:-1] if isinstance(node, nir.Affine | nir.Linear) else shape[1:]
    return int(weight.size) * int(np.prod(positions))
