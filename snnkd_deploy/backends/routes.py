"""Model -> routes: which populations and host values reach which population, through which weights.

Lava and Xylo know populations, synapses and wires. Flatten, pooling and delays disappear into a matrix, and what
the host computes (the input, and the first layer of a `current` encoding) becomes a source.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import nir

from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import NeuronParams, ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import is_loop


@dataclass(frozen=True)
class Member:
    """Where values come from: a population or a host node. `back` is 1 over a loop's closing edge."""

    origin: str
    back: int


@dataclass(frozen=True)
class Route:
    """One synapse process (or, for host values without weights, a wire) into `target`.

    Values of all `members` are summed, then pass `pre` (pooling and delays), `weight` (None: identity) and
    `post`, in this order. `binary`: any non-zero sum counts as one spike in front of the weights.
    """

    target: str
    weight: str | None
    pre: tuple[str, ...]
    post: tuple[str, ...]
    members: tuple[Member, ...]
    binary: bool


@dataclass(frozen=True)
class _Arrival:
    member: Member
    pre: tuple[str, ...]
    weight: str | None
    post: tuple[str, ...]


class Routes:
    """The routes of a model, and what a path that Lava cannot express runs into (`faults`)."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.faults: list[tuple[str, str]] = []  # (node, what)
        self.loop: dict[str, int] = {}  # node -> number of its loop
        position: dict[str, int] = {}
        for number, component in enumerate(model.order):
            if is_loop(model.graph, component):
                for place, name in enumerate(component):
                    self.loop[name], position[name] = number, place
        self._position = position
        self.host = self._host_values()
        params = model.profile.nodes
        self.populations = [
            name
            for component in model.order
            for name in component
            if isinstance(params.get(name), NeuronParams | ReadoutParams)
        ]
        self._summed = self._sums_of_spikes()

    @cached_property
    def routes(self) -> list[Route]:
        """Routes into every population."""
        return [route for name in self.populations for route in self.into(name)]

    def into(self, target: str) -> list[Route]:
        groups: dict[tuple, list[Member]] = {}
        for arrival in self._arrivals(target, frozenset()):
            members = groups.setdefault((arrival.weight, arrival.pre, arrival.post), [])
            members.append(arrival.member)
        return [
            Route(target, weight, pre, post, tuple(members), self._binary(weight))
            for (weight, pre, post), members in groups.items()
        ]

    def _binary(self, weight: str | None) -> bool:
        """As in `exact`: a sum pool in front is several spikes in one number, which all count."""
        if weight is None:
            return False
        pooled = any(source in self._summed for source in self.model.sources[weight])
        return self.model.synapse(weight).message_bits == 0 and not pooled

    def _arrivals(self, name: str, above: frozenset[str]) -> list[_Arrival]:
        arrivals: list[_Arrival] = []
        for source in self.model.sources[name]:
            back = int(
                self.loop.get(source, -1) == self.loop.get(name, -2) and self._position[source] >= self._position[name]
            )
            if source in self.host or source in self.populations:
                integrates = isinstance(self.model.profile.nodes.get(source), ReadoutParams)
                if integrates and not isinstance(self.model.nodes[name], nir.Output | nir.Flatten):
                    self.faults.append((source, "an integrating readout sends no spikes to other nodes"))
                arrivals.append(_Arrival(Member(source, back), (), None, ()))
            elif source in above:
                self.faults.append((source, "a loop without a population"))
            else:
                arrivals += self._through(source, above | {name})
        return arrivals

    def _through(self, node: str, above: frozenset[str]) -> list[_Arrival]:
        """What a weight, pooling or flatten node hands on."""
        incoming = self._arrivals(node, above)
        if isinstance(self.model.profile.nodes.get(node), SynapseParams):
            if any(arrival.weight is not None for arrival in incoming):
                self.faults.append((node, "weights behind weights without a population between them"))
            if self.model.synapse(node).place == "host":
                self.faults.append((node, "computed on the host, but fed by a population on the chip"))
            return [_Arrival(a.member, a.pre, node, ()) for a in incoming]
        if isinstance(self.model.nodes[node], nir.SumPool2d | nir.Delay):
            return [
                _Arrival(a.member, a.pre, a.weight, (*a.post, node))
                if a.weight is not None
                else _Arrival(a.member, (*a.pre, node), None, ())
                for a in incoming
            ]
        return incoming

    def _host_values(self) -> set[str]:
        """Nodes whose value the host knows before the run: the input, and what only depends on it."""
        known: set[str] = set()
        for name in (n for component in self.model.order for n in component):
            node, params = self.model.nodes[name], self.model.profile.nodes.get(name)
            computed = isinstance(node, nir.Flatten | nir.SumPool2d | nir.Delay) or (
                isinstance(params, SynapseParams) and params.place == "host"
            )
            sources = self.model.sources[name]
            if isinstance(node, nir.Input) or (computed and all(s in known for s in sources)):
                known.add(name)
        return known

    def _sums_of_spikes(self) -> set[str]:
        summed: set[str] = set()
        for name in (n for component in self.model.order for n in component):
            structural = name not in self.model.profile.nodes and name != self.model.output_name
            pools = isinstance(self.model.nodes[name], nir.SumPool2d)
            if pools or (structural and any(s in summed for s in self.model.sources[name])):
                summed.add(name)
        return summed
