"""One form for every NIR graph: no subgraphs, full parameter arrays, flatten axes without batch, true types.

Exporters differ in all four. What is ambiguous is refused, with the node's name.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import nir
import numpy as np

from snnkd_deploy.errors import GraphError, Problem
from snnkd_deploy.graph.topology import NEURONS, Shape, execution_order, output_shape, sources_of, to_axes

# Parameters that hold one value a neuron (or one element of the sample, for Scale and Delay).
_ELEMENTWISE = {
    nir.I: ("r",),
    nir.IF: ("r", "v_threshold", "v_reset"),
    nir.LI: ("tau", "r", "v_leak"),
    nir.LIF: ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    nir.CubaLI: ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    nir.CubaLIF: ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    nir.Threshold: ("threshold",),
    nir.Scale: ("scale",),
    nir.Delay: ("delay",),
}


def normalise(graph: nir.NIRGraph) -> nir.NIRGraph:
    """The same network in our form. Requires known node types; raises GraphError with every ambiguity.

    Dangling edges and the like are left as they are: the checker names them.
    """
    nodes, edges = _inline(graph.nodes, [(str(a), str(b)) for a, b in graph.edges], "")
    if any(end not in nodes for edge in edges for end in edge):
        return nir.NIRGraph(nodes=nodes, edges=edges, metadata=graph.metadata, type_check=False)
    if _is_row(nodes, edges):
        nodes = _without_batch(nodes) or nodes
    try:
        return _settled(nodes, edges, graph.metadata)
    except GraphError:
        trimmed = _without_batch(nodes)
        if trimmed is None:
            raise
        try:
            return _settled(trimmed, edges, graph.metadata)
        except GraphError:
            pass
        raise


def _settled(nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]], metadata: dict[str, Any]) -> nir.NIRGraph:
    graph = nir.NIRGraph(nodes=dict(nodes), edges=edges, metadata=metadata, type_check=False)
    _settle_shapes(graph)
    return graph


def _is_row(nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]]) -> bool:
    """An input (1, N) that only weight matrices read: a batch of one, which would make rows of all that follows."""
    for name, node in nodes.items():
        if isinstance(node, nir.Input):
            shape = np.ravel(next(iter(node.input_type.values())))
            readers = [nodes[b] for a, b in edges if a == name]
            if not (len(shape) == 2 and shape[0] == 1 and readers):
                return False
            if not all(isinstance(reader, (nir.Linear, nir.Affine)) for reader in readers):
                return False
    return True


def _without_batch(nodes: dict[str, nir.NIRNode]) -> dict[str, nir.NIRNode] | None:
    """The same nodes with the input's first axis gone: some exporters leave the batch in it."""
    inputs = [name for name, node in nodes.items() if isinstance(node, nir.Input)]
    declared = next(iter(nodes[inputs[0]].input_type.values()), None) if len(inputs) == 1 else None
    if declared is None or np.size(declared) < 2:
        return None
    return {**nodes, inputs[0]: nir.Input({"input": np.asarray(declared)[1:]})}


# -- subgraphs ------------------------------------------------------------------------------------------


def _inline(
    nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]], prefix: str
) -> tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]:
    """Replace subgraphs by their nodes, named `subgraph.node`; their inputs and outputs disappear."""
    flat: dict[str, nir.NIRNode] = {}
    joined: list[tuple[str, str]] = []
    entry: dict[str, str] = {}
    leave: dict[str, str] = {}
    vanish: list[str] = []
    for name, node in nodes.items():
        if not isinstance(node, nir.NIRGraph):
            flat[prefix + name] = node
            continue
        inner_edges = [(str(a), str(b)) for a, b in node.edges]
        inner, more = _inline(node.nodes, inner_edges, f"{prefix}{name}.")
        doors = {}
        for kind, label in ((nir.Input, "inputs"), (nir.Output, "outputs")):
            found = [n for n in inner if isinstance(inner[n], kind) and n[len(prefix) + len(name) + 1 :] in node.nodes]
            if len(found) != 1:
                what = f"a subgraph with {len(found)} {label}: which one an edge means is not said"
                raise GraphError(what, where=prefix + name, remedy="one Input and one Output in a subgraph")
            doors[kind] = found[0]
        clash = set(inner) & (set(flat) | {prefix + n for n in nodes})
        if clash:
            raise GraphError("two nodes have the same name once subgraphs are opened", where=sorted(clash)[0])
        flat |= inner
        joined += more
        entry[prefix + name], leave[prefix + name] = doors[nir.Input], doors[nir.Output]
        vanish += doors.values()
    for a, b in edges:
        source, target = prefix + a, prefix + b
        joined.append((leave.get(source, source), entry.get(target, target)))
    for door in vanish:
        sources = [a for a, b in joined if b == door]
        targets = [b for a, b in joined if a == door]
        joined = [edge for edge in joined if door not in edge] + [(a, b) for a in sources for b in targets]
        del flat[door]
    return flat, joined


# -- shapes ---------------------------------------------------------------------------------------------


def _settle_shapes(graph: nir.NIRGraph) -> None:
    """Walk from the input and give every node full parameters and its true types."""
    sources = sources_of(graph)
    targets: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for a, b in graph.edges:
        targets[a].append(b)
    shapes: dict[str, Shape] = {}
    problems: list[Problem] = []
    for component in execution_order(graph):
        pending = list(component)
        while pending:
            ready = [n for n in pending if not sources[n] or any(s in shapes for s in sources[n])]
            if not ready:
                return  # nothing arrives from the input: the checker says so
            for name in ready:
                known = [shapes[s] for s in sources[name] if s in shapes]
                if not known and not isinstance(graph.nodes[name], nir.Input):
                    return
                readers = [graph.nodes[t] for t in targets[name]]
                problems += _settle(graph, name, known, readers, shapes)
            pending = [n for n in pending if n not in shapes]
    if problems:
        raise GraphError.from_problems(problems)


def _settle(
    graph: nir.NIRGraph, name: str, known: list[Shape], readers: list[nir.NIRNode], shapes: dict[str, Shape]
) -> list[Problem]:
    """Put the node into our form, and its output shape into `shapes`."""
    node = graph.nodes[name]
    problems: list[Problem] = []
    shape = known[0] if known else ()
    if isinstance(node, nir.Flatten):
        node = _flatten(node, shape, readers, name)
    elif type(node) in _ELEMENTWISE:
        node, problems = _fill(node, shape, name)
    else:
        node = copy(node)
        if isinstance(node, nir.Conv1d):
            node.input_shape = int(shape[-1])
        elif isinstance(node, nir.Conv2d):
            node.input_shape = tuple(shape[1:])
    shapes[name] = output_shape(node, known, name)
    if isinstance(node, nir.Output):
        declared = next(iter(node.output_type.values()), None)
        if declared is None:
            node = nir.Output({"output": np.array(shapes[name])}, metadata=node.metadata)
        elif not _says(np.atleast_1d(np.asarray(declared)), shapes[name]):
            need, have = f"{shapes[name]}", f"{np.asarray(declared).tolist()}"
            problems.append(Problem("the output does not have the shape that arrives there", name, need, have))
    if not isinstance(node, nir.Input | nir.Output):
        node.input_type = {"input": np.array(shape)}
        node.output_type = {"output": np.array(shapes[name])}
    graph.nodes[name] = node
    return problems


def _says(declared: np.ndarray, shape: Shape) -> bool:
    """Is a declared shape this one, with or without axes of length 1, or with the batch that some exporters leave?"""
    long = [n for n in shape if n > 1]
    return any([n for n in given if n != 1] == long for given in (declared.tolist(), declared.tolist()[1:]))


def _flatten(node: nir.Flatten, shape: Shape, readers: list[nir.NIRNode], name: str) -> nir.Flatten:
    """Axes counted from the end, so that the batch axis cannot be meant.

    Files count axes of a sample, but some exporters count the batch too: then the readers of the result decide.
    """
    start, end = int(np.asarray(node.start_dim)), int(np.asarray(node.end_dim))
    axes = to_axes(start, end, len(shape))
    shifted = to_axes(start - 1, end - 1 if end > 0 else end, len(shape)) if start > 0 else None
    if shifted is not None:
        refused = axes is None or not _accepted(_flat(shape, axes), readers)
        if refused and (axes is None or _accepted(_flat(shape, shifted), readers)):
            axes = shifted
    if axes is None:
        raise GraphError(f"Flatten({start}, {end}) has no meaning for a sample of shape {shape}", where=name)
    first, last = axes
    return nir.Flatten({"input": None}, start_dim=first - len(shape), end_dim=last - len(shape), metadata=node.metadata)


def _flat(shape: Shape, axes: tuple[int, int]) -> Shape:
    first, last = axes
    return (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])


def _accepted(shape: Shape, readers: list[nir.NIRNode]) -> bool:
    """Could every reader take this shape?"""
    for reader in readers:
        if isinstance(reader, nir.Affine | nir.Linear) and reader.weight.shape[-1] != shape[-1]:
            return False
        if isinstance(reader, nir.Output):
            wanted = next(iter(reader.output_type.values()), None)
            if wanted is not None and tuple(int(n) for n in wanted) != shape:
                return False
        if isinstance(reader, NEURONS):
            parameter = np.asarray(getattr(reader, _ELEMENTWISE[type(reader)][0]))
            if parameter.size > 1 and parameter.shape != shape:
                return False
    return True


def _fill(node: Any, shape: Shape, name: str) -> tuple[Any, list[Problem]]:
    """Every parameter as an array of the neurons' shape."""
    problems = []
    values = {}
    for key in _ELEMENTWISE[type(node)]:
        value = np.asarray(getattr(node, key))
        full = _broadcast(value, shape)
        if full is None:
            need, have = f"one number or {shape}", f"{value.shape}"
            problems.append(Problem(f"{key} does not fit the neurons", name, need, have, "write full arrays"))
        else:
            values[key] = full
    if problems:
        return node, problems
    return type(node)(**values, metadata=node.metadata), []


def _broadcast(value: np.ndarray, shape: Shape) -> np.ndarray | None:
    if value.shape == shape:
        return value
    squeezed = tuple(n for n in value.shape if n > 1)
    if value.size == 1 or (value.size == np.prod(shape) and squeezed == tuple(n for n in shape if n > 1)):
        return np.broadcast_to(value.reshape(() if value.size == 1 else shape), shape).copy()
    if value.ndim == len(shape) and all(a in (1, b) for a, b in zip(value.shape, shape, strict=True)):
        return np.broadcast_to(value, shape).copy()  # (C, 1, 1): one value a channel
    return None
