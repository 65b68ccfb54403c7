"""Hypotheses about what arrives: delays, biases, kernels, flatten order, clipped weights, pooling."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

import nir
import numpy as np
import torch

from snnkd_deploy.evaluate.diagnose.fanin import fan_in
from snnkd_deploy.evaluate.diagnose.hypothesis import Case, Hypotheses, Hypothesis
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import SynapseParams
from snnkd_deploy.graph.topology import pair


def input_hypotheses(case: Case) -> Hypotheses:
    """Everything that changes the sums and leaves the neuron as it is."""
    yield from _delays(case)
    weights = [n for n in fan_in(case.model, case.layer) if isinstance(case.model.profile.nodes.get(n), SynapseParams)]
    yield from _biases(case, weights)
    yield from _narrow_weights(case, weights)
    for name in weights:
        yield from _layouts(case, name)
    yield from _pools(case, weights)


def with_values(model: Model, name: str, **values: Any) -> Model:
    """The model with one node's arrays changed. The original is left alone."""
    node = copy.copy(model.nodes[name])
    for key, value in values.items():
        setattr(node, key, value)
    nodes = {**model.nodes, name: node}
    graph = nir.NIRGraph(nodes=nodes, edges=list(model.graph.edges), type_check=False)
    return Model(graph, model.profile, model.path)


def _with_weight_int(model: Model, name: str, integers: np.ndarray) -> Model:
    key = "scale" if isinstance(model.nodes[name], nir.Scale) else "weight"
    return with_values(model, name, **{key: integers / model.synapse(name).weight_scale})


def _delays(case: Case) -> Hypotheses:
    sources = case.model.sources[case.layer]
    groups = [sources] + ([[s] for s in sources] if len(sources) > 1 else [])
    for group in groups:
        label = "all its inputs arrive" if group == sources else f"what {group[0]} delivers arrives"
        for steps, side in ((1, "one step late"), (-1, "one step early"), (2, "two steps late")):
            yield Hypothesis("one-step delay", f"{label} {side}", case.rule, delays=dict.fromkeys(group, steps))
    if bool(case.bias.any()):  # without a bias this is what late inputs give
        for steps, side in ((1, "one step"), (2, "two steps")):
            rule, late = replace(case.rule, lead=-steps), dict.fromkeys(sources, steps)
            yield Hypothesis("one-step delay", f"its spikes come out {side} late, bias and all", rule, delays=late)


def _biases(case: Case, weights: list[str]) -> Hypotheses:
    model = case.model
    bare, changed = model, []
    for name in weights:
        bias = getattr(model.nodes[name], "bias", None)
        if bias is not None and np.any(bias):
            bare = with_values(bare, name, bias=np.zeros_like(bias))
            changed.append(name)
            text = f"the bias of {name} is not applied"
            yield Hypothesis("missing bias", text, case.rule, with_values(model, name, bias=np.zeros_like(bias)))
    leak = getattr(model.nodes[case.layer], "v_leak", None)
    if leak is not None and np.any(leak):
        bare = with_values(bare, case.layer, v_leak=np.zeros_like(leak))
        changed.append(case.layer)
        without = with_values(model, case.layer, v_leak=np.zeros_like(leak))
        yield Hypothesis("missing bias", f"the bias of {case.layer} itself is not applied", case.rule, without)
    if len(changed) > 1:
        yield Hypothesis("missing bias", f"none of the biases of {', '.join(changed)} is applied", case.rule, bare)


def _narrow_weights(case: Case, weights: list[str]) -> Hypotheses:
    """In each weight node alone, and in all of them: a narrow memory holds every synapse of a layer."""
    integers = {name: case.model.weight_int(name) for name in weights}
    for group in [[name] for name in weights] + ([weights] if len(weights) > 1 else []):
        seen = [integers]
        for cause, text, narrow in _NARROWER:
            values = integers | {name: narrow(integers[name]) for name in group}
            if any(all(np.array_equal(values[n], other[n]) for n in group) for other in seen):
                continue
            seen.append(values)
            model = case.model
            for name in group:
                model = _with_weight_int(model, name, values[name])
            yield Hypothesis(cause, f"the weights of {' and '.join(group)} {text}", case.rule, model)


def _narrower() -> list[tuple[str, str, Callable[[np.ndarray], np.ndarray]]]:
    found: list[tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = []
    for bits in (8, 7, 6, 5, 4, 3, 2):
        high = (1 << (bits - 1)) - 1
        for low in (-high - 1, -high):
            found.append(("weight clip", f"are cut to {low}..{high}", partial(np.clip, a_min=low, a_max=high)))
    for bits in (1, 2, 3, 4):
        for how, whole in (("rounded down", np.floor), ("cut off", np.trunc), ("rounded away", np.rint)):
            text = f"have their lowest {bits} bit(s) {how}"
            found.append(("weight rounding", text, partial(_coarser, step=1 << bits, whole=whole)))
    return found


def _coarser(weight: np.ndarray, step: int, whole: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return whole(weight / step) * step


# (cause, what it does to weights, the function that does it)
_NARROWER = _narrower()


def _layouts(case: Case, name: str) -> Hypotheses:
    weight = case.model.weight_int(name)
    for text, values in (*_kernels(weight), *_flattenings(case.model, name, weight)):
        if values.shape == weight.shape and not np.array_equal(values, weight):
            yield Hypothesis(
                "transposed kernel", f"{name}: {text}", case.rule, _with_weight_int(case.model, name, values)
            )


def _kernels(weight: np.ndarray) -> list[tuple[str, np.ndarray]]:
    found = []
    if weight.ndim == 4:
        found.append(("rows and columns of the kernel are exchanged", weight.swapaxes(2, 3)))
        found.append(("the kernel is turned by 180 degrees (convolution, not correlation)", weight[:, :, ::-1, ::-1]))
        found.append(("the kernel is mirrored top to bottom", weight[:, :, ::-1]))
        found.append(("the kernel is mirrored left to right", weight[:, :, :, ::-1]))
    if weight.ndim == 3:
        found.append(("the kernel is reversed (convolution, not correlation)", weight[:, :, ::-1]))
    if weight.ndim >= 2:
        found.append(("input and output axes are exchanged", weight.swapaxes(0, 1)))
        if weight.shape[0] != weight.shape[1]:
            swapped = weight.swapaxes(0, 1).reshape(weight.shape)
            found.append(("the same memory is read as (in, out) in place of (out, in)", swapped))
    return found


def _flattenings(model: Model, name: str, weight: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """A dense layer behind a Flatten, when the other side counts the map's elements in another order."""
    source = model.sources[name][0]
    if weight.ndim != 2 or not isinstance(model.nodes[source], nir.Flatten):
        return []
    shape = model.shapes[model.sources[source][0]]
    axes = "CHW" if len(shape) == 3 else "".join(map(str, range(len(shape))))
    found = []
    for order in permutations(range(len(shape))):
        index = np.arange(int(np.prod(shape))).reshape(shape).transpose(order).ravel()
        if not np.array_equal(index, np.arange(index.size)):
            label = "".join(axes[a] for a in order)
            forward = np.empty_like(weight)
            forward[:, index] = weight
            found.append((f"the map is flattened as {label}, the weights expect {axes}", forward))
            found.append((f"the weights are stored for {label}, the map is flattened as {axes}", weight[:, index]))
    return found


def _pools(case: Case, weights: list[str]) -> Hypotheses:
    for name in fan_in(case.model, case.layer):
        node = case.model.nodes[name]
        if isinstance(node, nir.SumPool2d):
            area = float(np.prod(pair(node.kernel_size)))
            for factor, text in (
                (1 / area, f"averages its {area:g} elements in place of adding them"),
                (area, f"counts its window {area:g} times"),
                (1 / area**0.5, "divides by the window's side"),
            ):
                yield Hypothesis("pooling factor", f"{name} {text}", case.rule, hooks={name: _times(factor)})
            yield Hypothesis(
                "pooling factor",
                f"{name} passes at most one spike of a window on",
                case.rule,
                hooks={name: lambda x: (x != 0).to(x)},
            )
            yield Hypothesis(
                "pooling factor",
                f"{name} averages and rounds down",
                case.rule,
                hooks={name: lambda x, a=area: torch.floor(x / a)},  # type: ignore[misc]
            )
    for name in weights:
        source = case.model.sources[name][0]
        if isinstance(case.model.nodes[source], nir.Flatten):
            # A pool that was folded into the weights of the dense layer behind it.
            area = float(np.prod(case.model.shapes[case.model.sources[source][0]][1:]))
            for factor in {1 / area, area, 4.0, 0.25} - {1.0}:
                text = f"the pooled sums that {name} weighs are {factor:g} times the model's"
                yield Hypothesis("pooling factor", text, case.rule, hooks={name: _times(factor)})


def _times(factor: float) -> Any:
    return lambda x: x * factor
