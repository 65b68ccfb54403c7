"""The library in a few functions: load, lower, run, compare, fit, count, estimate.

import snnkd_deploy as sd
model = sd.load_model("model.nir")
trace = sd.run(model, x, backend="exact")
print(sd.compare(trace, sd.run(model, x, backend="lava")).identical)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.registry import closing_backend, usable_backend
from snnkd_deploy.backends.replay import stamp
from snnkd_deploy.backends.stream import stream
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.chips import ChipSpec, IntGrid, NeuronSpec, Quantity, load_chip
from snnkd_deploy.errors import DataError, SnnkdError
from snnkd_deploy.evaluate import (
    EnergyEstimate,
    FitReport,
    LatencyEstimate,
    OpCounts,
    count_ops,
    estimate_energy,
    estimate_latency,
    fit,
)
from snnkd_deploy.evaluate.diagnose import Diagnosis, Reproducer, diagnose, reduce_case
from snnkd_deploy.evaluate.parity import Divergence, ParityReport, compare_traces
from snnkd_deploy.graph.load import load_model, save_model
from snnkd_deploy.graph.model import Model
from snnkd_deploy.lower import lower

__all__ = [
    "ChipSpec",
    "Diagnosis",
    "Divergence",
    "EnergyEstimate",
    "FitReport",
    "IntGrid",
    "LatencyEstimate",
    "Model",
    "NeuronSpec",
    "OpCounts",
    "ParityReport",
    "Quantity",
    "Record",
    "SnnkdError",
    "Trace",
    "compare",
    "count_ops",
    "diagnose",
    "estimate_energy",
    "estimate_latency",
    "fit",
    "load_chip",
    "load_model",
    "lower",
    "make_inputs",
    "run",
    "save_model",
]


def run(
    model: Model | str | Path,
    x: np.ndarray | Tensor | Inputs,
    *,
    backend: str = "exact",
    steps: int | None = None,
    states: bool = False,
    worker: str | None = None,
    store: str | Path | None = None,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Run a model on a batch from zero state, in chunks; a backend that fails is tried again.

    x: (T, B, ...) in the model's encoding, or a constant (1, B, ...) with `steps`. worker: a command behind
    which the backend lives (`python3.10`, `ssh board ...`). store: a folder that keeps finished chunks until the
    whole is done, so that a later call goes on. chunk: samples at once. Raises DataError for an input that does
    not fit, BackendError with everything the backend cannot do of this model.
    """
    if not isinstance(model, Model):
        model = load_model(model)
    inputs = x if isinstance(x, Inputs) else make_inputs(x, model, steps)
    if steps not in (None, inputs.steps):
        raise DataError("steps and the inputs disagree", where="run", need=inputs.steps, have=steps)
    folder = None if store is None else Path(store)
    with closing_backend(usable_backend(backend, worker)) as chosen:
        trace = stream(chosen, model, inputs, Record(states=states), store=folder, chunk=chunk, progress=progress)
    trace.meta |= {"backend": backend, "samples": inputs.samples}
    stamp(trace, model, inputs)
    return trace


def compare(expected: Trace | str | Path, got: Trace | str | Path, *, order: list[str] | None = None) -> ParityReport:
    """Every spike of two traces (or trace files), and the first place where they differ."""

    def as_trace(item: Trace | str | Path) -> Trace:
        return item if isinstance(item, Trace) else Trace.load(item)

    return compare_traces(as_trace(expected), as_trace(got), order)


def reproduce(
    model: Model,
    inputs: Inputs,
    expected: Trace,
    where: Divergence,
    *,
    backends: tuple[str, str] | None = None,
    workers: dict[str, str] | None = None,
) -> Reproducer:
    """The smallest cut of model and input that still diverges; confirmed by running both `backends` on it."""
    if backends is None:
        return reduce_case(model, inputs, expected, where, None, None)

    def runner(name: str) -> Callable[[Model, Inputs], Trace]:
        return lambda m, x: run(m, x, backend=name, worker=(workers or {}).get(name))

    return reduce_case(model, inputs, expected, where, runner(backends[0]), runner(backends[1]))


def chip_of(chip: str | Path | ChipSpec) -> ChipSpec:
    """A chip by id or file, or as it is."""
    return chip if isinstance(chip, ChipSpec) else load_chip(chip)


def describe(model: Model) -> dict[str, Any]:
    """Plain facts of a model, for `--json` and logs."""
    return {
        "path": model.path,
        "sha256": model.sha256,
        "chip": None if model.profile.chip is None else model.profile.chip.id,
        "encoding": model.profile.encoding.kind,
        "steps": model.profile.steps,
        "input": list(model.shapes[model.input_name]),
        "layers": {name: list(model.shapes[name]) for name in model.spiking},
    }
