"""Who sends spikes to whom: each weight node with its sources, what stands between, and the layer it feeds.

A layer is a population (spiking) or a readout. Between a source and a weight node there may be pools,
flattens and delays; they move spikes and cost nothing themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import nir
import numpy as np

from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import SynapseParams
from snnkd_deploy.graph.topology import NEURONS, SPIKING, WEIGHTS

POOLS = (nir.SumPool2d, nir.AvgPool2d)
Signal = Literal["spikes", "graded", "analog"]


@dataclass(frozen=True)
class Arrival:
    """One stream into a weight node. `chain` are the nodes it passes, in order of travel.

    `lag` counts back edges of loops on the way: the spikes arrive that many steps later.
    """

    source: str
    chain: tuple[str, ...]
    lag: int
    signal: Signal


@dataclass(frozen=True)
class Connection:
    """One weight node at work. `host` means that it is computed outside the chip, once per sample."""

    synapse: str
    target: str
    arrivals: tuple[Arrival, ...]
    post: tuple[str, ...]
    host: bool
    shared: bool  # a convolution: its weights are stored once and reused


@dataclass(frozen=True)
class Wiring:
    """All connections of a model, and its layers in execution order."""

    layers: tuple[str, ...]
    connections: tuple[Connection, ...]

    @property
    def depth(self) -> int:
        """Layers on the longest way from the input; back edges of loops do not lengthen it."""
        level: dict[str, int] = {}
        for layer in self.layers:
            sources = [a.source for c in self.into(layer) for a in c.arrivals if not a.lag]
            level[layer] = 1 + max((level.get(s, 0) for s in sources), default=0)
        return max(level.values(), default=1)

    def into(self, layer: str) -> list[Connection]:
        return [c for c in self.connections if c.target == layer]

    def out_of(self, source: str) -> list[Connection]:
        return [c for c in self.connections if any(a.source == source for a in c.arrivals)]


@lru_cache(maxsize=8)
def wiring(model: Model) -> Wiring:
    """Analyse a model once (cached per object). Raises GraphError where a weight node feeds no layer."""
    positions = {name: (i, j) for i, part in enumerate(model.order) for j, name in enumerate(part)}
    targets: dict[str, list[str]] = {name: [] for name in model.nodes}
    for name, sources in model.sources.items():
        for source in sources:
            targets[source].append(name)
    layers = [n for part in model.order for n in part if isinstance(model.nodes[n], NEURONS)]
    connections: list[Connection] = []
    for name in (n for part in model.order for n in part if isinstance(model.nodes[n], WEIGHTS)):
        arrivals = tuple(_arrivals(model, name, positions))
        for target, post in _landings(model, name, targets):
            if target not in layers:
                layers.append(target)  # a weight node that is read out directly
            connections.append(
                Connection(
                    synapse=name,
                    target=target,
                    arrivals=arrivals,
                    post=post,
                    host=_on_host(model, name, arrivals),
                    shared=isinstance(model.nodes[name], nir.Conv1d | nir.Conv2d),
                )
            )
    return Wiring(tuple(layers), tuple(connections))


def _arrivals(model: Model, name: str, positions: dict[str, tuple[int, int]]) -> list[Arrival]:
    found: list[Arrival] = []

    def walk(node: str, chain: tuple[str, ...], lag: int) -> None:
        for source in model.sources[node]:
            same_loop = positions[source][0] == positions[node][0]
            back = same_loop and positions[source][1] >= positions[node][1]
            steps = lag + int(back)
            kind = model.nodes[source]
            if isinstance(kind, SPIKING):
                found.append(Arrival(source, chain, steps, _spike_signal(model, name)))
            elif isinstance(kind, nir.Input):
                found.append(Arrival(source, chain, steps, _input_signal(model)))
            elif isinstance(kind, (*NEURONS, *WEIGHTS)):
                found.append(Arrival(source, chain, steps, "analog"))
            else:
                if source in chain:
                    raise GraphError("a loop without a neuron has no meaning in discrete time", where=source)
                walk(source, (source, *chain), steps)

    walk(name, (), 0)
    return found


def _landings(model: Model, name: str, targets: dict[str, list[str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Layers that a weight node feeds, with the structure nodes in between."""
    found: list[tuple[str, tuple[str, ...]]] = []

    def walk(node: str, post: tuple[str, ...]) -> None:
        for target in targets[node]:
            if isinstance(model.nodes[target], NEURONS):
                found.append((target, post))
            elif isinstance(model.nodes[target], (nir.Output, *WEIGHTS)):
                # Values are read, or go on, without a neuron: the weight node is its own layer.
                if (name, ()) not in found:
                    found.append((name, ()))
            else:
                walk(target, (*post, target))

    walk(name, ())
    if not found:
        raise GraphError("weights feed no population", where=name, remedy="connect it or remove it")
    return found


def _spike_signal(model: Model, synapse: str) -> Signal:
    params = model.profile.nodes.get(synapse)
    graded = isinstance(params, SynapseParams) and params.message_bits > 0
    return "graded" if graded else "spikes"


def _input_signal(model: Model) -> Signal:
    kind = model.profile.encoding.kind
    return {"events": "spikes", "graded": "graded"}.get(kind, "analog")  # type: ignore[return-value]


def _on_host(model: Model, name: str, arrivals: tuple[Arrival, ...]) -> bool:
    params = model.profile.nodes.get(name)
    if isinstance(params, SynapseParams):
        return params.place == "host"
    constant = model.profile.encoding.kind == "current"
    return constant and all(a.source == model.input_name for a in arrivals)


def neurons_of(model: Model, layer: str) -> int:
    """Number of elements of a layer."""
    return int(np.prod(model.shapes[layer]))
