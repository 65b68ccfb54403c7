"""The contract of a backend: something that runs a model and returns a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.model import Model


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used here. `install` is a command, or a sentence on what is missing."""

    usable: bool
    version: str = ""
    install: str = ""
    note: str = ""


@dataclass(frozen=True)
class Inputs:
    """An input batch in the model's encoding: `x` (T, B, ...), or (1, B, ...) held for `steps` steps."""

    x: Tensor
    steps: int

    @property
    def samples(self) -> int:
        return int(self.x.shape[1])

    @property
    def constant(self) -> bool:
        return self.x.shape[0] == 1 and self.steps > 1

    def chunk(self, start: int, stop: int) -> Inputs:
        """Samples start..stop."""
        return Inputs(self.x[:, start:stop], self.steps)


@runtime_checkable
class Backend(Protocol):
    """What `snnkd_deploy.backends` entry points provide. The contract suite in tests/contract holds each to it."""

    name: str

    def availability(self) -> Availability:
        """Usable here? Never raises."""
        ...

    def check(self, model: Model) -> list[Problem]:
        """ALL that this backend cannot do of `model`, before any work."""
        ...

    def run(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        """Run a batch from zero state. Raises BackendError on failure."""
        ...
