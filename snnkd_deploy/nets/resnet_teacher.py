"""Residual ANNs as both papers teach with: a 3x3 stem without pooling, basic blocks, one linear classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkd_deploy.nets.teachers import Teacher

Stage = tuple[int, int, int]  # channels, blocks, stride of the first block

SHAPES: dict[str, tuple[int, tuple[Stage, ...]]] = {
    "resnet18": (64, ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2))),
    "resnet19": (128, ((128, 3, 1), (256, 3, 2), (512, 2, 2))),
    "resnet20": (16, ((16, 3, 1), (32, 3, 2), (64, 3, 2))),
    "resnet34": (64, ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))),
}


class _Block(nn.Module):
    """ReLU(BN(conv(ReLU(BN(conv x)))) + shortcut)."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(before, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or before != channels:
            self.skip = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.skip(x))


class ResNetTeacher(Teacher):
    """`net` is a key of SHAPES; channels are scaled by `width`."""

    def __init__(self, net: str, input_shape: tuple[int, ...], classes: int, levels: int, width: float) -> None:
        super().__init__()
        self.levels = levels
        base, stages = SHAPES[net]
        channels = max(1, round(base * width))
        layers: list[nn.Module] = [
            nn.Conv2d(input_shape[0], channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
        for base, blocks, stride in stages:
            wide = max(1, round(base * width))
            for i in range(blocks):
                layers.append(_Block(channels, wide, stride if i == 0 else 1))
                channels = wide
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def features(self, pixels: Tensor) -> Tensor:
        return self.body(pixels.to(torch.float32) / self.levels)
