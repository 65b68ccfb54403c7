"""`spikingjelly`: LIFNode with `decay_input=False`, IFNode without a leak.

Its test is >=, hence the next number above the threshold. Its parameters are one number for a population.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from snnkd_deploy.backends.simulators.framework import FrameworkBackend, Neuron
from snnkd_deploy.backends.simulators.membrane import Membrane


class SpikingJellyBackend(FrameworkBackend):
    name = "spikingjelly"
    needs = ("spikingjelly", "loguru", "scienceplots", "tensorboard", "requests", "tqdm")
    # It asks for torchvision and torchaudio, which it does not need here and which may replace torch.
    install = "pip install loguru requests SciencePlots tensorboard tqdm; pip install --no-deps spikingjelly"

    def refuses(self, membrane: Membrane) -> str:
        if membrane.beta.unique().numel() > 1 or membrane.threshold.unique().numel() > 1:
            return "spikingjelly has one decay and one threshold for a population"
        if (membrane.beta <= 0).any():
            return "spikingjelly's time constant is above one step: no neuron without memory"
        return ""

    def neuron(self, membrane: Membrane) -> Neuron:
        return _Node(membrane)


class _Node(Neuron):
    def __init__(self, m: Membrane) -> None:
        from spikingjelly.activation_based import neuron

        beta, threshold = float(m.beta.flatten()[0]), float(m.threshold_for(False).flatten()[0])
        common: dict[str, Any] = {"v_threshold": threshold, "v_reset": None if m.soft else 0.0}
        if beta == 1:
            self.node = neuron.IFNode(**common)
        else:
            self.node = neuron.LIFNode(tau=1 / (1 - beta), decay_input=False, **common)
        self.node.eval()

    def start(self, u: Tensor) -> None:
        self.node.reset()
        self.node.v = u

    def step(self, x: Tensor) -> Tensor:
        return self.node(x)

    @property
    def u(self) -> Tensor:
        return self.node.v
