"""Distillation between the student's own timesteps: logit-SNN, TKS, Strong2Weak and Weak2Strong."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from snnkd_deploy.distill.losses.batch import DistillBatch, DistillLoss
from snnkd_deploy.distill.losses.classification import ce_mean_loss, ce_per_step_loss
from snnkd_deploy.distill.losses.common import (
    check_choice,
    check_shapes,
    first_argmax,
    full_precision,
    graph_zero,
    kd,
    kl_divergence,
    soft_cross_entropy,
)
from snnkd_deploy.distill.losses.teacher_logits import twkl_loss


def _correct_steps(student_logits: Tensor, labels: Tensor) -> Tensor:
    """(T, B, 1) in the logits' dtype: 1 where that step alone classifies the sample correctly."""
    check_shapes(student_logits=(student_logits, "TBC"), labels=(labels, "B"))
    correct = first_argmax(student_logits.detach()) == labels
    return correct.to(student_logits.dtype).unsqueeze(-1)


@full_precision
def twsd_target(student_logits: Tensor, labels: Tensor) -> Tensor:
    """zc = sum of z over the correct steps / (their number + 1e-8), (T, B, C), (B,) -> (B, C).

    A sample that no step gets right has zc = 0, a uniform target.
    """
    correct = _correct_steps(student_logits, labels)
    return (student_logits * correct).sum(0) / (correct.sum(0) + 1e-8)


@full_precision
def twsd_loss(student_logits: Tensor, labels: Tensor, temperature: float = 3.0) -> Tensor:
    """Step-wise self-distillation (1/T) sum_t KD(z[t], sg[zc]; tau), factor tau^2; see `twsd_target`.

    tau is 3 on CIFAR and 1 on ImageNet. Source: logit-SNN (ICML 2025).
    """
    return kd(student_logits, twsd_target(student_logits, labels), temperature)


@full_precision
def tks_target(student_logits: Tensor, labels: Tensor) -> Tensor:
    """zs = SUM of z over the correct steps (0 if none), (T, B, C), (B,) -> (B, C). Carries a gradient."""
    return (student_logits * _correct_steps(student_logits, labels)).sum(0)


@full_precision
def tks_loss(
    student_logits: Tensor, labels: Tensor, temperature: float = 3.0, *, detach_target: bool = False
) -> Tensor:
    """TKS, second term: (1/T) sum_t tau^2 CE(target softmax(zs / tau), student softmax(z[t])).

    The student is at temperature 1, and the authors let the gradient flow through the target as well
    (`detach_target` stops it). Without the weight 1 - a(e), which the module `TKS` adds. Source: TKS code.
    """
    target = tks_target(student_logits, labels)
    target = target.detach() if detach_target else target
    return temperature**2 * soft_cross_entropy(target, student_logits, temperature, 1.0).mean()


@dataclass(frozen=True, eq=False)
class StrongWeak:
    """The strongest and the weakest timestep of a batch, as 0-d index tensors."""

    strong: Tensor
    weak: Tensor


@full_precision
def find_strong_weak(student_logits: Tensor) -> StrongWeak:
    """conf_t = batch mean of max_c softmax(z[t]); strong = argmax_t, weak = argmin_t, first on ties."""
    check_shapes(student_logits=(student_logits, "TBC"))
    confidence = F.softmax(student_logits.detach(), dim=-1).amax(-1).mean(-1)
    return StrongWeak(first_argmax(confidence, dim=0), first_argmax(-confidence, dim=0))


@full_precision
def strong_weak_loss(
    student_logits: Tensor, direction: str = "s2w", temperature: float = 2.0, *, scale: bool = False
) -> Tensor:
    """KL(softmax_tau(sg[z_teaching]) || softmax_tau(z_taught)), mean over the batch; (T, B, C) -> scalar.

    "s2w": the most confident step teaches the least confident one; "w2s": the reverse. Whether the authors
    multiply by tau^2 is unknown: `scale` does, and the default does not. T = 1 gives 0 with zero gradients.
    Source: Strong2Weak / Weak2Strong (NeurIPS 2025).
    """
    check_choice("direction", direction, ("s2w", "w2s"))
    steps = find_strong_weak(student_logits)
    if student_logits.shape[0] == 1:
        return graph_zero(student_logits)
    teaching, taught = (steps.strong, steps.weak) if direction == "s2w" else (steps.weak, steps.strong)
    # index_select keeps the index on its device; indexing with a 0-d tensor would wait for the GPU.
    target = student_logits.detach().index_select(0, teaching.reshape(1)).squeeze(0)
    logits = student_logits.index_select(0, taught.reshape(1)).squeeze(0)
    loss = kl_divergence(target, logits, temperature).mean()
    return loss * temperature**2 if scale else loss


class LogitSNN(DistillLoss):
    """logit-SNN: per-step CE + 0.2 TWKL + 0.5 TWSD; terms "ce", "twkl", "twsd"."""

    needs = frozenset({"teacher_logits"})

    def __init__(self, twkl_weight: float = 0.2, twsd_weight: float = 0.5, temperature: float = 3.0) -> None:
        super().__init__()
        self.twkl_weight, self.twsd_weight, self.temperature = twkl_weight, twsd_weight, temperature

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        z, y, u = batch.student_logits, batch.labels, batch.require("teacher_logits")
        return {
            "ce": ce_per_step_loss(z, y),
            "twkl": self.twkl_weight * twkl_loss(z, u, self.temperature),
            "twsd": self.twsd_weight * twsd_loss(z, y, self.temperature),
        }


class TKS(DistillLoss):
    """TKS: a(e) CE(zbar, y) + (1 - a(e)) tks_loss with a(e) = 1 - 0.7 e / E; terms "ce" and "tks".

    e / E is `DistillBatch.progress`; `ramp` is the 0.7. At progress 0 the loss is plain CE.
    """

    def __init__(self, ramp: float = 0.7, temperature: float = 3.0, detach_target: bool = False) -> None:
        super().__init__()
        self.ramp, self.temperature, self.detach_target = ramp, temperature, detach_target

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        z, y = batch.student_logits, batch.labels
        share = self.ramp * batch.progress
        soft = tks_loss(z, y, self.temperature, detach_target=self.detach_target)
        return {"ce": (1 - share) * ce_mean_loss(z, y), "tks": share * soft}


class Strong2Weak(DistillLoss):
    """CE(zbar, y) + weight KL(strong || weak): terms "ce" and "s2w"."""

    direction = "s2w"

    def __init__(self, weight: float = 1.0, temperature: float = 2.0, scale: bool = False) -> None:
        super().__init__()
        self.weight, self.temperature, self.scale = weight, temperature, scale

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        z = batch.student_logits
        alignment = strong_weak_loss(z, self.direction, self.temperature, scale=self.scale)
        return {"ce": ce_mean_loss(z, batch.labels), self.direction: self.weight * alignment}


class Weak2Strong(Strong2Weak):
    """CE(zbar, y) + weight KL(weak || strong): terms "ce" and "w2s"."""

    direction = "w2s"
