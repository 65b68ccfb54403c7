"""Lava's result files -> trace, in torch's shapes and logical time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.arithmetic.cuba import INPUT_SHIFT
from snnkd_deploy.backends.lava.build import Builder
from snnkd_deploy.backends.lava.plan import Plan
from snnkd_deploy.backends.lava.recording import LOGIT_TAP, READOUT_FILE, TAP_FILE
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.backends.unroll import pool_matrix
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
        name = probe.population
        if probe.file != READOUT_FILE:
            values = np.load(folder / probe.file)
            if probe.state == "u" and any(model.synapse(s).as_bias for s in model.weight_sources(name)):
                # An image in the bias register leaves u at 0; here it came through a_in, for the same v.
                values = np.zeros_like(values)
            (trace.u if probe.state == "u" else trace.v)[name] = _shaped(values, model.shapes[name])
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
        total = np.load(folder / TAP_FILE).sum(0, dtype=np.float64)
    else:
        total = np.zeros(1)
        for route in builder.routes.into(model.output_name):
            for member in route.members:
                counts = spikes[member.origin].sum(0, dtype=np.float64)
                for name in route.pre:
                    counts = counts @ pool_matrix(model, name).T
                total = total + counts  # (B, N)
    groups = model.profile.vote_groups
    return torch.from_numpy(total if groups is None else total.reshape(len(total), groups, -1).mean(2))
