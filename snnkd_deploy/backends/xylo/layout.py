"""Model -> Xylo's one core: input channels, hidden ids in layer order, one recurrent matrix, outputs.

The chip adds events by ascending id, inputs first, so the order of ids is part of the arithmetic:
`backends.events` orders its sums in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import nir
import numpy as np
from scipy.sparse import csr_matrix, lil_matrix

from snnkd_deploy.backends.matrices import route_parts
from snnkd_deploy.backends.routes import Route, Routes
from snnkd_deploy.backends.unroll import size_of
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.model import Model


@dataclass(frozen=True)
class Layout:
    """Where everything lies. The matrices are (targets, sources), int64 weights; ids count hidden neurons."""

    channels: int
    hidden: dict[str, range]
    output: str
    outputs: int
    inputs_to_hidden: csr_matrix
    hidden_to_hidden: csr_matrix
    hidden_to_output: csr_matrix

    @property
    def neurons(self) -> int:
        return self.hidden_to_hidden.shape[0]


@dataclass
class _Parts:
    """Blocks of the three matrices while they are collected: [(first target, first source, block)]."""

    from_input: list[tuple[int, int, csr_matrix]] = field(default_factory=list)
    recurrent: list[tuple[int, int, csr_matrix]] = field(default_factory=list)
    to_output: list[tuple[int, int, csr_matrix]] = field(default_factory=list)


def lay_out(model: Model) -> tuple[Layout | None, list[Problem]]:
    """The layout, or every reason why there is none. Needs a model whose nodes are all known (`check`)."""
    routes = Routes(model)
    problems = [Problem(what, where) for where, what in dict.fromkeys(routes.faults)]
    output = _output(model, routes)
    if output is None:
        what = "the output is the spikes of one population, which nobody else hears"
        problems.append(Problem(what, model.output_name, remedy="one last population, without a loop"))
        return None, problems
    names = [name for name in routes.populations if name != output]
    if not names:
        return None, [*problems, Problem("a hidden layer is needed between input and outputs", output)]
    ids: dict[str, range] = {}
    for name in names:
        first = sum(len(r) for r in ids.values())
        ids[name] = range(first, first + size_of(model.shapes[name]))
    parts = _Parts()
    for route in routes.routes:
        problems += _place(model, route, output, ids, parts)
    if problems:
        return None, list(dict.fromkeys(problems))
    channels, outputs = size_of(model.shapes[model.input_name]), size_of(model.shapes[output])
    hidden = sum(len(r) for r in ids.values())
    layout = Layout(
        channels,
        ids,
        output,
        outputs,
        _assemble(parts.from_input, (hidden, channels)),
        _assemble(parts.recurrent, (hidden, hidden)),
        _assemble(parts.to_output, (outputs, hidden)),
    )
    return layout, []


def _output(model: Model, routes: Routes) -> str | None:
    into = routes.into(model.output_name)
    origins = {member.origin for route in into for member in route.members}
    plain = all(route.weight is None and not route.pre and not route.post for route in into)
    if len(origins) != 1 or len(into) != 1 or not plain or not origins <= set(routes.populations):
        return None
    (name,) = origins
    heard = any(member.origin == name for route in routes.routes for member in route.members)
    return None if heard else name


def _place(model: Model, route: Route, output: str, ids: dict[str, range], parts: _Parts) -> list[Problem]:
    where = route.weight or route.target
    if route.weight is None:
        return [Problem("spikes arrive without weights", where, remedy="weights between the two")]
    if len(route.members) > 1:
        what = "one weight node hears several populations"
        return [Problem(what, where, remedy="a weight node for each population")]
    (member,) = route.members
    from_input = member.origin not in ids
    if from_input and route.target == output:
        return [Problem("outputs hear hidden neurons only", where, remedy="a hidden layer between them")]
    problems = []
    need = 0 if from_input else 1
    matrices = {delay: part for delay, part in route_parts(model, route).items() if part.nnz}
    if not matrices:
        return []
    for delay in sorted(matrices):
        if delay + member.back != need:
            what = "the chip delays every hop between neurons by one step, and none from the input"
            remedy = "delays = 1 between populations; a loop hears the last step already"
            have = f"{delay + member.back} step{'s' if delay + member.back != 1 else ''}"
            problems.append(Problem(what, where, f"{need} step{'s' if need != 1 else ''}", have, remedy))
    if problems:
        return problems
    block = next(iter(matrices.values()))
    if route.target == output:
        parts.to_output.append((0, ids[member.origin].start, block))
    elif from_input:
        parts.from_input.append((ids[route.target].start, 0, block))
    else:
        parts.recurrent.append((ids[route.target].start, ids[member.origin].start, block))
    return []


def _assemble(blocks: list[tuple[int, int, csr_matrix]], shape: tuple[int, int]) -> csr_matrix:
    """One matrix; parallel blocks between the same neurons add up."""
    total = lil_matrix(shape, dtype=np.int64)
    for row, column, block in blocks:
        total[row : row + block.shape[0], column : column + block.shape[1]] += block
    return csr_matrix(total)


def is_convolution(node: nir.NIRNode) -> bool:
    return isinstance(node, nir.Conv1d | nir.Conv2d)
