"""Models, inputs and traces as messages, and back."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.backends.worker.wire import Message
from snnkd_deploy.errors import BackendError, Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.nirfile import read_nir, write_nir


def model_message(model: Model) -> Message:
    """The `.nir` file's very bytes: a backend needs nothing else."""
    with tempfile.TemporaryDirectory(prefix="snnkd_") as folder:
        path = Path(folder) / "model.nir"
        write_nir(model, path)
        data = np.frombuffer(path.read_bytes(), np.uint8)
    return Message("open", {"sha256": model.sha256}, {"file": data})


def read_model(message: Message) -> Model:
    """Raises GraphError for a damaged file, BackendError where it means something else on this side."""
    with tempfile.TemporaryDirectory(prefix="snnkd_") as folder:
        path = Path(folder) / "model.nir"
        path.write_bytes(message.arrays["file"].tobytes())
        model = read_nir(path)
    if model.sha256 != message.fields["sha256"]:
        raise BackendError(
            "the model does not mean the same to this worker",
            need=str(message.fields["sha256"])[:12],
            have=model.sha256[:12],
            remedy="install the same release of snnkd_deploy on both sides",
        )
    return model


def run_message(inputs: Inputs, record: Record) -> Message:
    wanted = {**asdict(record), "nodes": None if record.nodes is None else sorted(record.nodes)}
    # Integers of the chip's encodings travel in the smallest type that holds them.
    x = inputs.x.numpy()
    fields: dict[str, Any] = {"steps": inputs.steps, "record": wanted, "dtype": x.dtype.name}
    narrow = x.astype(np.uint8)
    return Message("run", fields, {"x": narrow if np.array_equal(narrow, x) else x})


def read_run(message: Message) -> tuple[Inputs, Record]:
    fields = message.fields
    x = message.arrays["x"].astype(fields["dtype"])
    wanted = dict(fields["record"])
    nodes = wanted.pop("nodes")
    record = Record(**wanted, nodes=None if nodes is None else frozenset(nodes))
    return Inputs(torch.from_numpy(x), int(fields["steps"])), record


def trace_message(trace: Trace) -> Message:
    arrays = {"logits": trace.logits.numpy()}
    for group in ("spikes", "u", "v"):
        arrays |= {f"{group}/{node}": tensor.numpy() for node, tensor in getattr(trace, group).items()}
    return Message("trace", {"meta": json.loads(json.dumps(trace.meta, default=str))}, arrays)


def read_trace(message: Message) -> Trace:
    trace = Trace(torch.from_numpy(message.arrays["logits"]), meta=dict(message.fields["meta"]))
    for key, array in message.arrays.items():
        group, _, node = key.partition("/")
        if node and group in ("spikes", "u", "v"):
            getattr(trace, group)[node] = torch.from_numpy(array)
    return trace


def problems_fields(problems: list[Problem] | tuple[Problem, ...]) -> list[dict[str, str]]:
    return [{key: str(value) for key, value in asdict(problem).items()} for problem in problems]


def read_problems(entries: list[dict[str, str]]) -> list[Problem]:
    return [Problem(**entry) for entry in entries]


def read_error(message: Message) -> list[Problem]:
    """The problems of an "error" message; the worker's traceback, where there is one, goes with the first."""
    first, *rest = read_problems(message.fields["problems"])
    if details := str(message.fields.get("details", "")).rstrip():
        first = Problem(f"{first.what}\n{details}", first.where or "worker")
    return [first, *rest]


def read_opened(message: Message) -> tuple[list[Problem], int]:
    """What the backend cannot do of the model, and the samples it likes at once (0: it does not say)."""
    return read_problems(message.fields["problems"]), int(message.fields.get("chunk") or 0)


def availability_fields(state: Availability) -> dict[str, Any]:
    return asdict(state)


def read_availability(message: Message) -> Availability:
    return Availability(**message.fields)
