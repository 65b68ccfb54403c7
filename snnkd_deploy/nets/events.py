"""Training where a chip adds events one by one and its current saturates in between (Xylo).

The forward pass takes drives for which plain sums give what the chip's order gives (`arithmetic.events`); gradients
pass as through the plain sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from snnkd_deploy.arithmetic import Neuron, ShiftNeuron
from snnkd_deploy.arithmetic.events import Arrivals, EventByEvent, order_is_free
from snnkd_deploy.nets.synapse import Synapse

# Inputs whose weights are looked up at once.
_COLUMNS = 256


def event_order(
    neuron: Neuron,
    synapses: Sequence[Synapse],
    weights: Sequence[Tensor],
    ranks: Sequence[int],
    heard: Sequence[Tensor],
) -> EventByEvent | None:
    """The neuron with its sums in the chip's order, or None where these events cannot clip in between.

    One entry each a synapse: its integer weights, the rank of its source, and what arrives, (T, B, ...), or for a
    loop, whose spikes are not known yet, the most that one neuron can send as (1, 1).
    """
    if not isinstance(neuron, ShiftNeuron) or neuron.dash_syn is None:
        return None
    # One weight of a pooled synapse is heard from every position of its map.
    each = [max(1, synapse.pool_area) for synapse in synapses]
    rows = [w.detach().abs().flatten(1).sum(1).max() * n for w, n in zip(weights, each, strict=True)]
    bound = sum(float(row * x.detach().max()) for row, x in zip(rows, heard, strict=True) if x.numel())
    if order_is_free(neuron, int(bound)):
        return None
    arrivals = []
    for synapse, weight, rank, x in zip(synapses, weights, ranks, heard, strict=True):
        shape = (weight.shape[1],) if x.dim() == 2 else tuple(x.shape[2:])
        arrivals.append(_arrivals(synapse, weight.detach(), rank, shape))
    ordered = EventByEvent(neuron, arrivals)
    for arrival, x in zip(arrivals, heard, strict=True):
        arrival.events = None if x.dim() == 2 else x.detach()
    return ordered


def _arrivals(synapse: Synapse, weight: Tensor, rank: int, shape: tuple[int, ...]) -> Arrivals:
    inputs = int(np.prod(shape))
    blocks = []
    for start in range(0, inputs, _COLUMNS):  # the map of one input at a time would be slow, of all at once large
        count = min(_COLUMNS, inputs - start)
        one_hot = torch.zeros(count, inputs, device=weight.device)
        one_hot[torch.arange(count), torch.arange(start, start + count)] = 1.0
        columns = synapse.apply_weight(one_hot.reshape(count, *shape), weight)
        blocks.append(csr_matrix(columns.flatten(1).cpu().numpy().astype(np.int64)))
    positive = weight.clamp_min(0.0)
    return Arrivals(rank, csr_matrix(vstack(blocks).T), lambda x: synapse.apply_weight(x, positive))
