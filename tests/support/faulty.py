"""`exact` with one planted fault in one layer, in integer arithmetic of its own: what the diagnoser has to find."""

from __future__ import annotations

import copy

import nir
import numpy as np
import torch

from snnkd_deploy.backends.base import Availability
from snnkd_deploy.backends.engine import Operator, run_graph
from snnkd_deploy.backends.exact import build_operators, logits_of
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.graph.model import Model

# fault -> the cause that has to be named first
FAULTS = {
    "reset_subtract": "reset kind",
    "fires_on_equal": "threshold test",
    "threshold_plus_one": "threshold test",
    "round_down": "rounding",
    "saturating_current": "overflow",
    "decay_12_percent_more": "decay value",
    "one_step_late": "one-step delay",
    "answers_one_step_late": "one-step delay",
    "transposed": "transposed kernel",
    "no_bias": "missing bias",
    "bias_three_steps_early": "early bias",
    "four_bit_weights": "weight clip",
    "average_pool": "pooling factor",
    "double_dt": "dt",
}
LIMIT = 2**23


class FaultyExact:
    """A backend that runs `layer` wrongly. `double_dt` is a property of a whole run, so it is in all layers."""

    name = "faulty"

    def __init__(self, layer: str, fault: str) -> None:
        assert fault in FAULTS
        self.layer, self.fault = layer, fault

    def availability(self) -> Availability:
        return Availability(usable=True)

    def check(self, model):
        return []

    def run(self, model, inputs, record):
        if self.layer not in model.nodes:
            raise KeyError(self.layer)
        changed = wrong_weights(model, self.layer) if self.fault == "transposed" else model
        changed = clipped_weights(model, self.layer) if self.fault == "four_bit_weights" else changed
        operators = build_operators(changed, inputs, torch.device("cpu"))
        for name in model.spiking:
            if name == self.layer or self.fault == "double_dt":
                operators[name] = FaultyPopulation(model, name, self.fault)
        if self.fault == "average_pool":
            pool = next(s for s in behind(model, self.layer) if isinstance(model.nodes[s], nir.SumPool2d))
            operators[pool] = Quarter(operators[pool])
        outputs = run_graph(model, operators, inputs.x.float(), inputs.steps, record.states)
        spikes = {name: outputs[name].to(torch.uint8) for name in model.spiking if record.wants(name)}
        return Trace(logits_of(model, outputs, inputs.steps), spikes, meta={"backend": self.name})


def behind(model, layer):
    """Nodes between a population and the populations in front of it."""
    front, found = list(model.sources[layer]), []
    while front:
        name = front.pop()
        if name not in found and name not in model.spiking:
            found.append(name)
            front += model.sources[name]
    return found


def changed_weight(model, name, weight):
    nodes = dict(model.nodes)
    nodes[name] = copy.copy(nodes[name])
    nodes[name].weight = weight
    return Model(nir.NIRGraph(nodes, model.graph.edges, type_check=False), model.profile)


def wrong_weights(model, layer):
    """Kernels with rows for columns; a dense layer behind a map gets the weights of a (H, W, C) flatten."""
    name = next(n for n in behind(model, layer) if hasattr(model.nodes[n], "weight"))
    weight = model.nodes[name].weight
    if weight.ndim == 4:
        return changed_weight(model, name, weight.transpose(0, 1, 3, 2))
    source = model.sources[name][0]
    if not isinstance(model.nodes[source], nir.Flatten):
        return changed_weight(model, name, weight.T)
    c, h, w = model.shapes[model.sources[source][0]]
    maps = weight.reshape(-1, h, w, c)  # the same numbers, read in another order
    return changed_weight(model, name, np.moveaxis(maps, 3, 1).reshape(weight.shape))


def clipped_weights(model, layer):
    """Four bits for every synapse of the layer."""
    for name in behind(model, layer):
        if hasattr(model.nodes[name], "weight"):
            scale = model.synapse(name).weight_scale
            model = changed_weight(model, name, np.clip(model.nodes[name].weight * scale, -8, 7) / scale)
    return model


class Quarter(Operator):
    """A sum pool of 2 x 2 that averages, as ANN frameworks do."""

    def __init__(self, pool):
        self.pool = pool

    def __call__(self, x):
        return self.pool(x) / 4


class FaultyPopulation(Operator):
    """CUBA neurons in numpy's int64, with a fault. Keeps its state over calls, as loops need."""

    def __init__(self, model, name, fault):
        params = model.neuron(name)
        self.Du, self.Dv, self.threshold = params.Du, params.Dv, params.vth * 64
        if fault == "decay_12_percent_more":
            self.Dv = self.Dv * 9 // 8
        if fault == "double_dt":
            self.Du, self.Dv = min(4096, 2 * self.Du), min(4096, 2 * self.Dv)
        if fault == "threshold_plus_one":
            self.threshold += 64
        self.bias = model.bias_int(name) * (fault != "no_bias")
        self.fault = fault

    def start(self, keep_states):
        self.u = None

    def decay(self, x, amount):
        product = np.abs(x) * (4096 - amount)
        if self.fault == "round_down":
            return (x * (4096 - amount)) >> 12
        return np.sign(x) * (product >> 12)

    def step(self, a):
        u = self.decay(self.u, self.Du) + np.floor(a * 64).astype(np.int64)
        if self.fault == "saturating_current":
            u = np.clip(u, -LIMIT + 1, LIMIT - 1)
        u = np.where(u > LIMIT, u - 2 * LIMIT, u)
        u = np.where(u <= -LIMIT, u + 2 * LIMIT, u)
        v = np.clip(self.decay(self.v, self.Dv) + u + self.bias, -LIMIT + 1, LIMIT - 1)
        fired = v >= self.threshold if self.fault == "fires_on_equal" else v > self.threshold
        v = np.where(fired, v - self.threshold if self.fault == "reset_subtract" else 0, v)
        self.u, self.v = u, v
        return fired

    def __call__(self, x):
        drive = x.double().numpy()
        if self.u is None:
            self.u = self.v = np.zeros(drive.shape[1:], dtype=np.int64)
            self.waiting = np.zeros(drive.shape[1:])
            for _ in range(3 if self.fault == "bias_three_steps_early" else 0):
                self.step(np.zeros(drive.shape[1:]))
        out = []
        for a in drive:
            if self.fault == "one_step_late":
                a, self.waiting = self.waiting, a
            fired = self.step(a)
            if self.fault == "answers_one_step_late":
                fired, self.waiting = self.waiting, fired
            out.append(fired)
        return torch.from_numpy(np.stack(out)).float()
