"""From one population to the next: every path as one synapse.

Chips have weights between populations and nothing else, so scales, pools, flattens and chains of weights on
the way are multiplied into a single convolution where that is exact, else into a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import nir
import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import NEURONS, Shape, conv_pads, pair
from snnkd_deploy.lower.response import stateless_map

# A chain that is no convolution is written out as a matrix up to this many weights.
MATRIX_LIMIT = 1 << 24


@dataclass(frozen=True)
class Path:
    """Node names between `source` (a population or the input) and `target`, in order of travel."""

    source: str
    target: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Linear:
    """y = matrix x, with x flattened in C order. matrix (out, in) float64."""

    weight: np.ndarray


@dataclass(frozen=True)
class Convolution:
    """A bias-free convolution of 1 or 2 axes with even zero padding. weight (out, in/groups, *kernel)."""

    weight: np.ndarray
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


Synapse = Linear | Convolution


def paths_into(model: Model, target: str) -> list[Path]:
    """All paths from populations and the input to `target` that pass no other population."""
    found: list[Path] = []

    def walk(at: str, nodes: tuple[str, ...]) -> None:
        for source in model.sources[at]:
            if isinstance(model.nodes[source], (*NEURONS, nir.Input)):
                found.append(Path(source, target, nodes))
            else:
                walk(source, (source, *nodes))

    walk(target, ())
    return found


def merge_path(model: Model, path: Path) -> Synapse | Problem:
    """The path's linear part as one synapse, biases and delays left out; or why that cannot be."""
    in_shape, out_shape = model.shapes[path.source], model.shapes[path.target]
    nodes = [n for n in path.nodes if not isinstance(model.nodes[n], nir.Delay)]
    if not nodes:
        return _identity(in_shape)
    convolution = _as_convolution(model, nodes)
    if convolution is not None:
        return convolution
    matrix = _as_matrix(model, nodes)
    if matrix is not None:
        return matrix
    inputs, outputs = int(np.prod(in_shape)), int(np.prod(out_shape))
    if inputs * outputs > MATRIX_LIMIT:
        return Problem(
            f"{' - '.join(nodes)} is no single convolution, and as a matrix it is too large",
            path.target,
            f"at most {MATRIX_LIMIT} weights",
            f"{inputs} x {outputs}",
            "put a population between them, or pool without overlap",
        )
    return Linear(_probe(model, nodes, in_shape).numpy())


def apply(synapse: Synapse, x: Tensor) -> Tensor:
    """The synapse on a batch (N, *in_shape), float64."""
    if isinstance(synapse, Linear):
        return x.flatten(1) @ torch.from_numpy(synapse.weight).T
    return stateless_map(_node_of(synapse), tuple(x.shape[1:]), ())(x)


def scaled(synapse: Synapse, factor: np.ndarray) -> Synapse | None:
    """Every target neuron's weights times its factor (*shape); None where a shared kernel cannot follow."""
    if isinstance(synapse, Linear):
        return Linear(synapse.weight * factor.reshape(-1, 1))
    per_channel = factor.reshape(factor.shape[0], -1)
    if np.any(per_channel != per_channel[:, :1]):
        return None
    weight = synapse.weight * per_channel[:, 0].reshape(-1, *[1] * (synapse.weight.ndim - 1))
    return replace(synapse, weight=weight)


def _identity(shape: Shape) -> Synapse:
    if len(shape) == 1:
        return Linear(np.eye(shape[0]))
    axes = len(shape) - 1
    ones = np.ones((shape[0], 1, *[1] * axes))
    return Convolution(ones, (1,) * axes, (0,) * axes, (1,) * axes, groups=shape[0])


# -- convolutions -----------------------------------------------------------------------------------------


def _as_convolution(model: Model, names: list[str]) -> Convolution | None:
    """The chain as one convolution, or None where that would not be exact."""
    merged: Convolution | None = None
    for name in names:
        shape = model.shapes[model.sources[name][0]]
        step = _step(model.nodes[name], shape)
        if step is None:
            return None
        merged = step if merged is None else _compose(merged, step, model.shapes[_first(model, names[0])])
        if merged is None:
            return None
    return merged


def _first(model: Model, name: str) -> str:
    return model.sources[name][0]


def _step(node: nir.NIRNode, shape: Shape) -> Convolution | None:
    """A node as a bias-free convolution."""
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        axes = node.weight.ndim - 2
        weight = np.asarray(node.weight, dtype=np.float64)
        stride, dilation = pair(node.stride)[:axes], pair(node.dilation)[:axes]
        padding = []
        for axis, ((before, after), step) in enumerate(zip(conv_pads(node), dilation, strict=True)):
            # "same" pads one more behind than in front of an even kernel. Taps of zero in front make that even.
            taps, rest = divmod(after - before, step)
            if rest:
                return None
            weight = np.pad(weight, [(taps, 0) if a == 2 + axis else (0, 0) for a in range(weight.ndim)])
            padding.append(after)
        return Convolution(weight, stride, tuple(padding), dilation, int(np.asarray(node.groups)))
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        kernel = pair(node.kernel_size)
        value = 1.0 if isinstance(node, nir.SumPool2d) else 1.0 / (kernel[0] * kernel[1])
        weight = np.full((shape[0], 1, *kernel), value)
        return Convolution(weight, pair(node.stride), pair(node.padding), (1, 1), groups=shape[0])
    if isinstance(node, nir.Scale) and len(shape) > 1:
        scale = np.asarray(node.scale, dtype=np.float64)
        if np.any(scale != scale.reshape(shape[0], -1)[:, :1].reshape(-1, *[1] * (len(shape) - 1))):
            return None
        axes = len(shape) - 1
        weight = scale.reshape(shape[0], -1)[:, 0].reshape(-1, 1, *[1] * axes)
        return Convolution(weight, (1,) * axes, (0,) * axes, (1,) * axes, groups=shape[0])
    return None


def _compose(first: Convolution, second: Convolution, in_shape: Shape) -> Convolution | None:
    """second after first. Exact where the zeros that `second` pads are what `first` gives outside the map."""
    reach = [d * (k - 1) + 1 for k, d in zip(first.weight.shape[2:], first.dilation, strict=True)]
    padding = list(first.padding)
    for axis, extra in enumerate(second.padding):
        if not extra:
            continue
        # Windows side by side that tile the map leave nothing over: outside them are zeros only.
        tiles = reach[axis] == first.stride[axis] and in_shape[1 + axis] % first.stride[axis] == 0
        if first.padding[axis] or not tiles:
            return None
        padding[axis] = extra * first.stride[axis]
    if first.groups == first.weight.shape[0] == second.groups and first.weight.shape[1] == 1:
        groups = first.groups if second.weight.shape[1] == 1 else 1
    else:
        groups = 1
    channels = first.weight.shape[1] * first.groups
    spans = [d * (k - 1) for k, d in zip(second.weight.shape[2:], second.dilation, strict=True)]
    field = [r + s * span for r, s, span in zip(reach, first.stride, spans, strict=True)]
    # The response of one output to every input in its field is the merged kernel.
    size = channels * int(np.prod(field))
    x = torch.eye(size, dtype=torch.float64).reshape(size, channels, *field)
    for part in (first, second):
        x = stateless_map(_node_of(part, padded=False), (), ())(x)
    kernel = x.flatten(2)[:, :, 0].T.reshape(-1, channels, *field).numpy()
    if groups > 1:  # depthwise after depthwise: only the own channel counts
        rows = np.arange(len(kernel))
        kernel = kernel[rows, rows // (len(kernel) // groups)][:, None]
    stride = tuple(a * b for a, b in zip(first.stride, second.stride, strict=True))
    return Convolution(np.ascontiguousarray(kernel), stride, tuple(padding), (1,) * len(stride), groups)


def _node_of(synapse: Convolution, *, padded: bool = True) -> nir.Conv1d | nir.Conv2d:
    kind = nir.Conv2d if synapse.weight.ndim == 4 else nir.Conv1d
    padding = synapse.padding if padded else (0,) * len(synapse.padding)
    if kind is nir.Conv1d:
        return nir.Conv1d(
            None, synapse.weight, synapse.stride[0], padding[0], synapse.dilation[0], synapse.groups,
            np.zeros(len(synapse.weight)),
        )  # fmt: skip
    return nir.Conv2d(
        None, synapse.weight, synapse.stride, padding, synapse.dilation, synapse.groups, np.zeros(len(synapse.weight))
    )


# -- matrices -----------------------------------------------------------------------------------------------


def _as_matrix(model: Model, names: list[str]) -> Linear | None:
    """Flattens around a single matrix: the matrix itself."""
    weights = [n for n in names if not isinstance(model.nodes[n], nir.Flatten)]
    node = model.nodes[weights[0]] if len(weights) == 1 else None
    if isinstance(node, nir.Affine | nir.Linear) and len(model.shapes[model.sources[weights[0]][0]]) == 1:
        return Linear(np.asarray(node.weight, dtype=np.float64))
    return None


def _probe(model: Model, names: list[str], in_shape: Shape) -> Tensor:
    """The chain's matrix from its response to every unit vector."""
    size = int(np.prod(in_shape))
    columns = []
    for start in range(0, size, 1024):
        x = torch.zeros(min(1024, size - start), size, dtype=torch.float64)
        x[torch.arange(len(x)), torch.arange(start, start + len(x))] = 1.0
        x = x.reshape(len(x), *in_shape)
        silence = torch.zeros(1, *in_shape, dtype=torch.float64)
        for name in names:
            function = stateless_map(model.nodes[name], model.shapes[model.sources[name][0]], model.shapes[name])
            x, silence = function(x), function(silence)
        columns.append((x - silence).flatten(1))
    return torch.cat(columns).T.contiguous()
