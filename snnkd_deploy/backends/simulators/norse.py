"""`norse`: LIFBox (a LIF without synaptic current) and IAF, by norse's own step functions.

norse multiplies its whole input by dt/tau and takes v(0) = v_leak by default: both are given explicitly. Its order of
operations rounds differently from ours where values are not exact: a membrane that creeps towards its threshold for
dozens of steps may meet it one step apart in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd_deploy.backends.simulators.framework import FrameworkBackend, Neuron
from snnkd_deploy.backends.simulators.membrane import Membrane


class NorseBackend(FrameworkBackend):
    name = "norse"
    needs = ("norse",)
    install = "pip install --no-deps norse"

    def refuses(self, membrane: Membrane) -> str:
        if (membrane.beta == 1).all():
            return "norse's IAF has no reset by subtraction" if membrane.soft else ""
        if (membrane.beta == 1).any():
            return "leaky and leakless neurons in one population: norse has a cell for either"
        return ""

    def neuron(self, membrane: Membrane) -> Neuron:
        return _Iaf(membrane) if (membrane.beta == 1).all() else _LifBox(membrane)


class _Iaf(Neuron):
    def __init__(self, m: Membrane) -> None:
        from norse.torch.functional.iaf import IAFFeedForwardState, IAFParameters, iaf_feed_forward_step

        self.state, self.run = IAFFeedForwardState, iaf_feed_forward_step
        zero = torch.zeros((), dtype=m.dtype)
        self.p = IAFParameters(v_th=m.threshold_for(True), v_reset=zero, method="heaviside")

    def start(self, u: Tensor) -> None:
        self.now = self.state(v=u)

    def step(self, x: Tensor) -> Tensor:
        z, self.now = self.run(x, self.now, self.p)
        return z

    @property
    def u(self) -> Tensor:
        return self.now.v


class _LifBox(Neuron):
    """dv = k (i - v) with k = 1 - beta: the input is divided by k."""

    def __init__(self, m: Membrane) -> None:
        from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters, lif_box_feed_forward_step
        from norse.torch.functional.reset import reset_subtract, reset_value

        self.state, self.run = LIFBoxFeedForwardState, lif_box_feed_forward_step
        self.k, zero = 1.0 - m.beta, torch.zeros((), dtype=m.dtype)
        self.p = LIFBoxParameters(
            tau_mem_inv=self.k,
            v_leak=zero,
            v_th=m.threshold_for(True),
            v_reset=zero,
            method="heaviside",
            reset_method=reset_subtract if m.soft else reset_value,
        )

    def start(self, u: Tensor) -> None:
        self.now = self.state(v=u)

    def step(self, x: Tensor) -> Tensor:
        z, self.now = self.run(x / self.k, self.now, self.p, dt=1.0)
        return z

    @property
    def u(self) -> Tensor:
        return self.now.v
