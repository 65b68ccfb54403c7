"""Which neurons a step's spikes reach, whatever the weights: needed for active updates only.

All output channels of a position see the same inputs, so a convolution needs a map of one channel, and
"at least one tap" is an OR of shifted maps. That is far cheaper than a convolution with ones.
"""

from __future__ import annotations

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from snnkd_deploy.backends.layers import linear_map
from snnkd_deploy.evaluate.fanout import fan_out, pass_chain
from snnkd_deploy.evaluate.wiring import POOLS, Arrival, Connection
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import conv_padding, pair

Pair = tuple[int, int]


def reach(model: Model, connection: Connection, arrival: Arrival, spikes: Tensor) -> Tensor:
    """Bool (T, B, ...) that broadcasts to the weight node's output: True where a spike arrives.

    `spikes` (T, B, *source) are those of one stream; uint8 is fastest.
    """
    node = model.nodes[connection.synapse]
    lead = tuple(spikes.shape[:2])
    if spikes.dtype != torch.uint8:
        spikes = (spikes != 0).to(torch.uint8)
    flattens = any(isinstance(model.nodes[n], nir.Flatten) for n in arrival.chain)
    if isinstance(node, nir.Affine | nir.Linear) and len(model.shapes[connection.synapse]) == 1:
        # Fully connected: one spike reaches everybody, unless a pool's border drops it.
        present = spikes.flatten(2)
        taps = fan_out(model, connection.synapse, chain=arrival.chain, source=arrival.source).flatten()
        if not bool((taps > 0).all()):
            present = present[..., taps > 0]
        return present.amax(-1, keepdim=True) != 0
    if isinstance(node, nir.Conv1d | nir.Conv2d) and int(np.asarray(node.groups)) == 1 and not flattens:
        present = torch.from_numpy(spikes.numpy().max(2)).flatten(0, 1)  # torch takes twice as long for bytes
        for name in arrival.chain:
            pool = model.nodes[name]
            if isinstance(pool, POOLS):
                present = window_any(present, pair(pool.kernel_size), pair(pool.stride), pair(pool.padding), (1, 1))
        flat = node.weight.ndim == 3
        if flat:
            present = present.unsqueeze(1)
        kernel, stride, padding, dilation = _geometry(node)
        taps = window_any(present, kernel, stride, padding, dilation)
        return (taps.squeeze(1) if flat else taps).unflatten(0, lead).unsqueeze(2) != 0
    ones = torch.ones(np.asarray(node.weight).shape)
    whole = pass_chain(model, arrival.chain, spikes.flatten(0, 1).to(torch.float32))
    return (linear_map(node, ones)(whole) > 0).unflatten(0, lead)


def _geometry(node: nir.Conv1d | nir.Conv2d) -> tuple[Pair, Pair, Pair, Pair]:
    """Kernel, stride, padding, dilation as (rows, columns); one row for Conv1d."""
    if node.weight.ndim == 4:
        padding = conv_padding(node)
        kernel = (int(node.weight.shape[2]), int(node.weight.shape[3]))
        return kernel, pair(node.stride), (padding[0], padding[1]), pair(node.dilation)
    length = int(node.weight.shape[2])
    return (1, length), (1, pair(node.stride)[0]), (0, conv_padding(node)[0]), (1, pair(node.dilation)[0])


def window_any(present: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """OR of a (N, H, W) uint8 map of 0 and larger over sliding windows: rows first, then columns."""
    padded = F.pad(present, (padding[1], padding[1], padding[0], padding[0]))
    for axis in (0, 1):
        size = padded.shape[1 + axis]
        count = (size - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        taps = []
        for k in range(kernel[axis]):
            first = k * dilation[axis]
            window = slice(first, first + (count - 1) * stride[axis] + 1, stride[axis])
            taps.append(padded[:, window] if axis == 0 else padded[:, :, window])
        out = taps[0]
        for tap in taps[1:]:
            out = out | tap
        padded = out
    return padded


def count_active(reached: Tensor | None, fired: Tensor | None, shape: tuple[int, ...], *, binary: bool = False) -> int:
    """Elements that were reached or fired. `reached` broadcasts to (T, B, *shape), `fired`: uint8 (`binary`: 0, 1)."""
    if reached is None:
        return 0 if fired is None else int(torch.count_nonzero(fired))
    lead = reached.shape[:2]
    # Left-pad so that a mask of a flat layer lines up with the layer's own axes.
    mask = reached.reshape(*lead, *[1] * (len(shape) - (reached.dim() - 2)), *reached.shape[2:])
    repeats = int(np.prod(shape)) // int(np.prod(mask.shape[2:]))
    count = int(np.count_nonzero(mask.numpy())) * repeats
    if fired is None:
        return count
    spikes = fired.numpy()
    shared = tuple(i + 2 for i, size in enumerate(mask.shape[2:]) if size == 1 and shape[i] > 1)
    if not binary:
        spikes = spikes != 0
    wide = int(np.prod([shape[i - 2] for i in shared])) > 255
    alone = spikes.sum(shared, dtype=np.int64 if wide else np.uint8, keepdims=True) if shared else spikes
    return count + int((alone * ~mask.numpy()).sum(dtype=np.int64))  # numpy's own `where` takes several times as long
