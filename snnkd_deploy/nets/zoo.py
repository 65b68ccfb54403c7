"""Students by recipe name. All are deployable: convolutions, linear layers, LIF, sums of currents."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from snnkd_deploy.errors import RecipeError, UsageError
from snnkd_deploy.nets.builder import Builder, StudentPlan
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.student_options import option_problems
from snnkd_deploy.nets.userfile import call_user, is_user_code


def conv_student(plan: StudentPlan) -> Student:
    """Strided convolutions: `channels` (16, 32, 64) times width, `strides` (1, 2, 2), then the readout."""
    build = Builder(plan)
    source = "input"
    channels = plan.options.get("channels", (16, 32, 64))
    strides = plan.options.get("strides", (1,) + (2,) * (len(channels) - 1))
    if len(strides) != len(channels):
        raise RecipeError(
            "as many strides as channels", where="student.options.strides", need=len(channels), have=len(strides)
        )
    for i, (base, stride) in enumerate(zip(channels, strides, strict=True)):
        source = build.conv(str(i), source, plan.channels(base), stride=stride)
    return build.finish(source)


def mlp_student(plan: StudentPlan) -> Student:
    """Dense layers: `hidden` (512, 512) times width, then the readout."""
    build = Builder(plan)
    source = "input"
    for i, features in enumerate(plan.options.get("hidden", (512, 512))):
        source = build.dense(str(i), source, plan.channels(features))
    return build.finish(source)


def rnn_student(plan: StudentPlan) -> Student:
    """For time series: recurrent layers `hidden` (128, 128) times width, then the readout."""
    build = Builder(plan)
    source = "input"
    for i, features in enumerate(plan.options.get("hidden", (128, 128))):
        source = build.recurrent(str(i), source, plan.channels(features))
    return build.finish(source)


def vgg_student(plan: StudentPlan) -> Student:
    """VGG-style: pairs of 3x3 convolutions, the second with stride 2 in place of max pooling, then the readout.

    `channels` (64, 128, 256) times width: one pair each.
    """
    build = Builder(plan)
    source = "input"
    for i, base in enumerate(plan.options.get("channels", (64, 128, 256))):
        source = build.conv(f"{i}a", source, plan.channels(base))
        source = build.conv(f"{i}b", source, plan.channels(base), stride=2)
    return build.finish(source, pool=bool(plan.options.get("global_pool", True)))


def _resnet(plan: StudentPlan, stem: int, stages: tuple[tuple[int, int, int], ...], hidden: int = 0) -> Student:
    """3x3 stem, stages of (channels, blocks, stride of the first block), global pooling, readout."""
    build = Builder(plan)
    source = build.conv("0", "input", plan.channels(stem))
    for i, (base, blocks, stride) in enumerate(stages, start=1):
        for j in range(1, blocks + 1):
            source = build.block(f"{i}_{j}", source, plan.channels(base), stride if j == 1 else 1)
    if hidden:
        source = build.dense("_head", source, plan.channels(hidden), pool=True)
        return build.finish(source)
    return build.finish(source, pool=True)


def resnet18_student(plan: StudentPlan) -> Student:
    """SeAl-KD's ResNet-18: stages 64/128/256/512 of 2 blocks, strides 1, 2, 2, 2."""
    return _resnet(plan, 64, ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)))


def resnet19_student(plan: StudentPlan) -> Student:
    """ResNet-19: stages 128/256/512 of 3, 3, 2 blocks, strides 1, 2, 2, then linear 256 - LIF."""
    return _resnet(plan, 128, ((128, 3, 1), (256, 3, 2), (512, 2, 2)), hidden=256)


def resnet20_student(plan: StudentPlan) -> Student:
    """CKDSNN's ResNet-20: stages 16/32/64 of 3 blocks, strides 1, 2, 2; the last block spikes."""
    return _resnet(plan, 16, ((16, 3, 1), (32, 3, 2), (64, 3, 2)))


STUDENTS: dict[str, Callable[[StudentPlan], Student]] = {
    "conv": conv_student,
    "mlp": mlp_student,
    "rnn": rnn_student,
    "vgg": vgg_student,
    "resnet18": resnet18_student,
    "resnet19": resnet19_student,
    "resnet20": resnet20_student,
}


# Students that exist to be compared with, and the operations (names of the chip files) that they need.
FLOAT_ONLY: dict[str, tuple[str, ...]] = {"spikformer": ("attention",)}


def build_student(plan: StudentPlan) -> Student:
    """A fresh float student. Raises UsageError for an unknown net, with the nearest name.

    `file.py:function` is a user's own: it is called with the plan, adds populations to a `Builder(plan)` and
    returns `finish(...)` (examples/own_student.py).
    """
    if is_user_code(plan.net):
        student = call_user(plan.net, "student.net", plan)
        if not isinstance(student, Student):
            raise UsageError(
                "the function must return what Builder.finish gives",
                where=f"student.net = '{plan.net}'",
                need="Student",
                have=type(student).__name__,
            )
        return student
    if plan.net in FLOAT_ONLY:
        raise RecipeError(
            f"'{plan.net}' is for comparison in float: no chip here runs its {', '.join(FLOAT_ONLY[plan.net])}",
            where="student.net",
            remedy=f"a student of {', '.join(STUDENTS)}; snnkd_deploy.nets.{plan.net} for your own training loop",
        )
    if plan.net not in STUDENTS:
        near = difflib.get_close_matches(plan.net, [*STUDENTS, *FLOAT_ONLY], n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"unknown student '{plan.net}'", where="student.net", remedy=f"{hint}known: {', '.join(STUDENTS)}"
        )
    problems = option_problems(plan.net, plan.options)
    if problems:
        raise RecipeError.from_problems(problems)
    return STUDENTS[plan.net](plan)
