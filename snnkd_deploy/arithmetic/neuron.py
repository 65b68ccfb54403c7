"""What every integer neuron has in common: four phases of a timestep, and the loop over time.

    u = current(u, drive)      synaptic current from this step's sum of weighted spikes
    v = membrane(v, u)         decay and integration, bias included
    n = fire(v)                spikes of this step: 0/1, or as many as thresholds fit
    v = reset(v, n)

Training (`nets.neurons`) and the exact simulator (`backends.exact`) run these same functions, with integers held
in floats that are exact for them. One file a family; which one a chip has is `family` in its file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Level = Tensor | float


class Neuron(Protocol):
    """The integer neuron of a family with its parameters. All tensors (B, *shape) or anything that broadcasts.

    `level` and `floor` are arguments of the phases, because training compiles one kernel for populations that
    differ in nothing else: `neuron.level` and `neuron.floor` are what belongs there.
    """

    @property
    def level(self) -> float:
        """The threshold in units of v."""
        ...

    @property
    def floor(self) -> float:
        """The lowest membrane that a step may leave behind; -inf where there is none."""
        ...

    def current(self, u: Tensor, drive: Tensor | None) -> Tensor: ...

    def membrane(self, v: Tensor, u: Tensor) -> Tensor: ...

    def fire(self, v: Tensor, level: Level) -> Tensor: ...

    def reset(self, v: Tensor, spikes: Tensor, level: Level, floor: Level) -> Tensor: ...


@dataclass
class State:
    """u and v after a step, each (B, *shape)."""

    u: Tensor
    v: Tensor

    @classmethod
    def zeros(cls, like: Tensor) -> State:
        return cls(torch.zeros_like(like), torch.zeros_like(like))


def run(
    drive: Tensor, neuron: Neuron, state: State, *, keep_states: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run a population over all steps. `drive` (T, B, *shape): integer synaptic sums.

    Updates `state` in place of the caller's object, so that consecutive calls continue.
    Returns spikes (T, B, *shape) in the dtype of `drive` and, with `keep_states`, u and v after each step.
    """
    spikes = torch.empty_like(drive)
    us = torch.empty_like(drive) if keep_states else None
    vs = torch.empty_like(drive) if keep_states else None
    level, floor = neuron.level, neuron.floor
    u, v = state.u, state.v
    for t in range(drive.shape[0]):
        u = neuron.current(u, drive[t])
        v = neuron.membrane(v, u)
        n = neuron.fire(v, level)
        v = neuron.reset(v, n, level, floor)
        spikes[t] = n
        if us is not None and vs is not None:
            us[t], vs[t] = u, v
    state.u, state.v = u, v
    return spikes, us, vs


def integrate(drive: Tensor, neuron: Neuron, state: State) -> tuple[Tensor, Tensor]:
    """The same population without a threshold (a readout): u and v after each step, (T, B, *shape)."""
    us, vs = torch.empty_like(drive), torch.empty_like(drive)
    for t in range(drive.shape[0]):
        state.u = neuron.current(state.u, drive[t])
        state.v = neuron.membrane(state.v, state.u)
        us[t], vs[t] = state.u, state.v
    return us, vs


def count_spikes(v: Tensor, level: Level, most: int) -> Tensor:
    """How many thresholds fit into v (test >=), at most `most` (0: no limit), in the dtype of v.

    The division is exact enough for its floor: a quotient k - 1/level, the closest from below to a whole k, is
    at least two roundings away from k while |v| < 2^24 (float32) or 2^53 (float64).
    """
    if most == 1:
        return (v >= level).to(v.dtype)
    return torch.floor(v / level).clamp(0.0, float(most) if most else math.inf)


def reset_by_subtraction(v: Tensor, spikes: Tensor, level: Level, floor: Level) -> Tensor:
    """v - n * threshold, and then never below the floor."""
    v = v - spikes * level
    if isinstance(floor, float):
        return v if floor == -math.inf else v.clamp_min(floor)
    return torch.maximum(v, floor)


def reset_to_zero(v: Tensor, spikes: Tensor, floor: Level) -> Tensor:
    """0 where it fired, and never below the floor."""
    v = torch.where(spikes > 0, torch.zeros_like(v), v)
    if isinstance(floor, float):
        return v if floor == -math.inf else v.clamp_min(floor)
    return torch.maximum(v, floor)
