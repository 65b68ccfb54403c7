"""Order sensitivity: what a chip without timesteps may make of a model that was trained step by step (Speck).

sinabs adds all events of a step at once; the chip handles them one after the other, so that a neuron may fire on
excitation that inhibition of the same step would have cancelled. Here every event is an addition of its own, followed
by threshold and floor, in random orders inside each step; a layer's spikes of a step are the next layer's events of
that step. Never fewer spikes a layer than synchronously, for equal input and without a floor (tests); across layers
nothing is monotone. A model of the chip, not a measurement on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import torch
from scipy.sparse import csr_matrix, hstack
from torch import Tensor

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.matrices import route_parts
from snnkd_deploy.backends.routes import Routes
from snnkd_deploy.backends.simulators.speck import SpeckBackend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.backends.unroll import pool_matrix
from snnkd_deploy.errors import BackendError, Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import is_loop

# Unrolled weights of one layer that are held as a dense matrix.
MAX_WEIGHTS = 50_000_000


@dataclass(frozen=True)
class OrderSensitivity:
    """Random orders against the synchronous run of the same samples. Shares in 0..1; spikes are sums over all layers.

    `accuracy` and `synchronous_accuracy` are None without labels. `changed` is the share of samples whose answer some
    order changes. `biased`: the chip adds biases by a slow clock of its own, taken here as one tick a timestep.
    """

    orders: int
    samples: int
    synchronous_spikes: int
    spikes: tuple[int, ...]
    synchronous_accuracy: float | None
    accuracy: tuple[float, ...] | None
    changed: float
    biased: bool = False

    def __str__(self) -> str:
        more = [n / max(1, self.synchronous_spikes) - 1 for n in self.spikes]
        text = f"event by event in {self.orders} random orders inside each step, {self.samples} samples: "
        if self.accuracy is not None and self.synchronous_accuracy is not None:
            low, high = 100 * min(self.accuracy), 100 * max(self.accuracy)
            text += f"accuracy {low:.1f} to {high:.1f} % ({100 * self.synchronous_accuracy:.1f} % synchronous), "
        text += f"spikes {100 * min(more):+.1f} to {100 * max(more):+.1f} %"
        return f"{text}; assumes one slow-clock tick per timestep for the biases" if self.biased else text

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "text": str(self)}


def order_problems(model: Model) -> list[Problem]:
    """Why the event-by-event model does not hold for this one; empty where it does."""
    problems = SpeckBackend().check(model)
    if problems:
        return problems
    for name in model.spiking:
        sources = sum(int(np.prod(model.shapes[m.origin])) for r in Routes(model).into(name) for m in r.members)
        size = sources * int(np.prod(model.shapes[name]))
        if size > MAX_WEIGHTS:
            problems.append(
                Problem("too many unrolled weights", name, f"{MAX_WEIGHTS:,}", f"{size:,}", "fewer neurons")
            )
    return problems


def order_sensitivity(
    model: Model, inputs: Inputs, labels: Tensor | None = None, *, orders: int = 10, seed: int = 0
) -> OrderSensitivity:
    """Run `inputs` synchronously and in `orders` random orders. Raises BackendError with all `order_problems`."""
    problems = order_problems(model)
    if problems:
        raise BackendError.from_problems(problems)
    reference = ExactBackend().run(model, inputs, Record())
    layers = _layers(model)
    generator = torch.Generator().manual_seed(seed)
    totals, answers = [], []
    for _ in range(orders):
        total, logits = _run(model, layers, inputs, generator)
        totals.append(total)
        answers.append(torch.from_numpy(np.argmax(logits.numpy(), axis=1)))
    found = torch.stack(answers)
    share = lambda a: float((a == labels).double().mean())  # noqa: E731
    return OrderSensitivity(
        orders=orders,
        samples=inputs.samples,
        synchronous_spikes=sum(int(s.sum()) for s in reference.spikes.values()),
        spikes=tuple(totals),
        synchronous_accuracy=None if labels is None else share(reference.predictions),
        accuracy=None if labels is None else tuple(share(a) for a in answers),
        changed=float((found != reference.predictions).any(0).double().mean()),
        biased=any(bool(layer.bias.any()) for layer in layers),
    )


@dataclass(frozen=True)
class _Layer:
    """`weights` (sources + 1, targets); its last row is the event that does nothing."""

    name: str
    sources: tuple[str, ...]
    weights: Tensor
    bias: Tensor
    threshold: float
    floor: float


def _layers(model: Model) -> list[_Layer]:
    routes, layers = Routes(model), []
    assert not any(is_loop(model.graph, component) for component in model.order)
    for name in routes.populations:
        members, blocks = [], []
        for route in routes.into(name):
            (matrix,) = route_parts(model, route).values()
            for member in route.members:
                source, block = _events_behind(model, member.origin, matrix)
                members.append(source)
                blocks.append(block)
        dense = torch.from_numpy(hstack(blocks).toarray().T.astype(np.float32))
        params = model.neuron(name)
        floor = -np.inf if params.v_min is None else float(params.v_min)
        weights = torch.cat([dense, torch.zeros(1, dense.shape[1])])
        bias = torch.from_numpy(model.bias_int(name).ravel()).float()
        layers.append(_Layer(name, tuple(members), weights, bias, float(params.vth), floor))
    return layers


def _events_behind(model: Model, origin: str, matrix: csr_matrix) -> tuple[str, csr_matrix]:
    """A route from what the host makes of the input (flattened, summed) as one from the input's own events."""
    while isinstance(node := model.nodes[origin], nir.Flatten | nir.SumPool2d):
        if isinstance(node, nir.SumPool2d):
            matrix = matrix @ pool_matrix(model, origin)
        (origin,) = model.sources[origin]
    return origin, matrix


def _run(model: Model, layers: Sequence[_Layer], inputs: Inputs, generator: torch.Generator) -> tuple[int, Tensor]:
    """Spikes of all layers, and the counts of the last one as logits (B, C)."""
    states = {layer.name: torch.zeros(inputs.samples, layer.weights.shape[1]) for layer in layers}
    logits = torch.zeros_like(states[layers[-1].name])
    total = 0
    for t in range(inputs.steps):
        now = {model.input_name: inputs.x[min(t, inputs.x.shape[0] - 1)].flatten(1)}
        for layer in layers:
            counts = torch.cat([now[source] for source in layer.sources], 1)
            events = shuffled_events(counts, generator)
            bias = layer.bias.expand(1, *states[layer.name].shape)
            additions = torch.cat([bias, layer.weights[events.T]])
            now[layer.name] = play(states[layer.name], additions, layer.threshold, layer.floor)
            total += int(now[layer.name].sum())
        logits += now[layers[-1].name]
    return total, logits


def shuffled_events(counts: Tensor, generator: torch.Generator) -> Tensor:
    """(B, S) counts as (B, E) source numbers in random order; S, the event that does nothing, fills shorter rows."""
    samples, sources = counts.shape
    longest = int(counts.sum(1).max())
    events = torch.full((samples, longest), sources, dtype=torch.int64)
    for b in range(samples):
        ids = torch.repeat_interleave(torch.arange(sources), counts[b].to(torch.int64))
        events[b, : len(ids)] = ids[torch.randperm(len(ids), generator=generator)]
    return events


def play(v: Tensor, additions: Tensor, threshold: float, floor: float) -> Tensor:
    """Add `additions` (E, B, N) to membranes v (B, N), in place, one after the other; returns spike counts (B, N)."""
    sent = torch.zeros_like(v)
    for addition in additions:
        v += addition
        fired = torch.floor(v / threshold).clamp_min_(0.0)
        sent += fired
        v -= fired * threshold
        v.clamp_min_(floor)
    return sent
