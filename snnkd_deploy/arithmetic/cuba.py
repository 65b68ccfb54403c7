"""Loihi's CUBA LIF in fixed point (lava-nc 0.10.0 `PyLifModelBitAcc`), batched over samples.

One timestep, all integers (held in floats that are exact for them)::

    dec(x, D) = sign(x) * ((|x| * (4096 - D)) >> 12)        rounds toward zero
    u = dec(u, Du) + (a << 6)                               then one wrap into (-2^23, 2^23]
    v = clip(dec(v, Dv) + u + bias, -2^23 + 1, 2^23 - 1)    uses the new u
    s = v > vth << 6 ;  v = 0 where s                       strict test, hard reset, u is kept

`Du` and `Dv` are the whole decays (4096 forgets everything); Lava's own `du` is `Du - 1`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from snnkd_deploy.arithmetic.neuron import Level, State

DECAY_ONE = 4096
STATE_MAX = 2**23
INPUT_SHIFT = 6


@dataclass(frozen=True)
class CubaNeuron:
    """Integer parameters of one population. `bias` broadcasts over (B, *shape), in units of v."""

    Du: int
    Dv: int
    vth: int  # mantissa: the threshold is vth << 6
    bias: Tensor | None = None
    # Proved by the caller from weights and input range: |u| cannot reach 2^23, so no wrap is needed.
    u_in_range: bool = False
    # Likewise |v| < 2^23: it does not saturate.
    v_in_range: bool = False
    # One step's input may reach 2^24, so that one wrap does not bring u back: then Lava's int32 sums show.
    wraps_int32: bool = False

    @property
    def forgets_current(self) -> bool:
        """True where u is just this step's input, so that no u state has to be kept."""
        return self.Du == DECAY_ONE

    @property
    def level(self) -> float:
        return float(self.vth << INPUT_SHIFT)

    @property
    def floor(self) -> float:
        return -math.inf

    def current(self, u: Tensor, drive: Tensor | None) -> Tensor:
        """u of this step from u of the last one and the synaptic sum `drive` (None: no input)."""
        new = torch.zeros_like(u) if self.forgets_current else decay_toward_zero(u, self.Du)
        if drive is not None:
            new = new + drive * float(1 << INPUT_SHIFT)
        if self.wraps_int32:
            new = wrap_int32(new)
        return new if self.u_in_range else wrap_once(new)

    def membrane(self, v: Tensor, u: Tensor) -> Tensor:
        """v of this step before threshold test and reset."""
        new = decay_toward_zero(v, self.Dv) + u
        if self.bias is not None:
            new = new + self.bias
        if self.wraps_int32:
            new = wrap_int32(new)
        return new.clamp(-STATE_MAX + 1, STATE_MAX - 1)

    def fire(self, v: Tensor, level: Level) -> Tensor:
        return (v > level).to(v.dtype)

    def reset(self, v: Tensor, spikes: Tensor, level: Level, floor: Level) -> Tensor:
        return torch.where(spikes > 0, torch.zeros_like(v), v)


def decay_toward_zero(x: Tensor, decay: int) -> Tensor:
    """dec(x, decay) for integer-valued x with |x| <= 2^23, exact in float32 and float64."""
    if decay == 0:
        return x
    keep = DECAY_ONE - decay
    if keep == 0:
        return torch.zeros_like(x)
    if keep & (keep - 1) == 0:
        return divide_toward_zero(x, DECAY_ONE // keep)
    if x.dtype == torch.float64:
        return divide_toward_zero(x * keep, DECAY_ONE)  # the product is exact: below 2^53
    # float32: |x| * keep needs up to 35 bits. With |x| = 4096 h + l both partial products fit in 24.
    magnitude = x.abs()
    high = torch.floor(magnitude * (1 / DECAY_ONE))
    low = magnitude - high * DECAY_ONE
    return torch.sign(x) * (high * keep + torch.floor(low * keep * (1 / DECAY_ONE)))


def run_in_range(drive: Tensor, neuron: CubaNeuron, state: State) -> Tensor:
    """`neuron.run` for a current that is proved to stay in range: same spikes, same state, several times faster.

    drive (T, B, *shape); returns spikes (T, B, *shape). Everything is written in place and nothing
    passes through booleans, whose masks cost torch's CPU kernels more than the arithmetic.
    """
    assert neuron.u_in_range and not neuron.wraps_int32 and neuron.vth >= 0
    u, v = state.u.clone(), state.v.clone()
    # All in the memory order of v, which need not be that of the axes.
    spikes = torch.empty_strided(drive.shape, (v.numel(), *v.stride()), dtype=v.dtype, device=v.device)
    bias = None if neuron.bias is None else torch.empty_like(v[:1]).copy_(neuron.bias)
    for t in range(drive.shape[0]):
        decay_in_place(v, neuron.Dv)
        if neuron.forgets_current:
            v.add_(drive[t], alpha=float(1 << INPUT_SHIFT))
        else:
            v.add_(decay_in_place(u, neuron.Du).add_(drive[t], alpha=float(1 << INPUT_SHIFT)))
        if bias is not None:
            v.add_(bias)
        if not neuron.v_in_range:
            v.clamp_(-STATE_MAX + 1, STATE_MAX - 1)
        # The membranes above threshold and zeros elsewhere: what the reset takes away, and spikes once cut to one.
        fired = spikes[t]
        torch.ops.aten.threshold.out(v, neuron.level, 0.0, out=fired)
        v.sub_(fired)
        fired.clamp_(max=1.0)
    state.u = drive[-1] * float(1 << INPUT_SHIFT) if neuron.forgets_current and len(drive) else u
    state.v = v
    return spikes


def accumulate(drive: Tensor, neuron: CubaNeuron, state: State) -> tuple[Tensor, Tensor]:
    """`neuron.integrate` where nothing decays and no register saturates, which the caller has proved."""
    assert neuron.forgets_current and neuron.Dv == 0 and neuron.u_in_range and not neuron.wraps_int32
    us = drive * float(1 << INPUT_SHIFT)
    vs = (us if neuron.bias is None else us + neuron.bias).cumsum(0).add_(state.v)
    state.u, state.v = us[-1], vs[-1]
    return us, vs


def decay_in_place(x: Tensor, decay: int) -> Tensor:
    """`decay_toward_zero` into its own argument."""
    keep = DECAY_ONE - decay
    if decay == 0:
        return x
    if keep == 0:
        return x.zero_()
    if keep & (keep - 1) == 0:
        return x.div_(DECAY_ONE // keep, rounding_mode="trunc")
    return x.copy_(decay_toward_zero(x, decay))


def divide_toward_zero(x: Tensor, power_of_two: int) -> Tensor:
    """trunc(x / power_of_two). torch's CPU kernel of `trunc` goes number by number, that of the division does not."""
    return torch.div(x, power_of_two, rounding_mode="trunc")


def wrap_once(u: Tensor) -> Tensor:
    """Lava's single wrap of the current into (-2^23, 2^23]."""
    u = torch.where(u > STATE_MAX, u - 2 * STATE_MAX, u)
    return torch.where(u <= -STATE_MAX, u + 2 * STATE_MAX, u)


def wrap_int32(x: Tensor) -> Tensor:
    """int32 two's complement wrap. Only graded spikes reach it."""
    return torch.remainder(x + 2.0**31, 2.0**32) - 2.0**31
