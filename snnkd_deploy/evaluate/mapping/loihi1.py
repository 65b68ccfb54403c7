"""Loihi 1 cores: 1024 compartments, 4096 in-axons, 4096 out-axons, 16384 x 64 bits of synapses.

Synapse memory is packed as nengo-loihi 1.1 packs it (its `block.utilization()` gives the same numbers for
a layer on one core): a list of n weights takes, per block of 64 weights, ceil64(n (8 + index bits) + 10)
bits. A dense axon needs no index bits. A convolution stores one list of all input channels per distinct
set of taps (borders and stride phases differ) and per 256 compartments of target offset; its in-axons are
positions, since the channels of a position share one through population spikes, which take two out-axons.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import nir
import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.chips.units import to_si
from snnkd_deploy.errors import Problem
from snnkd_deploy.evaluate.mapping.constraints import VENDOR_MAY_DIFFER, known_limits
from snnkd_deploy.evaluate.mapping.cuts import slabs
from snnkd_deploy.evaluate.mapping.region import count_of, sources_of_box, synapse_outputs, tap_patterns
from snnkd_deploy.evaluate.mapping.report import Box, Tile
from snnkd_deploy.evaluate.wiring import Arrival, Connection, Wiring
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import conv_padding, pair

NEURONS, MEMORY, IN_AXONS, OUT_AXONS = "compartments", "synapse memory", "in-axons", "out-axons"
WEIGHT_BITS = 8
_BLOCK = 64  # weights per block of a synapse list
_HEADER_BITS = 10
_BASES = 256  # an axon's compartment offset goes so far; the rest of it is in the indices
_INDEX_BITS = (0, 6, 7, 8, 9, 10, 11, 12)


class Loihi1:
    """See the module text. Soft reset takes two compartments a neuron."""

    note = VENDOR_MAY_DIFFER

    def __init__(self, chip: ChipSpec) -> None:
        self.chip = chip
        self._heard_of: dict[tuple[str, str, str, tuple[str, ...]], tuple[tuple[Box, ...], list[np.ndarray]]] = {}
        self.limits, self.unchecked = known_limits(
            chip, {NEURONS: "neurons_per_core", IN_AXONS: "in_axons_per_core", OUT_AXONS: "out_axons_per_core"}
        )
        memory = chip.limits.get("synaptic_memory_per_core")
        if memory is not None and memory.value is not None:
            self.limits[MEMORY] = to_si(memory.value, memory.unit, "bytes") / 8
        else:
            self.unchecked += ("synaptic_memory_per_core",)
        self.remedies = {
            NEURONS: "a narrower student (student.width)",
            MEMORY: "fewer inputs into this layer: pool or stride before it, or a narrower layer",
            IN_AXONS: "fewer sources into this layer: pool, stride or narrow the layer before it",
            OUT_AXONS: "a narrower next layer, so that it takes fewer cores",
        }

    def wall(self, model: Model, wires: Wiring, layer: str) -> list[Problem]:
        return []

    def need(self, model: Model, wires: Wiring, layer: str, box: Box) -> dict[str, float]:
        neurons = math.prod(stop - start for start, stop in box)
        per_neuron = 2 if model.profile.reset == "subtract" else 1
        words = axons = 0
        for connection in wires.into(layer):
            if not connection.host:
                more_words, more_axons = self._synapses(model, connection, box)
                words, axons = words + more_words, axons + more_axons
        return {NEURONS: float(neurons * per_neuron), MEMORY: float(words), IN_AXONS: float(axons)}

    def outgoing(
        self, model: Model, wires: Wiring, tile: Tile, tiles: Mapping[str, Sequence[Tile]]
    ) -> dict[str, float]:
        """Out-axons: one per target core and neuron, or two per target core and position of a map."""
        slots = 0
        for connection in wires.out_of(tile.layer):
            if connection.host:
                continue
            for arrival in connection.arrivals:
                if arrival.source != tile.layer:
                    continue
                heard = self._heard(model, connection, arrival, tuple(t.box for t in tiles[connection.target]))
                # For every target core how many elements of the tile it hears, along each axis.
                sent = [axis[:, stop] - axis[:, start] for axis, (start, stop) in zip(heard, tile.box, strict=True)]
                if connection.shared and len(sent) > 1:
                    slots += 2 * int(((sent[0] > 0) * np.prod(sent[1:], axis=0)).sum())
                else:
                    slots += int(np.prod(sent, axis=0).sum())
        return {OUT_AXONS: float(slots)}

    def _heard(
        self, model: Model, connection: Connection, arrival: Arrival, boxes: tuple[Box, ...]
    ) -> list[np.ndarray]:
        """Sources that each target block hears, per axis as running sums (blocks, size + 1)."""
        key = (connection.synapse, connection.target, arrival.source, arrival.chain)
        kept = self._heard_of.get(key)
        if kept is None or kept[0] != boxes:
            rows = [sources_of_box(model, connection, arrival, box) for box in boxes]
            axes = [np.cumsum([row[axis] for row in rows], axis=1) for axis in range(len(rows[0]))]
            kept = self._heard_of[key] = (boxes, [np.pad(axis, ((0, 0), (1, 0))) for axis in axes])
        return kept[1]

    def _synapses(self, model: Model, connection: Connection, box: Box) -> tuple[int, int]:
        """(64-bit words, in-axons) of one weight node for the neurons of `box`."""
        node = model.nodes[connection.synapse]
        outputs = synapse_outputs(model, connection, box)
        words = axons = 0
        for arrival in connection.arrivals:
            sources = sources_of_box(model, connection, arrival, box)
            if isinstance(node, nir.Conv1d | nir.Conv2d):
                axons += count_of(sources[1:]) if len(sources) > 1 else count_of(sources)
                words += self._kernel_words(model, connection, outputs)
            else:
                count = count_of(sources)
                axons += count
                words += count * list_words(int(outputs[-1].sum()))
        return words, axons

    def _kernel_words(self, model: Model, connection: Connection, outputs: list[np.ndarray]) -> int:
        node = model.nodes[connection.synapse]
        shape = model.shapes[model.sources[connection.synapse][0]]
        stride, dilation, padding = pair(node.stride), pair(node.dilation), conv_padding(node)
        groups = int(np.asarray(node.groups))
        per_group = outputs[0].reshape(groups, -1).sum(1)
        channels, inputs = int(per_group.max()), shape[0] // groups
        axes: list[dict[tuple[int, ...], list[int]]] = [{(0,): [0]}] if len(shape) == 2 else []
        for axis, size in enumerate(shape[1:]):
            kernel = int(node.weight.shape[2 + axis])
            axes.append(tap_patterns(outputs[1 + axis], size, kernel, stride[axis], padding[axis], dilation[axis]))
        height, width = (1, int(outputs[1].sum())) if len(shape) == 2 else map(int, map(np.sum, outputs[1:3]))
        largest = 0
        lists: list[int] = []
        for (rows, tops), (columns, lefts) in product(axes[0].items(), axes[1].items()):
            offsets = np.unique(np.add.outer(np.unique(tops) * width, np.unique(lefts)) // _BASES)
            lists += [inputs * len(rows) * len(columns) * channels] * len(offsets)
            reach = (channels - 1) * height * width + (len(rows) - 1) * width + len(columns) - 1
            largest = max(largest, int(offsets.max()) * _BASES + reach)
        bits = index_bits(largest)
        return int((per_group > 0).sum()) * sum(list_words(n, bits) for n in lists)

    def cuts(self, model: Model, wires: Wiring, layer: str) -> Iterator[list[Box]]:
        per_neuron = 2 if model.profile.reset == "subtract" else 1
        yield from slabs(model.shapes[layer], self.limits.get(NEURONS, math.inf) / per_neuron)


def list_words(weights: int, index: int = 0) -> int:
    """64-bit words of one list of 8-bit weights with `index` bits each (nengo-loihi `bits_per_axon`)."""
    full, rest = divmod(weights, _BLOCK)
    bits = WEIGHT_BITS + index
    words = full * math.ceil((_BLOCK * bits + _HEADER_BITS) / 64)
    return words + (math.ceil((rest * bits + _HEADER_BITS) / 64) if rest else 0)


def index_bits(largest: int) -> int:
    """Bits that hold compartment indices up to `largest`: 0, or 6 to 12 (more never fit a core)."""
    need = math.ceil(math.log2(largest + 1)) if largest > 0 else 0
    return next((bits for bits in _INDEX_BITS if bits >= need), _INDEX_BITS[-1])
