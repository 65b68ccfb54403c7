"""Distillation of feature maps: KDSNN, BKDSNN and EnOF.

Their published weights are sums over channels and pixels, so they depend on the size of the feature map:
7e-5 on ImageNet and 2e-3 on CIFAR10-DVS. The default here is 2e-3; tune it for other sizes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnkd_deploy.distill.losses.batch import DistillBatch, DistillLoss
from snnkd_deploy.distill.losses.classification import ce_mean_loss
from snnkd_deploy.distill.losses.common import (
    check_shapes,
    full_precision,
    kd,
    seeded_generator,
    soft_cross_entropy,
    time_mean,
    widen,
)
from snnkd_deploy.distill.losses.samd import match_size
from snnkd_deploy.errors import UsageError

FEATURE_FIELDS = frozenset({"student_features", "teacher_features"})


@full_precision
def feature_distance(student_map: Tensor, teacher_features: Tensor) -> Tensor:
    """||F - sg[G]||^2 summed over channels and pixels, mean over samples; (B, D, H, W) twice -> scalar.

    The feature term of KDSNN, without its weight; F is the mean over time, already aligned to G's channels.
    """
    check_shapes(student_map=(student_map, "BDHW"), teacher_features=(teacher_features, "BDHW"))
    return (student_map - teacher_features.detach()).square().flatten(1).sum(1).mean()


@full_precision
def kdsnn_logit_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """tau^2 CE(target softmax_tau(sg[u]), student softmax_tau(zbar)); (T, B, C), (B, C) -> scalar.

    Same gradient as `logit_kd_loss`, but it keeps the teacher's entropy. Source: KDSNN (weighting
    unverified).
    """
    check_shapes(student_logits=(student_logits, "TBC"), teacher_logits=(teacher_logits, "BC"))
    soft = soft_cross_entropy(teacher_logits.detach(), student_logits.mean(0), temperature, temperature)
    return temperature**2 * soft.mean()


@full_precision
def bkdsnn_logit_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float = 4.0,
    *,
    detach_weight: bool = True,
) -> Tensor:
    """tau^2 mean_b((1 - exp(-CE_s / CE_t)) CE(target softmax_tau(sg[u]), student softmax_tau(zbar))).

    CE_s, CE_t: each sample's cross-entropy of student (zbar) and teacher against the label; a sample on which
    the student already beats the teacher weighs little. (T, B, C), (B, C), (B,) -> scalar. The weight carries
    no gradient by default (our choice). Source: BKDSNN, logit part of the DVS script.
    """
    check_shapes(student_logits=(student_logits, "TBC"), teacher_logits=(teacher_logits, "BC"), labels=(labels, "B"))
    z, u, y = student_logits.mean(0), teacher_logits.detach(), labels.long()
    ce_student = F.cross_entropy(z.detach() if detach_weight else z, y, reduction="none")
    ce_teacher = F.cross_entropy(u, y, reduction="none").clamp(min=1e-8)  # a perfect teacher: no 0/0
    weight = 1 - torch.exp(-ce_student / ce_teacher)
    return temperature**2 * (weight * soft_cross_entropy(u, z, temperature, temperature)).mean()


def bkdsnn_feature_loss(
    aligned: Tensor, teacher_features: Tensor, generate: Callable[[Tensor], Tensor], mask: Tensor
) -> Tensor:
    """||Gen(m * F) - sg[G]||^2 summed over channels and pixels, mean over samples, without its weight.

    aligned: F (B, D, H, W), the student's features averaged over time and aligned to the teacher's channels;
    mask: m (B, D, 1, 1) of 0 and 1; generate: Gen. Source: BKDSNN (blurred features are restored by Gen).
    """
    return feature_distance(generate(mask.to(aligned.dtype) * aligned), teacher_features)


@full_precision
def enof_loss(
    student_map: Tensor,
    teacher_features: Tensor,
    classifier_weight: Tensor,
    classifier_bias: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """KD between the teacher's classifier applied to the student's and to the teacher's pooled features.

    student_map (B, D, H, W), mean over time, and teacher_features (B, D, H', W'), both average-pooled over
    pixels; classifier_weight (K, D), classifier_bias (K,) -> scalar. The teacher's side, its classifier
    included, carries no gradient. Source: EnOF, abstract only (temperature is ours); its other part, a ReLU
    for the last spiking layer, cannot be deployed as spikes and is not built.
    """
    check_shapes(
        student_map=(student_map, "BDHW"),
        teacher_features=(teacher_features, "BDXY"),
        classifier_weight=(classifier_weight, "KD"),
    )
    weight = classifier_weight.detach().to(student_map.dtype)
    bias = None if classifier_bias is None else classifier_bias.detach().to(student_map.dtype)
    student = F.linear(student_map.mean((2, 3)), weight, bias)
    teacher = F.linear(teacher_features.detach().mean((2, 3)).to(student_map.dtype), weight, bias)
    return kd(student, teacher, temperature)


def blur_mask(shape: tuple[int, int], drop: float, like: Tensor, seed: int | None) -> Tensor:
    """m ~ Bernoulli(1 - drop) per (sample, channel): (B, D, 1, 1) of 0.0 and 1.0 on `like`'s device."""
    generator = seeded_generator(seed, "bkdsnn")
    device = like.device if generator is None else generator.device
    keep = torch.rand(shape, generator=generator, device=device, dtype=torch.float64) >= drop
    return keep.to(device=like.device, dtype=like.dtype)[:, :, None, None]


def _align(student_channels: int | None, teacher_channels: int | None) -> nn.Module:
    """A learned 1x1 convolution between the channel counts, or nothing where they were not given."""
    if student_channels is None or teacher_channels is None:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, 1)


def _apply(net: nn.Module, x: Tensor) -> Tensor:
    """Run training-only layers in their own precision: autocast would put them in half precision."""
    weight = next(net.parameters(), None)
    with torch.autocast(device_type=x.device.type, enabled=False):
        return net(widen(x) if weight is None else x.to(weight.dtype))


class KDSNN(DistillLoss):
    """KDSNN: (1 - a) CE(zbar, y) + a tau^2 soft CE + feature_weight ||align(F) - G||^2.

    Terms "ce", "kdsnn_logit", "kdsnn_feature". F is the mean over time of the student's last features.
    `align` is a learned 1x1 convolution when both channel counts are given, else the counts must agree.
    feature_weight = 0 leaves the feature part, and the need for features, out. The default a = `alpha` = 0.5
    is ours.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        temperature: float = 4.0,
        feature_weight: float = 2e-3,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.alpha, self.temperature, self.feature_weight = alpha, temperature, feature_weight
        self.align = _align(student_channels, teacher_channels) if feature_weight else nn.Identity()
        self.needs = frozenset({"teacher_logits"}) | (FEATURE_FIELDS if feature_weight else frozenset())

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        z, u = batch.student_logits, batch.require("teacher_logits")
        terms = {
            "ce": (1 - self.alpha) * ce_mean_loss(z, batch.labels),
            "kdsnn_logit": self.alpha * kdsnn_logit_loss(z, u, self.temperature),
        }
        if self.feature_weight:
            aligned = _apply(self.align, time_mean(batch.require("student_features")))
            distance = feature_distance(*match_size(aligned, batch.require("teacher_features")))
            terms["kdsnn_feature"] = self.feature_weight * distance
        return terms


class BKDSNN(DistillLoss):
    """BKDSNN: CE(zbar, y) + logit part + feature_weight ||Gen(m * align(F)) - G||^2.

    Terms "ce", "bkdsnn_logit", "bkdsnn_feature". m keeps each (sample, channel) with probability 1 - drop;
    Gen = conv3x3 - ReLU - conv3x3 restores what was dropped and exists in training only. `teacher_channels`
    is required (Gen's width).
    """

    needs = FEATURE_FIELDS | {"teacher_logits"}

    def __init__(
        self,
        logit_weight: float = 1.0,
        temperature: float = 4.0,
        feature_weight: float = 2e-3,
        drop: float = 0.15,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
    ) -> None:
        super().__init__()
        if teacher_channels is None:
            raise UsageError(
                "BKDSNN needs the teacher's channel count to build its generator",
                remedy="pass teacher_channels (and student_channels where it differs)",
            )
        self.logit_weight, self.temperature = logit_weight, temperature
        self.feature_weight, self.drop = feature_weight, drop
        self.align = _align(student_channels, teacher_channels)
        self.generate = nn.Sequential(
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
        )

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        z, u = batch.student_logits, batch.require("teacher_logits")
        aligned = _apply(self.align, time_mean(batch.require("student_features")))
        aligned, teacher = match_size(aligned, batch.require("teacher_features"))
        mask = blur_mask((aligned.shape[0], aligned.shape[1]), self.drop, aligned, batch.noise_seed)
        feature = bkdsnn_feature_loss(aligned, teacher, lambda x: _apply(self.generate, x), mask)
        logit = bkdsnn_logit_loss(z, u, batch.labels, self.temperature)
        return {
            "ce": ce_mean_loss(z, batch.labels),
            "bkdsnn_logit": self.logit_weight * logit,
            "bkdsnn_feature": self.feature_weight * feature,
        }


class EnOF(DistillLoss):
    """CE(zbar, y) + weight `enof_loss`: terms "ce" and "enof".

    Where the channel counts are given and differ, a learned 1x1 convolution aligns the student's features.
    """

    needs = FEATURE_FIELDS | {"classifier_weight"}

    def __init__(
        self,
        weight: float = 1.0,
        temperature: float = 1.0,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.temperature = weight, temperature
        same = student_channels == teacher_channels
        self.align = nn.Identity() if same else _align(student_channels, teacher_channels)

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        loss = enof_loss(
            _apply(self.align, time_mean(batch.require("student_features"))),
            batch.require("teacher_features"),
            batch.require("classifier_weight"),
            batch.classifier_bias,
            self.temperature,
        )
        return {"ce": ce_mean_loss(batch.student_logits, batch.labels), "enof": self.weight * loss}
