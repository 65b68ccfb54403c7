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

    Inside a loop the nodes are ordered so that a population comes last: its spikes feed back one step later.
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
    return [_order_loop(graph, sources, c) if len(c) > 1 else c for c in components]


def _order_loop(graph: nir.NIRGraph, sources: dict[str, list[str]], members: list[str]) -> list[str]:
    """Order a loop: cut the edges that leave a population, then sort what remains."""
    inside = set(members)
    names = [n for n in graph.nodes if n in inside]
    done: list[str] = []
    while len(done) < len(names):
        ready = [
            n
            for n in names
            if n not in done
            and all(s in done or s not in inside or isinstance(graph.nodes[s], NEURONS) for s in sources[n])
        ]
        if not ready:
            raise GraphError(
                "a loop without a neuron has no meaning in discrete time",
                where=", ".join(n for n in names if n not in done),
                remedy="put a neuron or a Delay into the loop",
            )
        done.extend(ready)
    # A node may be listed before a population of its own loop that is not its back edge; populations
    # whose inputs are complete run as late as possible, which keeps forward edges without delay.
    return done


def is_loop(graph: nir.NIRGraph, component: list[str]) -> bool:
    return len(component) > 1 or (component[0], component[0]) in graph.edges


def pair(value: Any) -> tuple[int, int]:
    """(rows, columns) from a number or a pair, as NIR writes strides, paddings and kernel sizes."""
    array = np.atleast_1d(np.asarray(value)).astype(int)
    return (int(array[0]), int(array[-1]))


def conv_output(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def conv_padding(node: nir.Conv1d | nir.Conv2d) -> tuple[int, ...]:
    """Symmetric padding per axis. 'same' is only representable for stride 1 and odd kernels."""
    axes = node.weight.ndim - 2
    padding = node.padding
    if isinstance(padding, bytes):
        padding = padding.decode()
    if isinstance(padding, str):
        if padding == "valid":
            return (0,) * axes
        dilation = pair(node.dilation)[:axes]
        spans = [d * (k - 1) for d, k in zip(dilation, node.weight.shape[2:], strict=True)]
        if any(span % 2 for span in spans) or any(s != 1 for s in pair(node.stride)[:axes]):
            raise GraphError("padding 'same' needs an odd kernel and stride 1", remedy="write the padding as numbers")
        return tuple(span // 2 for span in spans)
    return pair(padding)[:axes]


def output_shape(node: nir.NIRNode, inputs: list[Shape], name: str) -> Shape:
    """Shape of a node's output without time and batch, from the shapes that come in.

    Own inference: nir 1.0.8 gets the output of non-square kernels wrong.
    """
    if isinstance(node, nir.Input):
        return tuple(int(i) for i in next(iter(node.input_type.values())))
    if not inputs:
        raise GraphError("node has no input", where=name, remedy="connect it, or remove it")
    if any(shape != inputs[0] for shape in inputs):
        raise GraphError(f"edges of different shapes meet: {inputs}", where=name)
    shape = inputs[0]
    try:
        return _output_shape(node, shape)
    except (ValueError, IndexError) as error:
        raise GraphError(f"does not accept an input of shape {shape}: {error}", where=name) from error


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
            conv_output(n, int(k), s, p, d)
            for n, k, s, p, d in zip(
                shape[1:], node.weight.shape[2:], stride, conv_padding(node), dilation, strict=True
            )
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
        # start and end count axes without batch and time; negative ones from the end.
        axes = range(len(shape))
        start = axes[int(node.start_dim)] if node.start_dim < 0 else int(node.start_dim)
        end = axes[int(node.end_dim)]
        # Exporters that count the batch axis write start_dim = 1 for a sample: nothing else makes sense.
        if start > end:
            raise ValueError(f"Flatten({node.start_dim}, {node.end_dim})")
        return (*shape[:start], int(np.prod(shape[start : end + 1])), *shape[end + 1 :])
    return shape


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
