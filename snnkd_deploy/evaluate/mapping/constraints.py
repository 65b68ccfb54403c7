"""What a core family asks of a mapping: which resources, how much a block of neurons needs, how to cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.evaluate.mapping.report import Box, Tile
from snnkd_deploy.evaluate.wiring import Wiring
from snnkd_deploy.graph.model import Model

VENDOR_MAY_DIFFER = "Greedy mapping; the vendor's compiler may use other cores."


class Constraints(Protocol):
    """One per family of cores, in a file of its own. `limits` hold known numbers only.

    A resource that the file does not know is in `unchecked` and plays no part.
    """

    chip: ChipSpec
    limits: dict[str, float]
    unchecked: tuple[str, ...]
    remedies: dict[str, str]
    note: str

    def wall(self, model: Model, wires: Wiring, layer: str) -> list[Problem]:
        """What no cut of the layer can cure, found before any is tried; empty where nothing is known to be."""
        ...

    def need(self, model: Model, wires: Wiring, layer: str, box: Box) -> dict[str, float]:
        """Use of each resource by the neurons of `box`."""
        ...

    def outgoing(
        self, model: Model, wires: Wiring, tile: Tile, tiles: Mapping[str, Sequence[Tile]]
    ) -> dict[str, float]:
        """Use of resources that depend on where `tile` sends its spikes (`tiles` by layer); empty where none does."""
        ...

    def cuts(self, model: Model, wires: Wiring, layer: str) -> Iterator[list[Box]]:
        """Ways to cut a layer into blocks, coarse to fine; each covers every neuron once."""
        ...


def known_limits(chip: ChipSpec, names: dict[str, str]) -> tuple[dict[str, float], tuple[str, ...]]:
    """(limits by resource, unknown limit names) of the chip file, for resource -> name of the limit."""
    limits: dict[str, float] = {}
    unchecked = []
    for resource, name in names.items():
        quantity = chip.limits.get(name)
        if quantity is not None and quantity.value is not None:
            limits[resource] = quantity.value
        else:
            unchecked.append(name)
    return limits, tuple(unchecked)
