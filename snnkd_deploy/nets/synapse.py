"""Weights between populations: convolution or linear, with batch normalisation that folds away.

Float mode trains `weight` with a BatchNorm behind it. `fold()` multiplies the normalisation into the
weights, once, before quantisation: from then on the folded weights are the parameters that are trained.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkd_deploy.arithmetic.layout import channels_last
from snnkd_deploy.chips.spec import IntGrid
from snnkd_deploy.nets.batchnorm import BatchNorm1d, BatchNorm2d
from snnkd_deploy.nets.rounding import to_grid


class Synapse(nn.Module):
    """A linear map (N, in) -> (N, out) or convolution (N, C, H, W) -> (N, O, H', W'), bias-free.

    `pool_area` > 0: a linear map on the sum over that many map positions, which is global average pooling
    with its 1/area folded into the weights.
    The bias that BatchNorm leaves behind belongs to the population that the synapse feeds.
    `shortcut`: the identity, one tap of weight 1 a channel, not trained.
    `payload` > 0: the input brings integers 0..payload (graded spikes), which mean 0..1.
    """

    def __init__(
        self,
        name: str,
        in_features: int,
        out_features: int,
        *,
        kernel: int = 0,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        batch_norm: bool = True,
        shortcut: bool = False,
        pool_area: int = 0,
        payload: int = 0,
    ) -> None:
        super().__init__()
        self.name, self.kernel, self.stride, self.padding, self.groups = name, kernel, stride, padding, groups
        self.pool_area, self.payload = pool_area, payload
        shape = (out_features, in_features // groups, kernel, kernel) if kernel else (out_features, in_features)
        self.shortcut = shortcut
        if shortcut:
            self.register_buffer("weight", torch.ones(shape))
        else:
            self.weight = nn.Parameter(torch.empty(shape))
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
            if pool_area:
                self.weight.data.div_(pool_area)
        self.norm: nn.Module | None = None
        if batch_norm:
            self.norm = BatchNorm2d(out_features) if kernel else BatchNorm1d(out_features)

    @property
    def is_conv(self) -> bool:
        return self.kernel > 0

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """The map with other weights (the quantised ones), on a merged batch (N, ...)."""
        if self.is_conv:
            if x.device.type == "cpu":
                weight = channels_last(weight)  # the neurons behind keep whatever order they are given
            stride = self.stride
            if self.kernel == 1 and stride > 1 and self.padding == 0:
                # oneDNN's own strided 1x1 writes past its workspace where channels are few (uxlfoundation/oneDNN#6035):
                # weight gradients are wrong, or it never returns.
                x, stride = x[:, :, ::stride, ::stride], 1
            return F.conv2d(x, weight, None, stride, self.padding, 1, self.groups)
        if self.pool_area:
            return F.linear(x.flatten(2).sum(2), weight)
        if x.dim() == 4 and x.stride(1) == 1 and x.shape[1] > 1:
            # Maps that lie channels last: the few weights are reordered, not the batch.
            weight = weight.unflatten(1, x.shape[1:]).movedim(1, -1).flatten(1)
            return F.linear(x.movedim(1, -1).flatten(1), weight)
        return F.linear(x.flatten(1), weight)

    def forward(self, x: Tensor) -> Tensor:
        """Float mode, on a merged batch (N, ...)."""
        out = self.apply_weight(x / self.payload if self.payload else x, self.weight)
        return out if self.norm is None else self.norm(out)

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Float mode, with what the normalisation adds to each channel (out,) kept apart."""
        out = self.apply_weight(x / self.payload if self.payload else x, self.weight)
        if self.norm is None:
            return out, None
        assert isinstance(self.norm, BatchNorm1d | BatchNorm2d)
        return self.norm.apart(out)

    def weight_int(self, scale: float, grid: IntGrid) -> Tensor:
        """Integer weights as floats, straight-through."""
        return to_grid(self.weight, scale, grid)

    @torch.no_grad()
    def fold(self) -> Tensor | None:
        """Fold BatchNorm (running statistics) into the weights; returns the bias (out,) it leaves, or None.

        W' = W g / sqrt(var + eps), b' = beta - mean g / sqrt(var + eps).
        """
        norm = self.norm
        if norm is None:
            return None
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        bias = norm.bias - norm.running_mean * factor
        self.weight.mul_(factor.view(-1, *[1] * (self.weight.dim() - 1)))
        self.norm = None
        return bias.detach().clone()
