"""Linear NIR nodes as integer CSR matrices over flat vectors in torch's (C, H, W) order.

One order everywhere means that Flatten costs nothing, pooling is a matrix product, and no weight has to be
permuted into Lava's (W, H, C).
"""

from __future__ import annotations

import nir
import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, identity, kron

from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import Shape, conv_padding, pair


def size_of(shape: Shape) -> int:
    return int(np.prod(shape))


def weight_matrix(model: Model, name: str) -> csr_matrix:
    """Integer weights (N_out, N_in), int64, of a weight node."""
    node = model.nodes[name]
    weight = model.weight_int(name)
    in_shape = model.shapes[model.sources[name][0]]
    if isinstance(node, nir.Conv2d):
        groups = int(np.asarray(node.groups))
        return conv_matrix(weight, in_shape, pair(node.stride), conv_padding(node), pair(node.dilation), groups)
    if isinstance(node, nir.Conv1d):
        # A convolution over one row.
        return conv_matrix(
            weight[:, :, None, :],
            (in_shape[0], 1, in_shape[1]),
            (1, pair(node.stride)[0]),
            (0, conv_padding(node)[0]),
            (1, pair(node.dilation)[0]),
            int(np.asarray(node.groups)),
        )
    if isinstance(node, nir.Scale):
        diagonal = np.broadcast_to(weight, in_shape).ravel()
        return csr_matrix((diagonal, (np.arange(diagonal.size), np.arange(diagonal.size))), shape=(diagonal.size,) * 2)
    rows = size_of(in_shape[:-1])
    dense = csr_matrix(weight)
    return dense if rows == 1 else kron(identity(rows, dtype=np.int64), dense, format="csr")


def pool_matrix(model: Model, name: str) -> csr_matrix:
    """A SumPool2d as a 0/1 matrix."""
    node = model.nodes[name]
    in_shape = model.shapes[model.sources[name][0]]
    ones = np.ones((in_shape[0], 1, *pair(node.kernel_size)), dtype=np.int64)
    return conv_matrix(ones, in_shape, pair(node.stride), pair(node.padding), (1, 1), in_shape[0])


def conv_matrix(
    weight: np.ndarray,
    in_shape: Shape,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> csr_matrix:
    """torch's conv2d (a correlation, zero padding) with `weight` (O, I/groups, KH, KW) as a matrix."""
    channels_out, per_group, *kernel = weight.shape
    _, *size = in_shape
    out_size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    # For each axis and tap: the output positions it reaches, and the input position each reads.
    reach = []
    for axis in range(2):
        taps = []
        for k in range(kernel[axis]):
            out = np.arange(out_size[axis])
            source = out * stride[axis] - padding[axis] + k * dilation[axis]
            inside = (source >= 0) & (source < size[axis])
            taps.append((out[inside], source[inside]))
        reach.append(taps)
    o = np.arange(channels_out)[:, None]
    i = (o // (channels_out // groups)) * per_group + np.arange(per_group)[None]
    rows, columns, values = [], [], []
    for ky, (out_y, in_y) in enumerate(reach[0]):
        for kx, (out_x, in_x) in enumerate(reach[1]):
            tap = weight[:, :, ky, kx]
            used_o, used_i = np.nonzero(tap)  # zeros are no synapses
            out_at = (out_y[:, None] * out_size[1] + out_x[None]).ravel()
            in_at = (in_y[:, None] * size[1] + in_x[None]).ravel()
            rows.append((used_o[:, None] * (out_size[0] * out_size[1]) + out_at[None]).ravel())
            columns.append((i[used_o, used_i][:, None] * (size[0] * size[1]) + in_at[None]).ravel())
            values.append(np.repeat(tap[used_o, used_i], out_at.size))
    shape = (channels_out * out_size[0] * out_size[1], size_of(in_shape))
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return coo_matrix(entries, shape=shape, dtype=np.int64).tocsr()


def sign_mode(values: np.ndarray) -> str | None:
    """Loihi's sign mode that holds these integers without clipping or truncation, or None.

    MIXED: even, -256..254. EXCITATORY: 0..255. INHIBITORY: -255..0.
    """
    if values.size == 0:
        return "MIXED"
    low, high = int(values.min()), int(values.max())
    if low >= -256 and high <= 254 and not np.any(values & 1):
        return "MIXED"
    if low >= 0 and high <= 255:
        return "EXCITATORY"
    if high <= 0 and low >= -255:
        return "INHIBITORY"
    return None
