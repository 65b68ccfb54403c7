"""Cores on the chip's mesh, and what travels between them: messages, hops, traffic inside a tile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from snnkd_deploy.evaluate.counts import OpCounts
from snnkd_deploy.evaluate.mapping.region import mask_of, sources_of_box
from snnkd_deploy.evaluate.mapping.report import Tile
from snnkd_deploy.evaluate.wiring import Wiring
from snnkd_deploy.graph.model import Model

Core = tuple[int, int]  # (chip, core)


@dataclass(frozen=True)
class Mesh:
    """Tiles of cores in a grid, filled in snake order. None of its numbers known: no hops."""

    columns: int
    rows: int
    cores_per_tile: int

    def position(self, core: int) -> tuple[int, int]:
        """(x, y) of a core's tile."""
        y, x = divmod(core // self.cores_per_tile, self.columns)
        return (x if y % 2 == 0 else self.columns - 1 - x), y


@dataclass(frozen=True)
class Placement:
    """Tiles on cores. `route` turns recorded spikes into messages and hops."""

    model: Model
    wires: Wiring
    tiles: tuple[Tile, ...]
    limits: Mapping[str, float] = field(default_factory=dict)
    mesh: Mesh | None = None
    input_core: Core | None = None

    def route(self, counts: OpCounts) -> OpCounts:
        """The counts with messages, hops, intra-tile and off-chip traffic per sample.

        A spike is one message to each core that has a tap of it, once, however many taps. Input events
        are messages too; they travel from `input_core`, and where that is not known they give no hops.
        """
        out: dict[str, float] = defaultdict(float)
        arriving: dict[str, float] = defaultdict(float)
        totals = dict.fromkeys(("ew", "ns", "local", "offchip"), 0.0)
        for source, sums in counts.spike_sums.items():
            mean = np.asarray(sums, dtype=np.float64) / counts.samples
            for core, heard in self._destinations(source).items():
                sent = mean * np.logical_or.reduce(list(heard.values()))
                out[source] += float(sent.sum())
                for layer, mask in heard.items():
                    arriving[layer] += float((mean * mask).sum())
                for start, messages in self._starts(source, sent):
                    self._travel(start, core, messages, totals)
        layers = tuple(
            replace(
                layer,
                messages=out.get(layer.name, 0.0),
                messages_in=arriving.get(layer.name, 0.0),
            )
            for layer in counts.layers
        )
        known = self.mesh is not None
        return replace(
            counts,
            layers=layers,
            input_messages=out.get(self.model.input_name, 0.0),
            hops_ew=totals["ew"] if known else None,
            hops_ns=totals["ns"] if known else None,
            messages_intra_tile=totals["local"] if known else None,
            messages_offchip=totals["offchip"],
        )

    def traffic(self, counts: OpCounts) -> dict[tuple[Core, Core], float]:
        """Messages per sample from core to core."""
        found: dict[tuple[Core, Core], float] = defaultdict(float)
        for source, sums in counts.spike_sums.items():
            mean = np.asarray(sums, dtype=np.float64) / counts.samples
            for core, heard in self._destinations(source).items():
                for start, messages in self._starts(source, mean * np.logical_or.reduce(list(heard.values()))):
                    found[start, core] += messages
        return dict(found)

    def _starts(self, source: str, sent: np.ndarray) -> Iterator[tuple[Core, float]]:
        """Where the messages of one source start, and how many from each core."""
        if source == self.model.input_name and self.input_core is not None:
            yield self.input_core, float(sent.sum())
        for tile in self.tiles:
            if tile.layer == source:
                yield (tile.chip, tile.core), float(sent[tuple(slice(a, b) for a, b in tile.box)].sum())

    def _destinations(self, source: str) -> dict[Core, dict[str, np.ndarray]]:
        """For each core that hears `source`, by layer on it: which of its elements send there."""
        found: dict[Core, dict[str, np.ndarray]] = {}
        for connection in self.wires.out_of(source):
            if connection.host:
                continue
            for arrival in connection.arrivals:
                if arrival.source != source or arrival.signal == "analog":
                    continue
                for tile in self.tiles:
                    if tile.layer != connection.target:
                        continue
                    mask = mask_of(sources_of_box(self.model, connection, arrival, tile.box))
                    layers = found.setdefault((tile.chip, tile.core), {})
                    layers[tile.layer] = layers[tile.layer] | mask if tile.layer in layers else mask
        return found

    def _travel(self, start: Core, stop: Core, messages: float, totals: dict[str, float]) -> None:
        if start[0] != stop[0]:
            totals["offchip"] += messages
            return
        if self.mesh is None:
            return
        (x0, y0), (x1, y1) = self.mesh.position(start[1]), self.mesh.position(stop[1])
        totals["ew"] += messages * abs(x1 - x0)
        totals["ns"] += messages * abs(y1 - y0)
        if (x0, y0) == (x1, y1):
            totals["local"] += messages
