"""`float`: NIR's equations by forward Euler, the reference for graphs that are not on a chip's grid.

Forward edges have no delay, back edges carry the value of the step before (0 at first). A lowered model runs too,
in real units and without the chip's roundings.
"""

from __future__ import annotations

import nir
import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.engine import run_graph
from snnkd_deploy.backends.float_operators import FloatNeuron, float_operator
from snnkd_deploy.backends.inputs import check_inputs
from snnkd_deploy.backends.trace import Record, Trace, concatenate
from snnkd_deploy.errors import BackendError, Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import ReadoutParams
from snnkd_deploy.graph.topology import SPIKING

# Floats held at once by one chunk of samples: keeps memory flat for any data set.
_CHUNK_VALUES = 24_000_000


class FloatBackend:
    """Runs any model that the checker accepts.

    The number type is that of the file: float32 where all its parameters are, else float64. Ties between a
    membrane and its threshold depend on it.
    """

    name = "float"

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)

    def availability(self) -> Availability:
        return Availability(usable=True, version=f"torch {torch.__version__}")

    def check(self, model: Model) -> list[Problem]:
        """Soft reset is the one thing that the equations leave open: one spike a step, v_reset 0."""
        problems = []
        for name, node in model.nodes.items():
            if model.profile.reset == "subtract" and np.any(np.asarray(getattr(node, "v_reset", 0)) != 0):
                problems.append(
                    Problem("reset by subtraction has no meaning with v_reset != 0", name, remedy="--reset zero")
                )
        return problems

    @torch.no_grad()
    def run(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        problems = self.check(model)
        if problems:
            raise BackendError.from_problems(problems)
        check_inputs(model, inputs)
        dtype = number_type(model)
        operators = {name: float_operator(model, name, dtype, self.device) for name in model.nodes}
        largest = max(int(np.prod(shape)) for shape in model.shapes.values())
        per_chunk = max(1, _CHUNK_VALUES // (largest * inputs.steps))
        parts = []
        for start in range(0, inputs.samples, per_chunk):
            chunk = inputs.chunk(start, start + per_chunk)
            outputs = run_graph(model, operators, chunk.x.to(self.device, dtype), inputs.steps, record.states)
            trace = Trace(logits=float_logits(model, outputs, inputs.steps).cpu(), meta={"backend": self.name})
            for name in model.spiking:
                if record.spikes and record.wants(name):
                    trace.spikes[name] = outputs[name].to(torch.uint8).cpu()
            readout = model.readout_name
            if record.readout and readout is not None:
                trace.v[readout] = outputs[readout].cpu()
            for name, operator in operators.items():
                if record.states and isinstance(operator, FloatNeuron) and record.wants(name):
                    trace.v[name] = torch.stack(operator.vs).cpu()
                    if operator.cs:
                        trace.u[name] = torch.stack(operator.cs).cpu()
            parts.append(trace)
        return concatenate(parts)


def number_type(model: Model) -> torch.dtype:
    """float32 where every real parameter of the graph is at most that, else float64."""
    kinds = [
        value.dtype
        for node in model.nodes.values()
        for value in vars(node).values()
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"
    ]
    return torch.float32 if kinds and all(kind.itemsize <= 4 for kind in kinds) else torch.float64


def float_logits(model: Model, outputs: dict[str, Tensor], steps: int) -> Tensor:
    """(B, C) float64. A deployed model: mean logit of a step, or spike counts. Any other graph: by what its
    output hears: counts of spikes, the last value of integrators, the mean of anything else.
    """
    out = outputs[model.output_name].to(torch.float64)
    if isinstance(model.profile.nodes.get(model.readout_name or ""), ReadoutParams):
        return out[-1].flatten(1) / steps
    last = _heard(model)
    if all(isinstance(node, SPIKING) for node in last):
        counts = out.sum(0).flatten(1)
        groups = model.profile.vote_groups
        return counts if groups is None else counts.unflatten(1, (groups, -1)).mean(2)
    if all(isinstance(node, nir.I | nir.LI | nir.CubaLI) for node in last):
        return out[-1].flatten(1)
    return out.mean(0).flatten(1)


def _heard(model: Model) -> list[nir.NIRNode]:
    """The nodes that the output hears, seen through flattening and delays."""
    found = []
    front = list(model.sources[model.output_name])
    while front:
        name = front.pop()
        if isinstance(model.nodes[name], nir.Flatten | nir.Delay):
            front += model.sources[name]
        else:
            found.append(model.nodes[name])
    return found
