"""Energy of one sample on a chip: priced terms, what has no price, and intervals. Never a bare total.

The chip file's `scope` decides the arithmetic: `per_term` prices are added; an `all_in` price is the whole
total and nothing may be added to it; `all_in_bound_only` gives a bound and, where the file names one, a
labelled proxy; the others give counts only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.chips.load import load_chip
from snnkd_deploy.chips.spec import ChipSpec, Kind
from snnkd_deploy.chips.units import si_range
from snnkd_deploy.errors import UsageError
from snnkd_deploy.evaluate.counter import count_ops
from snnkd_deploy.evaluate.counts import OpCounts
from snnkd_deploy.evaluate.latency import LatencyEstimate, estimate_latency
from snnkd_deploy.evaluate.literature import literature_terms
from snnkd_deploy.evaluate.mapping.report import FitReport
from snnkd_deploy.evaluate.pricing import Operations, dynamic_terms, has_fit
from snnkd_deploy.evaluate.terms import Bound, EnergyTerm, Group, Sum, Unpriced, price_text, weakest
from snnkd_deploy.graph.model import Model

DRAWS = 1000
IN_TOTAL: tuple[Group, ...] = ("dynamic", "static")
Profile = Literal["", "published", "fit", "sanafe", "literature_45nm"]


@dataclass(frozen=True)
class EnergyEstimate:
    """Joules per sample. `low`, `mid`, `high` are None where the chip has no per-operation total.

    The total is the chip's dynamic and static terms; `dynamic` and `static` split it, `bars` has the
    work outside it (host). `p5`, `p95` come from `DRAWS` log-uniform draws of the prices, correlated
    within the chip. `bound` and `proxy` stand beside the estimate and are never added to it.
    """

    chip: str
    scope: str
    low: float | None = None
    mid: float | None = None
    high: float | None = None
    p5: float | None = None
    p95: float | None = None
    terms: tuple[EnergyTerm, ...] = ()
    unpriced: tuple[Unpriced, ...] = ()
    kind: Kind = "unknown"
    bound: Bound | None = None
    proxy: EnergyEstimate | None = None
    profile: str = ""
    notes: tuple[str, ...] = ()
    conditions: str = ""
    static_share_j: tuple[float, float, float] | None = field(default=None)

    def group(self, group: Group) -> dict[str, float] | None:
        """Sum of one group of terms (dynamic, static, io, host), or None where it has none."""
        terms = [t for t in self.terms if t.group == group]
        if not terms:
            return None
        return {corner: sum(getattr(t, f"{corner}_j") for t in terms) for corner in ("low", "mid", "high")}

    @property
    def dynamic(self) -> dict[str, float] | None:
        return self.group("dynamic")

    @property
    def static(self) -> dict[str, float] | None:
        return self.group("static")

    def to_dict(self) -> dict[str, Any]:
        """The report's `energy_j`."""
        found: dict[str, Any] = {
            "low": self.low,
            "mid": self.mid,
            "high": self.high,
            "terms": [term.to_dict() for term in self.terms],
            "unpriced": [item.to_dict() for item in self.unpriced],
            "scope": self.scope,
            "note": " ".join(filter(None, [self.conditions, *self.notes, self._spread()])),
        }
        if self.proxy is not None:
            inner = self.proxy.to_dict()
            found["proxy"] = inner | {"chip": self.proxy.chip, "label": self._proxy_label()}
        if self.bound is not None:
            found["bound"] = self.bound.to_dict()
        return found

    def _proxy_label(self) -> str:
        assert self.proxy is not None
        return f"{self.proxy.chip} prices for the same operations: a proxy, not {self.chip}"

    def _spread(self) -> str:
        if self.p5 is None or self.p95 is None:
            return ""
        return f"5-95 % of {DRAWS} correlated price draws: {self.p5:.2g} to {self.p95:.2g} J."


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
    seed: int = 0,
) -> EnergyEstimate:
    """Energy of one sample on `chip`, from counts (by hand, from rates, or counted) or from a model's trace.

    fit: its placement gives messages, hops and the number of chips; without one each spike is one message
         on one chip, which is a lower limit.
    latency: for static power; estimated where not given. `dt_s` puts the chip in real-time mode.
    profile: "" both price lists of the chip; "published" or "fit" one alone; "sanafe" its closed form
         (fit prices, every neuron updated, no static power); "literature_45nm" the formula of papers.
    weights: which SOPs the chip pays, "nonzero" for storage that drops zero weights.
    """
    spec = load_chip(chip) if isinstance(chip, str) else chip
    counts = _counts(what, trace, inputs)
    if fit is None and isinstance(what, Model) and profile not in ("literature_45nm", "sanafe"):
        from snnkd_deploy.evaluate.mapping import fit as map_model

        fit = map_model(what, spec)
    if fit is not None and fit.placement is not None and counts.messages is None and counts.spike_sums:
        counts = fit.placement.route(counts)
    if profile == "literature_45nm":
        return _literature(counts)
    ops = Operations(counts, weights, force_update=profile == "sanafe")
    if profile == "sanafe":
        return _per_term(spec, ops, fit, None, "fit", seed, profile)
    scope = spec.energy.scope
    if scope == "per_term":
        if latency is None:
            latency = estimate_latency(counts, spec, fit=fit, dt_s=dt_s)
        return _per_term(spec, ops, fit, latency, profile or "both", seed, profile)
    if scope in ("all_in", "all_in_and_incremental"):
        return _all_in(spec, ops, seed)
    if scope == "all_in_bound_only":
        found = _bound_only(spec, ops)
        if spec.energy.proxy and profile == "":
            proxy = estimate_energy(counts, spec.energy.proxy, fit=fit, weights=weights, dt_s=dt_s, seed=seed)
            found = replace(found, proxy=proxy)
        return found
    return EnergyEstimate(
        chip=spec.id,
        scope=scope,
        unpriced=_all_unpriced(spec, ops),
        notes=("No per-operation energy is published for this chip: counts only.", *_system_points(spec)),
        conditions=_conditions(spec),
    )


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


def _per_term(
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
        conditions=_conditions(chip),
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


def _all_in(chip: ChipSpec, ops: Operations, seed: int) -> EnergyEstimate:
    """SOP x price and nothing else: the price contains routing, updates and leakage."""
    price = chip.energy.prices.get("synop")
    if price is None or not price.known:
        return EnergyEstimate(
            chip=chip.id, scope=chip.energy.scope, unpriced=_all_unpriced(chip, ops), conditions=_conditions(chip)
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
        ),
        conditions=_conditions(chip),
    )


def _bound_only(chip: ChipSpec, ops: Operations) -> EnergyEstimate:
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
                note=f"{price_text(price)} x {count:.6g}; one published system, not a prediction",
            )
            break
    return EnergyEstimate(
        chip=chip.id,
        scope=chip.energy.scope,
        unpriced=_all_unpriced(chip, ops),
        bound=bound,
        notes=("No per-operation energy is published for this chip.", *_system_points(chip)),
        conditions=_conditions(chip),
    )


def _all_unpriced(chip: ChipSpec, ops: Operations) -> tuple[Unpriced, ...]:
    def reason(key: str) -> str:
        price = chip.energy.prices.get(key)
        return price.source if price is not None and not price.known else "no published value found"

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


def _system_points(chip: ChipSpec) -> tuple[str, ...]:
    """Published numbers of whole systems, as sentences."""
    return tuple(
        f"Published: {key.replace('_', ' ')} {price_text(q)} ({q.kind}; {q.source})."
        for key, q in chip.power.items()
        if q.known
    )


def _conditions(chip: ChipSpec) -> str:
    return f"{chip.name}, {chip.process}." if chip.process else f"{chip.name}."


def _literature(counts: OpCounts) -> EnergyEstimate:
    terms, note = literature_terms(counts)
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
