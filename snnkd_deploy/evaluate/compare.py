"""Two networks on one chip. A ratio is far better known than either absolute, since the prices are the same."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from snnkd_deploy.errors import UsageError
from snnkd_deploy.evaluate.estimate import DRAWS, IN_TOTAL, EnergyEstimate
from snnkd_deploy.evaluate.scopes import between


@dataclass(frozen=True)
class EnergyComparison:
    """Energy of `a` over energy of `b`.

    ratio_low, _mid, _high   with all prices at their low, middle, high corner
    ratio_min, ratio_max     extremes over every combination of low and high prices
    p5, p95                  of draws with common prices
    verdict                  "a uses less", "b uses less" or "undecided"
    """

    chip: str
    ratio_low: float
    ratio_mid: float
    ratio_high: float
    ratio_min: float
    ratio_max: float
    p5: float
    p95: float
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def compare_energy(a: EnergyEstimate, b: EnergyEstimate, *, seed: int = 0) -> EnergyComparison:
    """Compare two estimates on one chip, corner by corner.

    One uses less only if it does with every combination of prices in their ranges. Raises UsageError for
    different chips (no common prices) and for estimates without a total.
    """
    if (a.chip, a.profile, a.scope) != (b.chip, b.profile, b.scope):
        raise UsageError(
            "only estimates of one chip with one price list can be compared",
            where="compare_energy",
            need=f"{a.chip} {a.profile}".strip(),
            have=f"{b.chip} {b.profile}".strip(),
            remedy="show different chips side by side, with their intervals",
        )
    if a.mid is None or b.mid is None or a.low is None or b.low is None or a.high is None or b.high is None:
        raise UsageError(
            f"{a.chip} has no per-operation total to compare",
            where="compare_energy",
            remedy="compare the counts, or the proxies of both estimates",
        )
    if min(b.low, a.low) <= 0:
        raise UsageError("an estimate of zero joules cannot be compared", where="compare_energy")
    names = list(dict.fromkeys(_name(t.name) for e in (a, b) for t in e.terms if t.group in IN_TOTAL))
    costs_a, costs_b = _costs(a, names), _costs(b, names)
    ratios = []
    for pick in product((0, 1), repeat=len(names)):
        index = (np.arange(len(names)), np.array(pick))
        below = float(costs_b[index].sum())
        if below > 0:
            ratios.append(float(costs_a[index].sum()) / below)
    u = np.random.default_rng(seed).random(DRAWS)
    drawn = [sum(between(low, high, u) for low, high in costs) for costs in (costs_a, costs_b)]
    spread = np.asarray(drawn[0]) / np.asarray(drawn[1])
    smallest, largest = min(ratios), max(ratios)
    verdict = "a uses less" if largest < 1 else "b uses less" if smallest > 1 else "undecided"
    return EnergyComparison(
        chip=a.chip,
        ratio_low=a.low / b.low,
        ratio_mid=a.mid / b.mid,
        ratio_high=a.high / b.high,
        ratio_min=smallest,
        ratio_max=largest,
        p5=float(np.percentile(spread, 5)),
        p95=float(np.percentile(spread, 95)),
        verdict=verdict,
    )


def _name(term: str) -> str:
    """Static power carries its number of chips in its name."""
    return term.split(",")[0]


def _costs(estimate: EnergyEstimate, names: list[str]) -> np.ndarray:
    """(terms, 2): low and high joules of each named term, 0 where the estimate does not have it."""
    table = {_name(t.name): (t.low_j, t.high_j) for t in estimate.terms if t.group in IN_TOTAL}
    return np.array([table.get(name, (0.0, 0.0)) for name in names])
