"""What the host computes before a run: the input itself, and the first layer of a `current` encoding."""

from __future__ import annotations

import nir
import numpy as np
import torch

import snnkd_deploy.backends.layers as layers
from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.engine import DelayLine, Operator
from snnkd_deploy.backends.exact import HostSynapse
from snnkd_deploy.backends.matrices import node_delays
from snnkd_deploy.backends.routes import Routes
from snnkd_deploy.errors import RefusedError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import SynapseParams

_CHUNK = 256  # samples at once


@torch.no_grad()
def host_values(model: Model, routes: Routes, inputs: Inputs, wanted: set[str]) -> dict[str, np.ndarray]:
    """Flat integer values of the `wanted` host nodes: int32 (T, B, N), or (1, B, N) for a constant input.

    The same operators as in `exact`, so that both inject the same mantissas.
    """
    operators: dict[str, Operator] = {}
    for name in (n for component in model.order for n in component if n in routes.host):
        params = model.profile.nodes.get(name)
        if isinstance(params, SynapseParams):
            operators[name] = HostSynapse(model, name, torch.device("cpu"))
        else:
            sources = model.sources[name]
            in_shape = model.shapes[sources[0]] if sources else model.shapes[name]
            node = model.nodes[name]
            operator = layers.structure_operator(node, in_shape, model.shapes[name])
            if isinstance(node, nir.Delay):
                operator = DelayLine(torch.from_numpy(node_delays(model, name).reshape(model.shapes[name]).copy()))
            assert operator is not None
            operators[name] = operator
    parts: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    for start in range(0, inputs.samples, _CHUNK):
        x = inputs.chunk(start, start + _CHUNK).x
        values: dict[str, torch.Tensor] = {}
        for name, operator in operators.items():
            total = x
            for place, source in enumerate(model.sources[name]):
                total = values[source] if place == 0 else total + values[source]
            if isinstance(operator, DelayLine):
                operator.start(keep_states=False)
                total = total.expand(inputs.steps, *total.shape[1:])
            values[name] = operator(total)
        for name in wanted:
            parts[name].append(_int32(values[name].flatten(2), name))
    return {name: np.concatenate(chunks, axis=1) for name, chunks in parts.items()}


def _int32(values: torch.Tensor, name: str) -> np.ndarray:
    if values.numel() and values.abs().max() >= 2**31:
        raise RefusedError(
            "values do not fit Lava's 32 bit spikes",
            where=name,
            need="below 2^31",
            have=f"{float(values.abs().max()):.4g}",
        )
    return values.to(torch.int32).numpy()
