"""Which price of a chip file pays for which count.

A chip may have two complete price lists that share counts but cut the work differently, as Loihi 1 has:
Davies et al. 2018 (simulated; update active / inactive) and a fit to silicon (keys that end in `_fit`;
access, update, spike-out). Each list is evaluated whole; a term spans both, its middle is the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from snnkd_deploy.chips.spec import ChipSpec, Quantity
from snnkd_deploy.chips.units import si_range
from snnkd_deploy.evaluate.counts import OpCounts
from snnkd_deploy.evaluate.terms import EnergyTerm, Unpriced, price_text, weakest

FIT = "_fit"


@dataclass(frozen=True)
class Operations:
    """Counts per sample that prices can be per. `weights` is "event", or "nonzero" for sparse storage."""

    counts: OpCounts
    weights: str = "event"
    force_update: bool = False

    @property
    def sop(self) -> float:
        total = self.counts.total
        return total.sop_nonzero if self.weights == "nonzero" else total.sop_event

    @property
    def sop_conv(self) -> float:
        total = self.counts.total
        share = total.sop_conv / total.sop_event if total.sop_event else 0.0
        return self.sop * share

    @property
    def sop_matrix(self) -> float:
        return self.sop - self.sop_conv

    @property
    def updates(self) -> float:
        return self.counts.total.updates

    @property
    def active(self) -> float:
        return self.updates if self.force_update else self.counts.total.updates_active

    @property
    def idle(self) -> float:
        return self.updates - self.active

    @property
    def spikes(self) -> float:
        return self.counts.total.spikes_per_sample

    @property
    def messages(self) -> float:
        """Mapped messages; before mapping one per spike that has somewhere to go."""
        known = self.counts.messages
        if known is not None:
            return known
        last = self.counts.layers[-1] if self.counts.layers else None
        staying = last.spikes_per_sample if last is not None and last.spiking else 0.0
        return self.spikes - staying + self.counts.input_spikes

    @property
    def local_messages(self) -> float:
        known = self.counts.messages_intra_tile
        return self.messages if known is None else known

    @property
    def hops_ew(self) -> float:
        return self.counts.hops_ew or 0.0

    @property
    def hops_ns(self) -> float:
        return self.counts.hops_ns or 0.0

    @property
    def hops(self) -> float:
        return self.hops_ew + self.hops_ns


@dataclass(frozen=True)
class _Line:
    """One price of a list: the term it goes into, its key in the chip file, its count."""

    term: str
    key: str
    count: Callable[[Operations], float]


SOPS, UPDATES, SPIKES, MESSAGES, HOPS = (
    "synaptic operations",
    "neuron updates",
    "spike generation",
    "spike messages",
    "hops between tiles",
)
# term -> (its count as printed, unit)
_TERMS: dict[str, tuple[Callable[[Operations], float], str]] = {
    SOPS: (lambda n: n.sop, "SOP"),
    UPDATES: (lambda n: n.updates, "update"),
    SPIKES: (lambda n: n.spikes, "spike"),
    MESSAGES: (lambda n: n.messages, "message"),
    HOPS: (lambda n: n.hops, "hop"),
}
_LIST = (
    _Line(SOPS, "synop", lambda n: n.sop),
    _Line(UPDATES, "neuron_update_active", lambda n: n.active),
    _Line(UPDATES, "neuron_update_inactive", lambda n: n.idle),
    _Line(MESSAGES, "spike_within_tile", lambda n: n.local_messages),
    _Line(HOPS, "hop", lambda n: n.hops),
    _Line(HOPS, "hop_ew", lambda n: n.hops_ew),
    _Line(HOPS, "hop_ns", lambda n: n.hops_ns),
)
_FIT_LIST = (
    _Line(SOPS, "synop_dense_fit", lambda n: n.sop_matrix),
    _Line(SOPS, "synop_conv_fit", lambda n: n.sop_conv),
    _Line(UPDATES, "neuron_access_every_step_fit", lambda n: n.updates),
    _Line(UPDATES, "neuron_update_extra_fit", lambda n: n.active),
    _Line(SPIKES, "neuron_spike_out_fit", lambda n: n.spikes),
    _Line(MESSAGES, "message_out_per_dest_core_fit", lambda n: n.messages),
    _Line(HOPS, "hop_ew_fit", lambda n: n.hops_ew),
    _Line(HOPS, "hop_ns_fit", lambda n: n.hops_ns),
)


def has_fit(chip: ChipSpec) -> bool:
    """True where the chip file carries a price list fitted to silicon."""
    return any(key.endswith(FIT) and q.known for key, q in chip.energy.prices.items())


def dynamic_terms(chip: ChipSpec, ops: Operations, lists: str = "both") -> tuple[list[EnergyTerm], list[Unpriced]]:
    """Terms of a `per_term` chip and what has no price. `lists`: "both", "published" or "fit" alone."""
    terms: list[EnergyTerm] = []
    unpriced: list[Unpriced] = []
    sparse = ops.weights == "nonzero"
    fit_list = tuple(
        _Line(line.term, "synop_sparse_fit", line.count) if sparse and line.key == "synop_dense_fit" else line
        for line in _FIT_LIST
    )
    use_fit = has_fit(chip) and lists != "published"
    for name, (count, unit) in _TERMS.items():
        parts: list[tuple[float, float, float]] = []
        used: list[Quantity] = []
        for wanted, price_list in (("published", _LIST), ("fit", fit_list)):
            if lists not in ("both", wanted) or (wanted == "fit" and not use_fit):
                continue
            part = _evaluate(chip, [line for line in price_list if line.term == name], ops, used, unpriced)
            if part is not None:
                parts.append(part)
            elif wanted == "published" and use_fit and name == SPIKES:
                # The published update price contains the spike; only the fit lists it apart.
                parts.append((0.0, 0.0, 0.0))
        if not used or (name == HOPS and ops.counts.hops_ew is None):
            continue
        terms.append(
            EnergyTerm(
                name=name,
                count=count(ops),
                low_j=min(p[0] for p in parts),
                mid_j=parts[-1][1],
                high_j=max(p[2] for p in parts),
                price_source="; ".join(dict.fromkeys(q.source for q in used)),
                kind=weakest([q.kind for q in used]),
                count_unit=unit,
                price=", ".join(dict.fromkeys(price_text(q) for q in used)),
            )
        )
    if ops.counts.hops_ew is None and any(key.startswith("hop") for key in chip.energy.prices):
        unpriced.append(Unpriced("hops between tiles", "no placement was given"))
    return terms, unpriced


def _evaluate(
    chip: ChipSpec, lines: list[_Line], ops: Operations, used: list[Quantity], unpriced: list[Unpriced]
) -> tuple[float, float, float] | None:
    """Cost of one term by one list at the three corners; None where the list has no price for it."""
    found = False
    low = mid = high = 0.0
    for line in lines:
        quantity = chip.energy.prices.get(line.key)
        if quantity is None:
            continue
        count = line.count(ops)
        if not quantity.known:
            if count:
                unpriced.append(Unpriced(line.key.replace("_", " "), quantity.source, count))
            continue
        corner = si_range(quantity, "energy", f"{chip.id} [energy.prices.{line.key}]")
        low, mid, high = low + count * corner[0], mid + count * corner[1], high + count * corner[2]
        found = True
        if (count and quantity not in used) or not used:
            used.append(quantity)
    return (low, mid, high) if found else None
