"""Parity of two traces: every spike compared, and the first place where they differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.errors import DataError, Problem


@dataclass(frozen=True)
class Divergence:
    """The first differing value, by step, then layer in execution order, then sample and neuron.

    The earliest step comes first because later ones may be mere consequences; within a step, the layer
    nearest to the input. `neuron` counts in C order of the layer's shape.
    """

    layer: str
    step: int
    sample: int
    neuron: int
    expected: float
    got: float
    quantity: str = "spike"
    causes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"layer {self.layer}, step {self.step}, sample {self.sample}, neuron {self.neuron}: "
            f"{self.quantity} {self.expected:g} expected, {self.got:g} found"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "step": self.step,
            "sample": self.sample,
            "neuron": self.neuron,
            "expected": self.expected,
            "got": self.got,
            "causes": list(self.causes),
        }


@dataclass(frozen=True)
class LayerAgreement:
    layer: str
    compared: int
    mismatches: int


@dataclass(frozen=True)
class ParityReport:
    """Agreement of two traces. `identical` is True only if something was compared and nothing differed."""

    samples: int
    layers: tuple[LayerAgreement, ...]
    first_divergence: Divergence | None = None
    logits_mismatches: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def spikes_compared(self) -> int:
        return sum(layer.compared for layer in self.layers)

    @property
    def mismatches(self) -> int:
        return sum(layer.mismatches for layer in self.layers)

    @property
    def identical(self) -> bool:
        return self.spikes_compared > 0 and self.mismatches == 0 and self.logits_mismatches == 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "spikes_compared": self.spikes_compared,
            "mismatches": self.mismatches,
            "logits_mismatches": self.logits_mismatches,
            "identical": self.identical,
            "first_divergence": None if self.first_divergence is None else self.first_divergence.to_dict(),
            "layers": [
                {"layer": a.layer, "spikes_compared": a.compared, "mismatches": a.mismatches} for a in self.layers
            ],
            "notes": list(self.notes),
        }


def compare_traces(expected: Trace, got: Trace, order: list[str] | None = None) -> ParityReport:
    """Compare every spike of the layers that both traces hold, and the logits.

    `order` is the layers from input to output (default: the order of `expected`). Layers that only one
    trace holds are named in `notes`. Raises DataError where nothing can be compared or shapes differ.
    """
    names = [n for n in (order or list(expected.spikes)) if n in expected.spikes and n in got.spikes]
    if not names:
        raise DataError(
            "the two traces share no layer",
            need=", ".join(expected.spikes) or "spikes",
            have=", ".join(got.spikes) or "none",
            remedy="record both from the same model",
        )
    problems = [
        Problem("different shapes", name, str(tuple(expected.spikes[name].shape)), str(tuple(got.spikes[name].shape)))
        for name in names
        if expected.spikes[name].shape != got.spikes[name].shape
    ]
    if problems:
        raise DataError.from_problems(problems)
    layers, first = [], None
    for name in names:
        differs = expected.spikes[name] != got.spikes[name]
        layers.append(LayerAgreement(name, differs.numel(), int(differs.sum())))
        if layers[-1].mismatches:
            found = _first(name, differs, expected.spikes[name], got.spikes[name])
            if first is None or found.step < first.step:
                first = found
    notes = [f"only in the first trace: {n}" for n in expected.spikes if n not in got.spikes]
    notes += [f"only in the second trace: {n}" for n in got.spikes if n not in expected.spikes]
    logits = 0
    if expected.logits.shape == got.logits.shape:
        logits = int((expected.logits != got.logits).any(1).sum()) if expected.logits.numel() else 0
    else:
        notes.append(f"logits have shapes {tuple(expected.logits.shape)} and {tuple(got.logits.shape)}")
    return ParityReport(expected.samples, tuple(layers), first, logits, tuple(notes))


def _first(name: str, differs: Tensor, expected: Tensor, got: Tensor) -> Divergence:
    flat = differs.flatten(2)
    step, sample, neuron = (int(i) for i in torch.nonzero(flat)[0])
    return Divergence(
        layer=name,
        step=step,
        sample=sample,
        neuron=neuron,
        expected=float(expected.flatten(2)[step, sample, neuron]),
        got=float(got.flatten(2)[step, sample, neuron]),
    )
