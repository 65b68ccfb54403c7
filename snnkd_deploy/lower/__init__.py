"""From a trained student, or a foreign graph, to one NIR model on the chip's grid."""

from __future__ import annotations

from typing import Any

from snnkd_deploy.chips import ChipSpec, load_chip
from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.lower.foreign import Calibration, LoweringReport, lower_model
from snnkd_deploy.lower.student import lower_student
from snnkd_deploy.nets.student import Student

__all__ = ["Calibration", "LoweringReport", "lower", "lower_model", "lower_student"]


def lower(student: Student, chip: ChipSpec | str | None = None, **options: Any) -> Model:
    """A student as a model on its chip's grid; a float student enters the chip's integers first.

    `chip` is needed for a float student only. Options are those of `lower_student` (dt_s, classes,
    provenance). Raises GraphError where the student cannot be expressed.
    """
    if student.mode == "float":
        if chip is None:
            raise GraphError("a float student needs a chip to be lowered onto", remedy='lower(student, "loihi2")')
        student.eval()
        student.to_chip(load_chip(chip) if isinstance(chip, str) else chip)
    return lower_student(student, **options)
