"""Which neurons a step's spikes reach, whatever the weights: needed for active updates only.

All output channels of a position see the same inputs, so a convolution needs a map of one channel, and
"at least one tap" is an OR of shifted maps. That is far cheaper than a convolution with ones.
"""

from __future__ import annotations

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from snnkd_deploy.backends.layers import linear_map
from snnkd_deploy.evaluate.fanout import pass_chain
from snnkd_deploy.evaluate.tally import Tally
from snnkd_deploy.evaluate.wiring import POOLS, Arrival, Connection
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import conv_padding, pair

Pair = tuple[int, int]


def reach(model: Model, connection: Connection, arrival: Arrival, sent: Tally, arrives: NDArray[np.bool_]) -> Tensor:
    """Bool (T, B, ...) that broadcasts to the weight node's output: True where a spike of one stream arrives.

    arrives: flat, of each element of the source, whether its spikes arrive anywhere (a pool's border may drop them).
    """
    node = model.nodes[connection.synapse]
    lead = tuple(sent.spikes.shape[:2])
    flattens = any(isinstance(model.nodes[n], nir.Flatten) for n in arrival.chain)
    if isinstance(node, nir.Affine | nir.Linear) and len(model.shapes[connection.synapse]) == 1:
        # Fully connected: one spike reaches everybody.
        if arrives.all():
            return torch.from_numpy(sent.firing.reshape(*lead, -1).any(-1, keepdims=True))
        return (sent.spikes.flatten(2)[..., torch.from_numpy(arrives)] != 0).any(-1, keepdim=True)
    if isinstance(node, nir.Conv1d | nir.Conv2d) and int(np.asarray(node.groups)) == 1 and not flattens:
        firing = sent.firing if sent.firing.dtype == np.uint8 else sent.firing != 0
        present = torch.from_numpy(firing.view(np.uint8)).flatten(0, 1)
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
    whole = pass_chain(model, arrival.chain, (sent.spikes != 0).flatten(0, 1).to(torch.float32))
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


def count_active(reached: Tensor | None, fired: Tally | None, shape: tuple[int, ...]) -> int:
    """Neuron-steps of a layer of `shape` that were reached (broadcasts to (T, B, *shape)) or fired."""
    if reached is None:
        return 0 if fired is None else _spiking(fired)
    lead = reached.shape[:2]
    # Left-pad so that a mask of a flat layer lines up with the layer's own axes.
    mask = reached.reshape(*lead, *[1] * (len(shape) - (reached.dim() - 2)), *reached.shape[2:]).numpy()
    count = int(np.count_nonzero(mask)) * (int(np.prod(shape)) // int(np.prod(mask.shape[2:])))
    if fired is None:
        return count
    if mask.shape[2] != shape[0]:  # all channels are reached alike
        alone = ~mask[:, :, 0]
        if len(shape) > 1:
            return count + int((fired.firing * alone).sum(dtype=np.int64))
        return count + int(np.count_nonzero(fired.spikes.numpy()[alone & (fired.firing > 0)]))
    return count + int(np.count_nonzero((fired.spikes.numpy() != 0) & ~mask))


def _spiking(fired: Tally) -> int:
    """Neuron-steps with a spike."""
    return int(fired.sums.sum()) if fired.single else int(torch.count_nonzero(fired.spikes))
