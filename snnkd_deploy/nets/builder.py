"""What a student is built from, and the builder that adds its populations one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from snnkd_deploy.arithmetic import decay_numbers, kept
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import ChipError, Problem, RecipeError
from snnkd_deploy.nets.neurons import Lif
from snnkd_deploy.nets.population import Population
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.surrogate import get_surrogate
from snnkd_deploy.nets.synapse import Synapse


@dataclass(frozen=True)
class StudentPlan:
    """Everything a student is built from; saved beside its weights.

    `input_shape` is that of one step: (C, H, W), or (F,) for a time series.
    """

    net: str
    input_shape: tuple[int, ...]
    classes: int
    levels: int
    steps: int
    encoding: Literal["current", "events", "graded"] = "current"
    width: float = 1.0
    leak: float = 0.5
    current_leak: float = 0.0
    threshold: float = 1.0
    fires: str = ">"
    surrogate: str = "sigmoid4"
    # What the chip's neuron is, see `neuron_of`.
    reset: Literal["zero", "subtract"] = "zero"
    max_spikes: int = 1
    max_output_spikes: int | None = None
    floored: bool = False
    filtered: bool = False
    hop_delay: int = 0
    readout: Literal["integrator", "spikes"] = "integrator"
    learn_leak: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def lif(self) -> Lif:
        return Lif(
            leak_v=self.leak,
            leak_u=self.current_leak,
            threshold=self.threshold,
            surrogate=get_surrogate(self.surrogate),
            fires=">=" if self.fires == ">=" else ">",
            reset_kind=self.reset,
            max_spikes=self.max_spikes,
            floored=self.floored,
            filtered=self.filtered,
        )

    def channels(self, base: int) -> int:
        return max(1, round(base * self.width))


def neuron_of(chip: ChipSpec, leak: float | None = None, current_leak: float | None = None) -> dict[str, Any]:
    """The fields of a `StudentPlan` that make its float neuron the chip's, decays rounded to the chip's grid.

    None is the chip's own choice: half of the membrane is kept where it decays at all, and half of the current
    where there is no way without one. Raises ChipError for decays that the chip does not have.
    """
    spec = chip.neuron
    filtered = spec.family == "shift_lif" and spec.u_bits > 0
    if leak is None:
        leak = 1.0 if spec.family == "iaf" else 0.5
    if current_leak is None:
        current_leak = 0.5 if filtered else 0.0
    problems = []
    if spec.family == "iaf" and leak != 1.0:
        what = f"{chip.id}'s neuron has no decay"
        problems.append(Problem(what, "student.leak", "1", f"{leak:g}", "student.leak = 1, or leave it to the chip"))
    if current_leak > 0 and spec.u_bits == 0:
        what = f"{chip.id}'s neuron has no synaptic current"
        problems.append(Problem(what, "student.current_leak", "0", f"{current_leak:g}", "student.current_leak = 0"))
    if current_leak == 0 and filtered:
        what = f"every input of {chip.id} passes a synaptic current that decays"
        problems.append(Problem(what, "student.current_leak", "0.5 or more", "0", "student.current_leak = 0.5"))
    if problems:
        raise ChipError.from_problems(problems)
    keep_v, keep_u = kept(spec, decay_numbers(chip, leak, current_leak))
    return {
        "leak": keep_v,
        "current_leak": keep_u,
        "fires": spec.fires,
        "reset": spec.reset,
        "max_spikes": spec.max_spikes,
        "max_output_spikes": spec.max_output_spikes,
        "floored": spec.floor == "threshold",
        "filtered": filtered,
        "hop_delay": spec.hop_delay,
        "readout": "spikes" if chip.lacks("integrator") else "integrator",
    }


class Builder:
    """Adds populations one by one and keeps track of shapes."""

    def __init__(self, plan: StudentPlan) -> None:
        self.plan = plan
        self.shapes: dict[str, tuple[int, ...]] = {"input": plan.input_shape}
        self.populations: list[Population] = []

    def add(self, name: str, shape: tuple[int, ...], inputs: list[tuple[str, Synapse]]) -> str:
        plan = self.plan
        host = plan.levels if plan.encoding == "current" and not self.populations else 0
        lif = plan.lif()
        if host:  # the host's current enters the bias register: no synapse, no synaptic current
            lif = replace(lif, leak_u=0.0, filtered=False)
        for source, synapse in inputs:
            if source == "input" and plan.encoding == "graded":
                synapse.payload = plan.levels
        has_norm = any(synapse.norm is not None for _, synapse in inputs)
        self.populations.append(
            Population(name, shape, inputs, lif, bias=not has_norm, host_levels=host, learn_leak=plan.learn_leak)
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

    def dense(self, index: str, source: str, features: int, *, pool: bool = False) -> str:
        """linear - BatchNorm - LIF; `pool`: global average pooling in front, folded into the weights."""
        area = math.prod(self.shapes[source][1:]) if pool else 0
        inputs = self.shapes[source][0] if pool else self._flat(source)
        synapse = Synapse(f"fc{index}", inputs, features, pool_area=area)
        return self.add(f"lif{index}", (features,), [(source, synapse)])

    def recurrent(self, index: str, source: str, features: int) -> str:
        """linear - BatchNorm plus the population's own spikes of the last step through a second linear - LIF."""
        if self.plan.encoding == "current" and not self.populations:
            raise RecipeError(
                "the first population of encoding 'current' runs on the host and cannot hear itself",
                where="student.encoding",
                remedy='student.encoding = "graded" or "events"',
            )
        if self.plan.learn_leak:
            what = "the decay of a recurrent layer cannot be learned"
            raise RecipeError(what, where="student.learn_leak", remedy="student.learn_leak = false")
        name = f"lif{index}"
        forward = Synapse(f"fc{index}", self._flat(source), features)
        loop = Synapse(f"rec{index}", features, features, batch_norm=False)
        # The loop starts weak: a strong random one makes every neuron fire at once.
        loop.weight.data.mul_(0.5)
        return self.add(name, (features,), [(source, forward), (name, loop)])

    def block(self, index: str, source: str, channels: int, stride: int) -> str:
        """Basic residual block: LIF(BN(conv)) -> BN(conv) + shortcut -> LIF.

        The sum is one of currents in front of the second LIF; the shortcut is the identity on spikes, or
        conv1x1 - BN where the shape changes. Everything between populations is binary.
        """
        first = self.conv(f"{index}a", source, channels, stride=stride)
        main, shape = self.conv_synapse(f"conv{index}b", first, channels)
        if self.shapes[source] == shape:
            skip = Synapse(
                f"skip{index}", channels, channels, kernel=1, groups=channels, batch_norm=False, shortcut=True
            )
        else:
            skip, _ = self.conv_synapse(f"skip{index}", source, channels, kernel=1, stride=stride)
        return self.add(f"lif{index}b", shape, [(first, main), (source, skip)])

    def finish(self, source: str, *, pool: bool = False) -> Student:
        """The linear readout, without bias so that every file format can hold it, or spiking neurons.

        `pool`: global average pooling in front, folded into the weights.
        """
        plan = self.plan
        area = math.prod(self.shapes[source][1:]) if pool else 0
        features = self.shapes[source][0] if pool else self._flat(source)
        lif = None
        if plan.readout == "spikes":
            most = plan.max_output_spikes
            lif = plan.lif() if most is None else replace(plan.lif(), max_spikes=most)
        # Neurons that have to spike need their input in range of the threshold; an integrator takes any.
        synapse = Synapse("fc_out", features, plan.classes, batch_norm=lif is not None, pool_area=area)
        if source == "input" and plan.encoding == "graded":
            synapse.payload = plan.levels
        readout = Population("readout", (plan.classes,), [(source, synapse)], lif, bias=False)
        return Student(
            [*self.populations, readout],
            encoding=plan.encoding,
            input_shape=plan.input_shape,
            levels=plan.levels,
            steps=plan.steps,
            hop_delay=plan.hop_delay,
        )

    def _map(self, source: str) -> tuple[int, int, int]:
        shape = self.shapes[source]
        if len(shape) != 3:
            raise RecipeError("a convolution needs (channels, height, width)", where=source, have=shape)
        return shape[0], shape[1], shape[2]

    def _flat(self, source: str) -> int:
        return math.prod(self.shapes[source])
