"""From a trained student, or a foreign graph, to one NIR model on the chip's grid."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from snnkd_deploy.chips import ChipSpec, load_chip
from snnkd_deploy.errors import GraphError, UsageError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.lower.foreign import Calibration, LoweringReport, lower_model
from snnkd_deploy.lower.student import lower_student
from snnkd_deploy.nets.student import Student

__all__ = ["Calibration", "LoweringReport", "lower", "lower_model", "lower_student"]


def lower(what: Student | Model, chip: ChipSpec | str | Path | None = None, **options: Any) -> Model:
    """A student, or a foreign float graph, as a model on the chip's grid.

    A float student enters the chip's integers first; one in chip mode needs no `chip`. Options are those of
    `lower_student` (dt_s, classes, provenance) or `lower_model` (calibration, encoding, input_scale), which
    also returns the report of what was rounded. Raises GraphError with every obstacle, UsageError for anything else.
    """
    if isinstance(what, Model):
        if chip is None:
            raise GraphError("a graph needs a chip to be lowered onto", remedy='lower(model, "loihi2")')
        return lower_model(what, chip if isinstance(chip, ChipSpec) else load_chip(chip), **options)[0]
    if not isinstance(what, Student):
        raise UsageError(
            "lower takes a Student or a Model",
            have=type(what).__name__,
            remedy='a file is loaded first: lower(load_model("foreign.nir", dt_s=1e-4, reset="zero"), "loihi2")',
        )
    student = what
    if student.mode == "float":
        if chip is None:
            raise GraphError("a float student needs a chip to be lowered onto", remedy='lower(student, "loihi2")')
        student.eval()
        student.to_chip(chip if isinstance(chip, ChipSpec) else load_chip(chip))
    return lower_student(student, **options)


class _CallableModule(ModuleType):
    """`sd.lower(...)` is the public call, and Python binds this package to the same name."""

    def __call__(self, what: Student | Model, chip: ChipSpec | str | Path | None = None, **options: Any) -> Model:
        return lower(what, chip, **options)


sys.modules[__name__].__class__ = _CallableModule
