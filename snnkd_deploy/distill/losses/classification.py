"""Training without a teacher: cross-entropy forms and TET."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from snnkd_deploy.distill.losses.batch import DistillBatch, DistillLoss
from snnkd_deploy.distill.losses.common import check_shapes, full_precision


@full_precision
def ce_mean_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """CE(zbar, y): cross-entropy of the logits averaged over time, mean over samples.

    student_logits (T, B, C), labels (B,) -> scalar. The usual loss of directly trained SNNs (STBP).
    """
    return label_smoothing_loss(student_logits, labels, smoothing=0.0)


@full_precision
def ce_per_step_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """(1/T) sum_t CE(z[t], y): every timestep is classified, mean over steps and samples.

    student_logits (T, B, C), labels (B,) -> scalar. The classification term of SeAl-KD and logit-SNN.
    """
    check_shapes(student_logits=(student_logits, "TBC"), labels=(labels, "B"))
    every_step = labels.long().expand(student_logits.shape[:2])
    return F.cross_entropy(student_logits.flatten(0, 1), every_step.flatten())


@full_precision
def label_smoothing_loss(student_logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """CE(zbar, (1 - e) onehot(y) + e / C) with e = `smoothing`; (T, B, C), (B,) -> scalar."""
    check_shapes(student_logits=(student_logits, "TBC"), labels=(labels, "B"))
    return F.cross_entropy(student_logits.mean(0), labels.long(), label_smoothing=smoothing)


@full_precision
def tet_regulariser(student_logits: Tensor, phi: float = 1.0) -> Tensor:
    """mean_{t,b,c} (z - phi)^2: pulls outlying steps to the threshold phi; (T, B, C) -> scalar."""
    check_shapes(student_logits=(student_logits, "TBC"))
    return (student_logits - phi).square().mean()


@full_precision
def tet_loss(student_logits: Tensor, labels: Tensor, weight: float = 0.05, phi: float = 1.0) -> Tensor:
    """TET: (1 - l) (1/T) sum_t CE(z[t], y) + l mean (z - phi)^2.

    l = `weight` is 0.05 on CIFAR and 0.001 on ImageNet, phi the firing threshold. Source: TET, authors' code.
    """
    regulariser = tet_regulariser(student_logits, phi)
    return (1 - weight) * ce_per_step_loss(student_logits, labels) + weight * regulariser


class PerStepCE(DistillLoss):
    """Recipe name "none": per-step cross-entropy and nothing else."""

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        return {"ce": ce_per_step_loss(batch.student_logits, batch.labels)}


class MeanCE(DistillLoss):
    """Recipe name "ce": cross-entropy of the time-averaged logits."""

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        return {"ce": ce_mean_loss(batch.student_logits, batch.labels)}


class LabelSmoothing(DistillLoss):
    """Cross-entropy of the time-averaged logits with smoothed labels."""

    def __init__(self, smoothing: float = 0.1) -> None:
        super().__init__()
        self.smoothing = smoothing

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        return {"ce": label_smoothing_loss(batch.student_logits, batch.labels, self.smoothing)}


class TET(DistillLoss):
    """TET: terms "ce" (1 - l) and "tet" (l)."""

    def __init__(self, weight: float = 0.05, phi: float = 1.0) -> None:
        super().__init__()
        self.weight, self.phi = weight, phi

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        return {
            "ce": (1 - self.weight) * ce_per_step_loss(batch.student_logits, batch.labels),
            "tet": self.weight * tet_regulariser(batch.student_logits, self.phi),
        }
