"""The tree of a `.nir` file -> NIR nodes, with a name to every complaint.

`nir.read` stops at the first fault with an empty assertion or a bare TypeError. Here the raw tree is held to
NIR's own dataclasses first, and all faults come at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import nir
import numpy as np
from nir.ir import dict2NIRNode

from snnkd_deploy.errors import GraphError, Problem

KNOWN = {
    cls.__name__: cls
    for cls in (
        *(nir.Input, nir.Output, nir.NIRGraph, nir.Affine, nir.Linear, nir.Scale, nir.Conv1d, nir.Conv2d),
        *(nir.SumPool2d, nir.AvgPool2d, nir.Flatten, nir.Delay, nir.Threshold),
        *(nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF),
    )
}
# Files of older NIR releases lack these; NIR itself reads them so.
_OPTIONAL = {"metadata", "v_reset", "w_in", "input_shape", "input_type", "start_dim", "end_dim"}
_NEURONS = (nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF)
_SHAPES = {nir.Input: "shape", nir.Output: "shape"}


def graph_of_tree(tree: dict[str, Any], where: str) -> nir.NIRGraph:
    """A NIR graph (subgraphs as they are). Raises GraphError with every node that is not understood."""
    problems: list[Problem] = []
    if tree.get("type") != "NIRGraph":
        raise GraphError(f"the file holds a single {tree.get('type', 'nothing')}, not a graph", where=where)
    graph = _graph(tree, "", problems)
    if problems or graph is None:
        raise GraphError.from_problems(
            [dataclasses.replace(p, where=f"{where} [{p.where or 'graph'}]") for p in problems]
        )
    return graph


def _graph(tree: dict[str, Any], prefix: str, problems: list[Problem]) -> nir.NIRGraph | None:
    before = len(problems)
    raw_nodes, raw_edges = tree.get("nodes"), tree.get("edges")
    for key in tree:
        if key not in ("type", "nodes", "edges", "metadata", "input_type", "output_type"):
            problems.append(Problem(f"unknown field '{key}' of a graph", prefix.rstrip(".")))
    if not isinstance(raw_nodes, dict) or not raw_nodes:
        problems.append(Problem("the graph has no nodes", prefix.rstrip(".")))
        return None
    nodes = {}
    for name, entry in _named(raw_nodes):
        node = _node(entry, prefix + name, problems)
        if node is not None:
            nodes[name] = node
    edges = _edges(raw_edges, prefix, problems)
    if len(problems) > before:
        return None
    metadata = tree.get("metadata", {})
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata=metadata, type_check=False)


def _named(nodes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Node names and entries. HDF5 makes groups in groups of a name such as `block/fc`; a node has a type."""
    for name, entry in nodes.items():
        if isinstance(entry, dict) and entry and all(isinstance(inner, dict) for inner in entry.values()):
            yield from ((f"{name}/{rest}", inner) for rest, inner in _named(entry))
        else:
            yield name, entry


def _edges(raw: Any, prefix: str, problems: list[Problem]) -> list[tuple[str, str]]:
    array = np.asarray([] if raw is None else raw, dtype=object)
    if array.size == 0:
        return []
    if array.ndim != 2 or array.shape[1] != 2:
        problems.append(Problem("edges must be pairs of node names", prefix.rstrip("."), have=f"shape {array.shape}"))
        return []
    if not all(isinstance(end, str) for end in array.ravel()):
        problems.append(Problem("an edge's node name is not text", prefix.rstrip(".")))
        return []
    return [(str(a), str(b)) for a, b in array]


def _node(entry: Any, name: str, problems: list[Problem]) -> nir.NIRNode | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        problems.append(Problem("a node without a type", name))
        return None
    kind = KNOWN.get(entry["type"])
    if kind is None:
        remedy = f"NIR 1.x primitives are: {', '.join(sorted(KNOWN))}"
        problems.append(Problem(f"node type '{entry['type']}' is not understood", name, remedy=remedy))
        return None
    if kind is nir.NIRGraph:
        return _graph(entry, f"{name}.", problems)
    found = _fields(entry, kind, name)
    problems += found
    if found:
        return None
    fields = dict(entry)
    if kind is nir.Flatten:
        fields["input_type"] = None  # ours is inferred; exporters write batch sizes into it
    elif kind in (nir.Conv1d, nir.Conv2d):
        fields["input_shape"] = None
    if issubclass(kind, _NEURONS):
        numbers = {k: np.asarray(v) for k, v in fields.items() if k not in ("type", "metadata")}
        try:  # NIR wants one shape for all parameters; some files mix numbers and arrays
            shape = np.broadcast_shapes(*(v.shape for v in numbers.values()))
        except ValueError:
            have = ", ".join(f"{k} {v.shape}" for k, v in numbers.items())
            problems.append(Problem("the parameters have different shapes", name, have=have))
            return None
        fields |= {k: np.broadcast_to(v, shape).copy() for k, v in numbers.items()}
    try:
        return dict2NIRNode(fields)
    except Exception as error:  # whatever NIR's constructors run into
        problems.append(Problem(f"NIR cannot build this {entry['type']}: {type(error).__name__}: {error}", name))
        return None


def _fields(entry: dict[str, Any], kind: type, name: str) -> list[Problem]:
    """Missing and unknown fields, and values that are not numbers."""
    wanted = {f.name for f in dataclasses.fields(kind) if f.init} - {"metadata"}
    if kind in _SHAPES:
        wanted = {_SHAPES[kind]}
    problems = [Problem(f"'{key}' is missing", name) for key in sorted(wanted - _OPTIONAL) if key not in entry]
    for key, value in entry.items():
        if key in ("type", "metadata"):
            continue
        if key not in wanted:
            # The types of a node follow from its graph; some releases store them.
            if key not in ("input_type", "output_type"):
                problems.append(Problem(f"unknown field '{key}' of {kind.__name__}", name, remedy="a newer nir"))
        elif isinstance(value, str):
            if key != "padding":
                problems.append(Problem(f"'{key}' must hold numbers, not text", name))
        elif isinstance(value, dict) or np.asarray(value).dtype.kind not in "iufb":
            problems.append(Problem(f"'{key}' must hold numbers", name))
    return problems
