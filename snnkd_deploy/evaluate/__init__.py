"""What a network costs on a chip: operations, fit, latency, energy. And whether two runs agree.

Definitions, sources and calibration: `docs/energy.md`. Nothing here trains or runs a network.
"""

from snnkd_deploy.evaluate.balance import balance
from snnkd_deploy.evaluate.compare import EnergyComparison, compare_energy
from snnkd_deploy.evaluate.counter import OpCounter, count_ops
from snnkd_deploy.evaluate.counts import LayerCounts, OpCounts, add_samples, layer_from_rates
from snnkd_deploy.evaluate.energy import estimate_energy
from snnkd_deploy.evaluate.estimate import EnergyEstimate
from snnkd_deploy.evaluate.expected import expected_counts
from snnkd_deploy.evaluate.latency import LatencyEstimate, estimate_latency
from snnkd_deploy.evaluate.literature import AnnBaseline, ann_baseline
from snnkd_deploy.evaluate.mapping import FitReport, check_fit, fit
from snnkd_deploy.evaluate.terms import EnergyTerm

__all__ = [
    "AnnBaseline",
    "EnergyComparison",
    "EnergyEstimate",
    "EnergyTerm",
    "FitReport",
    "LatencyEstimate",
    "LayerCounts",
    "OpCounter",
    "OpCounts",
    "add_samples",
    "ann_baseline",
    "balance",
    "check_fit",
    "compare_energy",
    "count_ops",
    "estimate_energy",
    "estimate_latency",
    "expected_counts",
    "fit",
    "layer_from_rates",
]
