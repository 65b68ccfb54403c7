"""The parts of an energy estimate, and the rule that keeps an all-in price from being added to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from snnkd_deploy.chips.spec import Kind, Quantity
from snnkd_deploy.errors import ChipError

Group = Literal["dynamic", "static", "io", "host"]
# Weakest first: an estimate is no better than its weakest input.
KINDS: tuple[Kind, ...] = ("unknown", "derived", "simulated", "datasheet", "measured", "architectural")


@dataclass(frozen=True)
class EnergyTerm:
    """`count` operations and what they cost, joules per sample at three corners.

    `group`: dynamic (the chip at work), static (leakage), io (host traffic), host (work outside the chip).
    Only dynamic and static terms are in the total; the others are bars beside it.
    """

    name: str
    count: float
    low_j: float
    mid_j: float
    high_j: float
    price_source: str
    kind: Kind
    group: Group = "dynamic"
    count_unit: str = ""
    price: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "group": self.group,
            "low": self.low_j,
            "mid": self.mid_j,
            "high": self.high_j,
            "count": self.count,
            "count_unit": self.count_unit,
            "price": self.price,
            "kind": self.kind,
            "source": self.price_source,
            "note": self.note,
        }


@dataclass(frozen=True)
class Unpriced:
    """Something that happens and for which nobody has published a price. Never zero instead."""

    name: str
    reason: str
    count: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "count": self.count, "reason": self.reason}


@dataclass(frozen=True)
class Bound:
    """One all-in number of a published system, for these counts: a bound, not a prediction."""

    label: str
    low: float
    mid: float
    high: float
    kind: Kind
    source: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "low": self.low,
            "mid": self.mid,
            "high": self.high,
            "kind": self.kind,
            "source": self.source,
            "note": self.note,
        }


class Sum:
    """Terms of one estimate. Its scope decides what may be added.

    An `all_in` price already contains routing, updates and leakage at its operating point, so a second
    dynamic, static or io term would count them twice: ChipError.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.terms: list[EnergyTerm] = []

    def add(self, term: EnergyTerm) -> None:
        inside = [t for t in self.terms if t.group != "host"]
        if term.group != "host":
            if self.scope in ("all_in", "all_in_and_incremental") and inside:
                raise ChipError(
                    f"'{term.name}' cannot be added: the all-in price of '{inside[0].name}' contains it",
                    where=f"energy.scope = {self.scope}",
                    remedy="an all-in price is the whole total; use scope per_term for prices that add up",
                )
            if self.scope not in ("per_term", "all_in", "all_in_and_incremental", "arithmetic_only", "per_mac"):
                raise ChipError(
                    f"'{term.name}' cannot be priced: scope '{self.scope}' has no per-operation total",
                    where=f"energy.scope = {self.scope}",
                )
        self.terms.append(term)

    def total(self, corner: Literal["low", "mid", "high"], groups: tuple[Group, ...]) -> float:
        return sum(getattr(t, f"{corner}_j") for t in self.terms if t.group in groups)


def weakest(kinds: list[Kind]) -> Kind:
    """The least certain kind among the inputs of an estimate."""
    return min(kinds, key=KINDS.index) if kinds else "unknown"


def price_text(quantity: Quantity) -> str:
    """`23.6 to 35.5 pJ`, as a table shows it."""
    if quantity.value is None:
        return "unknown"
    spread = f"{quantity.lo:g} to {quantity.hi:g}" if quantity.lo != quantity.hi else f"{quantity.value:g}"
    return f"{spread} {quantity.unit}"
