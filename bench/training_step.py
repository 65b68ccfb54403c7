"""One training step against its floor: the same layers with ReLU on the same T*B batch.

    python bench/training_step.py [--repeats 9] [--workloads W1,W2,W3]

All variants of a workload take turns in one process; a row gives the median time and the median of the
ratios to the floor, round by round, so that a drifting machine cancels out. Peers that are installed join.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from peers import Neurons, installed
from torch import nn
from torch.nn import functional as F

from snnkd_deploy.chips import load_chip
from snnkd_deploy.memory import keep_big_blocks
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.neurons import compile_neurons
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.synapse import Synapse
from snnkd_deploy.nets.zoo import build_student

Step = Callable[[], None]
WORKLOADS = {
    "W1": ("MLP 784-512-512-10, T=16, B=128", StudentPlan("mlp", (1, 28, 28), 10, 255, 16), 128),
    "W2": ("CNN 16/32s2/64s2, BN, T=4, B=128", StudentPlan("conv", (1, 28, 28), 10, 255, 4), 128),
    "W3": ("ResNet-20, T=4, B=32", StudentPlan("resnet20", (3, 32, 32), 10, 255, 4), 32),
}


def plain(synapse: Synapse, x: torch.Tensor) -> torch.Tensor:
    """A synapse as anybody would write it: torch's layers on contiguous memory."""
    if not synapse.is_conv:
        return synapse(x)
    if synapse.weight.shape[1:] == (1, 1, 1) and synapse.groups == x.shape[1]:
        return x  # an identity shortcut
    out = F.conv2d(x, synapse.weight, None, synapse.stride, synapse.padding, 1, synapse.groups)
    return out if synapse.norm is None else synapse.norm(out)


def floor_net(plan: StudentPlan) -> nn.Module:
    """The student's layers with ReLU in place of its neurons, on the T*B batch (the first layer once)."""
    student = build_student(plan)

    class Floor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = student

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            outputs = {"input": x.float()}
            for population in student.hidden:
                if population.host_levels:
                    drive = F.relu(plain(population.synapses[0], outputs["input"] / plan.levels))
                    drive = drive.unsqueeze(0).expand(plan.steps, *drive.shape).flatten(0, 1)
                else:
                    parts = zip(population.sources, population.synapses, strict=True)
                    drive = F.relu(sum(plain(synapse, outputs[source]) for source, synapse in parts))
                outputs[population.name] = drive
            readout = student.readout
            return plain(readout.synapses[0], outputs[readout.sources[0]])

    return Floor()


def variants(plan: StudentPlan, batch: int) -> dict[str, Step]:
    """Training steps by name: forward, cross-entropy on the time mean, backward."""
    torch.manual_seed(0)
    x = torch.randint(0, 256, (batch, *plan.input_shape)).to(torch.uint8)
    y = torch.randint(0, plan.classes, (batch,))

    def stepper(module: nn.Module, logits: Callable[[], torch.Tensor]) -> Step:
        def step() -> None:
            module.zero_grad(set_to_none=True)
            F.cross_entropy(logits(), y).backward()

        return step

    floor, ours, chip = floor_net(plan), build_student(plan), build_student(plan)
    with torch.no_grad():
        chip(x)
    chip.to_chip(load_chip("loihi2"))
    steps = {
        "floor (ReLU)": stepper(floor, lambda: floor(x).unflatten(0, (plan.steps, -1)).mean(0)),
        "ours, float": stepper(ours, lambda: ours(x).logits.mean(0)),
        "ours, chip integers": stepper(chip, lambda: chip(x).logits.mean(0)),
    }
    return steps | peers(plan, x, stepper)


def peers(plan: StudentPlan, x: torch.Tensor, stepper: Callable[[nn.Module, Callable], Step]) -> dict[str, Step]:
    """Other frameworks' neurons between the floor's own layers, contiguous as they come."""
    found = {}
    for name, make in installed().items():
        student = build_student(plan)
        neurons = [make() for _ in student.hidden]

        def logits(student: Student = student, neurons: list[Neurons] = neurons) -> torch.Tensor:
            outputs = {"input": x.float()}
            for population, run in zip(student.hidden, neurons, strict=True):
                parts = list(zip(population.sources, population.synapses, strict=True))
                if population.host_levels:
                    drive = plain(parts[0][1], outputs["input"] / plan.levels)
                    drive = drive.unsqueeze(0).expand(plan.steps, *drive.shape)
                else:
                    drive = sum(plain(synapse, outputs[source].flatten(0, 1)) for source, synapse in parts)
                    drive = drive.unflatten(0, (plan.steps, -1))
                outputs[population.name] = run(drive)
            readout = student.readout
            last = outputs[readout.sources[0]].flatten(0, 1)
            return plain(readout.synapses[0], last).unflatten(0, (plan.steps, -1)).mean(0)

        found[name] = stepper(student, logits)
    return found


def measure(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
        step()
    for _ in range(repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--workloads", default="W1,W2,W3")
    parser.add_argument("--steps", help="T in place of the workload's, a list: 1,4,16,64")
    parser.add_argument("--widths", default="1", help="width factors, a list: 1,2,4,8")
    parser.add_argument("--default-malloc", action="store_true", help="leave glibc's thresholds as they are")
    parser.add_argument("--json", type=Path, help="also write every time here")
    args = parser.parse_args()
    if not args.default_malloc:
        keep_big_blocks()
    problem = compile_neurons(True)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; neurons {problem or 'fused'}")
    figures: dict[str, dict[str, object]] = {}
    for key in args.workloads.split(","):
        title, plan, batch = WORKLOADS[key]
        for steps in [int(t) for t in args.steps.split(",")] if args.steps else [plan.steps]:
            for width in map(float, args.widths.split(",")):
                times = measure(variants(replace(plan, steps=steps, width=width), batch), args.repeats)
                name = key if not args.steps and width == 1 else f"{key}, T={steps}, width x{width:g}"
                figures[name] = show(f"{name}: {title}", times)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


def show(title: str, times: dict[str, list[float]]) -> dict[str, object]:
    """Print a workload's rows; returns them: seconds of each round, ratio to the floor with its spread."""
    reference, rows = times["floor (ReLU)"], {}
    print(f"\n{title}")
    for name, values in times.items():
        ratios = sorted(v / r for v, r in zip(values, reference, strict=True))
        ratio, low, high = statistics.median(ratios), ratios[0], ratios[-1]
        print(f"  {name:<26} {1000 * statistics.median(values):8.1f} ms  {ratio:5.2f} x floor ({low:.2f}..{high:.2f})")
        rows[name] = {"seconds": values, "ratio": ratio, "lowest": low, "highest": high}
    return dict(rows)


if __name__ == "__main__":
    main()
