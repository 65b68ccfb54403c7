"""Spikformer (Zhou et al. 2023) for comparison, in float: no chip here multiplies spikes with spikes.

Spikformer-4-384, the CIFAR build: four blocks of 384 channels, 12 heads, MLP ratio 4. The recipe refuses it for
chips that list `attention` among their refused operations. In your own loop it is used like any student:

    student = Spikformer(StudentPlan("spikformer", (3, 32, 32), 10, 255, steps=4))
    out = student(pixels)          # logits (T, B, K), features (T, B, D, H', W'), spikes by layer
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from snnkd_deploy.errors import RecipeError
from snnkd_deploy.nets.batchnorm import BatchNorm1d, BatchNorm2d
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.neurons import Lif, lif_over_time
from snnkd_deploy.nets.student import StudentOutput

BLOCKS, CHANNELS, HEADS, MLP_RATIO = 4, 384, 12, 4
# The published scale of q k^T v, in place of 1 / sqrt(d); its LIF has half the threshold.
SCALE = 0.125


class _Spikes(nn.Module):
    """LIF that keeps its last spikes under its own name, for rates."""

    def __init__(self, name: str, lif: Lif, record: dict[str, Tensor]) -> None:
        super().__init__()
        self.name, self.lif, self.record = name, lif, record

    def forward(self, x: Tensor) -> Tensor:
        spikes = lif_over_time(x.float(), self.lif)
        self.record[self.name] = spikes
        return spikes


class _Tokens(nn.Module):
    """linear - BatchNorm - LIF on (T, B, N, D)."""

    def __init__(self, name: str, before: int, after: int, lif: Lif, record: dict[str, Tensor]) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(before, after, bias=False), BatchNorm1d(after)
        self.spikes = _Spikes(name, lif, record)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.linear(x).flatten(0, 2))
        return self.spikes(out.reshape(*x.shape[:3], -1))


class _Block(nn.Module):
    """x + attention(x), then x + MLP(x)."""

    def __init__(self, name: str, channels: int, heads: int, lif: Lif, record: dict[str, Tensor]) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            _Tokens(f"{name}.{part}", channels, channels, lif, record) for part in ("q", "k", "v", "proj")
        )
        self.attend = _Spikes(f"{name}.attention", replace(lif, threshold=0.5 * lif.threshold), record)
        self.mlp = nn.Sequential(
            _Tokens(f"{name}.mlp1", channels, MLP_RATIO * channels, lif, record),
            _Tokens(f"{name}.mlp2", MLP_RATIO * channels, channels, lif, record),
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(3, (self.heads, -1)).transpose(2, 3) for part in (self.query, self.key, self.value)
        )
        # Without a softmax the products associate: k^T v first costs N d^2 instead of N^2 d.
        mixed = (q @ (k.transpose(-2, -1) @ v)) * SCALE
        x = x + self.out(self.attend(mixed.transpose(2, 3).flatten(3)))
        return x + self.mlp(x)


class Spikformer(nn.Module):
    """`width` scales the 384 channels (to a multiple of the heads, which stay 12 where they fit)."""

    def __init__(self, plan: StudentPlan) -> None:
        super().__init__()
        if len(plan.input_shape) != 3 or min(plan.input_shape[1:]) < 4:
            raise RecipeError("spikformer needs images of at least 4x4", where="student.net", have=plan.input_shape)
        self.steps, self.levels, self.encoding = plan.steps, plan.levels, plan.encoding
        self.record: dict[str, Tensor] = {}
        heads = HEADS if plan.width >= 0.25 else 4
        channels = heads * max(8, 8 * round(CHANNELS * plan.width / (8 * heads)))
        lif = plan.lif()
        sizes = [plan.input_shape[0], channels // 8, channels // 4, channels // 2, channels]
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), BatchNorm2d(b)) for a, b in pairwise(sizes)
        )
        self.fires = nn.ModuleList(_Spikes(f"embed{i}", lif, self.record) for i in range(4))
        self.place = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), BatchNorm2d(channels))
        self.place_fires = _Spikes("place", lif, self.record)
        self.blocks = nn.ModuleList(_Block(f"block{i}", channels, heads, lif, self.record) for i in range(BLOCKS))
        self.head = nn.Linear(channels, plan.classes)

    def forward(self, x: Tensor) -> StudentOutput:
        """Pixels (B, C, H, W), held for all steps, or one input a step (T, B, C, H, W); integers 0..levels."""
        self.record.clear()
        x = x.float() / self.levels
        if x.dim() == 4:
            x = x.unsqueeze(0).expand(self.steps, *x.shape)
        for i, (conv, fire) in enumerate(zip(self.convs, self.fires, strict=True)):
            x = fire(_merged(conv, x))
            if i >= 2:  # the CIFAR build pools twice, by maximum
                x = _merged(lambda y: F.max_pool2d(y, 3, 2, 1), x)
        x = x + self.place_fires(_merged(self.place, x))
        size = x.shape[3:]
        x = x.flatten(3).transpose(2, 3)
        for block in self.blocks:
            x = block(x)
        logits = self.head(x.mean(2))
        maps = x.transpose(2, 3).unflatten(3, tuple(size))
        return StudentOutput(logits=logits, features=maps, spikes=dict(self.record), votes=logits.sum(0))


def _merged(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    out = layer(x.flatten(0, 1))
    return out.unflatten(0, tuple(x.shape[:2]))
