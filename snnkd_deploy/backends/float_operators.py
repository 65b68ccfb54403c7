"""NIR's nodes at work in floating point: forward Euler, one operator a node.

With u = v - v_reset, k = dt/tau, per step::

    c += dt/tau_syn (w_in I - c)                       synaptic current of the Cuba nodes, in place of I below
    u = beta u + gain I + drive                        beta = 1 - k, gain = k r, drive = k (v_leak - v_reset)
    z = [u > v_threshold - v_reset]                    strict, unless the profile says >=
    u = 0 where z   (reset zero)    or    u -= v_threshold where z   (reset subtract)

IF and I have beta = 1, gain = dt r, drive = 0.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import snnkd_deploy.backends.layers as layers
from snnkd_deploy.backends.engine import DelayLine, Operator, merge_batch
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import NEURONS, WEIGHTS, pair


class FloatNeuron(Operator):
    """Any neuron of NIR. Gives spikes, or the membrane where the node has no threshold.

    A readout that the profile reads in u gives the synaptic current.
    """

    def __init__(self, model: Model, name: str, dtype: torch.dtype, device: torch.device) -> None:
        node: Any = model.nodes[name]
        params = model.profile.nodes.get(name)
        dt = model.profile.dt_s

        def tensor(values: Any) -> Tensor:
            # Coefficients are computed in float64 and rounded once.
            return torch.from_numpy(np.array(values, dtype=np.float64)).to(device, dtype)

        def parameter(key: str) -> np.ndarray:
            return np.asarray(getattr(node, key), dtype=np.float64)

        cuba = isinstance(node, nir.CubaLI | nir.CubaLIF)
        tau = parameter("tau_mem") if cuba else parameter("tau") if isinstance(node, nir.LI | nir.LIF) else None
        k = np.float64(0.0) if tau is None else dt / tau
        self.spiking = hasattr(node, "v_threshold")
        self.v_reset = tensor(node.v_reset) if self.spiking else tensor(0.0)
        reset = parameter("v_reset") if self.spiking else np.float64(0.0)
        self.beta = tensor(1.0 - k)
        self.gain = tensor((dt if tau is None else k) * parameter("r"))
        self.drive = tensor(0.0 if tau is None else k * (parameter("v_leak") - reset))
        self.threshold = tensor(parameter("v_threshold") - reset) if self.spiking else None
        self.keep_c, self.gain_c = (None, None)
        if cuba:
            k_syn = dt / parameter("tau_syn")
            self.keep_c, self.gain_c = tensor(1.0 - k_syn), tensor(k_syn * parameter("w_in"))
        self.reads_c = cuba and isinstance(params, ReadoutParams) and params.read == "u"
        self.soft = model.profile.reset == "subtract"
        self.at_threshold = model.profile.fires == ">="
        self.start_at = tensor(model.profile.v0 - reset)
        self.u: Tensor | None = None
        self.c: Tensor | None = None
        self.keep = False
        self.vs: list[Tensor] = []
        self.cs: list[Tensor] = []

    def start(self, keep_states: bool) -> None:
        self.u, self.c, self.keep, self.vs, self.cs = None, None, keep_states, [], []

    def __call__(self, x: Tensor) -> Tensor:
        if self.u is None:
            self.u = self.start_at.expand(x[0].shape).clone()
            self.c = torch.zeros_like(x[0])
        out = torch.empty_like(x)
        for t in range(x.shape[0]):
            out[t] = self._step(x[t])
        return out

    def _step(self, arriving: Tensor) -> Tensor:
        assert self.u is not None and self.c is not None
        if self.keep_c is not None and self.gain_c is not None:
            self.c = self.keep_c * self.c + self.gain_c * arriving
            arriving = self.c
        u = self.beta * self.u + self.gain * arriving + self.drive
        if self.threshold is None:
            out = self.c if self.reads_c else u
        else:
            fired = u >= self.threshold if self.at_threshold else u > self.threshold
            u = torch.where(fired, u - self.threshold if self.soft else torch.zeros_like(u), u)
            out = fired.to(u.dtype)
        self.u = u
        if self.keep:
            self.vs.append(u + self.v_reset)
            if self.keep_c is not None:
                self.cs.append(self.c)
        return out


class FloatSynapse(Operator):
    """A weight node with its bias, behind the axonal delays that a profile may give it."""

    def __init__(self, model: Model, name: str, dtype: torch.dtype, device: torch.device) -> None:
        node = model.nodes[name]
        self.map = layers.linear_map(node, torch.from_numpy(model.weight_real(name)).to(device, dtype))
        bias = getattr(node, "bias", None)
        self.bias: Tensor | None = None
        if bias is not None:
            # An affine map works on the last axis, a convolution has its channels first.
            axes = 0 if isinstance(node, nir.Affine) else node.weight.ndim - 2
            self.bias = torch.from_numpy(np.array(bias, dtype=np.float64)).to(device, dtype).reshape(-1, *[1] * axes)
        params = model.profile.nodes.get(name)
        self.delay: DelayLine | None = None
        if isinstance(params, SynapseParams) and any(params.delay):
            axes = len(model.shapes[model.sources[name][0]]) - 1
            self.delay = DelayLine(torch.tensor(params.delay, device=device).view(-1, *[1] * axes))

    def start(self, keep_states: bool) -> None:
        if self.delay is not None:
            self.delay.start(keep_states)

    def __call__(self, x: Tensor) -> Tensor:
        flat, (steps, batch) = merge_batch(x if self.delay is None else self.delay(x))
        total = self.map(flat)
        if self.bias is not None:
            total = total + self.bias
        return total.reshape(steps, batch, *total.shape[1:])


class Comparison(Operator):
    """NIR's Threshold: one where the input is above."""

    def __init__(self, node: nir.Threshold, at_threshold: bool, dtype: torch.dtype, device: torch.device) -> None:
        self.threshold = torch.from_numpy(np.array(node.threshold, dtype=np.float64)).to(device, dtype)
        self.at_threshold = at_threshold

    def __call__(self, x: Tensor) -> Tensor:
        return (x >= self.threshold if self.at_threshold else x > self.threshold).to(x.dtype)


def average_pool(node: nir.AvgPool2d) -> Operator:
    """Padding counts as zeros of the window, as in NIR."""
    kernel, stride, (rows, columns) = pair(node.kernel_size), pair(node.stride), pair(node.padding)
    return layers.Merged(lambda x: F.avg_pool2d(F.pad(x, (columns, columns, rows, rows)), kernel, stride))


def float_operator(model: Model, name: str, dtype: torch.dtype, device: torch.device) -> Operator:
    """The operator of a node (every type that the checker lets through has one)."""
    node = model.nodes[name]
    if isinstance(node, nir.Threshold):
        return Comparison(node, model.profile.fires == ">=", dtype, device)
    if isinstance(node, NEURONS):
        return FloatNeuron(model, name, dtype, device)
    if isinstance(node, WEIGHTS):
        return FloatSynapse(model, name, dtype, device)
    if isinstance(node, nir.AvgPool2d):
        return average_pool(node)
    if isinstance(node, nir.Delay):
        return layers.delay_line(node, model.profile.dt_s, model.shapes[name])
    in_shape = model.shapes[model.sources[name][0]] if model.sources[name] else model.shapes[name]
    operator = layers.structure_operator(node, in_shape, model.shapes[name])
    assert operator is not None, type(node).__name__
    return operator
