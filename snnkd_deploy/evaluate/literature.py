"""Arithmetic prices of the literature (45 nm CMOS): for ANN baselines and to reproduce papers' tables.

They hold no memory, routing, control or leakage, so they are never mixed with a chip's terms, never used
as a target, and never rank chips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import nir
import torch

from snnkd_deploy.chips.spec import Kind, Quantity
from snnkd_deploy.chips.units import si_range
from snnkd_deploy.errors import UsageError
from snnkd_deploy.evaluate.counts import OpCounts
from snnkd_deploy.evaluate.fanout import fan_out, macs_framework
from snnkd_deploy.evaluate.terms import EnergyTerm, price_text
from snnkd_deploy.graph.model import Model

_HOROWITZ = "Horowitz 2014, ISSCC, 45 nm, 0.9 V"


def _pj(value: float, kind: Kind = "measured", source: str = _HOROWITZ) -> Quantity:
    return Quantity(value=value, unit="pJ", kind=kind, source=source)


CMOS45 = {
    "fp32_add": _pj(0.9),
    "fp32_mul": _pj(3.7),
    "fp32_mac": _pj(4.6, "derived", f"{_HOROWITZ}: 3.7 + 0.9"),
    "fp16_mac": _pj(1.5, "derived", f"{_HOROWITZ}: 1.1 + 0.4"),
    "int8_add": _pj(0.03),
    "int8_mul": _pj(0.2),
    "int8_mac": _pj(0.23, "derived", f"{_HOROWITZ}: 0.2 + 0.03"),
}


@dataclass(frozen=True)
class AnnBaseline:
    """An ordinary network of `macs` multiply-accumulates, priced at two precisions."""

    macs: float
    macs_framework: float
    name: str = ""

    def joules(self, precision: Literal["int8", "fp32"]) -> float:
        return self.macs * si_range(CMOS45[f"{precision}_mac"], "energy")[1]

    def to_dict(self) -> dict[str, Any]:
        """The report's `baseline_ann`: int8 is the low and middle corner, fp32 the high one."""
        low, high = self.joules("int8"), self.joules("fp32")
        term = EnergyTerm(
            name="multiply-accumulates",
            count=self.macs,
            low_j=low,
            mid_j=low,
            high_j=high,
            price_source=f"{_HOROWITZ}; literature_45nm",
            kind="derived",
            count_unit="MAC",
            price="0.23 pJ (int8) to 4.6 pJ (FP32)",
        )
        return {
            "name": self.name,
            "macs": self.macs,
            "macs_framework": self.macs_framework,
            "precision": "int8",
            "energy_j": {
                "low": low,
                "mid": low,
                "high": high,
                "terms": [term.to_dict()],
                "unpriced": [
                    {"name": name, "count": None, "reason": "arithmetic only"}
                    for name in ("memory", "control", "leakage")
                ],
                "scope": "arithmetic_only",
                "note": "Published prices of arithmetic alone, 45 nm: not a chip, and not to be ranked against one.",
            },
        }


def ann_baseline(what: Model | torch.nn.Module | float, example: torch.Tensor | None = None) -> AnnBaseline:
    """The ANN beside a student: its multiply-accumulates at int8 and FP32 arithmetic.

    A `Model` counts as one pass of the same layers on real values. A `torch.nn.Module` (the teacher) is
    run once on `example` (one sample with batch axis) to see its convolution and linear layers. A number
    is taken as MACs.
    """
    if isinstance(what, Model):
        synapses = [n for n, node in what.nodes.items() if isinstance(node, _WEIGHTED)]
        exact = sum(int(fan_out(what, name).sum()) for name in synapses)
        return AnnBaseline(float(exact), float(sum(macs_framework(what, n) for n in synapses)), "same layers")
    if isinstance(what, torch.nn.Module):
        if example is None:
            raise UsageError("counting a module's MACs needs an example input", where="ann_baseline")
        exact, framework = module_macs(what, example)
        return AnnBaseline(float(exact), float(framework), type(what).__name__)
    return AnnBaseline(float(what), float(what))


_WEIGHTED = (nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d)


@torch.no_grad()
def module_macs(module: torch.nn.Module, example: torch.Tensor) -> tuple[int, int]:
    """(exact, framework) MACs of the convolution and linear layers of one forward pass of one sample.

    Exact leaves out taps in the padding. Other operations (norms, activations, attention products) are
    not counted.
    """
    found = [0, 0]

    def hook(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(layer, torch.nn.Linear):
            macs = layer.weight.numel() * output[0].numel() // layer.out_features
            found[0] += macs
            found[1] += macs
            return
        assert isinstance(layer, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d)
        per_position = layer.weight[0].numel()
        found[1] += per_position * output[0].numel()
        ones = torch.ones_like(inputs[0][:1])
        unit = torch.ones_like(layer.weight)
        taps = layer._conv_forward(ones, unit, None)  # type: ignore[operator]
        found[0] += int(taps.double().sum().round())

    layers = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    handles = [m.register_forward_hook(hook) for m in module.modules() if isinstance(m, layers)]
    was_training = module.training
    try:
        module.eval()(example[:1])
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    return found[0], found[1]


def literature_terms(
    counts: OpCounts, first_layer: Literal["once", "every_step"] = "every_step"
) -> tuple[list[EnergyTerm], str]:
    """E = 4.6 pJ x MACs(first layer) + 0.9 pJ x sum of rate x T x MACs(layer), as papers print it.

    Papers differ in whether the first layer counts once or T times; `first_layer` says which. Without
    `sop_framework` in the counts (made by hand) their `sop_event` is taken.
    """
    total = counts.total
    analog = [layer for layer in counts.layers if layer.macs_analog]
    repeats = counts.steps if first_layer == "every_step" else 1
    macs = sum(layer.macs_framework or layer.macs_analog for layer in analog) * repeats
    sops = total.sop_framework or total.sop_event
    terms = []
    for name, count, key, unit in (
        ("first layer, multiply-accumulates", macs, "fp32_mac", "MAC"),
        ("other layers, accumulates", sops, "fp32_add", "SOP"),
    ):
        price = CMOS45[key]
        joules = count * si_range(price, "energy")[1]
        terms.append(
            EnergyTerm(
                name=name,
                count=float(count),
                low_j=joules,
                mid_j=joules,
                high_j=joules,
                price_source=price.source,
                kind=price.kind,
                count_unit=unit,
                price=price_text(price),
            )
        )
    how = "T times" if repeats > 1 else "once"
    return terms, f"literature_45nm: FP32 arithmetic in 45 nm, padding counted, first layer {how}; not a chip."
