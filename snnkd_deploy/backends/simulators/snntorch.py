"""`snntorch`: Leaky with `reset_delay=False`.

Its default resets one step late, before the next decay. Reset by subtraction is refused: what is left above
the threshold makes it subtract a second time.
"""

from __future__ import annotations

from torch import Tensor

from snnkd_deploy.backends.simulators.framework import FrameworkBackend, Neuron
from snnkd_deploy.backends.simulators.membrane import Membrane


class SnnTorchBackend(FrameworkBackend):
    name = "snntorch"
    needs = ("snntorch", "nirtorch")
    install = "pip install snntorch nirtorch"

    def refuses(self, membrane: Membrane) -> str:
        if membrane.soft:
            return "snnTorch subtracts twice where the rest is above the threshold"
        if (membrane.beta < 0).any() or (membrane.beta > 1).any():
            return "snnTorch clamps beta to 0..1"
        if (membrane.start > membrane.threshold).any():
            return "snnTorch resets a membrane that starts above its threshold"
        return ""

    def neuron(self, membrane: Membrane) -> Neuron:
        return _Leaky(membrane)


class _Leaky(Neuron):
    def __init__(self, m: Membrane) -> None:
        import snntorch

        self.cell = snntorch.Leaky(
            beta=m.beta, threshold=m.threshold_for(True), reset_mechanism="zero", reset_delay=False
        )

    def start(self, u: Tensor) -> None:
        self.mem = u

    def step(self, x: Tensor) -> Tensor:
        spikes, self.mem = self.cell(x, self.mem)
        return spikes

    @property
    def u(self) -> Tensor:
        return self.mem
