"""Lower a foreign graph with measurements: how large its currents get, and how far the integers deviate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.engine import Operator, run_graph
from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.float_operators import float_operator
from snnkd_deploy.backends.float_reference import FloatBackend, number_type
from snnkd_deploy.backends.inputs import check_inputs, load_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import Encoding
from snnkd_deploy.graph.topology import NEURONS
from snnkd_deploy.lower.foreign import Calibration, LoweringReport, lower_model
from snnkd_deploy.lower.neuron_form import neuron_form


@dataclass(frozen=True)
class Deviation:
    """Float graph against lowered model on the same inputs: share of differing spikes a layer, equal classes.

    `accuracy`: of the float graph, of the integers, where the inputs came with labels.
    """

    spikes: dict[str, float]
    same_class: float
    samples: int
    accuracy: dict[str, float] | None = None

    def render(self) -> str:
        lines = [f"on {self.samples} inputs, integers against float:"]
        lines += [f"  {name:<16} {100 * share:.2f} % of the spikes differ" for name, share in self.spikes.items()]
        lines.append(f"  same class for {100 * self.same_class:.1f} %")
        if self.accuracy is not None:
            before, after = 100 * self.accuracy["float"], 100 * self.accuracy["lowered"]
            lines.append(f"  accuracy {before:.1f} % in float, {after:.1f} % lowered: {after - before:+.1f} points")
        return "\n".join(lines)


class _Peak(Operator):
    """An operator that remembers the largest magnitude it was given."""

    def __init__(self, inner: Operator) -> None:
        self.inner, self.largest = inner, torch.zeros(())

    def start(self, keep_states: bool) -> None:
        self.inner.start(keep_states)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.largest = torch.maximum(self.largest.to(x), x.abs().amax((0, 1)))
        return self.inner(x)


@torch.no_grad()
def calibrate(model: Model, inputs: Inputs, margin: float = 1.5) -> Calibration:
    """Largest current of every population on these inputs, in units of its membrane.

    A current with memory can reach the largest input times its time constant: that bound is used.
    """
    dtype, device = number_type(model), torch.device("cpu")
    operators: dict[str, Operator] = {}
    for name, node in model.nodes.items():
        operator = float_operator(model, name, dtype, device)
        operators[name] = _Peak(operator) if isinstance(node, NEURONS) else operator
    run_graph(model, operators, inputs.x.to(dtype), inputs.steps, False)
    largest = {}
    for name, operator in operators.items():
        form = neuron_form(model.nodes[name], model.shapes[name], model.profile.dt_s, name)
        if isinstance(operator, _Peak) and not isinstance(form, list):
            arriving = np.abs(form.factor * operator.largest.double().numpy()).max()
            largest[name] = float(arriving) / (1.0 - form.keep_u)
    return Calibration({name: value for name, value in largest.items() if value > 0}, margin)


def deviation(
    model: Model, lowered: Model, inputs: Inputs, *, y: torch.Tensor | None = None, late: dict[str, int] | None = None
) -> Deviation:
    """Run both on the same inputs and compare what they share.

    y (B,): labels. `late`: steps by which populations run behind the graph's; spikes are compared with that shift.
    Several spikes of a step count as different from one.
    """
    a = FloatBackend().run(model, inputs, Record())
    b = ExactBackend().run(lowered, inputs, Record())
    spikes = {}
    for name in a.spikes:
        lag = (late or {}).get(name, 0)
        if name in b.spikes and lag < inputs.steps:
            differs = a.spikes[name][: inputs.steps - lag] != b.spikes[name][lag:]
            spikes[name] = float(differs.double().mean())
    accuracy = None
    if y is not None:
        runs = {"float": a, "lowered": b}
        accuracy = {name: float((run.predictions == y).double().mean()) for name, run in runs.items()}
    return Deviation(spikes, float((a.predictions == b.predictions).double().mean()), inputs.samples, accuracy)


def lower_measured(
    model: Model,
    chip: ChipSpec,
    *,
    calibrate_with: str | Path | None = None,
    data: str | Path | None = None,
    encoding: Encoding | None = None,
    input_scale: float = 1.0,
) -> tuple[Model, LoweringReport, Deviation | None]:
    """`snnkd lower`: measure currents where `calibrate_with` is given, lower, compare on `data` (default: the same).

    With labels `y` in the compared file the accuracy before and after is told.
    """
    calibration = None
    if calibrate_with is not None:
        calibration = calibrate(model, load_inputs(calibrate_with, model)[0])
    compare_on = data or calibrate_with
    found = None if compare_on is None else load_inputs(compare_on, model)
    options: dict[str, Any] = {"encoding": encoding, "input_scale": input_scale}
    lowered, report = lower_model(model, chip, calibration, **options)
    compared = None
    if found is not None and input_scale == 1.0:
        inputs, y = found
        late = {layer.name: layer.late for layer in report.layers}
        inputs = replace(inputs, x=inputs.x.to(torch.float32))
        check_inputs(lowered, inputs)
        compared = deviation(model, lowered, inputs, y=y, late=late)
    return lowered, report, compared
