"""What a distillation loss is given and how it is called: one calling convention for every method."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from snnkd_deploy.errors import Problem, UsageError

_HOW_TO_GET = {
    "teacher_logits": "run the frozen teacher on this batch and pass its logits (B, C)",
    "student_features": "pass the student's last feature maps (T, B, C, H, W)",
    "teacher_features": "run the frozen teacher on this batch and pass its last feature maps (B, D, H, W)",
    "classifier_weight": "pass the weight (K, D) of the teacher's final linear layer",
}


@dataclass(frozen=True, eq=False)
class DistillBatch:
    """Everything a distillation loss may look at for one batch. Only logits and labels are always needed.

    student_logits     (T, B, C) real-valued (de-quantised) logits of every timestep
    labels             (B,) class indices
    teacher_logits     (B, C): one vector per sample, without a time axis
    student_features   (T, B, C, H, W) output of the student's last stage
    teacher_features   (B, D, H, W) output of the teacher's last stage
    classifier_weight  (K, D) weight of the teacher's final linear layer (behind global average pooling)
    progress           share of the training that is done, e / E in [0, 1] (TKS)
    noise_seed         seeds the random draws (NLD noise, BKDSNN mask); None draws from torch's global
                       generator. Give every step (and every rank) its own, e.g. the global step number.
    classifier_bias    (K,) bias of the teacher's final linear layer (EnOF)
    """

    student_logits: Tensor
    labels: Tensor
    teacher_logits: Tensor | None = None
    student_features: Tensor | None = None
    teacher_features: Tensor | None = None
    classifier_weight: Tensor | None = None
    progress: float = 0.0
    noise_seed: int | None = None
    classifier_bias: Tensor | None = None

    def require(self, name: str) -> Tensor:
        """The tensor of that field; a field that was not given is an error that says how to get it."""
        value = getattr(self, name)
        if value is None:
            raise UsageError(f"{name} was not given", where="DistillBatch", remedy=_HOW_TO_GET.get(name, ""))
        return value


BATCH_FIELDS = tuple(field.name for field in fields(DistillBatch))


class DistillLoss(nn.Module):
    """Base of all methods: `loss(batch)` gives the named, already weighted terms whose sum is the loss.

    A subclass implements `terms` and names in `needs` the optional `DistillBatch` fields that it reads, so a
    training loop can ask `needs_teacher_logits` and friends before it runs the teacher. The classification
    term is always called "ce". Some methods hold training-only parameters: give `loss.parameters()` to the
    optimiser together with the student's.
    """

    needs: frozenset[str] = frozenset()

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        raise NotImplementedError

    def forward(self, batch: DistillBatch) -> dict[str, Tensor]:
        missing = [name for name in BATCH_FIELDS if name in self.needs and getattr(batch, name) is None]
        if missing:
            problems = [
                Problem(f"{type(self).__name__} needs {name}, which was not given", remedy=_HOW_TO_GET[name])
                for name in missing
            ]
            raise UsageError.from_problems(problems)
        return self.terms(batch)

    @property
    def needs_teacher(self) -> bool:
        return self.needs_teacher_logits or self.needs_teacher_features or "classifier_weight" in self.needs

    @property
    def needs_teacher_logits(self) -> bool:
        return "teacher_logits" in self.needs

    @property
    def needs_teacher_features(self) -> bool:
        return "teacher_features" in self.needs

    @property
    def needs_student_features(self) -> bool:
        return "student_features" in self.needs

    def settings(self) -> dict[str, Any]:
        """The method's weights, temperatures and conventions, for the run's metadata."""
        return {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, bool | int | float | str) and not name.startswith("_") and name != "training"
        }

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings().items())


def total_loss(terms: dict[str, Tensor]) -> Tensor:
    """Sum of the terms a method returned: the scalar to call `backward()` on."""
    first, *rest = terms.values()
    for term in rest:
        first = first + term
    return first
