"""`speck`: models for Speck on sinabs' IAF neurons, with the chip's integers as their weights and thresholds.

What sinabs calls the discretised network; the check of our arithmetic against the vendor's library. The chip itself
works event by event, without timesteps: its spike counts can differ from both.
"""

from __future__ import annotations

import nir
import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.simulators.framework import FrameworkBackend, Neuron, Population
from snnkd_deploy.backends.simulators.membrane import Membrane
from snnkd_deploy.errors import Problem, RefusedError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import NeuronParams, ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import conv_pads, is_loop, pair

_LOWER = "lower the model for speck2f"
_IAF = {"reset": "subtract", "fires": ">=", "input_shift": 0}


class SpeckBackend(FrameworkBackend):
    """Refuses beside what sinabs refuses also what sinabs accepts without a word and the chip would not compute."""

    name = "speck"
    needs = ("sinabs", "nirtorch", "pbr")
    install = "pip install nirtorch pbr; pip install --no-deps sinabs"

    def check(self, model: Model) -> list[Problem]:
        problems = ExactBackend().check(model)
        if model.profile.chip is None:
            return problems
        chip = model.profile.chip.neuron
        if chip.family != "iaf":
            problems.append(Problem("Speck integrates and fires, without decays", "chip", "iaf", chip.family, _LOWER))
            return problems + [p for name in model.nodes for p in _node_problems(model, name)]
        for key, need in _IAF.items():
            if (have := getattr(chip, key)) != need:
                problems.append(Problem(f"sinabs' IAF has another {key}", "chip", str(need), str(have), _LOWER))
        if model.profile.encoding.kind != "events":
            kind, remedy = model.profile.encoding.kind, 'student.encoding = "events", "counts" or "rate"'
            problems.append(Problem("Speck hears events", "profile.encoding", "events", kind, remedy))
        for component in model.order:
            if is_loop(model.graph, component):
                what = "loops may deadlock the chip's router"
                problems.append(Problem(what, ", ".join(component), remedy="a student without recurrence"))
        return problems + [p for name in model.nodes for p in _node_problems(model, name)]

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
        from sinabs.activation import MembraneSubtract, MultiSpike
        from sinabs.layers import IAF

        assert model.profile.chip is not None
        params, chip = model.neuron(name), model.profile.chip.neuron
        self.name, self.limit = name, 2.0 ** (chip.v_bits - 1)
        self.bias = torch.from_numpy(model.bias_int(name)).to(torch.float64)
        self.layer = IAF(
            spike_threshold=torch.tensor(float(params.vth), dtype=torch.float64),
            spike_fn=MultiSpike,
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
            raise RefusedError("the chip's register overflows", where=self.name, need=need, have=f"{largest:.0f}")
        if self.keep:
            self.vs.append(self.layer.v_mem.to(torch.int32))
            self.us.append(drive.to(torch.int32))
        return spikes.to(arriving.dtype)


def _node_problems(model: Model, name: str) -> list[Problem]:
    node, params = model.nodes[name], model.profile.nodes.get(name)
    problems: list[Problem] = []

    def no(what: str, need: object = "", have: object = "", remedy: str = _LOWER) -> None:
        problems.append(Problem(what, name, str(need), str(have), remedy))

    if isinstance(params, ReadoutParams):
        no("every neuron of the chip spikes")
    elif isinstance(params, NeuronParams):
        assert model.profile.chip is not None
        most = model.profile.chip.neuron.max_spikes if params.max_spikes is None else params.max_spikes
        if most != 0:
            no("the chip sends as many spikes as thresholds fit", "0 (any number)", most)
        if params.leak:
            no("sinabs' IAF has no leak", 0, params.leak)
        if params.vth < 1:
            no("a threshold of 0 fires without end", "1 or more", params.vth)
        if len(model.weight_sources(name)) > 1:
            no("a core has one kernel", "one weight node", f"{len(model.weight_sources(name))} weight nodes")
    elif isinstance(params, SynapseParams):
        if params.place == "host":
            no("the host computes currents, the chip takes events")
        if params.weight_exp or params.message_bits:
            no("neither exponents of weights nor graded spikes")
        if any(params.delay):
            no("the chip has no delays", 0, max(params.delay))
    if isinstance(node, nir.Conv2d):
        if int(np.asarray(node.groups)) > 1:
            no("the kernel memory holds full convolutions", "groups = 1", node.groups)
        if pair(node.dilation) != (1, 1):
            no("the chip has no dilation", 1, pair(node.dilation))
        if node.weight.shape[2] != node.weight.shape[3]:
            no("kernels are square", "", node.weight.shape[2:])
        if any(before != after for before, after in conv_pads(node)):
            no("padding is the same on all sides", "", conv_pads(node))
    elif isinstance(node, nir.SumPool2d):
        size = pair(node.kernel_size)
        if size[0] != size[1] or pair(node.stride) != size or pair(node.padding) != (0, 0):
            have = f"{size}, stride {pair(node.stride)}, padding {pair(node.padding)}"
            no("pools are square, their stride is their size, without padding", "", have)
    elif isinstance(node, nir.Conv1d | nir.Delay | nir.Scale):
        no(f"{type(node).__name__} has no counterpart on the chip")
    return problems
