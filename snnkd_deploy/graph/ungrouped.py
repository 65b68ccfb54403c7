"""Grouped convolutions in `.nir` files: written out as full ones with zeros, and taken together again on reading.

nir 1.0.8 infers the input of a grouped convolution as that of one group and then refuses its own file, and the
importers of norse, snnTorch, sinabs and spikingjelly fail on groups. The full kernel is the same map for everybody;
the graph's metadata says which nodes are grouped, because fit and operation counts depend on it.
"""

from __future__ import annotations

import json
from copy import copy
from typing import Any

import nir
import numpy as np

from snnkd_deploy.errors import GraphError

GROUPS_KEY = "snnkd_deploy_groups"


def ungroup(nodes: dict[str, nir.NIRNode]) -> tuple[dict[str, nir.NIRNode], dict[str, str]]:
    """Nodes without groups, and the metadata that `regroup` needs (empty where there were none)."""
    made, groups = dict(nodes), {}
    for name, node in nodes.items():
        if not isinstance(node, nir.Conv1d | nir.Conv2d) or int(np.asarray(node.groups)) == 1:
            continue
        groups[name] = int(np.asarray(node.groups))
        full = copy(node)
        full.weight, full.groups = full_kernel(node), 1
        made[name] = full
    return made, {GROUPS_KEY: json.dumps(groups)} if groups else {}


def full_kernel(node: nir.Conv1d | nir.Conv2d) -> np.ndarray:
    """The kernel (out, in, ...) that does the same without groups."""
    return full_weight(node.weight, int(np.asarray(node.groups)))


def full_weight(weight: np.ndarray, groups: int) -> np.ndarray:
    """(out, in/groups, ...) -> (out, in, ...): block-diagonal in the channels."""
    out, width = weight.shape[:2]
    full = np.zeros((out, width * groups, *weight.shape[2:]), dtype=weight.dtype)
    for row in range(out):
        first = row // (out // groups) * width
        full[row, first : first + width] = weight[row]
    return full


def regroup(graph: nir.NIRGraph, where: str) -> None:
    """Give the nodes that the metadata names their groups back, in place. Raises GraphError where they have none."""
    text = graph.metadata.get(GROUPS_KEY) if isinstance(graph.metadata, dict) else None
    if text is None:
        return
    try:
        groups: dict[str, Any] = json.loads(str(text))
        for name, count in groups.items():
            node: Any = graph.nodes[name]
            out, inputs = node.weight.shape[:2]
            width = inputs // count
            rows = [node.weight[r, r // (out // count) * width :][:width] for r in range(out)]
            small = np.ascontiguousarray(np.stack(rows))
            if out % count or inputs % count or not np.array_equal(full_weight(small, count), node.weight):
                raise ValueError(f"{name} is not a convolution in {count} groups")
            node.weight, node.groups = small, count
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise GraphError(
            f"the groups in the metadata do not fit the graph: {error}",
            where=where,
            remedy=f"write it again; after an edit on purpose, delete '{GROUPS_KEY}' from its metadata",
        ) from error
