"""Currents that add events one by one and saturate in between (Xylo): the sum where it is exact, the order where not.

The chip adds the events of a step to a current of 16 bits in the order of their sources, and clips after each. The
sum of all is the same as long as neither the positive events alone nor the negative ones leave the register::

    i + sum of positive events <= high    and    i + sum of negative events >= low

Where that does not hold, this module adds source by source: input channels first, then populations in layer order,
neurons in flat order. (Equal events of one source need no order among themselves.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack
from torch import Tensor

from snnkd_deploy.arithmetic.neuron import Level
from snnkd_deploy.arithmetic.shift import ShiftNeuron, shift_leak

# Weights looked up at once where entries are done again (entries times sources).
_CHUNK_VALUES = 8_000_000


@dataclass
class Arrivals:
    """What one synapse handed to a population in its last call.

    `weights` (targets, sources) integers; `positive` maps (N, *in) to the sums over the positive weights alone.
    `events` (T, B, *in) is None before the first call: a loop has not answered yet.
    """

    origin: int  # rank of the population that it comes from; the input is -1
    weights: csr_matrix
    positive: Callable[[Tensor], Tensor]
    events: Tensor | None = None
    is_loop: bool = False


class EventByEvent:
    """A `ShiftNeuron` with a synaptic current whose sums are taken in the chip's order.

    `entries` counts those neuron-steps in which the order could matter, `changed` those in which it did.
    """

    def __init__(self, neuron: ShiftNeuron, arrivals: Sequence[Arrivals]) -> None:
        assert neuron.dash_syn is not None
        self.neuron, self.dash_syn = neuron, neuron.dash_syn
        self.arrivals = sorted(arrivals, key=lambda a: a.origin)
        self.high, self.low = 2.0 ** (neuron.bits - 1) - 1, -(2.0 ** (neuron.bits - 1))
        self.start()

    def start(self) -> None:
        self.clock = self.entries = self.changed = 0
        for arrival in self.arrivals:
            arrival.events = None

    @property
    def level(self) -> float:
        return self.neuron.level

    @property
    def floor(self) -> float:
        return self.neuron.floor

    def current(self, u: Tensor, drive: Tensor | None) -> Tensor:
        assert drive is not None
        kept = self.added(u, drive)
        return kept - shift_leak(kept, self.dash_syn)

    def added(self, u: Tensor, drive: Tensor) -> Tensor:
        """The current after this step's events and before its decay; the next call is the next step."""
        unit = float(1 << self.neuron.shift)
        up = self._positive(u, self.clock) * unit
        total = u + drive * unit
        kept = self.neuron.clip(total)
        doubtful = (u + up > self.high) | (total - up < self.low)
        if bool(doubtful.any()):
            redone = self._in_order(u, doubtful, self.clock)
            self.entries += redone.numel()
            self.changed += int((redone != kept[doubtful]).sum())
            kept[doubtful] = redone
        self.clock += 1
        return kept

    def effective(self, drive: Tensor) -> Tensor:
        """Drives (T, B, *shape) whose plain sums give what the events in order give: for arithmetic without order."""
        u, found = torch.zeros_like(drive[0]), []
        for step in drive:
            found.append(self.effective_step(u, step))
            u = self.neuron.current(u, found[-1])
        return torch.stack(found)

    def effective_step(self, u: Tensor, drive: Tensor) -> Tensor:
        """The same for the next step alone, with the current `u` that the last one left."""
        return (self.added(u, drive) - u) / float(1 << self.neuron.shift)

    def hear_loop(self, spikes: Tensor) -> None:
        """The population's own spikes (B, N) of the last step, for the arrivals that have no events of their own."""
        for arrival in self.arrivals:
            if arrival.events is None or arrival.is_loop:
                arrival.events, arrival.is_loop = spikes[None], True

    def membrane(self, v: Tensor, u: Tensor) -> Tensor:
        return self.neuron.membrane(v, u)

    def fire(self, v: Tensor, level: Level) -> Tensor:
        return self.neuron.fire(v, level)

    def reset(self, v: Tensor, spikes: Tensor, level: Level, floor: Level) -> Tensor:
        return self.neuron.reset(v, spikes, level, floor)

    def _positive(self, u: Tensor, t: int) -> Tensor:
        total = torch.zeros_like(u)
        for arrival in self.arrivals:
            if arrival.events is not None:
                total = total + arrival.positive(_at(arrival.events, t)).to(u.dtype).reshape(u.shape)
        return total

    def _in_order(self, u: Tensor, doubtful: Tensor, t: int) -> Tensor:
        """The doubtful currents after all events, before their decay; one value an entry."""
        sample, neuron = np.nonzero(doubtful.flatten(1).cpu().numpy())
        present = [a for a in self.arrivals if a.events is not None]
        start = u.flatten(1).cpu().numpy().astype(np.int64)[sample, neuron]
        if present:
            weights, events = self._by_source(present, t)
            step = max(1, _CHUNK_VALUES // max(1, weights.shape[1]))
            for first in range(0, len(sample), step):
                part = slice(first, first + step)
                added = weights[neuron[part]].toarray() * events[sample[part]] << self.neuron.shift
                start[part] = self._add_up(start[part], added)
        return torch.from_numpy(start).to(u)

    def _by_source(self, present: Sequence[Arrivals], t: int) -> tuple[csr_matrix, np.ndarray]:
        """Weights (targets, sources) and events (B, sources), side by side in the chip's order.

        Synapses from the same population are one column a neuron, hence the events must be the same too: they are,
        because every synapse hears it with the same delay.
        """
        blocks: list[csr_matrix] = []
        columns: list[np.ndarray] = []
        last: int | None = None
        for arrival in present:
            assert arrival.events is not None
            events = _at(arrival.events, t).flatten(1).cpu().numpy().astype(np.int64)
            if arrival.origin == last and np.array_equal(events, columns[-1]):
                blocks[-1] = blocks[-1] + arrival.weights
            else:
                blocks.append(arrival.weights)
                columns.append(events)
            last = arrival.origin
        return csr_matrix(hstack(blocks)), np.concatenate(columns, axis=1)

    def _add_up(self, current: np.ndarray, added: np.ndarray) -> np.ndarray:
        for k in np.flatnonzero(added.any(axis=0)):
            current = np.clip(current + added[:, k], int(self.low), int(self.high))
        return current


def _at(events: Tensor, t: int) -> Tensor:
    """Step t; a constant input, and a synapse inside a loop, hold one step only."""
    return events[min(t, events.shape[0] - 1)]


def order_is_free(neuron: ShiftNeuron, bound: int) -> bool:
    """True where no current can ever leave its register: sums are bounded by `bound`, a decay by its shift."""
    return neuron.dash_syn is None or ((bound << neuron.shift) + 1) << neuron.dash_syn < 1 << (neuron.bits - 1)
