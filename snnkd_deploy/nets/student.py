"""A student: populations in order, described once, trained in float and then in the chip's integers.

A student knows its own graph (who feeds whom), so lowering needs no tracing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from snnkd_deploy.arithmetic import State, integrate, make_neuron
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.nets.population import Population

# Logit of one spike a step, where the readout's neurons send one at most.
_VOTE = 8.0


@dataclass(frozen=True)
class StudentOutput:
    """logits (T, B, C) in real units; features (T, B, C, H, W): spikes of the last map; spikes per population.

    `votes` (B, C): the sum of the readout over time before de-quantisation. In chip mode these are the
    integers that the chip accumulates (spikes, where its last layer spikes), and their argmax is its answer.
    """

    logits: Tensor
    features: Tensor | None
    spikes: dict[str, Tensor]
    votes: Tensor


class Student(nn.Module):
    """Populations in execution order, the last one the readout. Input: pixels (B, C, H, W) or events (T, B, ...).

    encoding "current": the first population is the encoder, its convolution runs on the host.
    encoding "events": spikes (T, B, ...), 0..levels a step, enter; every synapse is on the chip.
    encoding "graded": integers 0..levels (T, B, ...) enter as the payload of graded spikes.
    The readout integrates, or spikes where the chip has nothing else (its `lif` is then not None).
    `hop_delay`: steps by which a population hears another one late.
    """

    def __init__(
        self,
        populations: list[Population],
        *,
        encoding: Literal["current", "events", "graded"],
        input_shape: tuple[int, ...],
        levels: int,
        steps: int,
        hop_delay: int = 0,
    ) -> None:
        super().__init__()
        self.hop_delay = hop_delay
        self.populations = nn.ModuleList(populations)
        for population in populations:
            population.ranks = {p.name: number for number, p in enumerate(populations)}
        self.encoding, self.input_shape, self.levels, self.steps = encoding, input_shape, levels, steps
        self.mode: Literal["float", "chip"] = "float"
        self.chip: ChipSpec | None = None

    def __iter__(self) -> Iterator[Population]:
        for population in self.populations:
            assert isinstance(population, Population)
            yield population

    @property
    def readout(self) -> Population:
        return list(self)[-1]

    @property
    def hidden(self) -> list[Population]:
        return list(self)[:-1]

    @property
    def feature_population(self) -> Population | None:
        """The last population with maps: what SAMD looks at."""
        maps = [p for p in self.hidden if len(p.shape) == 3]
        return maps[-1] if maps else None

    def forward(self, x: Tensor, measured: Mapping[str, Tensor] | None = None) -> StudentOutput:
        """`measured`: spikes (T, B, *shape) of populations as a backend or a board gave them for this input.

        They take the place of our own wherever they are heard; gradients pass as through our own.
        """
        outputs: dict[str, Tensor] = {"input": x.to(torch.float32)}
        heard = dict(outputs)
        for population in self if self.readout.lif is not None else self.hidden:
            own, drive = population.respond([heard[s] for s in population.feeders], self.steps)
            if measured is not None and population.name in measured:
                own = own + (measured[population.name].to(own) - own).detach()
            outputs[population.name] = own
            heard[population.name] = self._late(own)
        readout = self.readout
        if readout.lif is not None:
            counts = outputs[readout.name]
            # Neurons that send as many spikes as thresholds fit count what drives them: the loss sees the fractions.
            unit = readout.lif.threshold * (1.0 if self.mode == "float" else readout.scale_value)
            logits = _VOTE * counts if readout.lif.max_spikes == 1 else drive / unit
            votes = counts.sum(0)
        else:
            sums = readout.drive([heard[s] for s in readout.sources], self.steps)
            logits = sums if self.mode == "float" else sums / readout.scale_value
            votes = sums.sum(0) if self.mode == "float" else self._accumulated(sums, heard)
        features = self.feature_population
        return StudentOutput(
            logits=logits,
            features=None if features is None else outputs[features.name],
            spikes={name: spikes for name, spikes in outputs.items() if name != "input"},
            votes=votes,
        )

    def _late(self, spikes: Tensor) -> Tensor:
        """What the next population hears of (T, B, ...)."""
        lag = min(self.hop_delay, len(spikes))
        return torch.cat([torch.zeros_like(spikes[:lag]), spikes[: len(spikes) - lag]]) if lag else spikes

    @torch.no_grad()
    def _accumulated(self, sums: Tensor, heard: Mapping[str, Tensor]) -> Tensor:
        """What the chip's integrator holds after T steps, in synaptic units: it saturates like any membrane."""
        assert self.chip is not None
        spec = self.chip.neuron
        integer = sums.detach().to(torch.float32 if spec.family == "float_lif" else torch.float64)
        neuron = make_neuron(spec, self.readout.numbers(), u_in_range=True)
        order = self.readout.event_order([heard[s] for s in self.readout.sources], neuron)
        if order is not None:
            integer = order.effective(integer)
        _, v = integrate(integer, neuron, State.zeros(integer[0]))
        return v[-1] / (1 << spec.input_shift)

    def to_chip(self, chip: ChipSpec) -> None:
        """Fold, choose scales, and compute in the chip's integers from now on. Parameters change identity."""
        for population in self:
            population.to_chip(chip)
        self.mode, self.chip = "chip", chip

    def resume_chip(self, chip: ChipSpec, shifts: dict[str, int]) -> None:
        """Shape of a chip-mode student, before its weights are loaded."""
        for population in self:
            population.resume_chip(chip, shifts[population.name])
        self.mode, self.chip = "chip", chip

    def shifts(self) -> dict[str, int]:
        return {population.name: population.shift for population in self}

    def check_headroom(self) -> None:
        """Raise TrainingError where a worst case could leave a register whose overflow training does not see."""
        if self.chip is None:
            return
        sent = {"input": float(self.levels if self.chip.neuron.max_input != 1 else 1)}
        for population in self:
            sent[population.name] = population.check_headroom(self.steps, sent)
