"""The answer to "does it fit": tiles on cores, utilisation of each resource, and what is over a limit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from snnkd_deploy.errors import Problem

if TYPE_CHECKING:
    from snnkd_deploy.evaluate.mapping.placement import Placement

Box = tuple[tuple[int, int], ...]  # (start, stop) on every axis of a layer


@dataclass(frozen=True)
class Tile:
    """A block of one layer's neurons on one core, with what it uses of each resource."""

    layer: str
    box: Box
    need: dict[str, float]
    core: int = 0
    chip: int = 0

    @property
    def neurons(self) -> int:
        count = 1
        for start, stop in self.box:
            count *= stop - start
        return count


@dataclass(frozen=True)
class FitReport:
    """Whether a network fits a chip, and how.

    fits         False with every reason in `violations`; None where the chip has no known limit at all
    utilisation  by resource, the fullest core's use over the limit; "cores" is the share of all cores
    unchecked    limits that nobody has published: the check did not use them
    tiles        every neuron once, each block on its core; empty where the chip's rules place nothing
    core_limits  limits of single cores, where they differ from core to core
    """

    chip: str
    fits: bool | None
    cores: int
    chips: int
    utilisation: dict[str, float] = field(default_factory=dict)
    violations: tuple[Problem, ...] = ()
    unchecked: tuple[str, ...] = ()
    tiles: tuple[Tile, ...] = ()
    cores_available: int | None = None
    binding: dict[str, str] = field(default_factory=dict)
    placement: Placement | None = field(default=None, repr=False, compare=False)
    core_limits: dict[int, dict[str, float]] = field(default_factory=dict, repr=False)
    note: str = ""

    @property
    def cores_by_layer(self) -> dict[str, int]:
        """Distinct cores of each layer."""
        cores: dict[str, set[tuple[int, int]]] = {}
        for tile in self.tiles:
            cores.setdefault(tile.layer, set()).add((tile.chip, tile.core))
        return {layer: len(found) for layer, found in cores.items()}

    @property
    def tightest(self) -> str:
        """The resource with the highest utilisation; "" where nothing was measured."""
        return max(self.utilisation, key=lambda key: self.utilisation[key], default="")

    @property
    def layers(self) -> list[dict[str, Any]]:
        """One row a layer: cores, neurons, fullest use of each resource, and the constraint that binds."""
        rows = []
        for layer, cores in self.cores_by_layer.items():
            tiles = [t for t in self.tiles if t.layer == layer]
            rows.append(
                {
                    "name": layer,
                    "cores": cores,
                    "neurons": sum(t.neurons for t in tiles),
                    "need": {key: max(t.need[key] for t in tiles) for key in tiles[0].need},
                    "binding": self.binding.get(layer, ""),
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The report's `fit`."""
        return {
            "fits": self.fits,
            "cores": self.cores,
            "chips": self.chips,
            "utilisation": dict(self.utilisation),
            "violations": [
                {"what": p.what, "where": p.where, "need": p.need, "have": p.have, "remedy": p.remedy}
                for p in self.violations
            ],
            "cores_available": self.cores_available,
            "binding": self.tightest,
            "unknown_limits": list(self.unchecked),
            "note": self.note,
        }

    def cores_to_list(self) -> list[dict[str, Any]]:
        """One entry a core in use, for a core map: layers, neurons, utilisation of each resource."""
        common = self.placement.limits if self.placement is not None else {}
        found: dict[tuple[int, int], dict[str, Any]] = {}
        for tile in self.tiles:
            entry = found.setdefault(
                (tile.chip, tile.core),
                {"core": tile.core, "chip": tile.chip, "layers": [], "neurons": 0, "utilisation": {}},
            )
            if tile.layer not in entry["layers"]:
                entry["layers"].append(tile.layer)
            entry["neurons"] += tile.neurons
            limits = self.core_limits.get(tile.core, common)
            for key, used in tile.need.items():
                if key in limits:
                    share = used / limits[key]
                    entry["utilisation"][key] = entry["utilisation"].get(key, 0.0) + share
        return [found[key] for key in sorted(found)]
