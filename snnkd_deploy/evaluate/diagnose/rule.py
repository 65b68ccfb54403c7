"""One population's arithmetic with every choice open: the hypotheses about a simulator are rules.

Own and slow on purpose: float64 holds all integers of these registers exactly, and also the fractions that a
simulator without rounding keeps. The rule of the model itself equals `arithmetic.run`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snnkd_deploy.arithmetic.cuba import DECAY_ONE, INPUT_SHIFT, wrap_int32
from snnkd_deploy.graph.model import Model

STATE_BITS = 24


@dataclass(frozen=True)
class Rule:
    """`threshold` in units of v. `once`: Lava's single wrap into (-2^23, 2^23]; `wrap`: two's complement.

    lead: steps for which the bias acts before step 0 (negative: it starts so many steps late).
    """

    Du: int
    Dv: int
    threshold: float
    fires: str = ">"  # or ">="
    reset: str = "zero"  # subtract, none
    rounding: str = "toward_zero"  # floor, ceil, nearest, away, none
    u_overflow: str = "once"  # wrap, saturate, none
    v_overflow: str = "saturate"  # wrap, none
    u_bits: int = STATE_BITS
    v_bits: int = STATE_BITS
    lead: int = 0


@dataclass(frozen=True)
class Course:
    """What a population did: all (T, B, *shape) float64. `before` is v before threshold test and reset."""

    spikes: Tensor
    u: Tensor
    v: Tensor
    before: Tensor


def rule_of(model: Model, layer: str) -> Rule:
    """The rule that `exact` follows for this population."""
    params = model.neuron(layer)
    return Rule(Du=params.Du, Dv=params.Dv, threshold=float(params.vth << INPUT_SHIFT))


def run_rule(drive: Tensor, bias: Tensor, rule: Rule) -> Course:
    """`drive` (T, B, *shape) synaptic sums, `bias` broadcast over (B, *shape) in units of v; float64."""
    u = torch.zeros_like(drive[0])
    v = torch.zeros_like(u)
    for _ in range(rule.lead):
        u, v, _, _ = _step(u, v, torch.zeros_like(u), bias, rule)
    kept = []
    for t, a in enumerate(drive):
        u, v, before, fired = _step(u, v, a, bias if t >= -rule.lead else torch.zeros_like(bias), rule)
        kept.append((fired.to(torch.float64), u, v, before))
    return Course(*(torch.stack(column) for column in zip(*kept, strict=True)))


def _step(u: Tensor, v: Tensor, a: Tensor, bias: Tensor, rule: Rule) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    injected = wrap_int32(wrap_int32(a) * float(1 << INPUT_SHIFT))
    u = _overflow(wrap_int32(_decay(u, rule.Du, rule.rounding) + injected), rule.u_bits, rule.u_overflow)
    total = wrap_int32(_decay(v, rule.Dv, rule.rounding) + u + bias)
    before = _overflow(total, rule.v_bits, rule.v_overflow)
    fired = before > rule.threshold if rule.fires == ">" else before >= rule.threshold
    if rule.reset == "zero":
        v = torch.where(fired, torch.zeros_like(before), before)
    elif rule.reset == "subtract":
        v = torch.where(fired, before - rule.threshold, before)
    else:
        v = before
    return u, v, before, fired


def _decay(x: Tensor, amount: int, rounding: str) -> Tensor:
    exact = x * ((DECAY_ONE - amount) / DECAY_ONE)
    if rounding == "toward_zero":
        return torch.trunc(exact)
    if rounding == "floor":
        return torch.floor(exact)
    if rounding == "ceil":
        return torch.ceil(exact)
    if rounding == "nearest":
        return torch.floor(exact + 0.5)
    if rounding == "away":
        return torch.sign(exact) * torch.ceil(exact.abs())
    return exact


def _overflow(x: Tensor, bits: int, kind: str) -> Tensor:
    half = float(1 << (bits - 1))
    if kind == "saturate":
        return x.clamp(-half + 1, half - 1)
    if kind == "wrap":
        return torch.remainder(x + half, 2 * half) - half
    if kind == "once":
        x = torch.where(x > half, x - 2 * half, x)
        return torch.where(x <= -half, x + 2 * half, x)
    return x
