"""Samples per second of the exact simulator against real Lava, on the same models, with the same spikes.

python bench/exact_vs_lava.py [--lava-samples 60] [--lava-repeats 3] [--samples 2000]

Each net twice: with events as input, so that all its layers are the chip's and Lava's, and with images whose first
layer the host computes (`current`), so that Lava has a layer less to do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.lava.backend import LavaBackend
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.chips import load_chip
from snnkd_deploy.evaluate import OpCounter
from snnkd_deploy.evaluate.parity import compare_traces
from snnkd_deploy.graph.model import Model
from snnkd_deploy.lower import lower_student
from snnkd_deploy.memory import keep_big_blocks
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.zoo import build_student

SHAPE = (1, 28, 28)
MLP = StudentPlan("mlp", SHAPE, 10, 255, 32, options={"hidden": (256,)})
CONV = StudentPlan("conv", SHAPE, 10, 255, 8, options={"channels": (16, 32), "strides": (2, 2)})
NETS = {
    "MLP 784-256-10, T=32, events": replace(MLP, encoding="events", levels=1),
    "MLP 784-256-10, T=32, images": MLP,
    "conv 16s2-32s2-10 on 1x28x28, T=8, events": replace(CONV, encoding="events", levels=1),
    "conv 16s2-32s2-10 on 1x28x28, T=8, images": CONV,
}
EVENT_RATE = 0.2
# Processes that Lava can run a convolution as.
FORMS = {"conv": {"conv": "Lava's Conv", "sparse": "unrolled"}}


def samples_for(plan: StudentPlan, count: int) -> np.ndarray:
    """Images (1, B, ...), or events (T, B, ...) of `EVENT_RATE`."""
    rng = np.random.default_rng(0)
    if plan.encoding == "current":
        return rng.integers(0, 256, (1, count, *plan.input_shape))
    return (rng.random((plan.steps, count, *plan.input_shape)) < EVENT_RATE).astype(np.uint8)


def active_model(plan: StudentPlan) -> Model:
    """A lowered student whose normalisation has seen data, so that every layer fires."""
    torch.manual_seed(0)
    student = build_student(plan)
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0
            module.bias.data.fill_(0.2)
    with torch.no_grad():
        x = torch.from_numpy(samples_for(plan, 256))
        student(x[0] if plan.encoding == "current" else x)
    student.eval()
    student.to_chip(load_chip("loihi2"))
    return lower_student(student)


def steady_rate(
    lava: LavaBackend, model: Model, inputs: Inputs, samples: int, repeats: int
) -> tuple[float, Trace, Inputs]:
    """Samples per second, from two lengths that share compilation and start; trace and inputs of the longer."""
    few, many = inputs.chunk(0, samples), inputs.chunk(0, 3 * samples)
    spans: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(repeats):
        for longer, part in ((False, few), (True, many)):
            start = time.perf_counter()
            found = lava.run(model, part, Record())
            spans[longer].append(time.perf_counter() - start)
    return 2 * samples / (statistics.median(spans[True]) - statistics.median(spans[False])), found, many


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--lava-samples", type=int, default=60)
    parser.add_argument("--lava-repeats", type=int, default=3, help="0: without Lava")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    keep_big_blocks()
    figures: dict[str, dict[str, Any]] = {}
    exact = ExactBackend()
    for title, plan in NETS.items():
        model = active_model(plan)
        inputs = make_inputs(samples_for(plan, args.samples), model, plan.steps)
        plain, counted = [], []
        for _ in range(args.repeats):
            start = time.perf_counter()
            trace = exact.run(model, inputs, Record())
            plain.append(time.perf_counter() - start)
            counter = OpCounter(model)
            counter.update(trace, inputs)
            counter.result()
            counted.append(time.perf_counter() - start)
        rate = args.samples / statistics.median(plain)
        share = statistics.median(c / p for c, p in zip(counted, plain, strict=True))
        activity = {name: f"{100 * float(s.float().mean()):.0f} %" for name, s in trace.spikes.items()}
        print(f"{title}: exact {rate:,.0f} samples/s, with counting {share:.2f} x; rates {activity}")
        figures[title] = {"exact_per_s": rate, "with_counting": share, "rates": activity}
        if args.lava_repeats == 0:
            continue
        for conv, what in FORMS.get(plan.net, {"sparse": ""}).items():
            lava = LavaBackend(conv=conv)
            if not lava.availability().usable:
                print("  lava is not installed here")
                break
            steady, found, many = steady_rate(lava, model, inputs, args.lava_samples, args.lava_repeats)
            parity = compare_traces(exact.run(model, many, Record()), found, model.spiking)
            print(
                f"  lava{f' ({what})' if what else ''} {steady:,.1f} samples/s steady: exact is {rate / steady:,.0f} x "
                f"faster; {parity.mismatches} of {parity.spikes_compared:,} spikes differ",
                flush=True,
            )
            here = {"lava_per_s": steady, "ratio": rate / steady, "spikes_differing": parity.mismatches}
            figures[title][what or "lava"] = here
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
