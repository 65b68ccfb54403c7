"""What a chip's neuron does that the graph's does not: named in the report wherever the weights allow it to happen."""

from __future__ import annotations

import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.lower.integers import Quantised
from snnkd_deploy.lower.neuron_form import NeuronForm
from snnkd_deploy.lower.registers import safe_steps


def notes_on(
    chip: ChipSpec, form: NeuronForm, integers: Quantised, drive: np.ndarray, loudest: list[float], steps: int | None
) -> list[str]:
    """Notes for one population. drive: its real bias; `loudest`: the largest value of each synapse's source."""
    spec, vth = chip.neuron, integers.vth
    notes = []
    if form.decay_error > 2**-12:
        notes.append(f"decays moved to the chip's nearest, by up to {form.decay_error:.3f} of what is kept")
    positive = sum(f * _rows(np.maximum(w, 0)) for w, f in zip(integers.weights, loudest, strict=True))
    total = sum(f * _rows(np.abs(w)) for w, f in zip(integers.weights, loudest, strict=True))
    if spec.max_spikes != 1 and vth and positive + float(integers.bias.max(initial=0)) >= vth:
        notes.append("one step may bring more than a threshold: the chip then sends several spikes, the graph one")
    if spec.floor == "threshold" and (any((w < 0).any() for w in integers.weights) or np.any(drive < 0)):
        notes.append("the membrane stops at minus its threshold, the graph's does not")
    bears = None if vth is None else safe_steps(chip, total=total + float(np.abs(integers.bias).max()), threshold=vth)
    if bears is not None and (steps is None or steps > bears):
        notes.append(f"the register of {spec.v_bits} bits bears the worst input for {bears} steps")
    if integers.headroom < 1:
        notes.append("the current may wrap" if spec.u_overflow == "wrap" else "the state may leave its register")
    return notes


def _rows(weight: np.ndarray) -> float:
    return float(weight.reshape(len(weight), -1).sum(1).max(initial=0.0))
