"""What a depth-first executor does to a graph (nirtorch's `GraphExecutor`, which norse 1.1 runs imports with).

A node is run when the walk first meets it; what it hears from nodes that come later is their value of the step before.
"""

from __future__ import annotations

import nir

_FIRING = (nir.IF, nir.LIF, nir.CubaLIF)


def same_lags(graph: nir.NIRGraph, order: list[str]) -> bool:
    """Would a depth-first walk from `input` give every population the delays that `order` gives, and end at `output`?

    Children are visited in the order of the edges.
    """
    targets: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for a, b in graph.edges:
        targets[a].append(b)
    walk: list[str] = []
    stack = ["input"]
    while stack:
        name = stack.pop()
        if name not in walk:
            walk.append(name)
            stack += [t for t in reversed(targets[name]) if t not in walk]
    ends = {name for name, node in graph.nodes.items() if isinstance(node, (*_FIRING, nir.Input, nir.Output))}
    return walk[-1] == "output" and _lags(targets, ends, walk) == _lags(targets, ends, order)


def _lags(targets: dict[str, list[str]], ends: set[str], order: list[str]) -> set[tuple[str, str, int]]:
    """(population, population, steps between them) over every way without a population on it."""
    place = {name: i for i, name in enumerate(order)}
    found = set()
    for start in ends:
        front = [(start, 0, frozenset[str]())]
        while front:
            name, lag, seen = front.pop()
            for target in targets[name]:
                steps = lag + (place[name] >= place[target])
                if target in ends:
                    found.add((start, target, steps))
                elif target not in seen:
                    front.append((target, steps, seen | {target}))
    return found
