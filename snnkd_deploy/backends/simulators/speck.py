"""`speck`: models for Speck on sinabs' IAF neurons, with the chip's integers as their weights and thresholds.

What sinabs calls the discretised network; the check of our arithmetic against the vendor's library. The chip itself
works event by event, without timesteps: its spike counts can differ from both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.simulators.framework import FrameworkBackend, Neuron, Population
from snnkd_deploy.backends.simulators.membrane import Membrane
from snnkd_deploy.errors import BackendError, Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import NeuronParams

_LOWER = "lower the model for speck2f"


class SpeckBackend(FrameworkBackend):
    name = "speck"
    needs = ("sinabs", "nirtorch", "pbr")
    install = "pip install nirtorch pbr; pip install --no-deps sinabs"

    def check(self, model: Model) -> list[Problem]:
        problems = ExactBackend().check(model)
        if problems or model.profile.chip is None:
            return problems
        chip = model.profile.chip.neuron
        wanted = {"family": "iaf", "reset": "subtract", "fires": ">=", "input_shift": 0}
        for key, need in wanted.items():
            if (have := getattr(chip, key)) != need:
                problems.append(Problem(f"sinabs' IAF has another {key}", "chip", str(need), str(have), _LOWER))
        for name in model.spiking:
            params = model.profile.nodes.get(name)
            if isinstance(params, NeuronParams) and params.leak:
                problems.append(Problem("sinabs' IAF has no leak", name, "0", str(params.leak), _LOWER))
        return problems

    def too_long(self, model: Model, steps: int) -> list[Problem]:
        return []  # nothing decays

    def refuses(self, membrane: Membrane) -> str:
        return ""

    def neuron(self, membrane: Membrane) -> Neuron:
        raise NotImplementedError("Speck's populations are made from the model")

    def population(self, model: Model, name: str) -> Population:
        return IafPopulation(self, model, name)


class IafPopulation(Population):
    """sinabs.layers.IAF in float64. A membrane beyond the chip's register is an error, not a difference."""

    def __init__(self, backend: SpeckBackend, model: Model, name: str) -> None:
        from sinabs.activation import MembraneSubtract, MultiSpike, SingleSpike
        from sinabs.layers import IAF

        assert model.profile.chip is not None
        params, chip = model.neuron(name), model.profile.chip.neuron
        most = chip.max_spikes if params.max_spikes is None else params.max_spikes
        if most > 1:
            raise BackendError("sinabs counts one spike a step or all", where=name, need="0 or 1", have=most)
        self.name, self.limit = name, 2.0 ** (chip.v_bits - 1)
        self.bias = torch.from_numpy(model.bias_int(name)).to(torch.float64)
        self.layer = IAF(
            spike_threshold=torch.tensor(float(params.vth), dtype=torch.float64),
            spike_fn=SingleSpike if most == 1 else MultiSpike,
            reset_fn=MembraneSubtract(),
            min_v_mem=None if params.v_min is None else torch.tensor(float(params.v_min), dtype=torch.float64),
        )
        self.begun = self.keep = False
        self.vs: list[Tensor] = []
        self.us: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        if not self.begun:
            self.layer.init_state_with_shape(tuple(x.shape[1:]))
            self.layer.v_mem = torch.zeros_like(x[0], dtype=torch.float64)
            self.begun = True
        return torch.stack([self.advance(step) for step in x])

    def advance(self, arriving: Tensor) -> Tensor:
        drive = arriving.to(torch.float64)
        spikes = self.layer((drive + self.bias)[:, None])[:, 0]
        largest = float(self.layer.v_mem.abs().max())
        if largest >= self.limit:
            need = f"|v| < {self.limit:.0f}"
            raise BackendError("the chip's register overflows", where=self.name, need=need, have=f"{largest:.0f}")
        if self.keep:
            self.vs.append(self.layer.v_mem.to(torch.int32))
            self.us.append(drive.to(torch.int32))
        return spikes.to(arriving.dtype)
