"""Everything that can be known to fail before any work is spent: recipe, chip, data and networks together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from snnkd_deploy.backends.registry import check_command, usable_backend
from snnkd_deploy.chips import ChipSpec
from snnkd_deploy.data import Dataset
from snnkd_deploy.data.augment import build_augment
from snnkd_deploy.data.registry import option_problems as data_problems
from snnkd_deploy.distill.feed import Feed, check_feed, step_shape, teacher_shape
from snnkd_deploy.distill.losses import build_method
from snnkd_deploy.distill.parallel import pick_device
from snnkd_deploy.errors import Problem, RecipeError, SnnkdError, UsageError
from snnkd_deploy.evaluate import check_fit
from snnkd_deploy.nets.builder import StudentPlan, neuron_of
from snnkd_deploy.nets.operations import operations_lacking
from snnkd_deploy.nets.student_options import option_problems
from snnkd_deploy.nets.surrogate import get_surrogate
from snnkd_deploy.nets.teachers import TEACHERS, TeacherPlan, build_teacher
from snnkd_deploy.nets.zoo import FLOAT_ONLY, STUDENTS, build_student
from snnkd_deploy.recipe import Recipe

# A trained tensor's copies in memory: weights, gradients, two of the optimiser; four bytes each.
_BYTES_A_PARAMETER = 16

N = TypeVar("N", bound=nn.Module)


# -- what a recipe and its data make ----------------------------------------------------------------------


def feed_of(recipe: Recipe, data: Dataset) -> Feed:
    """How samples become inputs of student and teacher."""
    s = recipe.student
    return Feed(s.encoding, data.kind, s.steps, data.levels, recipe.seed, s.counts)


def teacher_plan(recipe: Recipe, data: Dataset) -> TeacherPlan:
    t = recipe.teacher
    return TeacherPlan(
        net=t.net,
        input_shape=teacher_shape(data),
        classes=len(data.classes),
        levels=data.levels,
        width=t.width,
        weights=t.weights,
        mean=t.mean,
        std=t.std,
        options=dict(t.options),
    )


def student_plan(recipe: Recipe, data: Dataset, chip: ChipSpec) -> StudentPlan:
    s, feed = recipe.student, feed_of(recipe, data)
    return StudentPlan(
        net=s.net,
        input_shape=step_shape(data),
        classes=len(data.classes),
        levels=feed.student_levels,
        steps=s.steps,
        encoding=feed.on_chip,
        width=s.width,
        threshold=s.threshold,
        surrogate=s.surrogate,
        learn_leak=s.learn_leak,
        options=dict(s.options),
        **_neuron(recipe, chip),
    )


def _neuron(recipe: Recipe, chip: ChipSpec) -> dict[str, Any]:
    """The chip's float neuron with the recipe's decays; "chip" leaves them to the chip."""
    leak, current = recipe.student.leak, recipe.student.current_leak
    return neuron_of(chip, None if isinstance(leak, str) else leak, None if isinstance(current, str) else current)


# -- checks -----------------------------------------------------------------------------------------------


class _Findings:
    """Problems of several checks, for one error."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def attempt(self, check: Callable[[], object], where: str = "") -> None:
        try:
            check()
        except SnnkdError as error:
            self.problems += [Problem(p.what, p.where or where, p.need, p.have, p.remedy) for p in error.problems]

    def settle(self) -> None:
        if self.problems:
            raise RecipeError.from_problems(self.problems)


def check_recipe(
    recipe: Recipe, chip: ChipSpec, backends: Sequence[str], *, skip_missing_backends: bool = False
) -> dict[str, str]:
    """What needs no data. Raises RecipeError with everything; returns the `backends` that are missing but may be."""
    found = _Findings()
    t, s = recipe.teacher, recipe.student
    if s.pool == "max":
        reason = chip.operations.refused.get("max_pool", "students here have no max pooling")
        what = f"{chip.id} cannot run max pooling: {reason}"
        found.problems.append(Problem(what, "student.pool", remedy='student.pool = "stride"'))
    for operation in FLOAT_ONLY.get(s.net, ()):
        if operation in chip.operations.refused:
            what = f"{chip.id} cannot run student '{s.net}': {chip.operations.refused[operation]}"
            found.problems.append(Problem(what, "student.net", remedy='student.net = "resnet18"'))
    found.problems += data_problems(recipe.data.name, recipe.data.options)
    found.problems += option_problems(s.net, s.options)
    found.problems += _teacher_problems(recipe)
    found.attempt(lambda: _neuron(recipe, chip))
    if s.learn_leak and chip.neuron.family == "iaf":
        what = f"{chip.id}'s neuron has no decay that could be learned"
        found.problems.append(Problem(what, "student.learn_leak", remedy="student.learn_leak = false"))
    found.attempt(lambda: pick_device(recipe.train.device))
    found.attempt(lambda: build_method(list(recipe.method), recipe.loss), "method")
    found.attempt(lambda: get_surrogate(s.surrogate), "student.surrogate")
    found.attempt(lambda: build_augment(list(recipe.train.augment)), "train.augment")
    found.attempt(lambda: build_augment(list(t.augment)), "teacher.augment")
    for name, command in recipe.validate_.workers.items():
        if name not in ("exact", *recipe.validate_.backends):
            have = ", ".join(recipe.validate_.backends)
            what = f"a worker for '{name}', which is not among the backends"
            found.problems.append(Problem(what, f"validate.workers.{name}", "one of validate.backends", have))
        found.attempt(partial(check_command, command, f"validate.workers.{name}"))
    missing: dict[str, str] = {}
    for name in backends:
        try:
            usable_backend(name)
        except SnnkdError as error:
            if skip_missing_backends and not isinstance(error, UsageError):
                missing[name] = str(error.problems[0].what)
            else:
                found.problems += [Problem(p.what, "validate.backends", remedy=p.remedy) for p in error.problems]
    found.settle()
    return missing


def _teacher_problems(recipe: Recipe) -> list[Problem]:
    t = recipe.teacher
    if t.net not in TEACHERS:
        return []
    problems = [
        Problem(f"teacher '{t.net}' takes no options", f"teacher.options.{key}", remedy="teacher.width scales it")
        for key in t.options
    ]
    for name, given in (("mean", t.mean), ("std", t.std)):
        if given:
            what = f"teacher '{t.net}' sees pixels 0..1 and normalises them itself"
            problems.append(Problem(what, f"teacher.{name}", remedy="remove it; it is for networks of others"))
    return problems


def check_networks(recipe: Recipe, data: Dataset, chip: ChipSpec) -> None:
    """Networks that cannot be built, fed or compared are refused before the teacher trains. RecipeError with all."""
    r, found = recipe, _Findings()
    found.problems += check_feed(feed_of(r, data), (*r.train.augment, *r.teacher.augment), data, chip)
    for name in ("mean", "std"):
        given, channels = getattr(r.teacher, name), teacher_shape(data)[0]
        if given and len(given) not in (1, channels):
            what = "one number a channel"
            found.problems.append(Problem(what, f"teacher.{name}", f"{channels}", f"{len(given)}"))
    found.settle()
    student = teacher = None
    try:
        student = _built(
            partial(build_student, student_plan(r, data, chip)), r.student.net in STUDENTS, "student.width"
        )
    except SnnkdError as error:
        found.problems += error.problems
    try:
        teacher = _built(partial(build_teacher, teacher_plan(r, data)), r.teacher.net in TEACHERS, "teacher.width")
    except SnnkdError as error:
        found.problems += error.problems
    if student is None or teacher is None:
        found.settle()
        return
    found.problems += operations_lacking(student, chip)
    loss = build_method(list(r.method), r.loss)
    method = " + ".join(r.method)
    if loss.needs_student_features and student.feature_population is None:
        what = f"method {method} compares feature maps, student '{r.student.net}' has none"
        remedy = 'a convolutional student, or method = "seal" / "kd"'
        found.problems.append(Problem(what, "method", remedy=remedy))
    if not teacher.gives_features and (loss.needs_teacher_features or "classifier_weight" in loss.needs):
        what = (
            f"method {method} needs the teacher's feature maps, and '{r.teacher.net}' gives logits only: "
            "it does not end in global average pooling and one linear layer"
        )
        remedy = 'method = "seal", "kd" or "ckd_nld", or a convolutional teacher with such an end'
        found.problems.append(Problem(what, "method", remedy=remedy))
    if not list(teacher.parameters()) and r.teacher.finetune:
        what = f"'{r.teacher.net}' has no parameters that could be trained"
        found.problems.append(Problem(what, "teacher.finetune", remedy="teacher.finetune = false"))
    found.problems += check_fit(student, chip)
    found.settle()


def _built(build: Callable[[], N], ours: bool, where: str) -> N:
    """A network of ours is built without memory first: one that cannot fit is an error, not a dead machine."""
    if ours:
        with torch.device("meta"):
            parameters = sum(p.numel() for p in build().parameters())
        need, have = parameters * _BYTES_A_PARAMETER, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if need > have:
            what = f"training {parameters:,} parameters does not fit in this machine's memory"
            sizes = f"{need / 2**30:.0f} GiB", f"{have / 2**30:.0f} GiB"
            raise RecipeError(what, where=where, need=sizes[0], have=sizes[1], remedy="a smaller width")
    return build()


def doubts(data: Dataset) -> list[str]:
    """What makes a run's numbers say little, in words for its report."""
    found = []
    for name, split in (("train", data.train), ("test", data.test)):
        present = len(split.y.unique())
        if present < len(data.classes):
            found.append(f"{name} samples are of {present} of {len(data.classes)} classes")
    if len(data.classes) < 2:
        found.append("the data has one class only: an accuracy says nothing")
    if len(data.train) < 10 * len(data.classes):
        found.append(f"only {len(data.train)} samples to train on, for {len(data.classes)} classes")
    if len(data.val) == 0:
        found.append("no validation samples: the best epoch cannot be picked, the first one is kept")
    return found
