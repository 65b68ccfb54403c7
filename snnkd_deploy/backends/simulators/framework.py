"""A backend around one framework's neurons. A framework's file says how to make a neuron and what it refuses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import ClassVar

import torch
from torch import Tensor

from snnkd_deploy.arithmetic.cuba import STATE_MAX, CubaNeuron
from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.engine import Operator, run_graph
from snnkd_deploy.backends.exact import ExactBackend, build_operators, spike_counts
from snnkd_deploy.backends.exact import logits_of as chip_logits
from snnkd_deploy.backends.float_operators import FloatNeuron, float_operator
from snnkd_deploy.backends.float_reference import FloatBackend, float_logits, number_type
from snnkd_deploy.backends.inputs import check_inputs
from snnkd_deploy.backends.simulators.membrane import (
    Membrane,
    chip_membrane,
    exact_steps,
    float_membrane,
    grid_problems,
    rounding_problem,
    structure_problems,
)
from snnkd_deploy.backends.trace import Record, Trace, concatenate
from snnkd_deploy.errors import BackendError, Problem, RefusedError
from snnkd_deploy.graph.model import Model

_CHUNK_VALUES = 24_000_000


class Neuron(ABC):
    """A framework's population for one batch."""

    @abstractmethod
    def start(self, u: Tensor) -> None:
        """Begin with membrane `u` (B, *shape)."""

    @abstractmethod
    def step(self, x: Tensor) -> Tensor:
        """Spikes (B, *shape) of one step with input `x`."""

    @property
    @abstractmethod
    def u(self) -> Tensor:
        """The membrane after the step."""


class FrameworkBackend(ABC):
    """Runs what `check` lets through; integers of a chip in float64, other models in the file's own precision."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]  # modules, the framework's own first
    install: ClassVar[str]

    @abstractmethod
    def neuron(self, membrane: Membrane) -> Neuron:
        """The framework's neuron, which computes this membrane."""

    @abstractmethod
    def refuses(self, membrane: Membrane) -> str:
        """Why the framework cannot compute this membrane, or nothing."""

    def availability(self) -> Availability:
        missing = [module for module in self.needs if find_spec(module) is None]
        if missing:
            return Availability(False, install=self.install, note=f"{', '.join(missing)} not installed")
        try:
            return Availability(True, version=f"{self.needs[0]} {version(self.needs[0])}")
        except PackageNotFoundError:
            return Availability(True, version=f"{self.name}, version unknown")

    def check(self, model: Model) -> list[Problem]:
        if not model.on_chip_grid:
            problems = [*FloatBackend().check(model), *structure_problems(model)]
        else:
            problems = [*ExactBackend().check(model), *grid_problems(model, self.name)]
        if not problems:
            for name in model.spiking:
                membrane = chip_membrane(model, name) if model.on_chip_grid else float_membrane(model, name)[0]
                if reason := self.refuses(membrane):
                    problems.append(Problem(reason, name, remedy="--backend float or exact"))
        return problems

    @torch.no_grad()
    def run(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        state = self.availability()
        if not state.usable:
            raise BackendError(f"backend '{self.name}' is not usable here: {state.note}", remedy=state.install)
        check_inputs(model, inputs)
        problems = self.check(model) or self.too_long(model, inputs.steps)
        if problems:
            raise RefusedError.from_problems(problems)
        largest = max(torch.Size(shape).numel() for shape in model.shapes.values())
        size = max(1, _CHUNK_VALUES // (largest * inputs.steps))
        starts = range(0, inputs.samples, size)
        return concatenate([self._chunk(model, inputs.chunk(start, start + size), record) for start in starts])

    def too_long(self, model: Model, steps: int) -> list[Problem]:
        """Populations whose integers stay exact for fewer steps."""
        return [
            rounding_problem(self.name, name, model.neuron(name).Dv, possible, steps)
            for name in (model.spiking if model.on_chip_grid else ())
            if steps > (possible := exact_steps(model, name))
        ]

    def population(self, model: Model, name: str) -> Population:
        """The operator of a spiking node."""
        return ChipPopulation(self, model, name) if model.on_chip_grid else FloatPopulation(self, model, name)

    def _chunk(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        cpu, on_grid = torch.device("cpu"), model.on_chip_grid
        dtype = torch.float64 if on_grid else number_type(model)
        if on_grid:
            operators = build_operators(model, inputs, cpu)
        else:
            operators = {name: float_operator(model, name, dtype, cpu) for name in model.nodes}
        populations = {name: self.population(model, name) for name in model.spiking}
        operators.update(populations)
        outputs = run_graph(model, operators, inputs.x.to(dtype), inputs.steps, record.states)
        logits = (chip_logits if on_grid else float_logits)(model, outputs, inputs.steps)
        trace = Trace(logits=logits, meta={"backend": self.name, "framework": self.availability().version})
        for name in model.spiking:
            if record.spikes and record.wants(name):
                trace.spikes[name] = spike_counts(outputs[name])
        readout = model.readout_name
        if record.readout and readout is not None:
            trace.v[readout] = outputs[readout].to(torch.int32) if on_grid else outputs[readout]
        for name, population in populations.items():
            if record.states and record.wants(name):
                trace.v[name] = torch.stack(population.vs)
                if population.us:
                    trace.u[name] = torch.stack(population.us)
        if record.states and on_grid and readout is not None and record.wants(readout):
            kept = operators[readout]
            trace.u[readout], trace.v[readout] = kept.us.to(torch.int32), kept.vs.to(torch.int32)  # type: ignore[attr-defined]
        return trace


class Population(Operator):
    """A framework's neuron at its node; `vs` and `us` are what a trace calls v and u."""

    def __init__(self, backend: FrameworkBackend, membrane: Membrane) -> None:
        self.backend, self.membrane, self.inner = backend, membrane, backend.neuron(membrane)
        self.begun = self.keep = False
        self.vs: list[Tensor] = []
        self.us: list[Tensor] = []

    def start(self, keep_states: bool) -> None:
        self.begun, self.keep, self.vs, self.us = False, keep_states, [], []

    def __call__(self, x: Tensor) -> Tensor:
        if not self.begun:
            self.begin(x[0])
            self.inner.start(self.membrane.start.expand(x[0].shape).clone())
            self.begun = True
        return torch.stack([self.advance(step) for step in x])

    def begin(self, first: Tensor) -> None:
        """Forget the synaptic current."""

    def advance(self, arriving: Tensor) -> Tensor:
        raise NotImplementedError


class FloatPopulation(Population):
    """In real units: the synaptic current, where there is one, and the scaling are ours."""

    def __init__(self, backend: FrameworkBackend, model: Model, name: str) -> None:
        membrane, self.form = float_membrane(model, name)
        super().__init__(backend, membrane)
        self.c = torch.zeros(())

    def begin(self, first: Tensor) -> None:
        self.c = torch.zeros_like(first)

    def advance(self, arriving: Tensor) -> Tensor:
        form: FloatNeuron = self.form
        if form.keep_c is not None and form.gain_c is not None:
            self.c = form.keep_c * self.c + form.gain_c * arriving
            arriving = self.c
        spikes = self.inner.step(form.gain * arriving + form.drive).to(arriving.dtype)
        if self.keep:
            self.vs.append(self.inner.u + form.v_reset)
            if form.keep_c is not None:
                self.us.append(self.c)
        return spikes


class ChipPopulation(Population):
    """In the chip's integers. The current's decay is ours (it truncates); registers may not overflow."""

    def __init__(self, backend: FrameworkBackend, model: Model, name: str) -> None:
        super().__init__(backend, chip_membrane(model, name))
        params = model.neuron(name)
        self.name = name
        self.bias = torch.from_numpy(model.bias_int(name)).to(torch.float64)
        self.current = CubaNeuron(Du=params.Du, Dv=params.Dv, vth=params.vth, u_in_range=True)
        self.hides_u = any(model.synapse(s).as_bias for s in model.weight_sources(name))
        self.c = torch.zeros(())

    def begin(self, first: Tensor) -> None:
        self.c = torch.zeros_like(first, dtype=torch.float64)

    def advance(self, arriving: Tensor) -> Tensor:
        self.c = self.current.current(self.c, arriving.to(torch.float64))
        x = self.c + self.bias
        before = self.membrane.beta * self.inner.u + x
        largest = float(torch.maximum(self.c.abs(), before.abs()).max())
        if largest >= STATE_MAX:
            raise RefusedError(
                f"the chip's register overflows, which {self.backend.name} does not imitate",
                where=self.name,
                need=f"|u|, |v| < {STATE_MAX}",
                have=f"{largest:.0f}",
                remedy="the same model on --backend exact or lava",
            )
        spikes = self.inner.step(x)
        if self.keep:
            self.vs.append(self.inner.u.to(torch.int32))
            self.us.append((self.c * 0 if self.hides_u else self.c).to(torch.int32))
        return spikes.to(arriving.dtype)
