"""`EnergyEstimate`: joules of one sample with everything that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from snnkd_deploy.chips.spec import Kind
from snnkd_deploy.chips.units import span_text
from snnkd_deploy.evaluate.terms import Bound, EnergyTerm, Group, Unpriced

DRAWS = 1000
IN_TOTAL: tuple[Group, ...] = ("dynamic", "static")


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
        return f"5th to 95th percentile of {DRAWS} correlated draws of the prices: {span_text(self.p5, self.p95, 'J')}."
