"""A hypothesis: one thing that a simulator or a board may do differently in one layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.evaluate.diagnose.fanin import FanIn, Hooks, later
from snnkd_deploy.evaluate.diagnose.rule import Course, Rule, rule_of, run_rule
from snnkd_deploy.graph.model import Model

# The causes that are known, in the order in which a tie is broken: the more specific one first.
CAUSES: dict[str, str] = {
    "threshold test": "> against >=, or a threshold that is off by one",
    "reset kind": "reset to zero against subtraction of the threshold",
    "one-step delay": "inputs arrive a step late or early",
    "missing bias": "a bias is not applied",
    "early bias": "the bias starts before the first input, or after it",
    "rounding": "another rounding of the decay",
    "overflow": "wrap against saturation, or a narrower register",
    "weight clip": "weights are cut to a narrower range",
    "weight rounding": "low bits of the weights are lost",
    "pooling factor": "sums of a pooling window are scaled, averaged or cut to one spike",
    "transposed kernel": "a kernel or the flatten order has its axes exchanged",
    "dt": "all decays are those of another timestep",
    "decay value": "another decay constant",
}


@dataclass(frozen=True)
class Hypothesis:
    """`text` says what the other side does. `model`, `hooks` and `delays` change what arrives, `rule` the neuron."""

    cause: str
    text: str
    rule: Rule
    model: Model | None = None
    hooks: Hooks = field(default_factory=dict)
    delays: Mapping[str, int] = field(default_factory=dict)


class Case:
    """One layer of one recorded run: what it heard and what it answered.

    spikes: of every population, (T, B, *shape); the layer's own are what hypotheses have to reproduce.
    """

    def __init__(self, model: Model, layer: str, inputs: Inputs, spikes: Mapping[str, Tensor]) -> None:
        self.model, self.layer, self.inputs, self.spikes = model, layer, inputs, spikes
        self.rule = rule_of(model, layer)
        self.answer = spikes[layer].to(torch.float64)
        self.heard = FanIn(model, inputs, spikes).arriving(layer)
        self.bias = torch.from_numpy(model.bias_int(layer)).to(torch.float64)

    def reference(self) -> Course:
        """The layer as the model has it."""
        return run_rule(_total(self.heard), self.bias, self.rule)

    def course(self, hypothesis: Hypothesis) -> Course:
        """The layer as the hypothesis has it."""
        heard, bias = self.heard, self.bias
        if hypothesis.model is not None or hypothesis.hooks:
            model = hypothesis.model or self.model
            heard = FanIn(model, self.inputs, self.spikes, hypothesis.hooks).arriving(self.layer)
            bias = torch.from_numpy(model.bias_int(self.layer)).to(torch.float64)
        heard = {source: later(value, hypothesis.delays.get(source, 0)) for source, value in heard.items()}
        return run_rule(_total(heard), bias, hypothesis.rule)

    def misses(self, course: Course) -> int:
        """Spikes of the recorded answer that `course` does not have."""
        return int((course.spikes != self.answer).sum())


def _total(heard: Mapping[str, Tensor]) -> Tensor:
    total = sum(heard.values())
    assert isinstance(total, Tensor)
    return total


Hypotheses = Iterator[Hypothesis]
