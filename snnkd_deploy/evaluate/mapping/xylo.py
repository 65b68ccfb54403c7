"""Xylo: one core of a few hundred neurons, and budgets of synapses between them. No weight sharing.

Hidden neurons are every population but the output layer; outputs hear hidden neurons only. A convolution is
unrolled: each tap is a stored synapse. Limits from the vendor's documentation and memory maps; the vendor's
mapper and simulator check few of them.
"""

from __future__ import annotations

import math

import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.evaluate.fanout import fan_out
from snnkd_deploy.evaluate.mapping.constraints import known_limits
from snnkd_deploy.evaluate.mapping.cuts import whole
from snnkd_deploy.evaluate.mapping.placement import Placement
from snnkd_deploy.evaluate.mapping.report import FitReport, Tile
from snnkd_deploy.evaluate.wiring import Wiring, neurons_of
from snnkd_deploy.graph.model import Model

INPUTS, HIDDEN, OUTPUTS = "input channels", "hidden neurons", "output neurons"
FAN_OUT, PAIRS, REACH, FEED = "fan-out", "hidden synapses", "neurons that hear the input", "neurons that feed outputs"
_LIMITS = {
    INPUTS: "input_channels",
    HIDDEN: "hidden_neurons",
    OUTPUTS: "output_neurons",
    FAN_OUT: "max_fanout",
    PAIRS: "hidden_synapses",
    REACH: "input_reach",
    FEED: "output_feed",
}
_REMEDIES = {
    INPUTS: "fewer input channels: pool or filter the data first",
    HIDDEN: "a narrower student (student.width)",
    OUTPUTS: "fewer classes",
    FAN_OUT: "a narrower next layer",
    PAIRS: "narrower hidden layers, or fewer of them",
    REACH: "a narrower first hidden layer",
    FEED: "a narrower last hidden layer",
}


def fit_xylo(model: Model, wires: Wiring, chip: ChipSpec) -> FitReport:
    """Use of every budget by the whole network; it is on the one core or it does not fit."""
    limits, missing = known_limits(chip, _LIMITS)
    # A device whose file does not list them has no such restriction.
    unchecked = tuple(name for name in missing if name not in ("input_reach", "output_feed") or name in chip.limits)
    need, where = _need(model, wires)
    problems = _encoding(wires)
    for key, limit in limits.items():
        if need[key] > limit:
            have = f"{limit:g} ({chip.id})"
            what = f"too many {key}" if key != FAN_OUT else "a neuron reaches too many hidden neurons"
            problems.append(Problem(what, where[key], f"{need[key]:g}", have, _REMEDIES[key]))
    if len(wires.layers) < 2:
        problems.append(Problem("there is no way from input to outputs: a hidden layer is needed", wires.layers[0]))
    own = {layer: float(neurons_of(model, layer)) for layer in wires.layers}
    outputs = _outputs(wires)
    tiles = tuple(
        Tile(layer, whole(model.shapes[layer]), {OUTPUTS if layer in outputs else HIDDEN: own[layer]})
        for layer in wires.layers
    )
    utilisation = {key: need[key] / limit for key, limit in limits.items()}
    tightest = max(utilisation, key=lambda key: utilisation[key], default="")
    return FitReport(
        chip=chip.id,
        fits=not problems,
        cores=1,
        chips=1,
        utilisation=utilisation,
        violations=tuple(problems),
        unchecked=unchecked,
        tiles=tiles,
        cores_available=1,
        binding=dict.fromkeys(wires.layers, tightest),
        placement=Placement(model, wires, tiles, {k: v for k, v in limits.items() if k in (HIDDEN, OUTPUTS)}),
        note="Limits from documentation and memory maps; the vendor's own validator was not at hand.",
    )


def _outputs(wires: Wiring) -> set[str]:
    return {layer for layer in wires.layers if not wires.out_of(layer)}


def _encoding(wires: Wiring) -> list[Problem]:
    host = [c.target for c in wires.connections if c.host]
    what = "the first layer's currents are computed on the host; Xylo takes events only"
    return [Problem(what, layer, remedy='student.encoding = "events" or "rate"') for layer in host]


def _need(model: Model, wires: Wiring) -> tuple[dict[str, float], dict[str, str]]:
    """Use of each budget, and the layer to name for it. Zero weights are not stored where integers are known."""
    outputs = _outputs(wires)
    stored = model.profile.chip is not None
    hidden = [layer for layer in wires.layers if layer not in outputs]
    fans: dict[str, np.ndarray] = {}
    hears: set[str] = set()
    feeds: set[str] = set()
    for connection in wires.connections:
        for arrival in connection.arrivals:
            if arrival.source == model.input_name:
                hears.add(connection.target)
            elif connection.target in outputs:
                feeds.add(arrival.source)
            else:
                taps = fan_out(
                    model, connection.synapse, nonzero=stored, chain=arrival.chain, source=arrival.source
                ).numpy()
                fans[arrival.source] = fans.get(arrival.source, 0) + taps
    widest = max(fans, key=lambda name: int(fans[name].max(initial=0)), default="")
    need = {
        INPUTS: float(math.prod(model.shapes[model.input_name])),
        HIDDEN: float(sum(neurons_of(model, layer) for layer in hidden)),
        OUTPUTS: float(sum(neurons_of(model, layer) for layer in outputs)),
        FAN_OUT: float(fans[widest].max(initial=0)) if widest else 0.0,
        PAIRS: float(sum(int(taps.sum()) for taps in fans.values())),
        REACH: float(sum(neurons_of(model, layer) for layer in hears)),
        FEED: float(sum(neurons_of(model, layer) for layer in feeds)),
    }
    where = {
        INPUTS: model.input_name,
        HIDDEN: ", ".join(hidden),
        OUTPUTS: ", ".join(sorted(outputs)),
        FAN_OUT: widest,
        PAIRS: ", ".join(fans),
        REACH: ", ".join(sorted(hears)),
        FEED: ", ".join(sorted(feeds)),
    }
    return need, where
