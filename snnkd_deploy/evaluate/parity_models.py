"""Small models of every kind that a student can be, with random weights: what the parity matrix runs.

They come out of the same builder, folding and lowering as trained students. Those without a leak are exact in any
simulator of real numbers; `leaky` has Loihi's truncating decays, `real_units` is a NIR graph on no chip's grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import nir
import numpy as np
import torch

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.chips import load_chip
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import Encoding, Profile
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import Builder, StudentPlan, neuron_of
from snnkd_deploy.nets.student import Student

STEPS = 6
_MAP = (2, 8, 8)


@dataclass(frozen=True)
class Case:
    """`reference` is the backend that the others are held to."""

    name: str
    model: Model
    reference: str
    make: Callable[[int], np.ndarray]
    steps: int = STEPS

    def inputs(self, samples: int) -> Inputs:
        return make_inputs(self.make(samples), self.model, self.steps)


def parity_cases(chip: ChipSpec, seed: int = 0) -> list[Case]:
    """Every kind, deterministic in `seed`."""
    cases = [_student(kind, chip, seed + i) for i, kind in enumerate(_KINDS)]
    return [*cases, *(_other(name, seed) for name in _OTHER), _real_units(seed)]


def _mlp(build: Builder) -> Student:
    return build.finish(build.dense("1", build.dense("0", "input", 40), 30))


def _conv(build: Builder) -> Student:
    return build.finish(build.conv("1", build.conv("0", "input", 6), 8, stride=2))


def _residual(build: Builder) -> Student:
    stem = build.conv("0", "input", 6)
    return build.finish(build.block("2", build.block("1", stem, 6, 1), 8, 2))


def _pooled(build: Builder) -> Student:
    maps = build.conv("1", build.conv("0", "input", 6), 8, stride=2)
    return build.finish(build.dense("2", maps, 20, pool=True))


def _recurrent(build: Builder) -> Student:
    return build.finish(build.recurrent("1", build.recurrent("0", "input", 30), 20))


# kind -> (network, what its plan has beside the common values)
_KINDS: dict[str, tuple[Callable[[Builder], Student], dict[str, Any]]] = {
    "mlp": (_mlp, {}),
    "conv": (_conv, {}),
    "residual": (_residual, {}),
    "pooled": (_pooled, {}),
    "recurrent": (_recurrent, {"encoding": "events", "levels": 1}),
    "events": (_conv, {"encoding": "events", "levels": 1}),
    "graded": (_mlp, {"encoding": "graded", "levels": 15}),
    "leaky": (_conv, {"leak": 0.7, "current_leak": 0.3, "encoding": "events", "levels": 1}),
}


# Models of other families on their own chips, whatever the chip of the rest: name -> (chip, network, plan).
_OTHER: dict[str, tuple[str, Callable[[Builder], Student], dict[str, Any]]] = {
    "speck": ("speck2f", _conv, {"levels": 1}),
    "xylo": ("xylo_a2", _mlp, {"levels": 15, "threshold": 0.2, "input_shape": (1, 4, 4)}),
    "xylo_recurrent": ("xylo_a2", _recurrent, {"levels": 3, "threshold": 0.2, "input_shape": (1, 4, 4)}),
}


def _other(name: str, seed: int) -> Case:
    chip_id, network, special = _OTHER[name]
    chip = load_chip(chip_id)
    return _student(name, chip, seed, network, {"encoding": "events", **special, **neuron_of(chip)})


def _student(
    kind: str,
    chip: ChipSpec,
    seed: int,
    network: Callable[[Builder], Student] | None = None,
    special: dict[str, Any] | None = None,
) -> Case:
    if network is None or special is None:
        network, special = _KINDS[kind]
    plan = StudentPlan(net=kind, input_shape=_MAP, classes=5, levels=255, steps=STEPS, leak=1.0, threshold=0.5)
    plan = replace(plan, **special)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = network(Builder(plan)).eval()
        # Random biases, as training leaves them: folding normalisation alone would make them all zero.
        for population in student:
            for synapse in population.synapses:
                norm = getattr(synapse, "norm", None)
                if norm is not None:
                    torch.nn.init.normal_(norm.bias, 0.1, 0.2)
    student.to_chip(chip)
    model = lower_student(student, classes=tuple("abcde"))

    def make(samples: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        if plan.encoding == "current":
            return rng.integers(0, plan.levels + 1, (1, samples, *plan.input_shape))
        fires = rng.random((STEPS, samples, *plan.input_shape)) < 0.25
        return fires * (rng.integers(1, plan.levels + 1, fires.shape))

    return Case(kind, model, "exact", make)


def _real_units(seed: int) -> Case:
    """LIF and IF in NIR's own equations; thresholds off every tie."""
    rng, dt = np.random.default_rng(seed), 1e-3
    hidden, ones = 24, np.ones(24)
    nodes = {
        "input": nir.Input({"input": np.array([12])}),
        "fc1": nir.Affine(rng.normal(0, 0.6, (hidden, 12)), rng.normal(0, 0.1, hidden)),
        "lif1": nir.LIF(tau=ones * 4.3 * dt, r=ones * 3.0, v_leak=ones * 0.0, v_threshold=ones * 0.73),
        "fc2": nir.Linear(rng.normal(0, 0.5, (5, hidden))),
        "if2": nir.IF(r=np.ones(5) / dt, v_threshold=np.ones(5) * 0.91),
        "output": nir.Output({"output": np.array([5])}),
    }
    order = list(nodes)
    graph = nir.NIRGraph(nodes, list(pairwise(order)), type_check=False)
    model = Model(graph, Profile(dt_s=dt, reset="zero", encoding=Encoding(kind="float")))

    def make(samples: int) -> np.ndarray:
        return (np.random.default_rng(seed + 1).random((4 * STEPS, samples, 12)) < 0.3).astype(np.float64)

    return Case("real_units", model, "float", make, 4 * STEPS)
