"""Faster steps from idle cores: the layer of the slowest core is cut finer, as long as that helps."""

from __future__ import annotations

from snnkd_deploy.chips.load import load_chip
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.evaluate.counts import OpCounts
from snnkd_deploy.evaluate.latency import slowest_core
from snnkd_deploy.evaluate.mapping import FitReport, fit
from snnkd_deploy.graph.model import Model

# A core this much slower than the mean is worth splitting.
UNEVEN = 1.3
_SPLITS = 64


def balance(model: Model, chip: ChipSpec | str, counts: OpCounts) -> FitReport:
    """A mapping whose slowest core is at most 1.3 times the mean, or as near as free cores of its chips allow.

    counts: recorded operations of the model (`count_ops`); a step lasts as long as its slowest core, whose layer gets
    one more block at a time. A split that does not make the step shorter is not kept. Chips without times of single
    operations, their own or a proxy's, keep the plain mapping.
    """
    spec = load_chip(chip) if isinstance(chip, str) else chip
    best = fit(model, spec, counts=counts)
    pieces = best.cores_by_layer
    for _ in range(_SPLITS):
        if not best.fits or best.placement is None:
            return best
        load = slowest_core(best.placement.route(counts), spec, best)
        if load is None or load[1] <= UNEVEN * load[2]:
            return best
        layer, seconds, _ = load
        finer = fit(model, spec, counts=counts, pieces=pieces | {layer: best.cores_by_layer[layer] + 1})
        if not finer.fits or finer.placement is None or finer.chips > best.chips:
            return best
        after = slowest_core(finer.placement.route(counts), spec, finer)
        if after is None or after[1] >= seconds:
            return best
        best, pieces = finer, finer.cores_by_layer
    return best
