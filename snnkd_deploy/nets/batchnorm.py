"""Batch normalisation whose statistics are those of the global batch, however many processes share it.

One process: torch's own, bit for bit. Under torchrun: mean and variance over the shards of all processes,
gradients included, on any backend (torch's SyncBatchNorm needs CUDA).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


def is_shared() -> bool:
    """True where several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Shared(nn.modules.batchnorm._BatchNorm):
    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not is_shared():
            return super().forward(input)
        self._check_input_dim(input)
        mean, var = self._moments(input, track=True)
        factor, shift = self._affine(mean, var)
        return input * _channels(factor, input) + _channels(shift, input)

    def apart(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """(scaled input, shift per channel): their sum is `forward`. For neurons that take the shift elsewhere."""
        if self.training:
            mean, var = self._moments(input, track=True)
        else:
            assert self.running_mean is not None and self.running_var is not None
            mean, var = self.running_mean, self.running_var
        factor, shift = self._affine(mean, var)
        return input * _channels(factor, input), shift

    def _affine(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        factor = self.weight * torch.rsqrt(var + self.eps)
        return factor, self.bias - mean * factor

    def _moments(self, x: Tensor, *, track: bool) -> tuple[Tensor, Tensor]:
        """Mean and biased variance per channel of the global batch; updates the running statistics."""
        axes = [0, *range(2, x.dim())]
        count = x.new_tensor(float(x.numel() // x.shape[1]))
        if is_shared():
            from torch.distributed.nn.functional import all_reduce

            dist.all_reduce(count)
            mean = all_reduce(x.sum(axes)) / count
            var = all_reduce((x - _channels(mean, x)).square().sum(axes)) / count
        else:
            var, mean = torch.var_mean(x, axes, correction=0)
        if track and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked.add_(1)
                momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
                unbiased = var * (count / (count - 1).clamp_min(1))
                self.running_mean.lerp_(mean.to(self.running_mean), momentum)
                self.running_var.lerp_(unbiased.to(self.running_var), momentum)
        return mean, var


class BatchNorm1d(_Shared, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over the global batch."""


class BatchNorm2d(_Shared, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the global batch."""


def share_statistics(module: nn.Module) -> None:
    """Let the batch normalisations of a module that others wrote use the global batch, in place."""
    for child in module.modules():
        if type(child) is nn.BatchNorm1d:
            child.__class__ = BatchNorm1d
        elif type(child) is nn.BatchNorm2d:
            child.__class__ = BatchNorm2d


def _channels(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.dim() - 2))
