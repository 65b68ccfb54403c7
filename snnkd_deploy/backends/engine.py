"""Run a graph in torch: sources first, whole sequences at once, loops step by step.

Used by `exact` (integers) and `float` (NIR's equations), which differ only in the operators that they
put at the nodes. An operator maps (T, B, *in) to (T, B, *out) and keeps its state, so that T calls with
one step give what one call with T steps gives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import nir
import torch
from torch import Tensor

from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import SynapseParams
from snnkd_deploy.graph.topology import NEURONS, is_loop


class Operator(ABC):
    """A node at work. Stateless unless it says otherwise."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor: ...

    def start(self, keep_states: bool) -> None:  # noqa: B027  (an optional hook)
        """Forget everything: the next call begins a new sample batch."""


class Identity(Operator):
    def __call__(self, x: Tensor) -> Tensor:
        return x


class DelayLine(Operator):
    """Each element of a sample arrives `steps` (a tensor broadcast to the sample's shape) steps later."""

    def __init__(self, steps: Tensor) -> None:
        self.steps = steps.to(torch.int64)
        self.depth = int(self.steps.max()) if self.steps.numel() else 0
        self.past: Tensor | None = None

    def start(self, keep_states: bool) -> None:
        self.past = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.depth == 0:
            return x
        if self.past is None:
            self.past = x.new_zeros((self.depth, *x.shape[1:]))
        line = torch.cat([self.past, x])
        self.past = line[-self.depth :]
        steps = self.steps.expand(x.shape[2:])
        t = torch.arange(x.shape[0], device=x.device).view(-1, *[1] * (x.dim() - 1))
        index = (t + self.depth - steps).expand(x.shape)
        return torch.gather(line, 0, index)


def merge_batch(x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """(T, B, ...) -> (T*B, ...) for layers without time."""
    return x.flatten(0, 1), (x.shape[0], x.shape[1])


def run_graph(
    model: Model, operators: Mapping[str, Operator], x: Tensor, steps: int, keep_states: bool
) -> dict[str, Tensor]:
    """Outputs (T, B, *shape) of every node. `x` may be (1, B, ...): held for `steps` steps."""
    outputs: dict[str, Tensor] = {}
    for operator in operators.values():
        operator.start(keep_states)
    remaining = dict.fromkeys(model.nodes, 0)
    for sources in model.sources.values():
        for source in sources:
            remaining[source] += 1
    keep = set(model.spiking) | {model.output_name} | ({model.readout_name} - {None})
    for component in model.order:
        if is_loop(model.graph, component):
            _run_loop(model, operators, component, outputs, steps)
        else:
            (name,) = component
            outputs[name] = operators[name](_gather(model, name, outputs, x, steps))
        for name in component:  # free what nobody needs any more
            for source in model.sources[name]:
                remaining[source] -= 1
                if remaining[source] == 0 and source not in keep:
                    outputs.pop(source, None)
    return outputs


def _gather(model: Model, name: str, outputs: Mapping[str, Tensor], x: Tensor, steps: int) -> Tensor:
    """Sum of what arrives at a node. A constant input stays one step long until a population meets it."""
    sources = model.sources[name]
    if not sources:
        return x
    arriving = [outputs[source] for source in sources]
    total = arriving[0]
    for tensor in arriving[1:]:
        total = total + tensor
    if (
        total.shape[0] == 1
        and steps > 1
        and (isinstance(model.nodes[name], (*NEURONS, nir.Delay)) or name == model.output_name or _delays(model, name))
    ):
        total = total.expand(steps, *total.shape[1:])
    return total


def _delays(model: Model, name: str) -> bool:
    params = model.profile.nodes.get(name)
    return isinstance(params, SynapseParams) and any(params.delay)


def _run_loop(
    model: Model,
    operators: Mapping[str, Operator],
    members: list[str],
    outputs: dict[str, Tensor],
    steps: int,
) -> None:
    """Back edges carry the last step's value (zero at first); forward edges inside the loop have no delay."""
    last: dict[str, Tensor] = {}
    history: dict[str, list[Tensor]] = {name: [] for name in members}
    position = {name: i for i, name in enumerate(members)}
    outside = [outputs[s] for name in members for s in model.sources[name] if s not in position]
    reference = outside[0]
    for t in range(steps):
        now: dict[str, Tensor] = {}
        for name in members:
            total: Tensor | None = None
            for source in model.sources[name]:
                if source not in position:
                    whole = outputs[source]
                    value = whole[min(t, whole.shape[0] - 1)][None]
                elif position[source] < position[name]:
                    value = now[source]
                elif source in last:
                    value = last[source]
                else:
                    batch = reference.shape[1]
                    value = reference.new_zeros((1, batch, *model.shapes[source]))
                total = value if total is None else total + value
            assert total is not None
            now[name] = operators[name](total)
            history[name].append(now[name])
        last = now
    for name in members:
        outputs[name] = torch.cat(history[name])
