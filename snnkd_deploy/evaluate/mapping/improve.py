"""After the cut: small layers together on a core, and talkative cores near each other on the mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnkd_deploy.evaluate.counts import OpCounts
from snnkd_deploy.evaluate.mapping.constraints import Constraints
from snnkd_deploy.evaluate.mapping.placement import Placement
from snnkd_deploy.evaluate.mapping.report import Tile

SMALL = 0.25  # of every resource
_PASSES = 20


def share_cores(tiles: list[Tile], rules: Constraints) -> list[list[Tile]]:
    """Groups of tiles that go on one core: consecutive small ones as long as they fit together."""
    groups: list[list[Tile]] = []
    for tile in tiles:
        small = all(tile.need.get(key, 0.0) < SMALL * limit for key, limit in rules.limits.items())
        last = groups[-1] if groups else []
        if small and last and last[0].need.get("shared") == 1.0 and _together([*last, tile], rules):
            last.append(replace(tile, need=tile.need | {"shared": 1.0}))
        else:
            groups.append([replace(tile, need=tile.need | {"shared": 1.0}) if small else tile])
    return [[replace(t, need={k: v for k, v in t.need.items() if k != "shared"}) for t in group] for group in groups]


def _together(tiles: list[Tile], rules: Constraints) -> bool:
    return all(sum(t.need.get(key, 0.0) for t in tiles) <= limit for key, limit in rules.limits.items())


def shorten(placement: Placement, counts: OpCounts) -> tuple[Tile, ...]:
    """Tiles with cores swapped so that messages travel fewer hops (2-opt, deterministic, per chip).

    Without a known mesh the tiles come back as they are.
    """
    if placement.mesh is None:
        return placement.tiles
    cores = sorted({(t.chip, t.core) for t in placement.tiles})
    index = {core: i for i, core in enumerate(cores)}
    traffic = np.zeros((len(cores), len(cores)))
    for (start, stop), messages in placement.traffic(counts).items():
        if start in index and stop in index:
            traffic[index[start], index[stop]] += messages
    traffic = traffic + traffic.T
    place = np.array([placement.mesh.position(core) for _, core in cores])
    chip = np.array([c for c, _ in cores])
    order = np.arange(len(cores))  # which site each core's tiles sit on
    for _ in range(_PASSES):
        improved = False
        for a in range(len(cores)):
            distance_a = np.abs(place[order] - place[order[a]]).sum(1)
            for b in range(a + 1, len(cores)):
                if chip[a] != chip[b] or np.array_equal(place[order[a]], place[order[b]]):
                    continue
                distance_b = np.abs(place[order] - place[order[b]]).sum(1)
                # Between a and b nothing changes; to every other core each takes the other's distance.
                gain = (traffic[a] - traffic[b]) * (distance_a - distance_b) * (chip == chip[a])
                gain[[a, b]] = 0.0
                if gain.sum() > 1e-9:
                    order[a], order[b] = order[b], order[a]
                    distance_a = np.abs(place[order] - place[order[a]]).sum(1)
                    improved = True
        if not improved:
            break
    moved = {core: cores[order[i]] for i, core in enumerate(cores)}
    return tuple(replace(t, chip=moved[(t.chip, t.core)][0], core=moved[(t.chip, t.core)][1]) for t in placement.tiles)
