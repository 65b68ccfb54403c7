"""A foreign NIR graph onto a chip's grid.

Passes: every path between populations becomes one synapse (pools, scales and chains of weights multiplied in), every
neuron takes the chip's form, then each population gets its scale and integers. All obstacles come in one error.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import nir
import numpy as np
import torch

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import GraphError, Problem
from snnkd_deploy.graph.check import check_model
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import ChipStamp, Encoding, Profile
from snnkd_deploy.graph.topology import NEURONS, SPIKING
from snnkd_deploy.lower.assemble import ALWAYS, Assembly, Population, Way
from snnkd_deploy.lower.equivalence import check_forms
from snnkd_deploy.lower.hops import align_hops
from snnkd_deploy.lower.neuron_form import neuron_form
from snnkd_deploy.lower.operations import operations_lacking, written_out
from snnkd_deploy.lower.paths import Convolution, Linear, Path, apply, merge_path, paths_into, scaled
from snnkd_deploy.lower.report import LoweringReport, PassReport
from snnkd_deploy.lower.response import response, zeros_for

READOUT = "readout"


@dataclass(frozen=True)
class Calibration:
    """What calibration inputs showed: the largest |synaptic current| of each population, in real units."""

    largest_current: dict[str, float]
    margin: float = 1.5


def lower_model(
    model: Model,
    chip: ChipSpec,
    calibration: Calibration | None = None,
    *,
    encoding: Encoding | None = None,
    input_scale: float = 1.0,
) -> tuple[Model, LoweringReport]:
    """A float model as integers of `chip`, and what that cost.

    encoding: how the input will come (default events). `input_scale` is the real value of the integer 1.
    calibration: measured currents in place of the worst case, for larger scales.

    Requires a graph that the checker accepts. Guarantees the checker's approval of the result, the same graph of
    populations, and responses that the float passes did not change. Raises GraphError with every obstacle.
    """
    check_model(model)
    encoding = encoding or (
        model.profile.encoding if model.profile.encoding.kind != "float" else Encoding(kind="events")
    )
    problems = _impossible(model, chip)
    names, end = _populations(model)
    found = [_population(model, name, chip, encoding.kind, input_scale, problems) for name in names]
    populations = [population for population in found if population is not None]
    if len(populations) == len(names):
        populations, unaligned = align_hops(model, populations, chip)
        problems += unaligned
    if problems:
        raise GraphError.from_problems(problems)
    passes = (_check_responses(model, populations), check_forms(model, populations, chip))
    measured = (
        {} if calibration is None else {n: c * calibration.margin for n, c in calibration.largest_current.items()}
    )
    assembly = Assembly(model, chip, encoding, measured, end)
    for population in populations:
        assembly.add(population)
    graph = assembly.finish()
    profile = Profile(
        dt_s=model.profile.dt_s,
        reset=chip.neuron.reset,
        fires=chip.neuron.fires,
        encoding=encoding,
        steps=model.profile.steps,
        chip=ChipStamp(id=chip.id, sha256=chip.sha256, neuron=chip.neuron, parameters=chip.parameters),
        nodes=assembly.params,
        classes=model.profile.classes,
        vote_groups=model.profile.vote_groups,
        provenance={**model.profile.provenance, "lowered_from": model.sha256},
    )
    lowered = Model(graph=graph, profile=profile)
    check_model(lowered)
    _same_loops(model, lowered)
    report = LoweringReport(chip.id, tuple(assembly.reports), passes, tuple(assembly.notes))
    return lowered, report


def _impossible(model: Model, chip: ChipSpec) -> list[Problem]:
    """What no rewriting can help with."""
    problems = []
    spec, have = chip.neuron, model.profile
    if have.reset != spec.reset:
        kind = {"zero": "to zero", "subtract": "by subtraction"}
        what = f"reset {kind[have.reset]} has no counterpart on the chip"
        why = chip.operations.refused.get("soft_reset" if have.reset == "subtract" else "hard_reset")
        remedy = why or f"train the network with reset {kind[spec.reset]}"
        # An arithmetic that is no chip's may be changed; its neuron runs both.
        if not why and chip.cores.mapping == "none" and spec.family != "cuba_lif":
            remedy += f', or --chip COPY.toml, a copy of {chip.id} with reset = "{have.reset}"'
        problems.append(Problem(what, "profile.reset", spec.reset, have.reset, remedy))
    # A threshold half an integer up says > and >= alike.
    if have.fires != spec.fires and spec.family != "float_lif":
        remedy = f"--fires '{spec.fires}', where it may differ in a membrane that is just at the threshold"
        problems.append(Problem("the threshold test differs", "profile.fires", spec.fires, have.fires, remedy))
    if model.profile.v0 != 0:
        problems.append(Problem("the chip starts at v = 0", "profile.v0", "0", f"{model.profile.v0:g}"))
    if model.on_chip_grid:
        problems.append(
            Problem("the model is on a chip's grid already", model.path or "model", remedy="use it as it is")
        )
    ends = model.sources[model.output_name]
    for name, node in model.nodes.items():
        if isinstance(node, NEURONS) and not isinstance(node, SPIKING) and ends != [name]:
            remedy = "chips exchange spikes: an integrator can only be the last population"
            problems.append(Problem(f"{type(node).__name__} inside the network sends no spikes", name, remedy=remedy))
    return problems


def _populations(model: Model) -> tuple[list[str], str]:
    """Populations in execution order, and the one that the output hears.

    Where that is no single population (a linear readout), the output itself counts as one, an integrator.
    """
    names = [n for part in model.order for n in part if isinstance(model.nodes[n], NEURONS)]
    ends = model.sources[model.output_name]
    while len(ends) == 1 and isinstance(model.nodes[ends[0]], nir.Flatten):
        ends = model.sources[ends[0]]
    if len(ends) == 1 and ends[0] in names:
        return names, ends[0]
    return [*names, model.output_name], model.output_name


def _population(
    model: Model, name: str, chip: ChipSpec, encoding: str, unit: float, problems: list[Problem]
) -> Population | None:
    """One population with its ways in, in float. `unit`: real value of the input's 1. Obstacles go to `problems`."""
    shape = model.shapes[name]
    is_output = name == model.output_name
    dt_s = model.profile.dt_s
    node = nir.I(np.full(shape, 1.0 / dt_s)) if is_output else model.nodes[name]  # a linear readout adds up over time
    form = neuron_form(node, shape, dt_s, name, chip)
    before = len(problems)
    if isinstance(form, list):
        problems += form
    ways: list[Way] = []
    merged_ways = []
    for path in paths_into(model, name):
        merged = merge_path(model, path)
        if isinstance(merged, Problem):
            problems.append(merged)
            continue
        merged = written_out(merged, chip)
        merged_ways.append((path, merged))
        if len(shape) > 1 and not isinstance(merged, Convolution):
            remedy = "a population between them, or pooling without overlap"
            problems.append(
                Problem(f"{' - '.join(path.nodes)} into maps is no single convolution", name, remedy=remedy)
            )
        elif not isinstance(form, list):
            factor = form.factor * (unit if path.source == model.input_name else 1.0)
            synapse = scaled(merged, factor)
            if synapse is None:
                what = "gain or threshold differ inside a channel, which a shared kernel cannot follow"
                problems.append(Problem(what, name, remedy="one threshold and one r a channel"))
            else:
                ways.append(Way(path, merged, synapse))
    problems += operations_lacking(model, name, merged_ways, chip, encoding)
    if isinstance(form, list) or len(problems) > before:
        return None
    constant = response(model, name, zeros_for(model))[0].numpy()
    if form.keep_u > 0 and len(shape) == 1 and constant.any() and not chip.neuron.hop_delay:
        # A bias that is filtered like any input comes as one more input: a neuron that always fires.
        merged = Linear(constant[:, None])
        ways.append(Way(Path(ALWAYS, name, ()), merged, Linear(merged.weight * form.factor[:, None])))
        constant = np.zeros(shape)
    kind = "readout" if is_output else type(node).__name__
    target = _free_name(model, READOUT) if is_output else name
    return Population(target, name, kind, shape, form, tuple(ways), constant)


def _free_name(model: Model, wanted: str) -> str:
    return wanted if wanted not in model.nodes else _free_name(model, f"{wanted}_")


def _check_responses(model: Model, populations: list[Population]) -> PassReport:
    """The merged synapses against the graph, on random values at every source."""
    generator = torch.Generator().manual_seed(0)
    sources = {
        name: torch.rand(4, *zero.shape[1:], generator=generator, dtype=torch.float64) * 2 - 1
        for name, zero in zeros_for(model).items()
    }
    worst = 0.0
    for population in populations:
        wanted = response(model, population.original, sources)
        total = torch.from_numpy(population.constant).expand(wanted.shape).clone()
        for way in population.ways:
            sources.setdefault(ALWAYS, torch.ones(4, 1, dtype=torch.float64))
            total += apply(way.merged, sources[way.path.source]).reshape(wanted.shape)
        size = max(1.0, float(wanted.abs().max()))
        worst = max(worst, float((total - wanted).abs().max()) / size)
    if worst > 1e-9:
        raise GraphError(
            "the merged synapses do not respond as the graph does; this is a fault of the lowering",
            have=f"relative difference {worst:.2g}",
            remedy="please report it with the file",
        )
    return PassReport(
        "one synapse a path",
        requires="stateless nodes between populations",
        ensures="one convolution or matrix between two populations, same responses",
        error=worst,
    )


def _lags(model: Model) -> dict[tuple[str, str], int]:
    """Steps by which each pair of populations is delayed through back edges."""
    place = {name: (i, j) for i, part in enumerate(model.order) for j, name in enumerate(part)}
    lags: dict[tuple[str, str], int] = {}
    for target, node in model.nodes.items():
        if not isinstance(node, NEURONS):
            continue
        for path in paths_into(model, target):
            steps = (path.source, *path.nodes, target)
            against = sum(place[a][0] == place[b][0] and place[a][1] >= place[b][1] for a, b in pairwise(steps))
            lags[path.source, target] = max(lags.get((path.source, target), 0), against)
    return lags


def _same_loops(model: Model, lowered: Model) -> None:
    before, after = _lags(model), _lags(lowered)
    for pair, lag in before.items():
        if pair[0] in lowered.nodes and after.get(pair, lag) != lag:
            raise GraphError(
                "the loop would be cut at another population than in the graph",
                where=" -> ".join(pair),
                need=f"{lag} steps",
                have=f"{after[pair]} steps",
                remedy="a Delay node where the loop is meant to wait",
            )


__all__ = ["Calibration", "LoweringReport", "lower_model"]
