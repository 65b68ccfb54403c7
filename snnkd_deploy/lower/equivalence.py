"""Neurons in the chip's form, checked by numbers: NIR's equations against what was made of them."""

from __future__ import annotations

from collections.abc import Iterable

import nir
import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.lower.assemble import Population
from snnkd_deploy.lower.neuron_form import NeuronForm
from snnkd_deploy.lower.report import PassReport

_STEPS = 24
_TOLERANCE = 1e-9


def check_forms(model: Model, populations: Iterable[Population], chip: ChipSpec) -> PassReport:
    """Membranes below threshold, over their thresholds, on random input: the graph's with the chip's decays in it.

    Raises GraphError where they part, which is a fault of the lowering and not of the graph.
    """
    rng = np.random.default_rng(0)
    worst = 0.0
    for population in populations:
        if population.original == model.output_name:
            continue
        node, form = model.nodes[population.original], population.form
        x = rng.normal(0, 1, (_STEPS, *population.shape))
        wanted = _as_nir(node, form, x, model.profile.dt_s)
        made = _as_chip(form, x, filtered=chip.neuron.family == "shift_lif" and form.keep_u > 0)
        size = max(1.0, float(np.abs(wanted).max()))
        worst = max(worst, float(np.abs(wanted - made).max()) / size)
    if worst > _TOLERANCE:
        raise GraphError(
            "the chip's neurons do not integrate as the graph's do; this is a fault of the lowering",
            have=f"relative difference {worst:.2g}",
            remedy="please report it with the file",
        )
    return PassReport(
        "neurons in the chip's form",
        requires="one time constant a population, thresholds above v_reset",
        ensures="the membranes of NIR's equations, at the chip's decays",
        error=worst,
    )


def _as_nir(node: nir.NIRNode, form: NeuronForm, x: np.ndarray, dt_s: float) -> np.ndarray:
    """(v - v_reset) / (v_threshold - v_reset) by NIR's forward Euler, dt/tau being what the chip's decays lose."""
    a, b = 1.0 - form.keep_u, 1.0 - form.keep_v
    reset = np.asarray(getattr(node, "v_reset", 0.0), dtype=np.float64)
    v, current = np.zeros(x.shape[1:]) + reset, np.zeros(x.shape[1:])
    out = np.empty_like(x)
    for t, arriving in enumerate(x):
        if isinstance(node, nir.Threshold):
            v = arriving
        elif isinstance(node, nir.IF | nir.I):
            v = v + dt_s * node.r * arriving
        elif isinstance(node, nir.LIF | nir.LI):
            v = v + b * (node.v_leak - v + node.r * arriving)
        else:
            current = current + a * (node.w_in * arriving - current)
            v = v + b * (node.v_leak - v + node.r * current)
        out[t] = v - reset
    level = node.threshold if isinstance(node, nir.Threshold) else getattr(node, "v_threshold", None)
    return out if level is None or form.threshold is None else _over(out, np.asarray(level) - reset)


def _as_chip(form: NeuronForm, x: np.ndarray, *, filtered: bool) -> np.ndarray:
    """The same of the form that goes to the chip."""
    u, v = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    out = np.empty_like(x)
    for t, arriving in enumerate(x):
        u = form.keep_u * u + form.factor * arriving * (form.keep_u if filtered else 1.0)
        v = form.keep_v * v + u + form.drive
        out[t] = v
    return out if form.threshold is None else _over(out, np.asarray(form.threshold))


def _over(v: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    return v / np.where(threshold == 0, 1.0, threshold)
