"""How often the order of events inside a step matters on trained Xylo networks, for every weight shift.

Digits pooled to 4x4 counts, a short training (12 epochs, seconds): the accuracies are no claim. Columns: neuron-steps
in which a current could clip between two events, those in which the order decided, spikes of the training's forward
pass that differ from `exact`, and, with xylosim installed, spikes of xylosim that differ from `exact`.

    python bench/xylo_event_order.py
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import EVENT_ORDER, Record
from snnkd_deploy.backends.xylo import XyloBackend
from snnkd_deploy.chips import load_chip
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.evaluate.parity import compare_traces
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan, neuron_of
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.zoo import build_student

STEPS, TRAINING, XYLOSIM_SAMPLES = 8, 1400, 40


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Event counts (T, N, 1, 4, 4), 0..15, and labels (N,)."""
    data = load_digits()
    maps = data.images.reshape(-1, 4, 2, 4, 2).mean((2, 4))
    counts = np.random.default_rng(0).poisson(0.4 * maps, (STEPS, *maps.shape)).clip(0, 15)
    return torch.from_numpy(counts)[:, :, None], torch.from_numpy(data.target)


def train(net: str, chip: ChipSpec, x: torch.Tensor, y: torch.Tensor) -> Student:
    torch.manual_seed(0)
    plan = StudentPlan(net, (1, 4, 4), 10, 15, STEPS, encoding="events", width=0.1, **neuron_of(chip))
    student = build_student(plan)
    optimiser = torch.optim.Adam(student.parameters(), 2e-3)
    for _ in range(12):
        student.train()
        for batch in torch.randperm(TRAINING).split(100):
            loss = F.cross_entropy(student(x[:, batch]).votes.float() * 3 / STEPS, y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return student.eval()


def shifted(chip: ChipSpec, shift: int) -> ChipSpec:
    """The chip with another weight shift, and the thresholds and biases that then fit their registers."""
    top = 32767 >> shift
    threshold = chip.parameters.threshold.model_copy(update={"hi": top})
    mantissa = chip.parameters.bias.mantissa.model_copy(update={"lo": -top, "hi": top})
    bias = chip.parameters.bias.model_copy(update={"mantissa": mantissa})
    return chip.model_copy(
        update={
            "neuron": chip.neuron.model_copy(update={"input_shift": shift}),
            "parameters": chip.parameters.model_copy(update={"threshold": threshold, "bias": bias}),
        }
    )


def main() -> None:
    chip, (x, y) = load_chip("xylo_a3"), digits()
    test = slice(TRAINING, None)
    xylo = XyloBackend()
    print("net  shift  accuracy  neuron-steps  could matter  decided  training differs  xylosim differs")
    for net in ("mlp", "rnn"):
        trained = train(net, chip, x, y)
        for shift in range(8):
            student = copy.deepcopy(trained)
            student.to_chip(shifted(chip, shift))
            with torch.no_grad():
                forward = student(x[:, test])
            model = lower_student(student)
            inputs = make_inputs(x[:, test].numpy(), model)
            trace = ExactBackend().run(model, inputs, Record())
            could, decided = np.array([[0, 0], *trace.meta.get(EVENT_ORDER, {}).values()]).sum(0)
            wrong = sum(int((trace.spikes[n].float() != s).sum()) for n, s in forward.spikes.items())
            theirs = "not installed"
            if xylo.availability().usable:
                few = inputs.chunk(0, XYLOSIM_SAMPLES)
                compared = compare_traces(ExactBackend().run(model, few, Record()), xylo.run(model, few, Record()))
                theirs = f"{compared.mismatches} of {compared.spikes_compared:,}"
            accuracy = float((trace.predictions == y[test]).float().mean())
            total = sum(s.numel() for s in trace.spikes.values())
            print(f"{net}  {shift}  {accuracy:.3f}  {total:,}  {could:,}  {decided:,}  {wrong:,}  {theirs}", flush=True)


if __name__ == "__main__":
    main()
