"""Loihi 1 cores: 1024 compartments, 4096 in-axons, 4096 out-axons, 16384 x 64 bits of synapses.

Synapse memory is packed as nengo-loihi packs it: an axon of n weights takes, per block of 64 weights,
64 * ceil((8 n + 10) / 64) bits. A convolution stores one weight list per distinct set of taps (borders and
stride phases differ) and input channel; its in-axons are positions, since the channels of a position share
one through population spikes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import nir
import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.chips.units import to_si
from snnkd_deploy.evaluate.mapping.constraints import known_limits
from snnkd_deploy.evaluate.mapping.cuts import blocks, even_blocks, even_lengths, grid
from snnkd_deploy.evaluate.mapping.region import count_of, sources_of_box, synapse_outputs, tap_patterns
from snnkd_deploy.evaluate.mapping.report import Box
from snnkd_deploy.evaluate.wiring import Connection, Wiring
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import conv_padding, pair

NEURONS, MEMORY, IN_AXONS, OUT_AXONS = "compartments", "synapse memory", "in-axons", "out-axons"
WEIGHT_BITS = 8
_BLOCK = 64  # weights per block of a synapse list
_HEADER_BITS = 10


class Loihi1:
    """See the module text. Soft reset takes two compartments a neuron."""

    def __init__(self, chip: ChipSpec) -> None:
        self.chip = chip
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

    def need(self, model: Model, wires: Wiring, layer: str, box: Box) -> dict[str, float]:
        neurons = math.prod(stop - start for start, stop in box)
        per_neuron = 2 if model.profile.reset == "subtract" else 1
        words = axons = 0
        for connection in wires.into(layer):
            if not connection.host:
                more_words, more_axons = self._synapses(model, connection, box)
                words, axons = words + more_words, axons + more_axons
        return {NEURONS: float(neurons * per_neuron), MEMORY: float(words), IN_AXONS: float(axons)}

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
                words += count * axon_words(int(outputs[-1].sum()))
        return words, axons

    def _kernel_words(self, model: Model, connection: Connection, outputs: list[np.ndarray]) -> int:
        node = model.nodes[connection.synapse]
        shape = model.shapes[model.sources[connection.synapse][0]]
        stride, dilation, padding = pair(node.stride), pair(node.dilation), conv_padding(node)
        groups = int(np.asarray(node.groups))
        channels = max(1, int(outputs[0].reshape(groups, -1).sum(1).max()))
        inputs = int(outputs[0].reshape(groups, -1).any(1).sum()) * (shape[0] // groups)
        patterns = [1]
        for axis, size in enumerate(shape[1:]):
            kernel = int(node.weight.shape[2 + axis])
            taps = tap_patterns(outputs[1 + axis], size, kernel, stride[axis], padding[axis], dilation[axis])
            patterns = [a * b for a in patterns for b in taps]
        return sum(inputs * axon_words(taps * channels) for taps in patterns)

    def cuts(self, model: Model, wires: Wiring, layer: str) -> Iterator[list[Box]]:
        shape = model.shapes[layer]
        per_neuron = 2 if model.profile.reset == "subtract" else 1
        room = self.limits.get(NEURONS, math.inf) / per_neuron

        def fewest(rest: int, size: int) -> int:
            """No cut into fewer pieces can hold the compartments: there is no need to try it."""
            return max(1, math.ceil(rest * size / room))

        if len(shape) == 1:
            for length in even_lengths(shape[0], fewest(1, shape[0])):
                yield grid([blocks(shape[0], length)])
            return
        channels = 1
        while True:
            depth = even_blocks(shape[0], channels)
            deepest = max(stop - start for start, stop in depth)
            rows = [[(0, size)] for size in shape[1:-1]]
            column = deepest * math.prod(shape[1:-1])
            if column <= room:
                for length in even_lengths(shape[-1], fewest(column, shape[-1])):
                    yield grid([depth, *rows, blocks(shape[-1], length)])
            if len(shape) > 2 and deepest <= room:
                for length in even_lengths(shape[1], fewest(deepest, shape[1])):
                    yield grid([depth, blocks(shape[1], length), *[blocks(s, 1) for s in shape[2:]]])
            if channels >= shape[0]:
                if column > room and deepest > room:
                    yield grid([blocks(size, 1) for size in shape])
                return
            channels = min(shape[0], channels * 2)


def axon_words(weights: int) -> int:
    """64-bit words of one synapse list of `weights` 8-bit weights (nengo-loihi `Synapse.bits_per_axon`)."""
    full, rest = divmod(weights, _BLOCK)
    words = full * math.ceil((_BLOCK * WEIGHT_BITS + _HEADER_BITS) / 64)
    return words + (math.ceil((rest * WEIGHT_BITS + _HEADER_BITS) / 64) if rest else 0)
