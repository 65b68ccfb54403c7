"""Loihi 2 cores, after the compile log of a public benchmark (lava-dl, PilotNet-LIF and -SDNN notebooks).

What the log shows, and what is used here:
- maps are cut into slabs of full height, all channels and a power of two of columns; slabs of up to 3168
  neurons occur, a slab of 4096 was never chosen although other resources had room;
- synapse memory has 12000 words. A dense axon of n 8-bit weights takes ceil((n + 1) / 4) words (100: 26,
  17: 5, 10: 3, 1: 1); a convolution ceil(1 + 9 n / 128) words per input channel and tap for n output
  channels (24: 3, 36: 4, 48: 5, 64: 6), shared by all positions;
- a dense layer that is over by a ratio is cut into ceil(ratio) pieces, and again until it fits
  (2560 -> 100: 66560 words, 6 pieces; 12800 words, 12 pieces).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import nir
import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.evaluate.mapping.constraints import VENDOR_MAY_DIFFER, known_limits
from snnkd_deploy.evaluate.mapping.cuts import blocks, even_blocks, grid, powers_down, whole
from snnkd_deploy.evaluate.mapping.region import count_of, sources_of_box, synapse_outputs
from snnkd_deploy.evaluate.mapping.report import Box, Tile
from snnkd_deploy.evaluate.wiring import Wiring
from snnkd_deploy.graph.model import Model

NEURONS, SLAB, MEMORY = "neurons", "slab neurons", "synapse memory"
_NAMES = {
    NEURONS: "neurons_per_core",
    SLAB: "slab_neurons_per_core",
    MEMORY: "synapse_words_per_core",
    "in-axons": "in_axons_per_core",
    "out-axons": "out_axons_per_core",
}


class Loihi2:
    """See the module text. In- and out-axon limits are unknown and not used."""

    note = VENDOR_MAY_DIFFER

    def __init__(self, chip: ChipSpec) -> None:
        self.chip = chip
        self.limits, self.unchecked = known_limits(chip, _NAMES)
        self.remedies = {
            NEURONS: "a narrower student (student.width)",
            SLAB: "fewer channels, or a stride earlier in the network",
            MEMORY: "fewer inputs into this layer: pool or stride before it, or a narrower layer",
        }

    def wall(self, model: Model, wires: Wiring, layer: str) -> list[Problem]:
        return []

    def need(self, model: Model, wires: Wiring, layer: str, box: Box) -> dict[str, float]:
        neurons = math.prod(stop - start for start, stop in box)
        need = {NEURONS: float(neurons), MEMORY: self._words(model, wires, layer, box)}
        if len(box) > 1:
            need[SLAB] = float(neurons)
        axons = 0
        for connection in wires.into(layer):
            if not connection.host:
                axons += sum(count_of(sources_of_box(model, connection, a, box)) for a in connection.arrivals)
        need["in-axons"] = float(axons)
        return need

    def _words(self, model: Model, wires: Wiring, layer: str, box: Box) -> float:
        words = 0
        for connection in wires.into(layer):
            if connection.host:
                continue
            node = model.nodes[connection.synapse]
            outputs = synapse_outputs(model, connection, box)
            if isinstance(node, nir.Conv1d | nir.Conv2d):
                channels = int(outputs[0].sum())
                axons = int(np.prod(node.weight.shape[1:]))
                groups = int(np.asarray(node.groups))
                if groups > 1:  # each output channel sees its own group's inputs
                    axons *= int(outputs[0].reshape(groups, -1).any(1).sum())
                    channels = math.ceil(channels / max(1, int(outputs[0].reshape(groups, -1).any(1).sum())))
                words += axons * math.ceil(1 + 9 * channels / 128)
            else:
                for arrival in connection.arrivals:
                    axons = count_of(sources_of_box(model, connection, arrival, box))
                    words += axons * math.ceil((int(outputs[-1].sum()) + 1) / 4)
        return float(words)

    def outgoing(
        self, model: Model, wires: Wiring, tile: Tile, tiles: Mapping[str, Sequence[Tile]]
    ) -> dict[str, float]:
        return {}  # the limit of out-axons is unknown

    def cuts(self, model: Model, wires: Wiring, layer: str) -> Iterator[list[Box]]:
        shape = model.shapes[layer]
        if len(shape) == 1:
            yield from self._flat_cuts(model, wires, layer, shape[0])
            return
        # Channels first where one core cannot hold the kernels, whatever the slab.
        pieces = self._channel_pieces(model, wires, layer)
        limit = self.limits.get(SLAB, math.inf)
        for channel_pieces in _growing(pieces, shape[0]):
            channel_blocks = even_blocks(shape[0], channel_pieces)
            depth = max(stop - start for start, stop in channel_blocks)
            rows = [[(0, size)] for size in shape[1:-1]]
            height = math.prod(shape[1:-1])
            for width in powers_down(shape[-1]):
                # A power of two is reserved even where the map is narrower.
                if width * height * depth <= limit:
                    yield grid([channel_blocks, *rows, blocks(shape[-1], width)])
            if len(shape) > 2:
                for width in powers_down(shape[1]):
                    if width * depth <= limit:
                        tall = [blocks(shape[1], width)] + [blocks(size, 1) for size in shape[2:]]
                        yield grid([channel_blocks, *tall])

    def _flat_cuts(self, model: Model, wires: Wiring, layer: str, size: int) -> Iterator[list[Box]]:
        """Divide by the ratio to the limit until it fits, as the compiler does, then one neuron a core."""
        pieces = 1
        while pieces < size:
            cut = grid([even_blocks(size, pieces)])
            yield cut
            largest = max(cut, key=lambda box: box[0][1] - box[0][0])
            need = self.need(model, wires, layer, largest)
            ratio = max((need[k] / v for k, v in self.limits.items() if k in need), default=0.0)
            pieces *= max(2, math.ceil(ratio))
        yield grid([blocks(size, 1)])

    def _channel_pieces(self, model: Model, wires: Wiring, layer: str) -> int:
        words = self._words(model, wires, layer, whole(model.shapes[layer]))
        return max(1, math.ceil(words / self.limits.get(MEMORY, math.inf))) if words else 1


def _growing(first: int, size: int) -> Iterator[int]:
    pieces = min(first, size)
    while True:
        yield pieces
        if pieces >= size:
            return
        pieces = min(size, pieces * 2)
