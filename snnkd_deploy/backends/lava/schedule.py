"""Pipeline depths: at which physical step each population sees logical step 0.

A synapse process takes one step. A population at depth D runs logical step t at physical step D + t, so a
route needs `D(target) >= D(origin) + 1`; what is missing is filled by relays. Inside a loop the closing
edge's step of logical delay pays for the synapse: that is what makes recurrence possible at all.
"""

from __future__ import annotations

from snnkd_deploy.backends.matrices import least_delay
from snnkd_deploy.backends.routes import Member, Route, Routes
from snnkd_deploy.graph.model import Model


class NoScheduleError(Exception):
    """A loop is faster in logical time than its synapses are on the chip. `nodes` are in it."""

    def __init__(self, nodes: list[str]) -> None:
        super().__init__(", ".join(nodes))
        self.nodes = nodes


def slack(model: Model, routes: Routes, route: Route, member: Member) -> int:
    """Logical steps that a route may save on its physical step: only inside a loop, where it must."""
    same_loop = routes.loop.get(member.origin, -1) == routes.loop.get(route.target, -2)
    if not same_loop:
        return 0
    return member.back + least_delay(model, route)


def depths_of(model: Model, routes: Routes) -> dict[str, int]:
    """Depth of every population (longest path). Raises NoScheduleError where a loop cannot be timed."""
    edges = []
    depth = dict.fromkeys(routes.populations, 0)
    for route in routes.routes:
        for member in route.members:
            if member.origin in routes.host:
                if route.weight is not None:
                    depth[route.target] = 1
            else:
                edges.append((member.origin, route.target, 1 - slack(model, routes, route, member)))
    for _ in range(len(depth) + 1):
        late = [(o, t, cost) for o, t, cost in edges if depth[t] < depth[o] + cost]
        if not late:
            return depth
        for origin, target, cost in late:
            depth[target] = max(depth[target], depth[origin] + cost)
    raise NoScheduleError(sorted({target for _, target, _ in late}))
