"""Plain logit distillation from an ANN teacher: on the mean over time (KD) or at every step (TWKL)."""

from __future__ import annotations

from torch import Tensor

from snnkd_deploy.distill.losses.batch import DistillBatch, DistillLoss
from snnkd_deploy.distill.losses.classification import ce_mean_loss, ce_per_step_loss
from snnkd_deploy.distill.losses.common import check_shapes, full_precision, kd


@full_precision
def logit_kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """Uniform logit distillation KD(zbar, sg[u]; tau), with its factor tau^2.

    student_logits (T, B, C), teacher_logits (B, C) -> scalar.
    """
    check_shapes(student_logits=(student_logits, "TBC"), teacher_logits=(teacher_logits, "BC"))
    return kd(student_logits.mean(0), teacher_logits, temperature)


@full_precision
def twkl_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 3.0) -> Tensor:
    """Uniform per-step distillation (1/T) sum_t KD(z[t], sg[u]; tau), with its factor tau^2.

    student_logits (T, B, C), teacher_logits (B, C) -> scalar. It is ELA without the equalisation, hence ELA's
    ablation partner. Source: logit-SNN (ICML 2025).
    """
    check_shapes(student_logits=(student_logits, "TBC"), teacher_logits=(teacher_logits, "BC"))
    return kd(student_logits, teacher_logits, temperature)


class LogitKD(DistillLoss):
    """CE(zbar, y) + weight KD(zbar, u; tau): terms "ce" and "kd"."""

    needs = frozenset({"teacher_logits"})

    def __init__(self, weight: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.weight, self.temperature = weight, temperature

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        z, u = batch.student_logits, batch.require("teacher_logits")
        return {
            "ce": ce_mean_loss(z, batch.labels),
            "kd": self.weight * logit_kd_loss(z, u, self.temperature),
        }


class PerStepKD(DistillLoss):
    """Per-step CE + weight TWKL: terms "ce" and "twkl". The default weight is SeAl-KD's alpha, so that the
    two differ in the equalisation only."""

    needs = frozenset({"teacher_logits"})

    def __init__(self, weight: float = 0.6, temperature: float = 3.0) -> None:
        super().__init__()
        self.weight, self.temperature = weight, temperature

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        z, u = batch.student_logits, batch.require("teacher_logits")
        return {
            "ce": ce_per_step_loss(z, batch.labels),
            "twkl": self.weight * twkl_loss(z, u, self.temperature),
        }
