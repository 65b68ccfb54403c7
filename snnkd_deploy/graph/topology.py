"""Order and shapes of a NIR graph: who feeds whom, which nodes form a loop, what comes out of each."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from snnkd_deploy.errors import GraphError

SPIKING = (nir.IF, nir.LIF, nir.CubaLIF, nir.Threshold)
NEURONS = (nir.I, nir.IF, nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF, nir.Threshold)
WEIGHTS = (nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d, nir.Scale)
Shape = tuple[int, ...]


def sources_of(graph: nir.NIRGraph) -> dict[str, list[str]]:
    """Incoming edges of every node, in the order of the file."""
    sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        sources[target].append(source)
    return sources


def execution_order(graph: nir.NIRGraph) -> list[list[str]]:
    """Strongly connected components in topological order (Tarjan). One node: no loop, or a self-loop.

    Inside a loop an edge that runs against the order carries the value of the step before.
    """
    sources = sources_of(graph)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    components: list[list[str]] = []
    # Tarjan over reversed edges (node -> its sources) emits components sources first.
    for root in graph.nodes:
        if root in index:
            continue
        work: list[tuple[str, int]] = [(root, 0)]
        while work:
            node, position = work.pop()
            if position == 0:
                index[node] = low[node] = len(index)
                stack.append(node)
                on_stack.add(node)
            advanced = False
            for i in range(position, len(sources[node])):
                other = sources[node][i]
                if other not in index:
                    work.append((node, i + 1))
                    work.append((other, 0))
                    advanced = True
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            if advanced:
                continue
            if low[node] == index[node]:
                component = []
                while True:
                    member = stack.pop()
                    on_stack.discard(member)
                    component.append(member)
                    if member == node:
                        break
                components.append(component)
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[node])
    return [_order_loop(graph, sources, c) if len(c) > 1 or c[0] in sources[c[0]] else c for c in components]


def _order_loop(graph: nir.NIRGraph, sources: dict[str, list[str]], members: list[str]) -> list[str]:
    """Order a loop so that only its back edges carry the last step's value, each cut behind a population.

    A node runs when all it needs has run. Where that is stuck, the population nearest to where the loop is
    entered runs next, with last step's spikes of the populations that feed it back.
    """
    inside = set(members)
    names = [n for n in graph.nodes if n in inside]
    distance = _distance_into(sources, names)
    done: list[str] = []
    while len(done) < len(names):
        ready = next(
            (n for n in names if n not in done and all(s in done or s not in inside for s in sources[n])), None
        )
        if ready is not None:
            done.append(ready)
            continue
        waiting = [n for n in names if n not in done and isinstance(graph.nodes[n], NEURONS)]
        chains = [(n, _feedback_chain(graph, sources, n, inside, done)) for n in waiting]
        possible = [(n, chain) for n, chain in chains if chain is not None]
        if not possible:
            raise GraphError(
                "a loop without a neuron has no meaning in discrete time",
                where=", ".join(n for n in names if n not in done),
                remedy="put a neuron into the loop",
            )
        done += min(possible, key=lambda entry: distance[entry[0]])[1] or []
    return done


def _distance_into(sources: dict[str, list[str]], names: list[str]) -> dict[str, int]:
    """Edges between the loop's entrances and each of its nodes."""
    inside = set(names)
    distance = {n: 0 for n in names if any(s not in inside for s in sources[n])}
    found = list(distance)
    for node in found:
        for target in names:
            if node in sources[target] and target not in distance:
                distance[target] = distance[node] + 1
                found.append(target)
    return {n: distance.get(n, len(names)) for n in names}


def _feedback_chain(
    graph: nir.NIRGraph, sources: dict[str, list[str]], neuron: str, inside: set[str], done: list[str]
) -> list[str] | None:
    """`neuron` with the weights in front of it that wait for populations, in order; None if they loop."""
    chain: list[str] = []
    visiting: set[str] = set()

    def visit(name: str) -> bool:
        if name in visiting:
            return False
        visiting.add(name)
        for source in sources[name]:
            settled = source not in inside or source in done or source in chain
            if not settled and not isinstance(graph.nodes[source], NEURONS) and not visit(source):
                return False
        visiting.discard(name)
        if name not in chain:
            chain.append(name)
        return True

    return chain if visit(neuron) else None


def is_loop(graph: nir.NIRGraph, component: list[str]) -> bool:
    return len(component) > 1 or (component[0], component[0]) in graph.edges


def pair(value: Any) -> tuple[int, int]:
    """(rows, columns) from a number or a pair, as NIR writes strides, paddings and kernel sizes."""
    array = np.atleast_1d(np.asarray(value)).astype(int)
    return (int(array[0]), int(array[-1]))


def conv_output(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def conv_pads(node: nir.Conv1d | nir.Conv2d) -> tuple[tuple[int, int], ...]:
    """Zeros before and after, per axis. "same" puts the odd one behind, as torch does."""
    axes = node.weight.ndim - 2
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if not isinstance(padding, str):
        return tuple((p, p) for p in pair(padding)[:axes])
    if padding == "valid":
        return ((0, 0),) * axes
    if padding != "same" or any(s != 1 for s in pair(node.stride)[:axes]):
        raise GraphError(
            f"padding '{padding}' with stride {node.stride}", remedy="'valid', 'same' with stride 1, or numbers"
        )
    spans = [d * (k - 1) for d, k in zip(pair(node.dilation)[:axes], node.weight.shape[2:], strict=True)]
    return tuple((span // 2, span - span // 2) for span in spans)


def conv_padding(node: nir.Conv1d | nir.Conv2d) -> tuple[int, ...]:
    """Symmetric padding per axis. Raises GraphError where "same" pads one side more (an even kernel)."""
    pads = conv_pads(node)
    if any(before != after for before, after in pads):
        raise GraphError("padding 'same' of an even kernel is uneven", remedy="an odd kernel, or padding as numbers")
    return tuple(before for before, _ in pads)


def output_shape(node: nir.NIRNode, inputs: list[Shape], name: str) -> Shape:
    """Shape of a node's output without time and batch, from the shapes that come in.

    Own inference: nir 1.0.8 gets the output of non-square kernels wrong.
    """
    if isinstance(node, nir.Input):
        return _declared(node, name)
    if not inputs:
        raise GraphError("node has no input", where=name, remedy="connect it, or remove it")
    if any(shape != inputs[0] for shape in inputs):
        raise GraphError(f"edges of different shapes meet: {inputs}", where=name)
    shape = inputs[0]
    try:
        return _output_shape(node, shape)
    except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise GraphError(f"does not accept an input of shape {shape}: {error}", where=name) from error


def _declared(node: nir.Input, name: str) -> Shape:
    declared = next(iter(node.input_type.values()), None)
    numbers = np.atleast_1d(np.asarray(-1 if declared is None else declared))
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or np.any(numbers < 1) or np.any(numbers > 2**31):
        raise GraphError(
            "the input does not say its shape", where=name, need="positive numbers (C, H, W)", have=f"{declared}"
        )
    return tuple(int(n) for n in numbers)


def _output_shape(node: nir.NIRNode, shape: Shape) -> Shape:
    if isinstance(node, nir.Affine | nir.Linear):
        if shape[-1] != node.weight.shape[-1]:
            raise ValueError(f"weight expects {node.weight.shape[-1]} inputs")
        return (*shape[:-1], int(node.weight.shape[0]))
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        axes = node.weight.ndim - 2
        if len(shape) != axes + 1 or shape[0] != node.weight.shape[1] * int(np.asarray(node.groups)):
            raise ValueError(f"weight {tuple(node.weight.shape)} with groups {node.groups}")
        stride, dilation = pair(node.stride)[:axes], pair(node.dilation)[:axes]
        sizes = tuple(
            (n + sum(p) - d * (int(k) - 1) - 1) // s + 1
            for n, k, s, p, d in zip(shape[1:], node.weight.shape[2:], stride, conv_pads(node), dilation, strict=True)
        )
        if min(sizes) < 1:
            raise ValueError("the kernel is larger than the padded input")
        return (int(node.weight.shape[0]), *sizes)
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        kernel, stride, padding = pair(node.kernel_size), pair(node.stride), pair(node.padding)
        sizes = tuple(conv_output(n, k, s, p, 1) for n, k, s, p in zip(shape[1:], kernel, stride, padding, strict=True))
        if len(shape) != 3 or min(sizes) < 1:
            raise ValueError("pooling needs (C, H, W) at least as large as its window")
        return (shape[0], *sizes)
    if isinstance(node, nir.Flatten):
        axes = to_axes(int(np.asarray(node.start_dim)), int(np.asarray(node.end_dim)), len(shape))
        if axes is None:
            raise ValueError(f"Flatten({node.start_dim}, {node.end_dim})")
        first, last = axes
        return (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])
    return shape


def to_axes(start: int, end: int, count: int) -> tuple[int, int] | None:
    """First and last axis to flatten, from numbers that may count from the end; None where they make no range."""
    first = start + count if start < 0 else start
    last = end + count if end < 0 else end
    return (first, last) if 0 <= first <= last < count else None


def infer_shapes(graph: nir.NIRGraph) -> dict[str, Shape]:
    """Output shape of every node. Loops are resolved from the nodes whose inputs are known first."""
    sources = sources_of(graph)
    shapes: dict[str, Shape] = {}
    for component in execution_order(graph):
        pending = list(component)
        while pending:
            # A loop's first node may hear only its back edge: it waits for the node at the other end.
            ready = [n for n in pending if not sources[n] or any(s in shapes for s in sources[n])]
            for name in ready or pending:
                known = [shapes[s] for s in sources[name] if s in shapes]
                shapes[name] = output_shape(graph.nodes[name], known, name)
            pending = [n for n in pending if n not in shapes]
    # An input that was unknown in its turn is checked now that it is known.
    for name, incoming in sources.items():
        output_shape(graph.nodes[name], [shapes[s] for s in incoming], name)
    return shapes
