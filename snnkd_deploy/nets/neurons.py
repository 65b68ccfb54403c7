"""Trainable LIF populations: one autograd node over all timesteps, float or in the chip's integers.

The chip's forward is `arithmetic`, the very functions that the exact simulator runs; the backward is that of the
float neuron in real units, straight through the roundings. The reset is not detached (specification of both
papers). With n spikes, threshold th and surrogate h = dn/dv at the nearest multiple of th that counts:

    reset to zero     dv[t]/dv-[t] = (n = 0) - v- h
    by subtraction    dv[t]/dv-[t] = 1 - th h,  and 0 where the floor holds v

Both passes are plain functions of (T, N) tensors, so that torch.compile can fuse them into one kernel
(`compile_neurons`); without it they run as they stand and give the same bits in the forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, cast

import torch
from torch import Tensor

from snnkd_deploy.arithmetic.cuba import CubaNeuron
from snnkd_deploy.arithmetic.floating import FloatNeuron
from snnkd_deploy.arithmetic.iaf import IafNeuron
from snnkd_deploy.arithmetic.neuron import Level, Neuron, count_spikes, reset_by_subtraction, reset_to_zero
from snnkd_deploy.arithmetic.shift import ShiftNeuron
from snnkd_deploy.nets.surrogate import Surrogate


@dataclass(frozen=True)
class ChipNeuron:
    """Integer side of a population: its neuron, and the synaptic integers that make one real unit.

    `shift`: v counts in units of 2^-shift of a synaptic integer.
    """

    neuron: Neuron
    scale: float
    shift: int


@dataclass(frozen=True)
class Lif:
    """A leaky integrate-and-fire population in real units; the float side of `arithmetic.Neuron`.

    u[t] = leak_u u[t-1] + x[t], or leak_u (u[t-1] + x[t]) where `filtered` (Xylo decays this step's events too)
    v-[t] = leak_v v[t-1] + u[t] + bias
    n = 1 where v- > threshold (or >=), or as many thresholds as fit, at most `max_spikes` (0: any number)
    v = 0 where n > 0, or v- - n threshold; never below -threshold where `floored`
    leak_u = 0 is the neuron without a synaptic current state (u = x).
    """

    leak_v: float
    threshold: float
    surrogate: Surrogate
    leak_u: float = 0.0
    fires: Literal[">", ">="] = ">"
    reset_kind: Literal["zero", "subtract"] = "zero"
    max_spikes: int = 1
    floored: bool = False
    filtered: bool = False

    @property
    def level(self) -> float:
        return self.threshold

    @property
    def floor(self) -> float:
        return -self.threshold if self.floored else -math.inf

    @property
    def gain_u(self) -> float:
        """What this step's input is multiplied with before the membrane sees it."""
        return self.leak_u if self.filtered else 1.0

    def current(self, u: Tensor, drive: Tensor | None) -> Tensor:
        assert drive is not None
        if self.leak_u == 0:
            return drive
        return self.leak_u * (u + drive) if self.filtered else self.leak_u * u + drive

    def membrane(self, v: Tensor, u: Tensor) -> Tensor:
        return self.leak_v * v + u

    def fire(self, v: Tensor, level: Level) -> Tensor:
        if self.fires == ">" and self.max_spikes == 1:
            return (v > level).to(v.dtype)
        return count_spikes(v, level, self.max_spikes)

    def reset(self, v: Tensor, spikes: Tensor, level: Level, floor: Level) -> Tensor:
        if self.reset_kind == "zero":
            return reset_to_zero(v, spikes, floor if self.floored else -math.inf)
        return reset_by_subtraction(v, spikes, level, floor if self.floored else -math.inf)


def lif_over_time(
    x: Tensor, lif: Lif, chip: ChipNeuron | None = None, steps: int | None = None, bias: Tensor | None = None
) -> Tensor:
    """Spikes (T, B, ...) of a population driven by x (T, B, ...), from zero state.

    x of one step with `steps` > 1 is a constant drive. With `chip`, x holds the chip's synaptic integers
    (bias included, in the same unit) and the forward pass is the chip's arithmetic; gradients come back
    with respect to those integers.

    `bias`, broadcast over (B, ...), is added to v each step without passing the synaptic current (with `chip`:
    in synaptic integers, one is 64 units of v). It matters only where leak_u > 0; elsewhere put it into x.
    """
    return _LifOverTime.apply(x, bias, lif, chip, steps or x.shape[0])


# -- the two passes on (T, N) ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """What differs from population to population, as tensors: compiled kernels are then shared by all of them.

    level, floor: of the membrane as it is stored. unit: real units of one stored unit. threshold: in real
    units. per_drive: real units of one unit of drive.
    """

    level: Tensor
    floor: Tensor
    unit: Tensor
    threshold: Tensor
    per_drive: Tensor

    @classmethod
    def of(cls, like: Tensor, lif: Lif, chip: ChipNeuron | None) -> Numbers:
        return cls._of(like.dtype, like.device, lif, chip)

    @classmethod
    @lru_cache(maxsize=256)  # the same at every training step
    def _of(cls, dtype: torch.dtype, device: torch.device, lif: Lif, chip: ChipNeuron | None) -> Numbers:
        if chip is None:
            values = (lif.level, lif.floor, 1.0, lif.threshold, 1.0)
        else:
            # In integers: v = real * scale * 2^shift, drive = real * scale. The real threshold is the integer one.
            neuron, unit = chip.neuron, 1.0 / (chip.scale * (1 << chip.shift))
            values = (neuron.level, neuron.floor, unit, neuron.level * unit, 1.0 / chip.scale)
        return cls(*(torch.tensor(value, dtype=dtype, device=device) for value in values))


@lru_cache(maxsize=256)
def shared(chip: ChipNeuron | None) -> ChipNeuron | None:
    """The part of a chip neuron that kernels are compiled for: decays and register handling, no numbers."""
    if chip is None:
        return None
    return ChipNeuron(changed(chip.neuron, **_COMMON[type(chip.neuron)]), 1.0, chip.shift)


def changed(neuron: Neuron, **fields: Any) -> Neuron:
    """`dataclasses.replace` for any family's neuron."""
    return replace(cast(Any, neuron), **fields)


_COMMON: dict[type, dict[str, int]] = {
    CubaNeuron: {"vth": 0},
    IafNeuron: {"vth": 0, "v_min": 0},
    ShiftNeuron: {"vth": 0},
    FloatNeuron: {"vth": 0},
}


def with_bias(chip: ChipNeuron | None, bias: Tensor | None) -> ChipNeuron | None:
    """The same neuron with a bias register (`bias` in synaptic integers)."""
    if chip is None or bias is None:
        return chip
    return replace(chip, neuron=changed(chip.neuron, bias=bias * float(1 << chip.shift)))


def step(
    u: Tensor, v: Tensor, drive: Tensor, bias: Tensor | None, lif: Lif, chip: ChipNeuron | None, numbers: Numbers
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One timestep: u, v before reset, spikes, v after it. With `chip` the bias is already in its neuron."""
    neuron: Neuron = lif if chip is None else chip.neuron
    u = neuron.current(u, drive)
    before = neuron.membrane(v, u)
    if chip is None and bias is not None:
        before = before + bias
    spikes = neuron.fire(before, numbers.level)
    return u, before, spikes, neuron.reset(before, spikes, numbers.level, numbers.floor)


def surrogate_slope(v: Tensor, threshold: Tensor, lif: Lif) -> Tensor:
    """dn/dv in real units: the surrogate at the threshold, or at the nearest multiple of it that still counts."""
    if lif.max_spikes == 1:
        return lif.surrogate(v - threshold)
    nearest = torch.round(v / threshold).clamp(1.0, float(lif.max_spikes) if lif.max_spikes else math.inf)
    return lif.surrogate(v - nearest * threshold)


def step_gradient(
    grad_s: Tensor, grad_v: Tensor, membrane: Tensor, lif: Lif, chip: ChipNeuron | None, numbers: Numbers
) -> Tensor:
    """dL/dv- of one step from dL/ds and the dL/dv that the next step sends back, v- as the forward pass left it."""
    neuron: Neuron = lif if chip is None else chip.neuron
    v = membrane if chip is None else membrane * numbers.unit
    threshold = numbers.threshold
    spikes = neuron.fire(membrane, numbers.level)
    slope = surrogate_slope(v, threshold, lif)
    if lif.reset_kind == "zero":
        return (grad_s - grad_v * v) * slope + torch.where(spikes > 0, torch.zeros_like(v), grad_v)
    grad = (grad_s - grad_v * threshold) * slope + grad_v
    if not lif.floored:
        return grad
    # Where the floor holds the membrane nothing goes back through it: only the spike's part is left.
    held = membrane - spikes * numbers.level < numbers.floor
    return torch.where(held, grad_s * slope, grad)


def forward_pass(
    x: Tensor,
    lif: Lif,
    chip: ChipNeuron | None,
    numbers: Numbers,
    steps: int,
    bias: Tensor | None,
    state: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Membrane before reset and spikes, both (T, N), from x (T or 1, N). `bias` (N,): see `step`.

    With `state`, u and v (N,) of the step before, it goes on from there and also returns that of its last step.
    """
    u, v = (torch.zeros_like(x[0]), torch.zeros_like(x[0])) if state is None else state
    membrane, spikes = [], []
    for t in range(steps):
        drive = x[t if x.shape[0] > 1 else 0]
        u, before, fired, v = step(u, v, drive, bias, lif, chip, numbers)
        membrane.append(before)
        spikes.append(fired)
    found = torch.stack(membrane), torch.stack(spikes)
    return found if state is None else (*found, u, v)


def backward_pass(
    grad_spikes: Tensor,
    membrane: Tensor,
    lif: Lif,
    chip: ChipNeuron | None,
    numbers: Numbers,
    constant: bool,
    state: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Gradient with respect to x, (T, N), or (1, N) summed over time for a constant drive.

    With `state`, what the step after sends back to u and v (N,), it goes on from there and also returns that of its
    first step.
    """
    steps = membrane.shape[0]
    grad_x: list[Tensor] = [grad_spikes] * steps
    grad_u, grad_v = (torch.zeros_like(membrane[0]), torch.zeros_like(membrane[0])) if state is None else state
    for t in range(steps - 1, -1, -1):
        grad = step_gradient(grad_spikes[t], grad_v, membrane[t], lif, chip, numbers)
        grad_v = lif.leak_v * grad
        grad_u = grad if lif.leak_u == 0 else grad + lif.leak_u * grad_u
        grad_x[t] = input_gradient(grad_u, lif, chip, numbers)
    if constant:
        total = grad_x[0]
        for t in range(1, steps):
            total = total + grad_x[t]
        found = total.unsqueeze(0)
    else:
        found = torch.stack(grad_x)
    return (found,) if state is None else (found, grad_u, grad_v)


def input_gradient(grad_u: Tensor, lif: Lif, chip: ChipNeuron | None, numbers: Numbers) -> Tensor:
    grad = grad_u if chip is None else grad_u * numbers.per_drive
    return grad if lif.gain_u == 1.0 else grad * lif.gain_u


# A kernel unrolls its steps, and compilation takes more than in proportion: longer sequences than this go in blocks.
_LONGEST, _BLOCK = 16, 8

# Rows of many steps are read and written side by side, and beyond a dozen of them a CPU no longer fetches ahead: there
# several loops of two steps (in nodes: what each of them writes) take half the time of one loop over all.
_FEW = 4
_SHORT_LOOPS: dict[str, Any] = {"max_fusion_size": 4}

Pass = Callable[..., tuple[Tensor, ...]]
_few: tuple[Pass, Pass] = (forward_pass, backward_pass)
_many: tuple[Pass, Pass] = (forward_pass, backward_pass)


def _passes(steps: int) -> tuple[Pass, Pass]:
    """Forward and backward for so many steps, compiled or as they stand."""
    return _few if steps <= _FEW else _many


def forward_in_blocks(
    x: Tensor, lif: Lif, chip: ChipNeuron | None, numbers: Numbers, steps: int, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`forward_pass` for any number of steps, with kernels for `_BLOCK` of them."""
    forward, _ = _passes(steps)
    if steps <= _LONGEST:
        membrane, spikes = forward(x, lif, chip, numbers, steps, bias)
        return membrane, spikes
    state = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    membranes, trains = [], []
    for start in range(0, steps, _BLOCK):
        part = x[start : start + _BLOCK] if x.shape[0] > 1 else x
        membrane, spikes, *after = forward(part, lif, chip, numbers, min(_BLOCK, steps - start), bias, state)
        state = after[0], after[1]
        membranes.append(membrane)
        trains.append(spikes)
    return torch.cat(membranes), torch.cat(trains)


def backward_in_blocks(
    grad_spikes: Tensor, membrane: Tensor, lif: Lif, chip: ChipNeuron | None, numbers: Numbers, constant: bool
) -> Tensor:
    """`backward_pass` for any number of steps, with kernels for `_BLOCK` of them."""
    steps = membrane.shape[0]
    _, backward = _passes(steps)
    if steps <= _LONGEST:
        return backward(grad_spikes, membrane, lif, chip, numbers, constant)[0]
    state = torch.zeros_like(membrane[0]), torch.zeros_like(membrane[0])
    grads = []
    for start in reversed(range(0, steps, _BLOCK)):
        block = slice(start, start + _BLOCK)
        grad, *before = backward(grad_spikes[block], membrane[block], lif, chip, numbers, constant, state)
        state = before[0], before[1]
        grads.append(grad)
    return sum(grads[1:], start=grads[0]) if constant else torch.cat(grads[::-1])


def compile_neurons(enable: bool, device: str = "cpu") -> str:
    """Fuse both passes with torch.compile from now on (or stop). Returns "" or why that is not possible here.

    device: type of device that the neurons will run on. Compilation takes half a minute the first time and seconds from
    torch's cache afterwards, so callers switch it on only for long work.
    """
    global _few, _many
    _few = _many = (forward_pass, backward_pass)
    if not enable:
        return ""
    # One kernel for each form that occurs: float or chip, constant or not, with bias or not, and each T.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    few = _compiled(None)
    many = _compiled(_SHORT_LOOPS) if device == "cpu" else few
    lif = Lif(0.5, 1.0, lambda x: 1.0 / (1.0 + x * x))
    try:
        x = torch.randn(2, 64)
        numbers = Numbers.of(x, lif, None)
        membrane, spikes = few[0](x, lif, None, numbers, 2, None)
        few[1](spikes, membrane, lif, None, numbers, False)
    except Exception as error:  # no C++ compiler, an unsupported platform: torch raises many kinds
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    _few, _many = few, many
    return ""


def _compiled(options: dict[str, Any] | None) -> tuple[Pass, Pass]:
    return (
        torch.compile(forward_pass, dynamic=True, options=options),
        torch.compile(backward_pass, dynamic=True, options=options),
    )


class _LifOverTime(torch.autograd.Function):
    """Saves the membrane before reset only: spikes follow from it in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, lif: Lif, chip: ChipNeuron | None, steps: int) -> Tensor:
        if not _dense_rows(x):
            x = x.contiguous()
        rows = None if bias is None else _rows(_like_row(bias, x))[0]
        numbers = Numbers.of(x, lif, chip)
        membrane, spikes = forward_in_blocks(_rows(x), lif, with_bias(shared(chip), rows), numbers, steps, rows)
        ctx.save_for_backward(membrane)
        ctx.lif, ctx.chip, ctx.constant = lif, chip, x.shape[0] == 1 and steps > 1
        assert bias is None or not ctx.constant, "a constant drive carries its bias"
        ctx.like = x[:1].shape, x.stride(), steps, None if bias is None else bias.shape
        return _as(spikes, x, steps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        (membrane,) = ctx.saved_tensors
        shape, stride, steps, bias_shape = ctx.like
        grad = grads[0]
        if grad.stride()[1:] != stride[1:] or (steps > 1 and grad.stride(0) != grad[0].numel()):
            # The membrane lies in memory as x did (channels last, perhaps): bring the gradient into that order. A sum
            # over time hands one row to all steps (stride 0).
            ordered = torch.empty_strided((steps, *shape[1:]), (grad[0].numel(), *stride[1:]), dtype=grad.dtype)
            grad = ordered.to(grad.device).copy_(grad)
        numbers = Numbers.of(membrane, ctx.lif, ctx.chip)
        grad_x = backward_in_blocks(_rows(grad), membrane, ctx.lif, shared(ctx.chip), numbers, ctx.constant)
        rows = grad_x.shape[0]
        grad_x = grad_x.as_strided((rows, *shape[1:]), (grad_x.shape[1], *stride[1:]))
        grad_bias = None if bias_shape is None else bias_gradient(grad_x, ctx.lif, bias_shape)
        return grad_x, grad_bias, None, None, None


def bias_gradient(grad_x: Tensor, lif: Lif, shape: torch.Size) -> Tensor:
    """Gradient of the bias from that of x (T, B, ...): x passes the current filter, the bias does not."""
    # grad_u[t] = grad_v-[t] + leak_u grad_u[t+1], hence sum_t grad_v-[t]:
    total = grad_x.sum(0) - lif.leak_u * grad_x[1:].sum(0)
    if lif.gain_u != 1.0:
        total = total / lif.gain_u
    return total.sum_to_size(shape) if total.shape != shape else total


def _like_row(bias: Tensor, x: Tensor) -> Tensor:
    """`bias` broadcast to x[:1], in the memory order of x."""
    row = torch.empty_strided((1, *x.shape[1:]), (x[0].numel(), *x.stride()[1:]), dtype=x.dtype, device=x.device)
    return row.copy_(bias.expand(x.shape[1:])[None])


def _dense_rows(x: Tensor) -> bool:
    """True where every x[t] is one block of memory, in whatever order of its axes."""
    if x[0].numel() == 0 or (x.shape[0] > 1 and x.stride(0) != x[0].numel()):
        return False
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(x.stride()[1:], x.shape[1:], strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _rows(x: Tensor) -> Tensor:
    """A tensor with dense rows, (T, B, ...), as (T, N) in memory order, without a copy."""
    count = x[0].numel()
    return x.as_strided((x.shape[0], count), (count, 1))


def _as(rows: Tensor, x: Tensor, steps: int) -> Tensor:
    """(T, N) in memory order back to (T, B, ...) with the layout of x."""
    return rows.as_strided((steps, *x.shape[1:]), (rows.shape[1], *x.stride()[1:]))
