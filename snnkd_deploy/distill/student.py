"""Distil a student: float first, then in the chip's integers with the same losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.data import Dataset, Split
from snnkd_deploy.data.augment import Augment
from snnkd_deploy.distill.feed import Feed, plain_feed
from snnkd_deploy.distill.loop import BatchInfo, Phase, Trainee
from snnkd_deploy.distill.losses import DistillBatch, DistillLoss
from snnkd_deploy.distill.teacher import TeacherView, augmented
from snnkd_deploy.nets.student import Student, StudentOutput
from snnkd_deploy.progress import say

CHIP_PHASE = "chip"
_EVAL_BATCH = 250
# A population outside these rates is reported while training: silent ones learn nothing, busy ones cost.
_SILENT, _BUSY = 1e-4, 0.6


class StudentTrainee(Trainee):
    """The student with its loss. Entering the phase "chip" folds BatchNorm and switches to integers."""

    def __init__(
        self,
        student: Student,
        data: Dataset,
        feed: Feed,
        loss: DistillLoss,
        teacher: TeacherView | None,
        chip: ChipSpec,
        *,
        augment: Augment | None,
        seed: int,
        device: torch.device | None = None,
        mixed: bool = False,
        rate_target: float = 0.0,
        rate_weight: float = 0.0,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.module: Student = student.to(self.device)
        self.data, self.feed, self.loss, self.teacher, self.chip = data, feed, loss.to(self.device), teacher, chip
        # bfloat16 holds no integers beyond 256: the chip phase is never mixed.
        self.mixed = mixed
        self.augment, self.seed = augment, seed
        self.rate_target, self.rate_weight = rate_target, rate_weight
        self.samples = len(data.train)
        # Called with the student when it leaves float mode; the pipeline keeps the float weights there.
        self.on_chip_entry: Any = None
        self._rates: dict[str, float] = {}

    def enter_phase(self, phase: Phase) -> None:
        if phase.name == CHIP_PHASE and self.module.mode == "float":
            self._warn_of_rates()
            if self.on_chip_entry is not None:
                self.on_chip_entry(self.module)
            self.module.to_chip(self.chip)
            self.module.to(self.device)

    def structure(self) -> dict[str, Any]:
        return {"mode": self.module.mode, "shifts": self.module.shifts()}

    def restore_structure(self, structure: dict[str, Any]) -> None:
        if structure["mode"] == "chip":
            self.module.resume_chip(self.chip, structure["shifts"])
            self.module.to(self.device)

    def extra_modules(self) -> list[nn.Module]:
        return [self.loss]

    def loss_terms(self, rows: Tensor, info: BatchInfo) -> dict[str, Tensor]:
        split = self.data.train
        raw = info.mine(augmented(split, rows, self.feed, self.augment, self.seed, info))
        rows = info.mine(rows)
        x = self.feed.student(raw, split.index[rows], info.epoch).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed and self.module.mode == "float"):
            out = self.answer(x)
        logits = features = None
        if self.teacher is not None:
            logits, features = self.teacher.answer(rows, raw)
        classifier = None if self.teacher is None else self.teacher.classifier
        batch = DistillBatch(
            student_logits=out.logits.float(),
            labels=split.y[rows].to(self.device),
            teacher_logits=logits,
            student_features=out.features,
            teacher_features=features,
            classifier_weight=None if classifier is None else classifier.weight,
            classifier_bias=None if classifier is None else classifier.bias,
            progress=info.progress,
            noise_seed=(self.seed << 32) + info.step * info.size + info.rank,
        )
        terms = self.loss(batch)
        if self.rate_weight > 0:
            # Rate is energy: each population is pulled down to the target, none is pushed up.
            excess = [(s.mean() - self.rate_target).clamp_min(0.0).square() for s in out.spikes.values()]
            terms["rate"] = self.rate_weight * torch.stack(excess).sum()
        return terms

    def answer(self, x: Tensor) -> StudentOutput:
        """What the loss sees for a batch in the student's encoding."""
        return self.module(x)

    def validate(self) -> dict[str, float]:
        self.module.check_headroom()
        found = evaluate_student(self.module, self.data.val, self.feed, self.device)
        self._rates = found["rates"]
        rates = {f"rate.{name}": rate for name, rate in found["rates"].items()}
        return {"accuracy": found["accuracy"], "rate": found["rate"], **rates}

    def _warn_of_rates(self) -> None:
        """At the end of the float phase: until then silent layers may yet wake up."""
        # A run that resumes right here has not validated yet.
        rates = self._rates or evaluate_student(self.module, self.data.val, self.feed, self.device)["rates"]
        for name, rate in rates.items():
            if rate < _SILENT:
                say(
                    f"warning: {name} is silent (rate {rate:.5f}); a lower student.threshold may wake it",
                    style="yellow",
                )
            elif rate > _BUSY:
                say(
                    f"warning: {name} fires at {100 * rate:.0f} % of all steps; energy follows the rate", style="yellow"
                )


@torch.no_grad()
def evaluate_student(
    student: Student, split: Split, feed: Feed | None = None, device: torch.device | None = None
) -> dict[str, Any]:
    """Accuracy, mean rate, rate of each population, and the predictions (N,), on a split.

    In chip mode the prediction is the argmax of the integers that the chip accumulates (lowest class on a tie).
    Without a `feed` the samples enter as the student's own encoding says.
    """
    feed = feed or plain_feed(student.encoding, split, student.steps, student.levels)
    student.eval()
    spikes: dict[str, float] = {}
    values: dict[str, int] = {}
    predictions = []
    for start in range(0, len(split), _EVAL_BATCH):
        rows = torch.arange(start, min(start + _EVAL_BATCH, len(split)))
        x = feed.student(feed.raw(split, rows), split.index[rows])
        out = student(x if device is None else x.to(device))
        predictions.append(np.argmax(out.votes.cpu().numpy(), axis=1))
        for name, tensor in out.spikes.items():
            spikes[name] = spikes.get(name, 0.0) + float(tensor.sum(dtype=torch.float64))
            values[name] = values.get(name, 0) + tensor.numel()
    predicted = torch.from_numpy(np.concatenate(predictions)) if predictions else torch.zeros(0, dtype=torch.int64)
    return {
        "accuracy": float((predicted == split.y).double().mean()) if len(split) else 0.0,
        "rate": sum(spikes.values()) / max(1, sum(values.values())),
        "rates": {name: spikes[name] / values[name] for name in spikes},
        "predictions": predicted,
    }
