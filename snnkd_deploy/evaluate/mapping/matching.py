"""Layers to cores where each layer fits only some of the cores: a maximum bipartite matching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Shortage = tuple[list[str], list[int]]  # layers, and the fewer cores that they could use


def match(allowed: Mapping[str, Sequence[int]]) -> tuple[dict[str, int], Shortage | None]:
    """A core for every layer by augmenting paths (the integral maximum flow), lowest cores first.

    Where there is none: a set of layers that share too few cores (Hall's condition), which is the reason.
    """
    owner: dict[int, str] = {}
    for layer in allowed:
        visited: dict[int, None] = {}
        if not _augment(layer, allowed, owner, visited):
            cores = sorted(visited)
            return {}, ([layer, *(owner[core] for core in cores)], cores)
    return {layer: core for core, layer in owner.items()}, None


def _augment(layer: str, allowed: Mapping[str, Sequence[int]], owner: dict[int, str], visited: dict[int, None]) -> bool:
    for core in allowed[layer]:
        if core in visited:
            continue
        visited[core] = None
        if core not in owner or _augment(owner[core], allowed, owner, visited):
            owner[core] = layer
            return True
    return False
