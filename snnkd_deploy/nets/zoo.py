"""Students and teachers by recipe name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from snnkd_deploy.errors import RecipeError, UsageError
from snnkd_deploy.nets.neurons import Lif
from snnkd_deploy.nets.population import Population
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.surrogate import get_surrogate
from snnkd_deploy.nets.synapse import Synapse


@dataclass(frozen=True)
class StudentPlan:
    """Everything a student is built from; saved beside its weights."""

    net: str
    input_shape: tuple[int, ...]
    classes: int
    levels: int
    steps: int
    encoding: str = "current"
    width: float = 1.0
    leak: float = 0.5
    current_leak: float = 0.0
    threshold: float = 1.0
    fires: str = ">"
    surrogate: str = "sigmoid4"
    options: dict[str, Any] = field(default_factory=dict)

    def lif(self) -> Lif:
        return Lif(
            leak_v=self.leak,
            leak_u=self.current_leak,
            threshold=self.threshold,
            surrogate=get_surrogate(self.surrogate),
            fires=">=" if self.fires == ">=" else ">",
        )

    def channels(self, base: int) -> int:
        return max(1, round(base * self.width))


class Builder:
    """Adds populations one by one and keeps track of shapes."""

    def __init__(self, plan: StudentPlan) -> None:
        self.plan = plan
        self.shapes: dict[str, tuple[int, ...]] = {"input": plan.input_shape}
        self.populations: list[Population] = []

    def add(self, name: str, shape: tuple[int, ...], inputs: list[tuple[str, Synapse]]) -> str:
        host = self.plan.levels if self.plan.encoding == "current" and not self.populations else 0
        has_norm = any(synapse.norm is not None for _, synapse in inputs)
        self.populations.append(
            Population(name, shape, inputs, self.plan.lif(), bias=not has_norm, host_levels=host)
        )
        self.shapes[name] = shape
        return name

    def conv(self, index: str, source: str, channels: int, *, kernel: int = 3, stride: int = 1) -> str:
        """conv - BatchNorm - LIF; padding keeps the size at stride 1."""
        synapse, shape = self.conv_synapse(f"conv{index}", source, channels, kernel=kernel, stride=stride)
        return self.add(f"lif{index}", shape, [(source, synapse)])

    def conv_synapse(
        self, name: str, source: str, channels: int, *, kernel: int = 3, stride: int = 1
    ) -> tuple[Synapse, tuple[int, ...]]:
        c, h, w = self._map(source)
        padding = kernel // 2
        synapse = Synapse(name, c, channels, kernel=kernel, stride=stride, padding=padding)
        size = [(n + 2 * padding - kernel) // stride + 1 for n in (h, w)]
        if min(size) < 1:
            raise RecipeError(f"the map is used up before {name}", have=f"{h}x{w}", remedy="fewer strided layers")
        return synapse, (channels, size[0], size[1])

    def dense(self, index: str, source: str, features: int) -> str:
        """linear - BatchNorm - LIF."""
        synapse = Synapse(f"fc{index}", self._flat(source), features)
        return self.add(f"lif{index}", (features,), [(source, synapse)])

    def finish(self, source: str) -> Student:
        """The linear readout: weights without bias, so that every file format can hold it."""
        plan = self.plan
        synapse = Synapse("fc_out", self._flat(source), plan.classes, batch_norm=False)
        readout = Population("readout", (plan.classes,), [(source, synapse)], None, bias=False)
        return Student(
            [*self.populations, readout],
            encoding="current" if plan.encoding == "current" else "events",
            input_shape=plan.input_shape,
            levels=plan.levels,
            steps=plan.steps,
        )

    def _map(self, source: str) -> tuple[int, int, int]:
        shape = self.shapes[source]
        if len(shape) != 3:
            raise RecipeError("a convolution needs (channels, height, width)", where=source, have=shape)
        return shape[0], shape[1], shape[2]

    def _flat(self, source: str) -> int:
        total = 1
        for n in self.shapes[source]:
            total *= n
        return total


def conv_student(plan: StudentPlan) -> Student:
    """Strided convolutions: `channels` (16, 32, 64) times width, `strides` (1, 2, 2), then the readout."""
    build = Builder(plan)
    source = "input"
    channels = plan.options.get("channels", (16, 32, 64))
    strides = plan.options.get("strides", (1,) + (2,) * (len(channels) - 1))
    if len(strides) != len(channels):
        raise RecipeError("as many strides as channels", where="student.strides", need=len(channels), have=len(strides))
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


STUDENTS: dict[str, Callable[[StudentPlan], Student]] = {"conv": conv_student, "mlp": mlp_student}


def build_student(plan: StudentPlan) -> Student:
    """A fresh float student. Raises UsageError for an unknown net, with the nearest name."""
    if plan.net not in STUDENTS:
        near = difflib.get_close_matches(plan.net, STUDENTS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"unknown student '{plan.net}'", where="student.net", remedy=f"{hint}known: {', '.join(STUDENTS)}"
        )
    return STUDENTS[plan.net](plan)
