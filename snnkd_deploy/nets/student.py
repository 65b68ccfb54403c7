"""A student: populations in order, described once, trained in float and then in the chip's integers.

A student knows its own graph (who feeds whom), so lowering needs no tracing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from snnkd_deploy.arithmetic import CubaParams, CubaState, integrate
from snnkd_deploy.arithmetic.cuba import DECAY_ONE, INPUT_SHIFT
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.nets.population import Population


@dataclass(frozen=True)
class StudentOutput:
    """logits (T, B, C) in real units; features (T, B, C, H, W): spikes of the last map; spikes per population.

    `votes` (B, C): the sum of the readout over time before de-quantisation. In chip mode these are the
    integers that the chip accumulates, and its argmax is the chip's answer.
    """

    logits: Tensor
    features: Tensor | None
    spikes: dict[str, Tensor]
    votes: Tensor


class Student(nn.Module):
    """Populations in execution order, the last one the readout. Input: pixels (B, C, H, W) or events (T, B, ...).

    encoding "current": the first population is the encoder, its convolution runs on the host.
    encoding "events": binary spikes (T, B, ...) enter, every synapse is on the chip.
    encoding "graded": integers 0..levels (T, B, ...) enter as the payload of graded spikes.
    """

    def __init__(
        self,
        populations: list[Population],
        *,
        encoding: Literal["current", "events", "graded"],
        input_shape: tuple[int, ...],
        levels: int,
        steps: int,
    ) -> None:
        super().__init__()
        self.populations = nn.ModuleList(populations)
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
        for population in self.hidden:
            own = population.run([outputs[s] for s in population.feeders], self.steps)
            if measured is not None and population.name in measured:
                own = own + (measured[population.name].to(own) - own).detach()
            outputs[population.name] = own
        readout = self.readout
        sums = readout.drive([outputs[s] for s in readout.sources], self.steps)
        logits = sums if self.mode == "float" else sums / readout.scale_value
        features = self.feature_population
        spikes = {p.name: outputs[p.name] for p in self.hidden}
        return StudentOutput(
            logits=logits,
            features=None if features is None else outputs[features.name],
            spikes=spikes,
            votes=sums.sum(0) if self.mode == "float" else self._accumulated(sums),
        )

    @torch.no_grad()
    def _accumulated(self, sums: Tensor) -> Tensor:
        """What the chip's integrator holds after T steps, in synaptic units: it saturates like any membrane."""
        integer = sums.detach().to(torch.float64)
        state = CubaState(torch.zeros_like(integer[0]), torch.zeros_like(integer[0]))
        _, v = integrate(integer, CubaParams(DECAY_ONE, 0, 0, u_in_range=True), state)
        return v[-1] / (1 << INPUT_SHIFT)

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
        for population in self:
            population.check_headroom()
