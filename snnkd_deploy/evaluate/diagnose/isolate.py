"""Which layers err by themselves, and which only pass an error on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.evaluate.diagnose.hypothesis import Case
from snnkd_deploy.graph.model import Model


@dataclass(frozen=True)
class LayerVerdict:
    """`differing`: spikes that differ between the traces. `own`: those left when both sides hear the same."""

    layer: str
    compared: int
    differing: int
    own: int

    @property
    def verdict(self) -> str:
        if self.own:
            return "cause"
        return "consequence" if self.differing else "agrees"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def isolate(model: Model, inputs: Inputs, expected: Trace, got: Mapping[str, Tensor]) -> list[LayerVerdict]:
    """Each layer of the model re-run on what the *other* trace says that it heard.

    Then model and other side have the same inputs, so what still differs is the layer's own doing. Working
    from the recorded inputs needs no second run, so it also judges a recording or a board.
    """
    found = []
    for layer in model.spiking:
        if layer not in expected.spikes or layer not in got:
            continue
        differing = int((expected.spikes[layer] != got[layer]).sum())
        case = Case(model, layer, inputs, got)
        found.append(LayerVerdict(layer, got[layer].numel(), differing, case.misses(case.reference())))
    return found
