"""What a lowering did to a graph, layer by layer: roundings, saturation, headroom, everything that deviates."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class LayerReport:
    """One population. Errors are relative to the largest weight, the threshold and the decay's full scale.

    `numbers`: the chip's decays, as its family names them. `headroom` is the register's limit over the largest state
    that can occur: below 1 it may wrap, or saturate where the chip does. It is proven from the weights, or
    (`headroom_measured`) taken from the calibration inputs with a margin. `late`: timesteps by which the population
    runs behind the graph's.
    """

    name: str
    kind: str
    synapses: tuple[str, ...]
    scale: float
    numbers: dict[str, Any]
    vth: int | None
    decay_error: float
    weight_error_max: float
    weight_error_rms: float
    weights_saturated: int
    threshold_error: float
    bias_error: float
    headroom: float
    headroom_measured: bool = False
    late: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PassReport:
    """A rewriting of the float graph. `error` is the largest relative change of any response, by numbers."""

    name: str
    requires: str
    ensures: str
    error: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoweringReport:
    """Everything that a user should know before trusting the lowered model."""

    chip: str
    layers: tuple[LayerReport, ...]
    passes: tuple[PassReport, ...]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready. The decays stand in the layer itself (`Du`, `Dv`, `dash_mem`, `alpha`, ...) as well."""
        found = asdict(self)
        for layer in found["layers"]:
            layer.update(layer["numbers"])
        return found

    def render(self) -> str:
        """A table for the terminal."""
        lines = [f"lowered onto {self.chip}"]
        head = ("layer", "neuron", "decays", "vth", "decay err", "weight err", "clipped", "vth err", "headroom")
        rows = [head]
        for layer in self.layers:
            rows.append(
                (
                    layer.name,
                    layer.kind,
                    _decays(layer.numbers),
                    "-" if layer.vth is None else str(layer.vth),
                    f"{layer.decay_error:.1e}",
                    f"{layer.weight_error_rms:.1e}",
                    str(layer.weights_saturated),
                    f"{layer.threshold_error:.1e}",
                    f"{layer.headroom:.2f}x" + ("*" if layer.headroom_measured else ""),
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines += ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        if any(layer.headroom_measured for layer in self.layers):
            lines.append("  * measured on the calibration inputs, not proven")
        lines += [f"  {step.name}: responses change by at most {step.error:.1e}" for step in self.passes]
        notes = [f"{layer.name}: {note}" for layer in self.layers for note in layer.notes]
        lines += [f"  note: {note}" for note in (*self.notes, *notes)]
        return "\n".join(lines)


def _decays(numbers: dict[str, Any]) -> str:
    told = [f"{key} {value:.6g}" for key, value in numbers.items() if value is not None]
    return ", ".join(told) or "none"
