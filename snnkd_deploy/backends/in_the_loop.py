"""Fine-tuning with the hardware in the loop: spikes from a backend, gradients from the student's surrogate.

A board is not its data sheet: thresholds are off, a neuron is dead. Each batch is lowered, run on the backend
as it is, and the spikes that it really gave stand in for the student's own; the weights learn around the mismatch.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnkd_deploy.backends.base import Backend, Inputs
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.stream import stream
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.data import Dataset, Split
from snnkd_deploy.distill.feed import Feed, plain_feed
from snnkd_deploy.distill.loop import Phase, Plan, Trainer
from snnkd_deploy.distill.losses import DistillLoss, build_method
from snnkd_deploy.distill.student import StudentTrainee
from snnkd_deploy.distill.teacher import TeacherView
from snnkd_deploy.errors import BackendError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.student import Student, StudentOutput

_VALIDATE = 500


@dataclass(frozen=True)
class InTheLoop:
    """Accuracy on the test split as the backend gives it, and the history of the epochs."""

    before: float
    after: float
    history: list[dict[str, Any]]


def fine_tune(
    student: Student,
    backend: Backend,
    data: Dataset,
    *,
    epochs: int = 5,
    lr: float = 2e-4,
    batch: int = 64,
    seed: int = 0,
    loss: DistillLoss | None = None,
    teacher: TeacherView | None = None,
    feed: Feed | None = None,
    folder: Path | None = None,
) -> InTheLoop:
    """Train a chip-mode `student` in place so that it does well on `backend`; the best epoch there is kept.

    loss: default cross entropy, or any distillation loss with a `teacher`. folder: keeps checkpoints, so that an
    interrupted call resumes. Raises BackendError where the backend refuses the model or records no spikes.
    """
    if student.mode != "chip" or student.chip is None:
        raise BackendError("the student is still in float mode", remedy="run the chip phase of training first")
    feed = feed or plain_feed(student.encoding, data.train, student.steps, student.levels)
    problems = backend.check(lower_student(student))
    if problems:
        raise BackendError.from_problems(problems)
    trainee = LoopTrainee(student, backend, data, feed, loss or build_method(["ce"]), teacher, seed)
    before = backend_accuracy(student, backend, data.test, feed)
    plan = Plan((Phase("in the loop", epochs, lr, lr_end=lr / 10),), batch=batch, seed=seed)
    with tempfile.TemporaryDirectory(prefix="snnkd_") as own:
        key = f"{backend.name} {lower_student(student).sha256}"
        result = Trainer(trainee, plan, folder or Path(own), key, "in the loop").run()
    student.load_state_dict(result.tensors)
    return InTheLoop(before, backend_accuracy(student, backend, data.test, feed), result.history)


class LoopTrainee(StudentTrainee):
    """A student whose forward pass is the backend's, in training and in validation."""

    def __init__(
        self,
        student: Student,
        backend: Backend,
        data: Dataset,
        feed: Feed,
        loss: DistillLoss,
        teacher: TeacherView | None,
        seed: int,
    ) -> None:
        assert student.chip is not None
        super().__init__(student, data, feed, loss, teacher, student.chip, augment=None, seed=seed)
        self.backend = backend

    def answer(self, x: Tensor) -> StudentOutput:
        model = lower_student(self.module)
        trace = self.backend.run(model, batch_inputs(self.module, model, x), Record())
        missing = [population.name for population in self.module.hidden if population.name not in trace.spikes]
        if missing:
            raise BackendError(
                f"no spikes of {', '.join(missing)}",
                where=self.backend.name,
                remedy="a backend that records the spikes of every population",
            )
        return self.module(x, measured=trace.spikes)

    def validate(self) -> dict[str, float]:
        self.module.check_headroom()
        return {"accuracy": backend_accuracy(self.module, self.backend, self.data.val, self.feed)}


def batch_inputs(student: Student, model: Model, x: Tensor) -> Inputs:
    """A training batch as a backend's input: (B, ...) of a constant image, else (T, B, ...)."""
    return make_inputs(x[None], model, student.steps) if student.encoding == "current" else make_inputs(x, model)


@torch.no_grad()
def backend_accuracy(student: Student, backend: Backend, split: Split, feed: Feed) -> float:
    """Share of a split that the student gets right on the backend."""
    model, right = lower_student(student), 0
    for start in range(0, len(split), _VALIDATE):
        rows = torch.arange(start, min(start + _VALIDATE, len(split)))
        x = feed.student(feed.raw(split, rows), split.index[rows])
        trace = stream(backend, model, batch_inputs(student, model, x), Record(spikes=False))
        right += int((trace.predictions == split.y[rows]).sum())
    return right / max(1, len(split))
