"""Recipe names of the distillation methods, and their combination into one loss."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from snnkd_deploy.distill.losses.batch import DistillBatch, DistillLoss
from snnkd_deploy.distill.losses.ckd import CKD, CKDNld, CKDSamd
from snnkd_deploy.distill.losses.classification import TET, LabelSmoothing, MeanCE, PerStepCE
from snnkd_deploy.distill.losses.common import nearest
from snnkd_deploy.distill.losses.features import BKDSNN, KDSNN, EnOF
from snnkd_deploy.distill.losses.seal import SeAlELA, SeAlKD, SeAlSTA
from snnkd_deploy.distill.losses.teacher_logits import LogitKD, PerStepKD
from snnkd_deploy.distill.losses.temporal import TKS, LogitSNN, Strong2Weak, Weak2Strong
from snnkd_deploy.errors import Problem, UsageError

METHODS: dict[str, type[DistillLoss]] = {
    "none": PerStepCE,
    "ce": MeanCE,
    "tet": TET,
    "label_smoothing": LabelSmoothing,
    "kd": LogitKD,
    "twkl": PerStepKD,
    "kdsnn": KDSNN,
    "bkdsnn": BKDSNN,
    "enof": EnOF,
    "tks": TKS,
    "logit_snn": LogitSNN,
    "s2w": Strong2Weak,
    "w2s": Weak2Strong,
    "seal": SeAlKD,
    "seal_ela": SeAlELA,
    "seal_sta": SeAlSTA,
    "ckd": CKD,
    "ckd_samd": CKDSamd,
    "ckd_nld": CKDNld,
}

# Filled in from the networks at hand, not options of a recipe.
_DIMENSIONS = ("student_channels", "teacher_channels")


class CombinedLoss(DistillLoss):
    """Several methods as one loss. The classification term "ce" is that of the first method, counted once.

    Other terms keep their names; where two methods use one name, the later is called "<method>.<name>".
    """

    def __init__(self, methods: Mapping[str, DistillLoss]) -> None:
        super().__init__()
        self.methods = nn.ModuleDict(methods)
        self.needs = frozenset().union(*(method.needs for method in methods.values()))

    def terms(self, batch: DistillBatch) -> dict[str, Tensor]:
        combined: dict[str, Tensor] = {}
        for method_name, method in self.methods.items():
            for name, value in method(batch).items():
                if name not in combined:
                    combined[name] = value
                elif name != "ce":
                    combined[f"{method_name}.{name}"] = value
        return combined

    def settings(self) -> dict[str, Any]:
        methods = ((name, self.methods[name]) for name in self.methods)
        return {name: method.settings() for name, method in methods if isinstance(method, DistillLoss)}

    def extra_repr(self) -> str:
        return ""


def method_options(name: str) -> dict[str, Any]:
    """The options of one method with their defaults, for recipes and help texts."""
    if name not in METHODS:
        raise UsageError(f"unknown distillation method {name!r}", remedy=nearest(name, METHODS))
    if METHODS[name].__init__ is nn.Module.__init__:
        return {}
    parameters = inspect.signature(METHODS[name]).parameters
    return {key: p.default for key, p in parameters.items() if key not in _DIMENSIONS}


def _kind(default: Any) -> str:
    return {bool: "true or false", int: "a number", float: "a number", str: "a text"}.get(type(default), "")


def _fits(value: Any, default: Any) -> bool:
    """True where a value is of its default's type; any number does for a number, but not NaN."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, (int, float)):
        return isinstance(value, (int, float)) and math.isfinite(value)
    return not isinstance(default, str) or isinstance(value, str)


def build_method(
    names: Sequence[str],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    student_channels: int | None = None,
    teacher_channels: int | None = None,
) -> DistillLoss:
    """One loss from recipe names, e.g. `build_method(["seal", "ckd"], {"seal": {"alpha": 1.0}})`.

    options: per method, the keyword arguments of its class. The channel counts of the last feature maps are
    handed to the methods that align features (kdsnn, bkdsnn, enof). All mistakes are reported at once.
    """
    if isinstance(names, str):
        names = [names]
    options = options or {}
    problems: list[Problem] = []
    if not names:
        problems.append(Problem("no distillation method was named", remedy=f"one of: {', '.join(METHODS)}"))
    for name in names:
        if name not in METHODS:
            problems.append(Problem(f"unknown distillation method {name!r}", remedy=nearest(name, METHODS)))
    if len(set(names)) < len(names):
        problems.append(Problem(f"a method is named twice: {', '.join(names)}"))
    for name, given in options.items():
        if name not in names:
            problems.append(Problem(f"options for {name!r}, which is not among the methods {list(names)}"))
            continue
        if name not in METHODS:
            continue
        known = method_options(name)
        problems += [
            Problem(f"{name} has no option {key!r}", remedy=nearest(key, known) if known else "it has none")
            for key in given
            if key not in known
        ]
        problems += [
            Problem(f"option {key!r} of {name}", f"loss.{name}.{key}", _kind(known[key]), repr(value))
            for key, value in given.items()
            if key in known and not _fits(value, known[key])
        ]
    if problems:
        raise UsageError.from_problems(problems)

    dimensions = {"student_channels": student_channels, "teacher_channels": teacher_channels}
    methods: dict[str, DistillLoss] = {}
    for name in names:
        accepted = inspect.signature(METHODS[name]).parameters
        fitting = {key: value for key, value in dimensions.items() if key in accepted}
        methods[name] = METHODS[name](**options.get(name, {}), **fitting)
    return methods[names[0]] if len(names) == 1 else CombinedLoss(methods)
