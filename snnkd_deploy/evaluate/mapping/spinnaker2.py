"""SpiNNaker 2: neurons are software, so a core's memory and its tick decide, not fixed circuits.

An estimate, since the library's memory formula is not public: a weight of 8 bits each (a kernel once per core),
five 32-bit numbers a neuron (state, decay, threshold, offset, reset) and 4 bytes of routing per source. Whether a
core keeps its tick is not checked: no time of an operation is published.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import nir
import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.chips.units import to_si
from snnkd_deploy.errors import Problem
from snnkd_deploy.evaluate.mapping.constraints import known_limits
from snnkd_deploy.evaluate.mapping.cuts import slabs
from snnkd_deploy.evaluate.mapping.region import count_of, sources_of_box, synapse_outputs
from snnkd_deploy.evaluate.mapping.report import Box, Tile
from snnkd_deploy.evaluate.wiring import Wiring
from snnkd_deploy.graph.model import Model

NEURONS, MEMORY = "neurons", "data memory"
_NEURON_BYTES = 5 * 4
_SOURCE_BYTES = 4


class SpiNNaker2:
    """See the module text."""

    note = "Memory is an estimate, the deadline is not checked; the vendor's library may use other cores."

    def __init__(self, chip: ChipSpec) -> None:
        self.chip = chip
        self.limits, unchecked = known_limits(chip, {NEURONS: "neurons_per_core"})
        memory = chip.limits.get("data_memory_per_core")
        if memory is not None and memory.value is not None:
            self.limits[MEMORY] = to_si(memory.value, memory.unit, "bytes")
        else:
            unchecked += ("data_memory_per_core",)
        self.unchecked = (*unchecked, "tick_deadline")
        self.remedies = {
            NEURONS: "a narrower student (student.width)",
            MEMORY: "fewer inputs into this layer: pool or stride before it",
        }

    def wall(self, model: Model, wires: Wiring, layer: str) -> list[Problem]:
        return []

    def need(self, model: Model, wires: Wiring, layer: str, box: Box) -> dict[str, float]:
        neurons = math.prod(stop - start for start, stop in box)
        weights = sources = 0
        for connection in wires.into(layer):
            if connection.host:
                continue
            node = model.nodes[connection.synapse]
            outputs = synapse_outputs(model, connection, box)
            heard = sum(count_of(sources_of_box(model, connection, a, box)) for a in connection.arrivals)
            sources += heard
            if isinstance(node, nir.Conv1d | nir.Conv2d):
                weights += int(outputs[0].sum()) * math.prod(node.weight.shape[1:])
            elif isinstance(node, nir.Scale):
                weights += int(np.prod([axis.sum() for axis in outputs]))
            else:
                weights += int(outputs[-1].sum()) * heard
        return {
            NEURONS: float(neurons),
            MEMORY: float(weights + _NEURON_BYTES * neurons + _SOURCE_BYTES * sources),
        }

    def outgoing(
        self, model: Model, wires: Wiring, tile: Tile, tiles: Mapping[str, Sequence[Tile]]
    ) -> dict[str, float]:
        return {}  # routing tables are software

    def cuts(self, model: Model, wires: Wiring, layer: str) -> Iterator[list[Box]]:
        yield from slabs(model.shapes[layer], self.limits.get(NEURONS, math.inf))
