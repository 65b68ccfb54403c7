"""`sinabs`: LIF with one spike a step, a given decay and no normalised input; IF is its decay of exactly 1.

Its test is >=, hence the next number above the threshold. Its defaults are several spikes a step, decays as
exp(-1/tau), and inputs scaled by 1 - alpha.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd_deploy.backends.simulators.framework import FrameworkBackend, Neuron
from snnkd_deploy.backends.simulators.membrane import Membrane


class SinabsBackend(FrameworkBackend):
    name = "sinabs"
    needs = ("sinabs", "nirtorch", "pbr")
    # Its own requirements hold nir at 1.0.4 and bring samna, whose import installs packages.
    install = "pip install nirtorch pbr; pip install --no-deps sinabs"

    def refuses(self, membrane: Membrane) -> str:
        return ""

    def neuron(self, membrane: Membrane) -> Neuron:
        return _Lif(membrane)


class _Lif(Neuron):
    def __init__(self, m: Membrane) -> None:
        from sinabs.activation import MembraneReset, MembraneSubtract, SingleSpike
        from sinabs.layers import LIF

        self.layer = LIF(
            tau_mem=1.0,
            train_alphas=True,
            norm_input=False,
            spike_threshold=m.threshold_for(False),
            spike_fn=SingleSpike,
            # Subtract the threshold itself, not the number above it.
            reset_fn=MembraneSubtract(m.threshold) if m.soft else MembraneReset(0.0),
            min_v_mem=None,
        )
        self.layer.alpha_mem = torch.nn.Parameter(m.beta.clone(), requires_grad=False)

    def start(self, u: Tensor) -> None:
        self.layer.init_state_with_shape(tuple(u.shape))
        self.layer.v_mem = u

    def step(self, x: Tensor) -> Tensor:
        return self.layer(x[:, None])[:, 0]

    @property
    def u(self) -> Tensor:
        return self.layer.v_mem
