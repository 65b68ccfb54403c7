"""The state of the neuron around a divergence, as the reference has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.evaluate.diagnose.hypothesis import Case
from snnkd_deploy.evaluate.parity import Divergence
from snnkd_deploy.graph.model import Model


@dataclass(frozen=True)
class NeuronState:
    """One neuron at one step. u and v after the step, `membrane` v before threshold test and reset.

    All integers on the chip's grid. `drive` is the sum of weights that arrived, before its shift into u.
    """

    step: int
    drive: int
    bias: int
    u: int
    membrane: int
    threshold: int
    v: int
    spike: int
    other_spike: int

    def to_dict(self) -> dict[str, int]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"step {self.step}: drive {self.drive}, bias {self.bias}, u {self.u}, membrane {self.membrane} "
            f"against threshold {self.threshold} -> spike {self.spike}, v {self.v} (other: spike {self.other_spike})"
        )


def states_around(
    model: Model, inputs: Inputs, expected: Mapping[str, Tensor], got: Mapping[str, Tensor], where: Divergence
) -> list[NeuronState]:
    """The step of the divergence and the one before, computed from the reference's own spikes."""
    one = slice(where.sample, where.sample + 1)
    case = Case(
        model, where.layer, inputs.chunk(where.sample, where.sample + 1), {n: s[:, one] for n, s in expected.items()}
    )
    course = case.reference()
    drive = sum(case.heard.values())
    bias = case.bias.expand(course.u.shape[2:]).flatten()[where.neuron]

    def at(values: Any, step: int, sample: int = 0) -> int:
        return int(values.flatten(2)[step, sample, where.neuron])

    return [
        NeuronState(
            step=t,
            drive=at(drive, t),
            bias=int(bias),
            u=at(course.u, t),
            membrane=at(course.before, t),
            threshold=int(case.rule.threshold),
            v=at(course.v, t),
            spike=at(expected[where.layer], t, where.sample),
            other_spike=at(got[where.layer], t, where.sample),
        )
        for t in range(max(0, where.step - 1), where.step + 1)
    ]
