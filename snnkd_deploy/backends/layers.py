"""Weight, pooling and shape operators shared by the integer and the float engine."""

from __future__ import annotations

from collections.abc import Callable

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from snnkd_deploy.backends.engine import DelayLine, Identity, Operator, merge_batch
from snnkd_deploy.graph.topology import Shape, conv_pads, pair


class Merged(Operator):
    """A layer without time, applied to the merged (T*B, ...) batch."""

    def __init__(self, layer: Callable[[Tensor], Tensor]) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        flat, (steps, batch) = merge_batch(x)
        out = self.layer(flat)
        return out.reshape(steps, batch, *out.shape[1:])


def linear_map(node: nir.NIRNode, weight: Tensor) -> Callable[[Tensor], Tensor]:
    """The node's linear map without bias on a (N, ...) batch, with `weight` in place of its own."""
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        convolve = F.conv2d if isinstance(node, nir.Conv2d) else F.conv1d
        axes, groups = node.weight.ndim - 2, int(np.asarray(node.groups))
        pads, stride, dilation = conv_pads(node), pair(node.stride)[:axes], pair(node.dilation)[:axes]
        if all(before == after for before, after in pads):
            padding = tuple(before for before, _ in pads)
            return lambda x: convolve(x, weight, None, stride, padding, dilation, groups)
        uneven = [side for pad in reversed(pads) for side in pad]  # F.pad begins with the last axis
        return lambda x: convolve(F.pad(x, uneven), weight, None, stride, 0, dilation, groups)
    if isinstance(node, nir.Scale):
        return lambda x: x * weight
    return lambda x: F.linear(x, weight)


def delay_line(node: nir.Delay, dt_s: float, shape: Shape) -> DelayLine:
    """NIR's Delay in whole steps (the checker has made sure that they are)."""
    steps = np.rint(np.asarray(node.delay, dtype=np.float64) / dt_s).astype(np.int64)
    return DelayLine(torch.from_numpy(np.broadcast_to(steps, shape).copy()))


def structure_operator(node: nir.NIRNode, in_shape: Shape, out_shape: Shape) -> Operator | None:
    """Operators that mean the same in integers and in floats; None for the others."""
    if isinstance(node, nir.Input | nir.Output):
        return Identity()
    if isinstance(node, nir.Flatten):
        return Merged(lambda x: x.reshape(x.shape[0], *out_shape))
    if isinstance(node, nir.SumPool2d):
        kernel, stride, padding = pair(node.kernel_size), pair(node.stride), pair(node.padding)
        # A convolution with ones is exact on integers, where average times area need not be.
        ones = torch.ones(in_shape[0], 1, *kernel)
        return Merged(lambda x: F.conv2d(x, ones.to(x), None, stride, padding, 1, in_shape[0]))
    return None
