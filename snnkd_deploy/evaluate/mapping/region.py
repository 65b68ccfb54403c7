"""Which sources reach a block of neurons, axis by axis: exact, without building a connection matrix.

Convolutions and pools are separable, so the set is a product of one boolean vector per axis.
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

import nir
import numpy as np

from snnkd_deploy.errors import GraphError
from snnkd_deploy.evaluate.mapping.report import Box
from snnkd_deploy.evaluate.wiring import POOLS, Arrival, Connection
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import Shape, conv_padding, pair

Axes = list[np.ndarray]  # one bool vector per axis


def sources_of_box(model: Model, connection: Connection, arrival: Arrival, box: Box) -> Axes:
    """Elements of `arrival.source` with at least one tap into `box` of the layer, as bool vectors."""
    axes = synapse_outputs(model, connection, box)
    return back_chain(model, arrival, synapse_inputs(model, connection.synapse, axes))


def synapse_outputs(model: Model, connection: Connection, box: Box) -> Axes:
    """Outputs of the weight node that land in `box` of the layer."""
    shape = model.shapes[connection.target]
    axes = [_range(size, start, stop) for size, (start, stop) in zip(shape, box, strict=True)]
    path = (connection.synapse, *connection.post)
    for before, name in reversed(list(pairwise(path))):
        axes = _back_structure(model, name, axes, model.shapes[before])
    return axes


def synapse_inputs(model: Model, synapse: str, axes: Axes) -> Axes:
    """Inputs of the weight node with a tap into the outputs `axes`."""
    node = model.nodes[synapse]
    in_shape = model.shapes[model.sources[synapse][0]]
    if isinstance(node, nir.Scale):
        return axes
    if isinstance(node, nir.Affine | nir.Linear):
        return [*axes[:-1], np.full(in_shape[-1], bool(axes[-1].any()))]
    assert isinstance(node, nir.Conv1d | nir.Conv2d)
    groups = int(np.asarray(node.groups))
    per_group = axes[0].reshape(groups, -1).any(1)
    found = [np.repeat(per_group, in_shape[0] // groups)]
    stride, dilation, padding = pair(node.stride), pair(node.dilation), conv_padding(node)
    for axis, size in enumerate(in_shape[1:]):
        kernel = int(node.weight.shape[2 + axis])
        found.append(_window_back(axes[1 + axis], size, kernel, stride[axis], padding[axis], dilation[axis]))
    return found


def back_chain(model: Model, arrival: Arrival, axes: Axes) -> Axes:
    """Through the pools and flattens in front of a weight node, back to the source."""
    path = (arrival.source, *arrival.chain)
    for before, name in reversed(list(pairwise(path))):
        axes = _back_structure(model, name, axes, model.shapes[before])
    return axes


def _back_structure(model: Model, name: str, axes: Axes, in_shape: Shape) -> Axes:
    node = model.nodes[name]
    if isinstance(node, nir.Flatten):
        if all(bool(a.all()) for a in axes):
            return [np.ones(size, dtype=bool) for size in in_shape]
        whole = reduce(np.multiply.outer, axes).reshape(in_shape)
        # The smallest product of vectors that holds the set: exact where the set is a block.
        others = [tuple(j for j in range(len(in_shape)) if j != i) for i in range(len(in_shape))]
        return [np.asarray(whole.any(axes_out)) for axes_out in others]
    if isinstance(node, POOLS):
        kernel, stride, padding = pair(node.kernel_size), pair(node.stride), pair(node.padding)
        spatial = [
            _window_back(axes[1 + i], size, kernel[i], stride[i], padding[i], 1) for i, size in enumerate(in_shape[1:])
        ]
        return [axes[0], *spatial]
    if isinstance(node, nir.Delay):
        return axes
    raise GraphError(f"spikes cannot be followed through a {type(node).__name__}", where=name)


def _window_back(out: np.ndarray, size: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    found = np.zeros(size, dtype=bool)
    positions = np.flatnonzero(out) * stride - padding
    for k in range(kernel):
        taps = positions + k * dilation
        found[taps[(taps >= 0) & (taps < size)]] = True
    return found


def _range(size: int, start: int, stop: int) -> np.ndarray:
    axis = np.zeros(size, dtype=bool)
    axis[start:stop] = True
    return axis


def mask_of(axes: Axes) -> np.ndarray:
    """The set as one bool array in the shape of its layer."""
    return reduce(np.multiply.outer, axes)


def count_of(axes: Axes) -> int:
    return int(np.prod([int(a.sum()) for a in axes]))


def tap_patterns(
    out: np.ndarray, size: int, kernel: int, stride: int, padding: int, dilation: int
) -> dict[tuple[int, ...], list[int]]:
    """Distinct sets of taps by which inputs of one axis reach the outputs `out`, and where they start.

    Hardware that stores a kernel once needs one weight list per such set: borders and stride phases differ.
    The values are the first outputs reached, counted from the first output of the block.
    """
    first = int(np.argmax(out))
    patterns: dict[tuple[int, ...], list[int]] = {}
    for i in range(size):
        taps, reached = [], []
        for k in range(kernel):
            at, rest = divmod(i + padding - k * dilation, stride)
            if rest == 0 and 0 <= at < out.size and out[at]:
                taps.append(k)
                reached.append(at - first)
        if taps:
            patterns.setdefault(tuple(taps), []).append(min(reached))
    return patterns
