"""SeAl-KD (arXiv 2605.14252): error-aware logit alignment and temporal alignment between timesteps.

L = L_CE + alpha L_ELA + beta L_STA, with L_CE = (1/T) sum_t CE(z[t], y). Published command lines:
alpha = 0.6, beta = 0.15, tau = 3 (with the factor tau^2 = 9) on every data set.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from snnkd_deploy.distill.losses.batch import DistillBatch, DistillLoss
from snnkd_deploy.distill.losses.classification import ce_per_step_loss
from snnkd_deploy.distill.losses.common import check_shapes, first_argmax, full_precision, graph_zero, kd

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class EqualisedLogits:
    """Both sides of ELA after the equalisation; `erroneous` (T, B) bool, logits (T, B, C)."""

    erroneous: Tensor
    student: Tensor
    teacher: Tensor


@full_precision
def equalise_errors(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> EqualisedLogits:
    """Tie the true class with the one wrong winner, in student and teacher, where a step is wrong.

    With w = argmax_c z[t,b,c] (first on ties), a (t, b) is erroneous iff w != y. There
        z~[w] = z[y],   u~[y] = u~[w] = min(u[y], u[w]),
    and nothing else changes. The teacher side carries no gradient; on the student side the gradient of z~[w]
    goes to z[y] and z[w] itself gets exactly none.
    """
    check_shapes(student_logits=(student_logits, "TBC"), teacher_logits=(teacher_logits, "BC"), labels=(labels, "B"))
    y = labels.long().expand(student_logits.shape[:2]).unsqueeze(-1)
    w = first_argmax(student_logits).unsqueeze(-1)
    erroneous = w != y
    classes = torch.arange(student_logits.shape[-1], device=student_logits.device)
    is_winner = erroneous & (classes == w)
    is_tied = is_winner | (erroneous & (classes == y))
    # torch.where, not an in-place write: it is what routes the winner's gradient to z[y].
    student = torch.where(is_winner, student_logits.gather(-1, y), student_logits)
    u = teacher_logits.detach().expand(student_logits.shape)
    teacher = torch.where(is_tied, torch.minimum(u.gather(-1, y), u.gather(-1, w)), u)
    return EqualisedLogits(erroneous.squeeze(-1), student, teacher)


@full_precision
def ela_loss(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 3.0) -> Tensor:
    """Error-aware logit alignment: (1/T) sum_t KD(z~[t], sg[u~[t]]; tau), KD with its factor tau^2.

    Shapes: student_logits (T, B, C), teacher_logits (B, C), labels (B,) -> scalar. Correct steps are ordinary
    KD. At a wrong step only the common mass of the true class and the wrong winner, and the other classes,
    are taught; pushing the wrong class down is left to the classification term. Source: SeAl-KD, ELA.
    """
    equalised = equalise_errors(student_logits, teacher_logits, labels)
    return kd(equalised.student, equalised.teacher, temperature)


@dataclass(frozen=True, eq=False)
class TemporalMix:
    """How STA builds its targets: confidence (T, B), similarity and weights (T, T, B) as [target step i,
    source step j, sample], targets (T, B, C). Nothing carries a gradient."""

    confidence: Tensor
    similarity: Tensor
    weights: Tensor
    targets: Tensor


@torch.no_grad()
@full_precision
def mix_timesteps(student_logits: Tensor) -> TemporalMix:
    """For every step, the mix of the OTHER steps' logits that STA teaches it (T >= 2).

        H[t,b] = -sum_c p log(p + 1e-8), p = softmax(z);  conf = (log C - H) / log C
        sim[i,j,b] = cosine of the raw logits (norms floored at 1e-12)
        W[i,:,b] = softmax_j(conf[j,b] sim[i,j,b]), a step never teaches itself
        target[i,b] = sum_j W[i,j,b] z[j,b]

    Confidence and similarity depend on the logits' scale: feed real-valued logits, not integer accumulators.
    """
    check_shapes(student_logits=(student_logits, "TBC"))
    z = student_logits
    steps, _, classes = z.shape
    if classes > 1:
        p = F.softmax(z, dim=-1)
        entropy = -(p * torch.log(p + 1e-8)).sum(-1)
        confidence = (math.log(classes) - entropy) / math.log(classes)
    else:
        confidence = torch.ones_like(z[..., 0])  # one class: log C = 0, and there is no doubt
    # Dividing by a large peak first keeps the squared norm finite; below 1 the formula is as published.
    scaled = z / z.abs().amax(-1, keepdim=True).clamp(min=1.0)
    direction = scaled / torch.linalg.vector_norm(scaled, dim=-1, keepdim=True).clamp(min=1e-12)
    similarity = torch.einsum("ibc,jbc->ijb", direction, direction)
    itself = torch.eye(steps, dtype=torch.bool, device=z.device).unsqueeze(-1)
    weights = torch.softmax((confidence * similarity).masked_fill(itself, -math.inf), dim=1)
    return TemporalMix(confidence, similarity, weights, torch.einsum("ijb,jbc->ibc", weights, z))


@full_precision
def sta_loss(student_logits: Tensor, temperature: float = 3.0) -> Tensor:
    """Temporal alignment: tau^2 (1/(T B)) sum_{i,b} KL(softmax_tau(target[i,b]) || softmax_tau(z[i,b])).

    student_logits (T, B, C) -> scalar; targets from `mix_timesteps`, under stop-gradient. Needs no labels and
    no teacher. With T = 1 there is nothing to align: exactly 0, with zero gradients. Source: SeAl-KD, STA.
    """
    check_shapes(student_logits=(student_logits, "TBC"))
    if student_logits.shape[0] == 1:
        return graph_zero(student_logits)
    return kd(student_logits, mix_timesteps(student_logits).targets, temperature)


class SeAlKD(DistillLoss):
    """SeAl-KD: terms "ce" (per-step CE), "ela" (alpha, needs teacher logits) and "sta" (beta).

    `ela` and `sta` switch the two parts on their own. Defaults are the authors' command lines.
    """

    def __init__(
        self,
        alpha: float = 0.6,
        beta: float = 0.15,
        temperature: float = 3.0,
        ela: bool = True,
        sta: bool = True,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.temperature = alpha, beta, temperature
        self.ela, self.sta = ela, sta
        self.needs = frozenset({"teacher_logits"}) if ela else frozenset()
        self._said_sta_vanishes = False

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        z = batch.student_logits
        terms = {"ce": ce_per_step_loss(z, batch.labels)}
        if self.ela:
            teacher_logits = batch.require("teacher_logits")
            terms["ela"] = self.alpha * ela_loss(z, teacher_logits, batch.labels, self.temperature)
        if self.sta:
            if z.shape[0] == 1 and not self._said_sta_vanishes:
                log.warning("the STA term of SeAl-KD is 0 with a single timestep (T = 1)")
                self._said_sta_vanishes = True
            terms["sta"] = self.beta * sta_loss(z, self.temperature)
        return terms


class SeAlELA(SeAlKD):
    """SeAl-KD with ELA only (ablation)."""

    def __init__(self, alpha: float = 0.6, temperature: float = 3.0) -> None:
        super().__init__(alpha=alpha, temperature=temperature, sta=False)


class SeAlSTA(SeAlKD):
    """SeAl-KD with STA only (ablation): no teacher needed."""

    def __init__(self, beta: float = 0.15, temperature: float = 3.0) -> None:
        super().__init__(beta=beta, temperature=temperature, ela=False)
