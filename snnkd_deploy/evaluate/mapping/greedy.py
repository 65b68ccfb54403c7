"""The greedy mapper: each layer takes the coarsest cut whose blocks all fit a core; cores in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from snnkd_deploy.chips.load import load_chip
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.evaluate.counts import OpCounts
from snnkd_deploy.evaluate.mapping.constraints import Constraints
from snnkd_deploy.evaluate.mapping.cuts import whole
from snnkd_deploy.evaluate.mapping.improve import share_cores, shorten
from snnkd_deploy.evaluate.mapping.loihi1 import Loihi1
from snnkd_deploy.evaluate.mapping.loihi2 import Loihi2
from snnkd_deploy.evaluate.mapping.placement import Mesh, Placement
from snnkd_deploy.evaluate.mapping.report import FitReport, Tile
from snnkd_deploy.evaluate.mapping.speck import fit_speck
from snnkd_deploy.evaluate.mapping.spinnaker2 import SpiNNaker2
from snnkd_deploy.evaluate.mapping.truenorth import TrueNorth
from snnkd_deploy.evaluate.mapping.xylo import fit_xylo
from snnkd_deploy.evaluate.wiring import Wiring, wiring
from snnkd_deploy.graph.model import Model

_Make = Callable[[ChipSpec], Constraints]
# Chips whose layers are cut into blocks; the others have an answer of their own.
_CUT: dict[str, _Make] = {"loihi1": Loihi1, "loihi2": Loihi2, "truenorth": TrueNorth, "spinnaker2": SpiNNaker2}
_WHOLE: dict[str, Callable[[Model, Wiring, ChipSpec], FitReport]] = {"speck": fit_speck, "xylo": fit_xylo}
_BY_FAMILY = {"cuba_lif": "loihi2"}


def mapping_of(chip: ChipSpec) -> str:
    """Name of the rules by which networks are laid out: the chip file's, else those of its neuron family."""
    return chip.cores.mapping or _BY_FAMILY.get(chip.neuron.family, "")


def constraints_for(chip: ChipSpec) -> Constraints | None:
    """The constraint set of a chip whose layers are cut into blocks; None for others."""
    made = _CUT.get(mapping_of(chip))
    return None if made is None else made(chip)


def fit(
    model: Model,
    chip: ChipSpec | str,
    *,
    counts: OpCounts | None = None,
    share: bool = False,
    pieces: Mapping[str, int] | None = None,
) -> FitReport:
    """Place a model on a chip's cores; more chips where one is too small. Never raises for "too big".

    Only shapes, connections and encoding matter: the model's integers may be for another chip.
    Every violation is in the report with what is needed, what there is, and a remedy.
    counts: recorded spikes; cores are then swapped until their messages travel fewer hops.
    share: put small layers (under a quarter of every resource) on one core. Off, as in the vendors'
           compilers: a shared core is slower.
    pieces: at least this many blocks for a layer, by name (`balance` finds out where that pays).
    """
    spec = load_chip(chip) if isinstance(chip, str) else chip
    if mapping_of(spec) in _WHOLE:
        return _WHOLE[mapping_of(spec)](model, wiring(model), spec)
    rules = constraints_for(spec)
    if rules is None:
        nothing = "An arithmetic without cores or memories: there is nothing that a network has to fit into."
        unknown = "The chip file names no rules for its cores ([cores] mapping): nothing was checked."
        return FitReport(
            chip=spec.id,
            fits=None,
            cores=0,
            chips=0,
            unchecked=tuple(spec.limits),
            note=nothing if mapping_of(spec) == "none" else unknown,
        )
    wires = wiring(model)
    cut: dict[str, list[Tile]] = {}
    problems: list[Problem] = []
    for layer in wires.layers:
        cut[layer], violations = _cut(model, wires, layer, rules, more_than=(pieces or {}).get(layer, 1) - 1)
        problems += violations
    problems += _settle_outgoing(model, wires, cut, rules)
    tiles = [tile for layer in wires.layers for tile in cut[layer]]
    if isinstance(rules, TrueNorth) and not problems:
        tiles += rules.splitters(model, wires, tiles)
    groups = share_cores(tiles, rules) if share else [[t] for t in tiles]
    per_chip = int(spec.limit("cores_per_chip") or 0) or len(groups)
    placed = tuple(replace(t, core=i % per_chip, chip=i // per_chip) for i, group in enumerate(groups) for t in group)
    placement = Placement(model, wires, placed, rules.limits, mesh_of(spec))
    if counts is not None:
        placed = shorten(placement, counts)
        placement = replace(placement, tiles=placed)
    chips = max((t.chip for t in placed), default=0) + 1
    utilisation = {
        key: max((sum(t.need.get(key, 0.0) for t in group) for group in groups), default=0.0) / limit
        for key, limit in rules.limits.items()
    }
    utilisation["cores"] = len(groups) / (per_chip * chips)
    return FitReport(
        chip=spec.id,
        fits=not problems,
        cores=len(groups),
        chips=chips,
        utilisation=utilisation,
        violations=tuple(problems),
        unchecked=rules.unchecked,
        tiles=placed,
        cores_available=per_chip,
        binding={layer: _binding(layer, tiles, rules) for layer in wires.layers},
        placement=placement,
        note=rules.note,
    )


def _settle_outgoing(model: Model, wires: Wiring, cut: dict[str, list[Tile]], rules: Constraints) -> list[Problem]:
    """Cut layers finer whose cores send to too many targets. Fills in what every tile sends.

    Targets first: a finer target needs more axons of its sources.
    """
    problems: list[Problem] = []
    for layer in reversed(wires.layers):
        if not all(_fits(t, rules) for t in cut[layer]):
            continue  # already known not to fit, however finely it is cut
        while True:
            cut[layer] = [replace(t, need=t.need | rules.outgoing(model, wires, t, cut)) for t in cut[layer]]
            if all(_fits(t, rules) for t in cut[layer]):
                break
            # What a block sends shrinks with its size: most of the way in one step.
            over = max(t.need.get(key, 0.0) / limit for t in cut[layer] for key, limit in rules.limits.items())
            more_than = max(len(cut[layer]), int(0.7 * over * len(cut[layer])))
            finer, violations = _cut(model, wires, layer, rules, more_than=more_than)
            if violations or len(finer) <= len(cut[layer]):
                problems += _violations(layer, cut[layer], rules)
                break
            cut[layer] = finer
    return problems


def _cut(
    model: Model, wires: Wiring, layer: str, rules: Constraints, more_than: int = 0
) -> tuple[list[Tile], list[Problem]]:
    """Tiles of the first cut (into more than `more_than`) that fits, else the finest one and what is over."""
    finest = [whole(model.shapes[layer])]
    if walls := rules.wall(model, wires, layer):
        return [Tile(layer, finest[0], {})], walls
    for boxes in rules.cuts(model, wires, layer):
        if len(boxes) <= more_than:
            continue
        tiles = []
        for box in boxes:
            tiles.append(Tile(layer, box, rules.need(model, wires, layer, box)))
            if not _fits(tiles[-1], rules):
                break
        else:
            return tiles, []
        finest = boxes
    best = [Tile(layer, box, rules.need(model, wires, layer, box)) for box in finest]
    return best, _violations(layer, best, rules)


def _fits(tile: Tile, rules: Constraints) -> bool:
    return all(tile.need.get(key, 0.0) <= limit for key, limit in rules.limits.items())


def _violations(layer: str, tiles: list[Tile], rules: Constraints) -> list[Problem]:
    """One problem a resource: the least that a core needs, however finely the layer is cut."""
    problems = []
    for key, limit in rules.limits.items():
        most = max(t.need.get(key, 0.0) for t in tiles)
        if most > limit:
            problems.append(
                Problem(
                    f"{key} of a core are exceeded even by the finest cut",
                    where=layer,
                    need=f"{most:g} {key}",
                    have=f"{limit:g} ({rules.chip.id})",
                    remedy=rules.remedies.get(key, "a smaller network"),
                )
            )
    return problems


def _binding(layer: str, tiles: list[Tile], rules: Constraints) -> str:
    """The resource that is nearest to its limit on any core of a layer."""
    shares = {
        key: max(t.need.get(key, 0.0) for t in tiles if t.layer == layer) / limit for key, limit in rules.limits.items()
    }
    return max(shares, key=lambda key: shares[key]) if shares else ""


def mesh_of(chip: ChipSpec) -> Mesh | None:
    """The tile grid, where the chip file knows the number of tiles: twice as wide as high."""
    tiles, cores = chip.limit("tiles_per_chip"), chip.limit("cores_per_chip")
    if not tiles or not cores:
        return None
    rows = max(1, int((tiles / 2) ** 0.5))
    return Mesh(columns=-(-int(tiles) // rows), rows=rows, cores_per_tile=max(1, int(cores // tiles)))
