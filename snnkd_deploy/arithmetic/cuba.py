"""Loihi's CUBA LIF in fixed point (lava-nc 0.10.0 `PyLifModelBitAcc`), batched over samples.

One timestep, all integers (held in floats that are exact for them)::

    dec(x, D) = sign(x) * ((|x| * (4096 - D)) >> 12)        rounds toward zero
    u = dec(u, Du) + (a << 6)                               then one wrap into (-2^23, 2^23]
    v = clip(dec(v, Dv) + u + bias, -2^23 + 1, 2^23 - 1)    uses the new u
    s = v > vth << 6 ;  v = 0 where s                       strict test, hard reset, u is kept

`Du` and `Dv` are the whole decays (4096 forgets everything); Lava's own `du` is `Du - 1`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DECAY_ONE = 4096
STATE_MAX = 2**23
INPUT_SHIFT = 6


@dataclass(frozen=True)
class CubaParams:
    """Integer parameters of one population. `bias` broadcasts over (B, *shape), in units of v."""

    Du: int
    Dv: int
    vth: int  # mantissa: the threshold is vth << 6
    bias: Tensor | None = None
    # Proved by the caller from weights and input range: |u| cannot reach 2^23, so no wrap is needed.
    u_in_range: bool = False
    # One step's input may reach 2^24, so that one wrap does not bring u back: then Lava's int32 sums show.
    wraps_int32: bool = False

    @property
    def forgets_current(self) -> bool:
        """True where u is just this step's input, so that no u state has to be kept."""
        return self.Du == DECAY_ONE


@dataclass
class CubaState:
    """u and v after a step, each (B, *shape)."""

    u: Tensor
    v: Tensor


def decay_toward_zero(x: Tensor, decay: int) -> Tensor:
    """dec(x, decay) for integer-valued x with |x| <= 2^23, exact in float32 and float64."""
    if decay == 0:
        return x
    keep = DECAY_ONE - decay
    if keep == 0:
        return torch.zeros_like(x)
    if x.dtype == torch.float64 or keep & (keep - 1) == 0:
        # The product is exact (a power of two, or below 2^53) and so is the division by 4096.
        return torch.trunc(x * (keep / DECAY_ONE))
    # float32: |x| * keep needs up to 35 bits. With |x| = 4096 h + l both partial products fit in 24.
    magnitude = x.abs()
    high = torch.floor(magnitude * (1 / DECAY_ONE))
    low = magnitude - high * DECAY_ONE
    return torch.sign(x) * (high * keep + torch.floor(low * keep * (1 / DECAY_ONE)))


def wrap_once(u: Tensor) -> Tensor:
    """Lava's single wrap of the current into (-2^23, 2^23]."""
    u = torch.where(u > STATE_MAX, u - 2 * STATE_MAX, u)
    return torch.where(u <= -STATE_MAX, u + 2 * STATE_MAX, u)


def wrap_int32(x: Tensor) -> Tensor:
    """int32 two's complement wrap. Only graded spikes reach it."""
    return torch.remainder(x + 2.0**31, 2.0**32) - 2.0**31


def next_current(u: Tensor, drive: Tensor | None, p: CubaParams) -> Tensor:
    """u of this step from u of the last one and the synaptic sum `drive` (None: no input)."""
    new = torch.zeros_like(u) if p.forgets_current else decay_toward_zero(u, p.Du)
    if drive is not None:
        new = new + drive * float(1 << INPUT_SHIFT)
    if p.wraps_int32:
        new = wrap_int32(new)
    return new if p.u_in_range else wrap_once(new)


def next_membrane(v: Tensor, u: Tensor, p: CubaParams) -> Tensor:
    """v of this step before threshold test and reset."""
    new = decay_toward_zero(v, p.Dv) + u
    if p.bias is not None:
        new = new + p.bias
    if p.wraps_int32:
        new = wrap_int32(new)
    return new.clamp(-STATE_MAX + 1, STATE_MAX - 1)


def run_cuba(
    drive: Tensor, p: CubaParams, state: CubaState, *, keep_states: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run a population over all steps. `drive` (T, B, *shape): integer synaptic sums a[t].

    Updates `state` in place of the caller's object, so that consecutive calls continue.
    Returns spikes (T, B, *shape) in the dtype of `drive` and, with `keep_states`, u and v after each step.
    """
    spikes = torch.empty_like(drive)
    us = torch.empty_like(drive) if keep_states else None
    vs = torch.empty_like(drive) if keep_states else None
    threshold = float(p.vth << INPUT_SHIFT)
    u, v = state.u, state.v
    for t in range(drive.shape[0]):
        u = next_current(u, drive[t], p)
        v = next_membrane(v, u, p)
        fired = v > threshold
        v = v.masked_fill(fired, 0.0)
        spikes[t] = fired
        if us is not None and vs is not None:
            us[t], vs[t] = u, v
    state.u, state.v = u, v
    return spikes, us, vs


def integrate(drive: Tensor, p: CubaParams, state: CubaState) -> tuple[Tensor, Tensor]:
    """The same population without a threshold (a readout): u and v after each step, (T, B, *shape)."""
    us, vs = torch.empty_like(drive), torch.empty_like(drive)
    for t in range(drive.shape[0]):
        state.u = next_current(state.u, drive[t], p)
        state.v = next_membrane(state.v, state.u, p)
        us[t], vs[t] = state.u, state.v
    return us, vs
