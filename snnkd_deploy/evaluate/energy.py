"""Energy of one sample on a chip: priced terms, what has no price, and intervals. Never a bare total.

The chip file's `scope` decides the arithmetic (`scopes.py`): `per_term` prices are added; an `all_in` price
is the whole total and nothing may be added to it; `all_in_bound_only` gives a bound and, where the file
names one, a labelled proxy; the others give counts only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.chips.load import load_chip
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import UsageError
from snnkd_deploy.evaluate.counter import count_ops
from snnkd_deploy.evaluate.counts import OpCounts
from snnkd_deploy.evaluate.estimate import EnergyEstimate
from snnkd_deploy.evaluate.latency import LatencyEstimate, estimate_latency
from snnkd_deploy.evaluate.mapping import FitReport
from snnkd_deploy.evaluate.mapping import fit as map_model
from snnkd_deploy.evaluate.pricing import Operations
from snnkd_deploy.evaluate.scopes import all_in, bound_only, counts_only, literature, per_term
from snnkd_deploy.graph.model import Model

Profile = Literal["", "published", "fit", "sanafe", "literature_45nm"]


def estimate_energy(
    what: OpCounts | Model,
    chip: ChipSpec | str,
    *,
    trace: Trace | None = None,
    inputs: Inputs | None = None,
    fit: FitReport | None = None,
    latency: LatencyEstimate | None = None,
    profile: Profile = "",
    weights: Literal["event", "nonzero"] = "event",
    dt_s: float | None = None,
    first_layer: Literal["once", "every_step"] = "every_step",
    seed: int = 0,
) -> EnergyEstimate:
    """Energy of one sample on `chip`, from counts (by hand, from rates, or counted) or from a model's trace.

    fit: its placement gives messages, hops and the number of chips; without one each spike is one message
         on one chip, which is a lower limit.
    latency: for static power; estimated where not given. `dt_s` puts the chip in real-time mode.
    profile: "" both price lists of the chip; "published" or "fit" one alone; "sanafe" its closed form
         (fit prices, every neuron updated, no static power); "literature_45nm" the formula of papers,
         which count the first layer `first_layer`.
    weights: which SOPs the chip pays, "nonzero" for storage that drops zero weights.
    """
    spec = load_chip(chip) if isinstance(chip, str) else chip
    counts = _counts(what, trace, inputs)
    if fit is None and isinstance(what, Model) and profile not in ("literature_45nm", "sanafe"):
        fit = map_model(what, spec)
    if fit is not None and fit.placement is not None and counts.messages is None and counts.spike_sums:
        counts = fit.placement.route(counts)
    if profile == "literature_45nm":
        return literature(counts, first_layer)
    ops = Operations(counts, weights, force_update=profile == "sanafe")
    if profile == "sanafe":
        return per_term(spec, ops, fit, None, "fit", seed, profile)
    scope = spec.energy.scope
    if scope == "per_term":
        if latency is None:
            latency = estimate_latency(counts, spec, fit=fit, dt_s=dt_s)
        return per_term(spec, ops, fit, latency, profile or "both", seed, profile)
    if scope in ("all_in", "all_in_and_incremental"):
        return all_in(spec, ops, seed)
    if scope == "all_in_bound_only":
        found = bound_only(spec, ops)
        if spec.energy.proxy and profile == "":
            proxy = estimate_energy(counts, spec.energy.proxy, fit=fit, weights=weights, dt_s=dt_s, seed=seed)
            found = replace(found, proxy=proxy)
        return found
    return counts_only(spec, ops)


def _counts(what: OpCounts | Model, trace: Trace | None, inputs: Inputs | None) -> OpCounts:
    if isinstance(what, OpCounts):
        return what
    if trace is None:
        raise UsageError(
            "energy of a model needs to know how much it spikes",
            where="estimate_energy",
            remedy="give trace=..., or OpCounts from expected_counts(model, rates)",
        )
    return count_ops(what, trace, inputs)
