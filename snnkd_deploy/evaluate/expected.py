"""Counts from firing rates alone: what a network would cost if it fired like that. No weights, no trace."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from snnkd_deploy.errors import UsageError
from snnkd_deploy.evaluate.counts import LayerCounts, OpCounts
from snnkd_deploy.evaluate.fanout import fan_out, macs_framework
from snnkd_deploy.evaluate.wiring import neurons_of, wiring
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import SPIKING


def expected_counts(
    model: Model, rates: float | Mapping[str, float], steps: int, *, input_rate: float = 0.0
) -> OpCounts:
    """Mean operations of a sample if every neuron of a population fires independently with its rate.

    rates: spikes per neuron and step, one for all populations or by name (all must be there). Above 1 only on
           chips whose neurons fire several times in a step.
    input_rate: of input events, for encodings that send them.
    """
    wires = wiring(model)
    spiking = [n for n in wires.layers if isinstance(model.nodes[n], SPIKING)]
    by_name = {n: float(rates) for n in spiking} if isinstance(rates, int | float) else dict(rates)
    missing = [n for n in spiking if n not in by_name]
    most = _most(model)
    if missing or any(not 0 <= r <= most for r in by_name.values()):
        raise UsageError(
            f"rates must name every population and lie in 0..{most:g}",
            where="expected_counts",
            need=", ".join(spiking),
            have=", ".join(f"{n}={r:g}" for n, r in by_name.items()),
        )
    by_name[model.input_name] = input_rate
    layers = []
    for layer in wires.layers:
        columns = dict.fromkeys(
            ("sop_event", "sop_nonzero", "sop_dense", "sop_conv", "sop_graded", "sop_framework"), 0.0
        )
        macs = framework = arriving = 0.0
        neurons = neurons_of(model, layer)
        silent = 1.0
        for connection in wires.into(layer):
            for arrival in connection.arrivals:
                taps = float(fan_out(model, connection.synapse, chain=arrival.chain, source=arrival.source).sum())
                passes = macs_framework(model, connection.synapse)
                framework += passes
                if arrival.signal == "analog":
                    macs += taps * (1 if connection.host else steps)
                    silent = silent if connection.host else 0.0
                    continue
                nonzero = fan_out(
                    model, connection.synapse, nonzero=True, chain=arrival.chain, source=arrival.source
                ).sum()
                rate = by_name[arrival.source]
                event = taps * rate * steps
                columns["sop_event"] += event
                columns["sop_nonzero"] += float(nonzero) * rate * steps
                columns["sop_dense"] += taps * steps
                columns["sop_conv"] += event if connection.shared else 0.0
                columns["sop_graded"] += event if arrival.signal == "graded" else 0.0
                columns["sop_framework"] += passes * rate * steps
                arriving += neurons_of(model, arrival.source) * rate * steps
                silent *= (1 - min(rate, 1.0)) ** (taps / neurons)  # mean fan-in
        rate = by_name.get(layer, 0.0)
        is_weight = any(c.synapse == layer for c in wires.connections)
        updates = 0.0 if is_weight else float(neurons * steps)
        active = updates * (1 - silent * (1 - min(rate, 1.0)))
        layers.append(
            LayerCounts(
                name=layer,
                neurons=neurons,
                rate=rate,
                spikes_per_sample=neurons * rate * steps,
                macs_analog=macs,
                updates_active=active,
                updates_idle=updates - active,
                macs_framework=framework,
                spikes_in=arriving,
                spiking=layer in spiking,
                **columns,
            )
        )
    sends = [c for c in wires.connections for a in c.arrivals if a.source == model.input_name and a.signal != "analog"]
    entering = neurons_of(model, model.input_name) * input_rate * steps if sends else 0.0
    sums = {n: np.full(model.shapes[n], by_name[n] * steps) for n in spiking}
    if sends:
        sums[model.input_name] = np.full(model.shapes[model.input_name], input_rate * steps)
    return OpCounts(
        tuple(layers),
        steps,
        input_spikes=entering,
        depth=wires.depth,
        spike_sums=sums,
        notes=("expected counts: every neuron fires independently with its population's mean rate",),
    )


def _most(model: Model) -> float:
    """Largest possible rate: spikes of one neuron in one step."""
    chip = model.profile.chip
    if chip is None:
        return 1.0
    return float(chip.neuron.max_spikes) if chip.neuron.max_spikes else math.inf
