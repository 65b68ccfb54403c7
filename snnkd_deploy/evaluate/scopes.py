"""One function a scope: what a chip's prices allow to be said about energy."""

from __future__ import annotations

from typing import Literal

import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.chips.units import si_range
from snnkd_deploy.evaluate.counts import OpCounts
from snnkd_deploy.evaluate.estimate import DRAWS, IN_TOTAL, EnergyEstimate
from snnkd_deploy.evaluate.latency import LatencyEstimate
from snnkd_deploy.evaluate.literature import literature_terms
from snnkd_deploy.evaluate.mapping.report import FitReport
from snnkd_deploy.evaluate.pricing import Operations, dynamic_terms, has_fit
from snnkd_deploy.evaluate.terms import Bound, EnergyTerm, Sum, Unpriced, price_text, weakest


def per_term(
    chip: ChipSpec,
    ops: Operations,
    fit: FitReport | None,
    latency: LatencyEstimate | None,
    lists: str,
    seed: int,
    profile: str,
) -> EnergyEstimate:
    total = Sum("per_term")
    terms, unpriced = dynamic_terms(chip, ops, lists)
    notes: list[str] = []
    for term in terms:
        total.add(term)
    share = None
    if profile != "sanafe":
        share = _add_static(chip, total, fit, latency, unpriced)
        if ops.counts.total.macs_analog:
            unpriced.append(
                Unpriced("multiply-accumulates outside the chip", "host arithmetic", ops.counts.total.macs_analog)
            )
        unpriced.append(Unpriced("barrier and management cores", "no published energy"))
        unpriced.append(Unpriced("host input and output", "depends on the board"))
        if ops.counts.total.sop_graded:
            unpriced.append(
                Unpriced("multiplying graded spikes", "priced as binary spikes", ops.counts.total.sop_graded)
            )
    if ops.counts.messages is None:
        notes.append("No placement: every spike counted as one message to one core.")
    corners = {c: total.total(c, IN_TOTAL) for c in ("low", "mid", "high")}  # type: ignore[arg-type]
    p5, p95 = _draws(total.terms, seed, calibrated=has_fit(chip))
    return EnergyEstimate(
        chip=chip.id,
        scope="per_term",
        low=corners["low"],
        mid=corners["mid"],
        high=corners["high"],
        p5=p5,
        p95=p95,
        terms=tuple(total.terms),
        unpriced=tuple(unpriced),
        kind=weakest([t.kind for t in total.terms if t.count]),
        profile=profile,
        notes=tuple(notes),
        conditions=conditions(chip),
        static_share_j=share,
    )


def _add_static(
    chip: ChipSpec, total: Sum, fit: FitReport | None, latency: LatencyEstimate | None, unpriced: list[Unpriced]
) -> tuple[float, float, float] | None:
    """Static power of whole chips as a term; returned: the share of the cores in use, for information."""
    power = chip.power.get("static_chip")
    if power is None or not power.known:
        unpriced.append(Unpriced("static power", power.source if power else "not in the chip file"))
        return None
    if latency is None or latency.low is None or latency.mid is None or latency.high is None:
        unpriced.append(Unpriced("static power", f"{price_text(power)} per chip, but the latency is unknown"))
        return None
    chips = fit.chips if fit is not None and fit.chips else 1
    watts = si_range(power, "power", f"{chip.id} [power.static_chip]")
    joules = [w * t * chips for w, t in zip(watts, (latency.low, latency.mid, latency.high), strict=True)]
    total.add(
        EnergyTerm(
            name=f"static power, {chips} chip{'s' if chips > 1 else ''}",
            count=latency.mid,
            low_j=joules[0],
            mid_j=joules[1],
            high_j=joules[2],
            price_source=power.source,
            kind=power.kind,
            group="static",
            count_unit="s",
            price=f"{price_text(power)} per chip",
            note="time is a compute-bound lower limit",
        )
    )
    host = chip.power.get("x86_active_overhead")
    if host is not None and host.known:
        watts = si_range(host, "power", f"{chip.id} [power.x86_active_overhead]")
        times = (latency.low, latency.mid, latency.high)
        low, mid, high = (w * t for w, t in zip(watts, times, strict=True))
        total.add(
            EnergyTerm(
                name="embedded x86, if it is in the loop",
                count=latency.mid,
                low_j=low,
                mid_j=mid,
                high_j=high,
                price_source=host.source,
                kind=host.kind,
                group="host",
                count_unit="s",
                price=price_text(host),
                note="not in the total",
            )
        )
    available = chip.limit("cores_per_chip")
    if fit is None or not fit.cores or not available:
        return None
    used = fit.cores / (available * chips)
    return joules[0] * used, joules[1] * used, joules[2] * used


def all_in(chip: ChipSpec, ops: Operations, seed: int) -> EnergyEstimate:
    """SOP x price and nothing else: the price contains routing, updates and leakage."""
    price = chip.energy.prices.get("synop")
    if price is None or not price.known:
        return EnergyEstimate(
            chip=chip.id, scope=chip.energy.scope, unpriced=all_unpriced(chip, ops), conditions=conditions(chip)
        )
    low, mid, high = si_range(price, "energy", f"{chip.id} [energy.prices.synop]")
    total = Sum(chip.energy.scope)
    total.add(
        EnergyTerm(
            name="synaptic operations, all in",
            count=ops.sop,
            low_j=ops.sop * low,
            mid_j=ops.sop * mid,
            high_j=ops.sop * high,
            price_source=price.source,
            kind=price.kind,
            count_unit="SOP",
            price=price_text(price),
            note=price.note,
        )
    )
    p5, p95 = _draws(total.terms, seed, calibrated=True)
    return EnergyEstimate(
        chip=chip.id,
        scope=chip.energy.scope,
        low=ops.sop * low,
        mid=ops.sop * mid,
        high=ops.sop * high,
        p5=p5,
        p95=p95,
        terms=tuple(total.terms),
        kind=price.kind,
        notes=(
            "All-in price at one operating point: routing, neuron updates and leakage are inside; "
            "other rates or fan-outs cost more per operation.",
            _operating_point(ops),
        ),
        conditions=conditions(chip),
    )


def _operating_point(ops: Operations) -> str:
    """Where this network works, to hold against the operating point that an all-in price was measured at."""
    total = ops.counts.total
    fan_out = ops.sop / total.spikes_in if total.spikes_in else 0.0
    return f"This network: {total.rate:.2g} spikes per neuron and step, {fan_out:.2g} operations per spike."


def bound_only(chip: ChipSpec, ops: Operations) -> EnergyEstimate:
    bound = None
    for key, count, label in (
        ("all_in_dynamic_per_neuron_step", ops.updates, "all-in bound per neuron and step"),
        ("synop", ops.sop, "all-in bound per synaptic operation"),
    ):
        price = chip.energy.prices.get(key)
        if price is not None and price.known:
            low, mid, high = si_range(price, "energy", f"{chip.id} [energy.prices.{key}]")
            bound = Bound(
                label=label,
                low=count * low,
                mid=count * mid,
                high=count * high,
                kind=price.kind,
                source=price.source,
                note=f"{price_text(price)} x {count:,.6g}; one published system",
            )
            break
    return EnergyEstimate(
        chip=chip.id,
        scope=chip.energy.scope,
        unpriced=all_unpriced(chip, ops),
        bound=bound,
        notes=("No per-operation energy is published for this chip.", *system_points(chip)),
        conditions=conditions(chip),
    )


def counts_only(chip: ChipSpec, ops: Operations) -> EnergyEstimate:
    """A chip without any per-operation energy."""
    return EnergyEstimate(
        chip=chip.id,
        scope=chip.energy.scope,
        unpriced=all_unpriced(chip, ops),
        notes=("No per-operation energy is published for this chip: counts only.", *system_points(chip)),
        conditions=conditions(chip),
    )


def all_unpriced(chip: ChipSpec, ops: Operations) -> tuple[Unpriced, ...]:
    def reason(key: str) -> str:
        price = chip.energy.prices.get(key)
        if price is not None and price.known:
            return f"no price of its own; {price_text(price)} is a bound for the whole system"
        return price.source if price is not None else "no published value found"

    power = chip.power.get("static_chip")
    static = (
        f"{price_text(power)} per chip; needs the time of an inference"
        if power is not None and power.known
        else "no published value found"
    )
    return (
        Unpriced("synaptic operations", reason("synop"), ops.sop),
        Unpriced("neuron updates", reason("neuron_update_active"), ops.updates),
        Unpriced("spike messages", reason("hop_ew"), ops.messages),
        Unpriced("static power", static),
        Unpriced("host input and output", "depends on the board"),
    )


def system_points(chip: ChipSpec) -> tuple[str, ...]:
    """Published numbers of whole systems, as sentences."""
    return tuple(
        f"Published: {key.replace('_', ' ')} {price_text(q)} ({q.kind}; {q.source})."
        for key, q in chip.power.items()
        if q.known
    )


def conditions(chip: ChipSpec) -> str:
    return f"{chip.name}, {chip.process}." if chip.process else f"{chip.name}."


def literature(counts: OpCounts, first_layer: Literal["once", "every_step"]) -> EnergyEstimate:
    terms, note = literature_terms(counts, first_layer)
    joules = sum(t.mid_j for t in terms)
    return EnergyEstimate(
        chip="45 nm CMOS",
        scope="arithmetic_only",
        low=joules,
        mid=joules,
        high=joules,
        terms=tuple(terms),
        unpriced=tuple(Unpriced(name, "not in this formula") for name in ("memory", "routing", "control", "leakage")),
        kind="measured",
        profile="literature_45nm",
        notes=(note,),
    )


def _draws(terms: list[EnergyTerm], seed: int, *, calibrated: bool) -> tuple[float, float]:
    """5 and 95 % of the total over log-uniform draws between low and high, one draw for all prices of a chip.

    A chip without a fit to silicon gets a model error on top: x/÷ 2 on dynamic, x/÷ 4 on static energy.
    """
    rng = np.random.default_rng(seed)
    u = rng.random(DRAWS)
    total = np.zeros(DRAWS)
    errors = {"dynamic": 2.0 ** rng.uniform(-1, 1, DRAWS), "static": 4.0 ** rng.uniform(-1, 1, DRAWS)}
    for term in terms:
        if term.group in IN_TOTAL:
            drawn = between(term.low_j, term.high_j, u)
            total += drawn if calibrated else drawn * errors[term.group]
    return float(np.percentile(total, 5)), float(np.percentile(total, 95))


def between(low: float, high: float, u: np.ndarray) -> np.ndarray:
    """Log-uniform between two costs for u in 0..1; from zero on it is uniform."""
    if low <= 0:
        return low + (high - low) * u
    return low * (high / low) ** u
