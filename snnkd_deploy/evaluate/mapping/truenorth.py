"""TrueNorth: 256 axons by 256 neurons a core, no shared weights, and one axon as each neuron's only target.

A signed (ternary) weight takes two axons per input, one for each sign, so a neuron hears at most 128 inputs. A
neuron that is heard on more than one axon sends to a splitter: a core whose neurons repeat one axon, one tick later,
each to a target of its own. Positions of a convolution are copied. Splitters appear as cores of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.evaluate.mapping.constraints import known_limits
from snnkd_deploy.evaluate.mapping.cuts import blocks, grid
from snnkd_deploy.evaluate.mapping.region import count_of, mask_of, sources_of_box
from snnkd_deploy.evaluate.mapping.report import Box, Tile
from snnkd_deploy.evaluate.wiring import Wiring
from snnkd_deploy.graph.model import Model

NEURONS, AXONS = "neurons", "axons"
SPLITTER = " (splitters)"


class TrueNorth:
    """See the module text."""

    note = "Ternary weights, two axons an input. Splitters delay their copies by a tick; all copies need that delay."

    def __init__(self, chip: ChipSpec) -> None:
        self.chip = chip
        self.limits, self.unchecked = known_limits(chip, {NEURONS: "neurons_per_core", AXONS: "axons_per_core"})
        self.per_input = int(chip.limit("axons_per_signed_input") or 2)
        self.remedies = {
            NEURONS: "a narrower student (student.width)",
            AXONS: "fewer inputs per neuron: grouped or sparse layers, smaller kernels, fewer channels",
        }

    def wall(self, model: Model, wires: Wiring, layer: str) -> list[Problem]:
        """The fan-in wall: one neuron alone hears more axons than a core has."""
        centre = tuple((size // 2, size // 2 + 1) for size in model.shapes[layer])
        need = self.need(model, wires, layer, centre)[AXONS]
        if need <= self.limits.get(AXONS, math.inf):
            return []
        return [
            Problem(
                "one neuron hears more inputs than a core has axons for",
                where=layer,
                need=f"{need:g} axons, {self.per_input} for each of {need / self.per_input:g} inputs",
                have=f"{self.limits[AXONS]:g} ({self.chip.id})",
                remedy=self.remedies[AXONS],
            )
        ]

    def need(self, model: Model, wires: Wiring, layer: str, box: Box) -> dict[str, float]:
        axons = 0
        for connection in wires.into(layer):
            if not connection.host:
                heard = sum(count_of(sources_of_box(model, connection, a, box)) for a in connection.arrivals)
                axons += self.per_input * heard
        return {NEURONS: float(math.prod(b - a for a, b in box)), AXONS: float(axons)}

    def outgoing(
        self, model: Model, wires: Wiring, tile: Tile, tiles: Mapping[str, Sequence[Tile]]
    ) -> dict[str, float]:
        return {}  # splitters are cores of their own

    def cuts(self, model: Model, wires: Wiring, layer: str) -> Iterator[list[Box]]:
        """Blocks of a map or of outputs, those with the fewest cores first."""
        shape = model.shapes[layer]
        room = int(self.limits.get(NEURONS, math.prod(shape)))
        if len(shape) == 1:
            length = min(room, shape[0])
            while True:
                yield grid([blocks(shape[0], length)])
                if length == 1:
                    return
                length = max(1, length // 2)
        options = []
        for sizes in _tiles(shape[1:], room):
            depth = min(shape[0], room // math.prod(sizes))
            while depth:
                options.append((_pieces(shape, (depth, *sizes)), -math.prod(sizes), depth, sizes))
                depth //= 2
        for _, _, depth, sizes in sorted(options):
            if self._block_fits(model, wires, layer, (depth, *sizes)):
                yield grid([blocks(size, step) for size, step in zip(shape, (depth, *sizes), strict=True)])

    def _block_fits(self, model: Model, wires: Wiring, layer: str, sizes: tuple[int, ...]) -> bool:
        """Whether a block away from the borders fits: a cheap look before every block is measured."""
        starts = [max(0, (size - step) // 2) for size, step in zip(model.shapes[layer], sizes, strict=True)]
        box = tuple((a, a + step) for a, step in zip(starts, sizes, strict=True))
        need = self.need(model, wires, layer, box)
        return all(need[key] <= limit for key, limit in self.limits.items())

    def splitters(self, model: Model, wires: Wiring, tiles: list[Tile]) -> list[Tile]:
        """Cores that repeat spikes for populations heard on more than one axon; input events come as copies."""
        found: list[Tile] = []
        for source in model.spiking:
            copies = np.zeros(model.shapes[source], dtype=np.int64)
            for connection in wires.out_of(source):
                for arrival in connection.arrivals:
                    if arrival.source != source or connection.host:
                        continue
                    for tile in tiles:
                        if tile.layer == connection.target:
                            axes = sources_of_box(model, connection, arrival, tile.box)
                            copies += self.per_input * mask_of(axes).astype(np.int64)
            found += self._pack(source, copies.flatten())
        return found

    def _pack(self, source: str, copies: np.ndarray) -> list[Tile]:
        """First-fit over cores: a repeated neuron takes one axon and a neuron for each copy.

        More copies than a core has neurons are a tree: a first splitter feeds others.
        """
        room, axons = int(self.limits.get(NEURONS, 256)), int(self.limits.get(AXONS, 256))
        jobs: list[int] = []
        for count in copies[copies > 1]:
            rest = int(count)
            while rest > room:
                full, left = divmod(rest, room)
                jobs += [room] * full
                rest = full + left  # the next level feeds the full ones and what is left
            jobs.append(rest)
        tiles: list[Tile] = []
        neurons = lines = 0
        for job in jobs:
            if lines and (neurons + job > room or lines + 1 > axons):
                tiles.append(self._splitter(source, neurons, lines))
                neurons = lines = 0
            neurons, lines = neurons + job, lines + 1
        return [*tiles, self._splitter(source, neurons, lines)] if lines else tiles

    @staticmethod
    def _splitter(source: str, neurons: int, lines: int) -> Tile:
        return Tile(source + SPLITTER, ((0, neurons),), {NEURONS: float(neurons), AXONS: float(lines)})


def _tiles(sizes: tuple[int, ...], room: int) -> Iterator[tuple[int, ...]]:
    """Blocks of a map that are about square, each edge up to the map's."""
    if len(sizes) == 1:
        yield from ((width,) for width in range(1, min(sizes[0], room) + 1))
        return
    for height in range(1, min(sizes[0], room) + 1):
        for width in {min(height, sizes[1]), min(height + 1, sizes[1]), sizes[1]}:
            if height * width <= room:
                yield height, width


def _pieces(shape: tuple[int, ...], steps: tuple[int, ...]) -> int:
    return math.prod(-(-size // step) for size, step in zip(shape, steps, strict=True))
