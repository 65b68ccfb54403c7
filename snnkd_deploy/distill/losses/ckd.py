"""CKDSNN as one loss: CE(zbar, y) + beta SAMD + gamma NLD."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from snnkd_deploy.distill.losses.batch import DistillBatch, DistillLoss
from snnkd_deploy.distill.losses.classification import ce_mean_loss
from snnkd_deploy.distill.losses.common import check_choice, first_argmax, seeded_generator, time_mean
from snnkd_deploy.distill.losses.nld import nld_loss
from snnkd_deploy.distill.losses.samd import (
    CONVENTIONS,
    class_activation_map,
    match_size,
    samd_loss,
    spike_activation_map,
)


class CKD(DistillLoss):
    """CKDSNN: terms "ce", "samd" (beta) and "nld" (gamma); the two parts can be switched off on their own.

    SAMD needs student and teacher features and the teacher's classifier weight (and the teacher's logits with
    the `code` convention, whose map is that of the predicted class); NLD needs the teacher's logits. Maps of
    different size are average-pooled to the smaller. Run the teacher in eval mode without gradient: only the
    authors' script does otherwise, and the loss never sends a gradient to it.

    samd_convention, nld_convention: "rec" (default), "paper" or "code", see `samd` and `nld_loss`.
    samd_reduction: "sum" or "mean" of the student map; None takes the convention's own.
    """

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 2.0,
        noise_weight: float = 0.1,
        samd: bool = True,
        nld: bool = True,
        samd_convention: str = "rec",
        nld_convention: str = "rec",
        samd_reduction: str | None = None,
    ) -> None:
        super().__init__()
        check_choice("samd_convention", samd_convention, CONVENTIONS)
        check_choice("nld_convention", nld_convention, CONVENTIONS)
        samd_reduction = samd_reduction or ("mean" if samd_convention == "rec" else "sum")
        check_choice("samd_reduction", samd_reduction, ("sum", "mean"))
        self.beta, self.gamma = beta, gamma
        self.temperature, self.noise_weight = temperature, noise_weight
        self.samd, self.nld = samd, nld
        self.samd_convention, self.nld_convention = samd_convention, nld_convention
        self.samd_reduction = samd_reduction
        needs: set[str] = set()
        if samd:
            needs |= {"student_features", "teacher_features", "classifier_weight"}
        if nld or (samd and samd_convention == "code"):
            needs.add("teacher_logits")
        self.needs = frozenset(needs)
        self._warned = False

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        terms = {"ce": ce_mean_loss(batch.student_logits, batch.labels)}
        if self.samd:
            terms["samd"] = self.beta * self._samd(batch)
        if self.nld:
            terms["nld"] = self.gamma * nld_loss(
                time_mean(batch.student_logits),
                batch.require("teacher_logits"),
                noise_weight=self.noise_weight,
                temperature=self.temperature,
                convention=self.nld_convention,
                generator=seeded_generator(batch.noise_seed, "nld"),
            )
        return terms

    def _samd(self, batch: DistillBatch) -> Tensor:
        classes = batch.labels
        if self.samd_convention == "code":
            self._warn_if_data_parallel()
            classes = first_argmax(batch.require("teacher_logits"))
        features = batch.require("teacher_features").detach()
        cam = class_activation_map(features, batch.require("classifier_weight").detach(), classes)
        if self.samd_convention == "paper":
            cam = cam / (features.shape[-2] * features.shape[-1])  # Grad-CAM averages the gradient over pixels
        sam = spike_activation_map(batch.require("student_features"), reduction=self.samd_reduction)
        sam, cam = match_size(sam, cam)
        return samd_loss(sam, cam, self.temperature, self.samd_convention)

    def _warn_if_data_parallel(self) -> None:
        distributed = torch.distributed
        if self._warned or not (distributed.is_available() and distributed.is_initialized()):
            return
        if distributed.get_world_size() > 1:
            warnings.warn(
                "SAMD with convention 'code' scales over the batch of each device: its value depends on "
                "the number of devices (use 'rec')",
                stacklevel=2,
            )
        self._warned = True


class CKDSamd(CKD):
    """CKDSNN with SAMD only (ablation)."""

    def __init__(
        self,
        beta: float = 1.0,
        temperature: float = 2.0,
        samd_convention: str = "rec",
        samd_reduction: str | None = None,
    ) -> None:
        super().__init__(
            beta=beta,
            temperature=temperature,
            nld=False,
            samd_convention=samd_convention,
            samd_reduction=samd_reduction,
        )


class CKDNld(CKD):
    """CKDSNN with NLD only (ablation)."""

    def __init__(
        self,
        gamma: float = 1.0,
        temperature: float = 2.0,
        noise_weight: float = 0.1,
        nld_convention: str = "rec",
    ) -> None:
        super().__init__(
            gamma=gamma,
            temperature=temperature,
            noise_weight=noise_weight,
            samd=False,
            nld_convention=nld_convention,
        )
