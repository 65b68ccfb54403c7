"""ANN teachers. A teacher gives logits and, for map distillation, its last feature maps and classifier."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkd_deploy.errors import UsageError
from snnkd_deploy.nets.userfile import is_user_code


class Teacher(nn.Module, ABC):
    """What distillation asks of an ANN: feature maps, then global average pooling and one linear classifier.

    A class activation map is then W . G (Zhou et al. 2016). A teacher of another build sets `gives_features` to
    False and has only `forward`: methods that compare maps refuse it.
    """

    classifier: nn.Linear
    gives_features: bool = True

    @abstractmethod
    def features(self, pixels: Tensor) -> Tensor:
        """Last feature maps (B, D, H, W) from pixel integers (B, C, H, W)."""

    def head(self, features: Tensor) -> Tensor:
        """Logits (B, K) from feature maps."""
        return self.classifier(F.adaptive_avg_pool2d(features, 1).flatten(1))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels))

    def answer(self, pixels: Tensor, features: bool) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K), and feature maps (B, D, H, W) where they are wanted."""
        if not features:
            return self(pixels), None
        maps = self.features(pixels)
        return self.head(maps), maps


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


@dataclass(frozen=True)
class TeacherPlan:
    """Everything a teacher is built from. `input_shape` is (C, H, W) of integers 0..levels.

    `net`: a name of TEACHERS, `torchvision:NAME`, `timm:NAME`, `file.py:factory`, or `file.onnx`. `weights`: a
    local file for those that others built. `mean`, `std`: per channel, of inputs scaled to 0..1.
    """

    net: str
    input_shape: tuple[int, ...]
    classes: int
    levels: int
    width: float = 1.0
    weights: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


TEACHERS = ("cnn", "resnet18", "resnet19", "resnet20", "resnet34")


def build_teacher(plan: TeacherPlan) -> Teacher:
    """A fresh teacher. Raises UsageError for an unknown one, or one that does not fit the data."""
    from snnkd_deploy.nets import foreign_teachers as foreign
    from snnkd_deploy.nets.resnet_teacher import ResNetTeacher

    if plan.net.endswith(".onnx"):
        return foreign.OnnxTeacher(plan)
    if foreign.is_library(plan.net):
        return foreign.library_teacher(plan)
    if is_user_code(plan.net):
        return foreign.user_teacher(plan)
    if plan.net not in TEACHERS:
        near = difflib.get_close_matches(plan.net, TEACHERS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        known = f"{', '.join(TEACHERS)}, torchvision:NAME, timm:NAME, file.py:factory, file.onnx"
        raise UsageError(f"unknown teacher '{plan.net}'", where="teacher.net", remedy=f"{hint}known: {known}")
    if plan.net == "cnn":
        channels = tuple(max(1, round(c * plan.width)) for c in (32, 64, 128))
        teacher: Teacher = CnnTeacher(plan.input_shape, plan.classes, plan.levels, channels)
    else:
        teacher = ResNetTeacher(plan.net, plan.input_shape, plan.classes, plan.levels, plan.width)
    if plan.weights:
        foreign.load_weights(teacher, plan.weights)
    return teacher
