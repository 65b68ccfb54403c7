"""Chips on which every hop from population to population costs a timestep that the graph does not know (Xylo).

Requires populations in execution order. Guarantees that spikes meet at every population as they do in the graph,
each population `late` by the hops in front of it; what cannot be aligned is a problem.
"""

from __future__ import annotations

from dataclasses import replace

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.lower.assemble import ALWAYS, Population


def align_hops(model: Model, populations: list[Population], chip: ChipSpec) -> tuple[list[Population], list[Problem]]:
    """The populations with the waits of their synapses, and what stands in the way."""
    hop = chip.neuron.hop_delay
    if not hop:
        return populations, []
    late = {model.input_name: 0, ALWAYS: 0}
    aligned, problems = [], []
    for population in populations:
        own = population.original
        feeders = [way.path.source for way in population.ways if way.path.source != own]
        looped = [source for source in feeders if source not in late]
        for source in looped:
            remedy = "a loop of one population onto itself"
            what = f"a loop over several populations takes one step in the graph, and one a hop on {chip.id}"
            problems.append(Problem(what, f"{source} -> {own}", remedy=remedy))
        known = [source for source in feeders if source in late]
        late[own] = max((late[s] + (0 if s == model.input_name else hop) for s in known), default=0)
        ways = []
        for way in population.ways:
            source = way.path.source
            wait = late[own] - late[source] if source in late and source != own else 0
            least = 0 if source in (model.input_name, own) else hop
            reason = chip.lacks("delay") if wait > least else None
            if reason is not None:
                what = f"{chip.id} cannot run 'delay': {reason}"
                remedy = "branches of equal depth: a population in the shorter one"
                problems.append(Problem(what, f"{source} -> {own}", f"{least} steps", f"{wait} steps", remedy))
            ways.append(replace(way, wait=wait))
        aligned.append(replace(population, ways=tuple(ways), late=late[own]))
    return aligned, problems
