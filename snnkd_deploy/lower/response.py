"""What arrives at a population, computed by the graph's own stateless nodes. The yardstick of every rewriting.

Between two populations a graph is affine: weights, biases, pools, reshapes, sums. A lowering may rewrite that
part as it likes if the response to any source values stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import NEURONS, Shape, conv_pads, pair


def stateless_map(node: nir.NIRNode, in_shape: Shape, out_shape: Shape) -> Callable[[Tensor], Tensor]:
    """The node as a function of a batch (N, *in_shape), float64. Delays pass, as they change no values."""
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        pads = [side for pad in reversed(conv_pads(node)) for side in pad]
        axes = node.weight.ndim - 2
        weight, bias = torch.from_numpy(np.float64(node.weight)), torch.from_numpy(np.float64(node.bias))
        stride, dilation = pair(node.stride)[:axes], pair(node.dilation)[:axes]
        groups = int(np.asarray(node.groups))
        convolve = F.conv2d if axes == 2 else F.conv1d
        return lambda x: convolve(F.pad(x, pads), weight, bias, stride, 0, dilation, groups)
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        kernel, stride2, (rows, columns) = pair(node.kernel_size), pair(node.stride), pair(node.padding)
        factor = kernel[0] * kernel[1] if isinstance(node, nir.SumPool2d) else 1
        return lambda x: F.avg_pool2d(F.pad(x, (columns, columns, rows, rows)), kernel, stride2) * factor
    if isinstance(node, nir.Affine | nir.Linear):
        matrix = torch.from_numpy(np.float64(node.weight))
        offset = torch.from_numpy(np.float64(node.bias)) if isinstance(node, nir.Affine) else None
        return lambda x: F.linear(x, matrix, offset)
    if isinstance(node, nir.Scale):
        scale = torch.from_numpy(np.float64(node.scale))
        return lambda x: x * scale
    if isinstance(node, nir.Flatten):
        return lambda x: x.reshape(len(x), *out_shape)
    return lambda x: x


def response(model: Model, name: str, sources: Mapping[str, Tensor]) -> Tensor:
    """What arrives at population `name` (N, *shape), when populations and the input hold `sources` (N, *shape)."""
    known: dict[str, Tensor] = {}

    def value(at: str) -> Tensor:
        if at in sources:
            return sources[at]
        if at not in known:
            known[at] = function(at)(total(at))
        return known[at]

    def function(at: str) -> Callable[[Tensor], Tensor]:
        return stateless_map(model.nodes[at], model.shapes[model.sources[at][0]], model.shapes[at])

    def total(at: str) -> Tensor:
        first, *more = (value(source) for source in model.sources[at])
        for tensor in more:
            first = first + tensor
        return first

    return total(name)


def zeros_for(model: Model, batch: int = 1) -> dict[str, Tensor]:
    """Silence: zeros at the input and at every population."""
    return {
        name: torch.zeros(batch, *model.shapes[name], dtype=torch.float64)
        for name, node in model.nodes.items()
        if isinstance(node, (*NEURONS, nir.Input))
    }
