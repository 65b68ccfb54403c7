"""Lava's result files -> trace, in torch's shapes and logical time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.arithmetic.cuba import INPUT_SHIFT
from snnkd_deploy.backends.lava.build import LOGIT_TAP, READOUT_FILE, Builder
from snnkd_deploy.backends.lava.plan import Plan
from snnkd_deploy.backends.lava.unroll import pool_matrix
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import ReadoutParams


def collect(model: Model, builder: Builder, plan: Plan, record: Record, folder: Path) -> Trace:
    """Read what the recorders and probes of a finished run wrote."""
    spikes = {r.source: np.load(folder / r.file) for r in plan.recorders if r.name != LOGIT_TAP}
    trace = Trace(logits=_logits(model, builder, plan, spikes, folder))
    for name, values in spikes.items():
        if record.spikes and record.wants(name):
            trace.spikes[name] = _shaped(values, model.shapes[name])
    if record.readout and model.readout_name is not None:
        trace.v[model.readout_name] = _shaped(np.load(folder / READOUT_FILE), model.shapes[model.readout_name])
    for probe in plan.probes:
        if probe.file != READOUT_FILE:
            states = trace.u if probe.state == "u" else trace.v
            states[probe.population] = _shaped(np.load(folder / probe.file), model.shapes[probe.population])
    return trace


def _shaped(values: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(values.reshape(*values.shape[:2], *shape))


def _logits(model: Model, builder: Builder, plan: Plan, spikes: dict[str, np.ndarray], folder: Path) -> Tensor:
    """(B, C) float64, by the same formula as `exact.logits_of`."""
    readout = model.readout_name
    if readout is not None:
        params = model.profile.nodes[readout]
        assert isinstance(params, ReadoutParams)
        state = np.load(folder / READOUT_FILE)[-1].astype(np.float64)
        return torch.from_numpy(state / (params.scale * (1 << INPUT_SHIFT) * plan.window))
    if any(r.name == LOGIT_TAP for r in plan.recorders):
        return torch.from_numpy(np.load(folder / "tap.npy").sum(0, dtype=np.float64))
    total: np.ndarray | float = 0.0
    for route in builder.routes.into(model.output_name):
        for member in route.members:
            counts = spikes[member.origin].sum(0, dtype=np.float64)
            for name in route.pre:
                counts = counts @ pool_matrix(model, name).T
            total = total + counts
    return torch.from_numpy(np.asarray(total, dtype=np.float64))
