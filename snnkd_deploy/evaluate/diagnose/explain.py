"""Why two traces differ: test hypotheses about the first layer that errs, rank them by what they explain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.errors import DataError
from snnkd_deploy.evaluate.diagnose.hypothesis import CAUSES, Case, Hypotheses, Hypothesis
from snnkd_deploy.evaluate.diagnose.input_causes import input_hypotheses
from snnkd_deploy.evaluate.diagnose.isolate import LayerVerdict, isolate
from snnkd_deploy.evaluate.diagnose.neuron_causes import DT_FACTORS, at_dt, decay_refined, decay_scan, neuron_hypotheses
from snnkd_deploy.evaluate.diagnose.rule import Rule
from snnkd_deploy.evaluate.diagnose.state import NeuronState, states_around
from snnkd_deploy.evaluate.parity import Divergence, compare_traces
from snnkd_deploy.graph.model import Model

# Values of one layer (steps x samples x neurons) that every hypothesis is run on.
_CASE_VALUES = 2_000_000
_CASE_SAMPLES = 64
# Samples that all hypotheses are screened on, and how many of them go on to the rest.
_QUICK_SAMPLES = 6
_FINALISTS = 12


@dataclass(frozen=True)
class Cause:
    """`explained`: share of the layer's own differing spikes that this cause reproduces, less those it gets wrong."""

    name: str
    text: str
    explained: float

    def __str__(self) -> str:
        return f"{self.name}: {self.text} (explains {100 * self.explained:.1f} %)"

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "text": self.text, "explained": self.explained}


@dataclass(frozen=True)
class Diagnosis:
    """`divergence` carries the ranked causes as sentences; `tied` names causes that these inputs cannot tell apart."""

    divergence: Divergence
    causes: tuple[Cause, ...]
    states: tuple[NeuronState, ...]
    layers: tuple[LayerVerdict, ...]
    judged: int  # the layer's own differing spikes that the causes were tested on
    notes: tuple[str, ...] = field(default=())

    @property
    def tied(self) -> tuple[str, ...]:
        best = [c.name for c in self.causes if c.explained == self.causes[0].explained]
        return tuple(best) if len(best) > 1 else ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "divergence": self.divergence.to_dict(),
            "causes": [c.to_dict() for c in self.causes],
            "states": [s.to_dict() for s in self.states],
            "layers": [layer.to_dict() for layer in self.layers],
            "judged": self.judged,
            "tied": list(self.tied),
            "notes": list(self.notes),
        }

    def render(self) -> str:
        lines = [f"first divergence: {self.divergence}", *(f"  {state}" for state in self.states)]
        lines.append(f"likely causes, tested on {self.judged} differing spikes of {self.divergence.layer}:")
        lines += [f"  {i}. {cause}" for i, cause in enumerate(self.causes, 1)] or ["  none of the known ones"]
        lines.append("each layer on the same inputs:")
        lines += [
            f"  {x.layer:<16} {x.verdict:<12} {x.differing} of {x.compared:,} differ, {x.own} on the same inputs"
            for x in self.layers
        ]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def diagnose(model: Model, inputs: Inputs, expected: Trace, got: Trace, *, keep: int = 5) -> Diagnosis | None:
    """The first divergence of `got` from `expected` with its ranked causes; None where all spikes agree.

    `model` must carry a chip's integers and both traces must come from `inputs`; raises DataError otherwise.
    At most `keep` causes are kept, none that explains nothing.
    """
    _fits(model, inputs, expected, got)
    found = compare_traces(expected, got, model.spiking).first_divergence
    if found is None:
        return None
    if model.family != "cuba_lif":
        about = f"causes are known for Loihi's neuron (cuba_lif) only, this model's is {model.family}"
        return Diagnosis(found, (), (), (), 0, (about,))
    notes = []
    lacking = [name for name in model.spiking if name not in got.spikes]
    if lacking:
        notes.append(f"the other trace holds no {', '.join(lacking)}: the reference's spikes stand in")
    spikes = {**expected.spikes, **got.spikes}
    layers = isolate(model, inputs, expected, spikes)
    own = next((x.own for x in layers if x.layer == found.layer), 0)
    samples = _samples(model, found, inputs.steps, expected.spikes[found.layer] != spikes[found.layer])
    case = _case(model, found.layer, inputs, spikes, samples)
    misses = case.misses(case.reference())
    if own == 0:
        notes.append("the layer does on its own what the other side did: the reference is not what `exact` computes")
    causes: list[Cause] = []
    if misses:
        quick = _case(model, found.layer, inputs, spikes, samples[:_QUICK_SAMPLES])
        judged = [x.layer for x in layers if x.layer != found.layer]
        causes = _rank(case, quick, [_case(model, name, inputs, spikes, samples) for name in judged])
    if causes and causes[0].explained < 1:
        notes.append("no single cause explains everything: there may be two, or one that is not known here")
    also = [x.layer for x in layers if x.own and x.layer != found.layer]
    if also:
        notes.append(f"these layers err by themselves too: {', '.join(also)}")
    causes = causes[:keep]
    diagnosis = Diagnosis(
        divergence=replace(found, causes=tuple(str(c) for c in causes)),
        causes=tuple(causes),
        states=tuple(states_around(model, inputs, expected.spikes, spikes, found)),
        layers=tuple(layers),
        judged=misses,
        notes=tuple(notes),
    )
    if diagnosis.tied:
        notes.append(f"these inputs cannot tell apart: {', '.join(diagnosis.tied)}; more samples or steps would")
    return replace(diagnosis, notes=tuple(notes))


def _fits(model: Model, inputs: Inputs, expected: Trace, got: Trace) -> None:
    if not model.on_chip_grid:
        raise DataError(
            "causes are found on models that carry a chip's integers",
            where=model.path or "model",
            remedy="lower it first: snnkd lower IN.nir --chip loihi2 -o OUT.nir",
        )
    missing = [name for name in model.spiking if name not in expected.spikes]
    if missing:
        raise DataError("the reference trace lacks layers of the model", where=", ".join(missing))
    for name in model.spiking:
        need = (inputs.steps, inputs.samples, *model.shapes[name])
        for trace in (expected, got):
            if name in trace.spikes and tuple(trace.spikes[name].shape) != need:
                have = tuple(trace.spikes[name].shape)
                raise DataError("a trace does not belong to this model and input", where=name, need=need, have=have)


def _samples(model: Model, found: Divergence, steps: int, differs: Tensor) -> list[int]:
    """Samples to judge on: the first that differs, others that differ, then those that agree, as there is room."""
    size = steps * int(torch.tensor(model.shapes[found.layer]).prod())
    wrong = differs.flatten(2).any(2).any(0)
    order = [found.sample]
    order += [i for i in torch.nonzero(wrong).flatten().tolist() if i != found.sample]
    order += torch.nonzero(~wrong).flatten().tolist()
    return order[: min(_CASE_SAMPLES, max(1, _CASE_VALUES // size))]


def _case(model: Model, layer: str, inputs: Inputs, spikes: Mapping[str, Tensor], samples: list[int]) -> Case:
    chunk = Inputs(inputs.x[:, samples], inputs.steps)
    return Case(model, layer, chunk, {name: s[:, samples] for name, s in spikes.items()})


def _rank(case: Case, quick: Case, others: list[Case]) -> list[Cause]:
    """Every hypothesis on a few samples, the promising ones on all, the best of each cause by rank."""
    best: dict[str, Cause] = {}
    rules: dict[str, Rule] = {}
    misses = case.misses(case.reference())

    def offer(hypothesis: Hypothesis, explained: float) -> None:
        known = best.get(hypothesis.cause)
        if explained > 0 and (known is None or explained > known.explained):
            best[hypothesis.cause] = Cause(hypothesis.cause, hypothesis.text, explained)
            rules[hypothesis.cause] = hypothesis.rule

    def judge(makers: Iterable[Hypotheses]) -> None:
        base = max(1, quick.misses(quick.reference()))
        scored = [(quick.misses(quick.course(h)) / base, h) for maker in makers for h in maker]
        scored.sort(key=lambda entry: entry[0])
        for rest, hypothesis in scored[:_FINALISTS]:
            if rest < 1:
                offer(hypothesis, 1 - case.misses(case.course(hypothesis)) / misses)

    judge((neuron_hypotheses(quick), input_hypotheses(quick)))
    for factor in DT_FACTORS:
        offer(*_timestep([case, *others], factor))
    if all(cause.explained < 1 for cause in best.values()):
        judge((decay_scan(case.rule),))
        if "decay value" in rules and best["decay value"].explained < 1:
            judge((decay_refined(case.rule, rules["decay value"]),))
    order = list(CAUSES)
    return sorted(best.values(), key=lambda c: (-c.explained, order.index(c.name)))


def _timestep(cases: list[Case], factor: float) -> tuple[Hypothesis, float]:
    """A timestep is one for the whole network: a factor that only one layer confirms is a decay value."""
    rules = [at_dt(case.rule, factor) for case in cases]
    hypothesis = Hypothesis("dt", f"its timestep is {factor:g} times the model's, in all layers", rules[0])
    if rules[0] == cases[0].rule:
        return hypothesis, 0.0
    before = sum(case.misses(case.reference()) for case in cases)
    after = sum(
        case.misses(case.course(replace(hypothesis, rule=rule))) for case, rule in zip(cases, rules, strict=True)
    )
    return hypothesis, 1 - after / before
