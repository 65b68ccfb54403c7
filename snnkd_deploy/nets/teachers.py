"""ANN teachers. A teacher gives logits and, for map distillation, its last feature maps and classifier."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkd_deploy.errors import UsageError


class Teacher(nn.Module, ABC):
    """What distillation asks of an ANN: feature maps, then global average pooling and one linear classifier.

    A class activation map is then W . G (Zhou et al. 2016).
    """

    classifier: nn.Linear

    @abstractmethod
    def features(self, pixels: Tensor) -> Tensor:
        """Last feature maps (B, D, H, W) from pixel integers (B, C, H, W)."""

    def head(self, features: Tensor) -> Tensor:
        """Logits (B, K) from feature maps."""
        return self.classifier(F.adaptive_avg_pool2d(features, 1).flatten(1))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels))


class CnnTeacher(Teacher):
    """conv-BN-ReLU stages, global average pooling, one linear classifier."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, levels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels
        layers: list[nn.Module] = []
        previous = input_shape[0]
        for i, width in enumerate(channels):
            layers += [
                nn.Conv2d(previous, width, 3, stride=1 if i == 0 else 2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            previous = width
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(previous, classes)

    def features(self, pixels: Tensor) -> Tensor:
        return self.body(pixels.to(torch.float32) / self.levels)


def _cnn(input_shape: tuple[int, ...], classes: int, levels: int, width: float) -> Teacher:
    return CnnTeacher(input_shape, classes, levels, tuple(max(1, round(c * width)) for c in (32, 64, 128)))


TEACHERS: dict[str, Callable[[tuple[int, ...], int, int, float], Teacher]] = {"cnn": _cnn}


def build_teacher(net: str, input_shape: tuple[int, ...], classes: int, levels: int, width: float) -> Teacher:
    """A fresh teacher by recipe name. Raises UsageError for an unknown one."""
    if net not in TEACHERS:
        near = difflib.get_close_matches(net, TEACHERS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown teacher '{net}'", where="teacher.net", remedy=f"{hint}known: {', '.join(TEACHERS)}")
    return TEACHERS[net](input_shape, classes, levels, width)
