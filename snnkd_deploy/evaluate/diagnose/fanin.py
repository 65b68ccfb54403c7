"""What arrives at one population when all other populations are taken from a recorded trace.

That cuts a network into layers that can be judged one by one: a layer that errs on its own recorded inputs is a
cause, one that does not is a consequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.engine import Operator
from snnkd_deploy.backends.exact import build_operators
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import is_loop

Hooks = Mapping[str, Callable[[Tensor], Tensor]]


def back_edges(model: Model) -> set[tuple[str, str]]:
    """Edges that carry the value of the step before, as the engine runs loops."""
    found = set()
    for component in model.order:
        if is_loop(model.graph, component):
            position = {name: i for i, name in enumerate(component)}
            for target in component:
                found |= {
                    (source, target)
                    for source in model.sources[target]
                    if source in position and position[source] >= position[target]
                }
    return found


def later(x: Tensor, steps: int) -> Tensor:
    """`x` (T, ...) `steps` later, zeros first; earlier for negative `steps`, zeros last."""
    if steps == 0 or x.shape[0] == 0:
        return x
    gap = torch.zeros_like(x[: abs(steps)])
    return torch.cat([gap, x[:-steps]]) if steps > 0 else torch.cat([x[-steps:], gap])


class FanIn:
    """Evaluates the nodes in front of populations on recorded spikes, in exact's own integers.

    spikes: (T, B, *shape) of every population that feeds something. hooks: what becomes of a node's output.
    """

    def __init__(self, model: Model, inputs: Inputs, spikes: Mapping[str, Tensor], hooks: Hooks | None = None) -> None:
        self.model, self.spikes, self.hooks = model, spikes, hooks or {}
        self.operators: dict[str, Operator] = build_operators(model, inputs, torch.device("cpu"))
        self.back = back_edges(model)
        x = inputs.x.expand(inputs.steps, *inputs.x.shape[1:])
        self.values: dict[str, Tensor] = {model.input_name: self._hooked(model.input_name, x)}
        for operator in self.operators.values():
            operator.start(False)

    @torch.no_grad()
    def arriving(self, layer: str) -> dict[str, Tensor]:
        """Source node -> what it delivers to `layer`, (T, B, *shape) float64, integers unless a hook says otherwise."""
        return {source: self._edge(source, layer).to(torch.float64) for source in self.model.sources[layer]}

    def _edge(self, source: str, target: str) -> Tensor:
        value = self._value(source)
        return later(value, 1) if (source, target) in self.back else value

    def _value(self, name: str) -> Tensor:
        if name not in self.values:
            if name in self.model.spiking:
                value = self.spikes[name].to(torch.float32)
            else:
                total = sum(self._edge(source, name) for source in self.model.sources[name])
                assert isinstance(total, Tensor)
                value = self.operators[name](total)
            self.values[name] = self._hooked(name, value)
        return self.values[name]

    def _hooked(self, name: str, value: Tensor) -> Tensor:
        return self.hooks[name](value) if name in self.hooks else value


def fan_in(model: Model, layer: str) -> list[str]:
    """Nodes between `layer` and the populations (or the input) in front of it, nearest first, these included."""
    found: list[str] = []
    front = list(model.sources[layer])
    while front:
        name = front.pop(0)
        if name not in found:
            found.append(name)
            if name not in model.spiking:
                front += model.sources[name]
    return found
