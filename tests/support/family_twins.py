"""Slow, obvious twins of the neuron families: Python integers (numpy float32 for the one family of floats), one
neuron at a time, written from the specifications and not from `snnkd_deploy.arithmetic`. The oracles of `exact`."""

from __future__ import annotations

import numpy as np


def speck_neuron(drive: list[int], th: int, v_min: int | None, most: int, reset: str) -> tuple[list[int], list[int]]:
    """sinabs' synchronous IAF: everything of a step at once, `>=`, the floor last."""
    v = 0
    spikes, vs = [], []
    for d in drive:
        v += d
        n = v // th if v > 0 else 0
        if most:
            n = min(n, most)
        if reset == "subtract":
            v -= n * th
        elif n > 0:
            v = 0
        if v_min is not None and v < v_min:
            v = v_min
        spikes.append(n)
        vs.append(v)
    return spikes, vs


def sign(x: int) -> int:
    return (x > 0) - (x < 0)


def truenorth_neuron(drive: list[int], alpha: int, beta: int, lam: int, epsilon: int) -> tuple[list[int], list[int]]:
    """Cassidy et al. 2013 with gamma = 1 (subtract), kappa = 1 (saturate at -beta)."""
    v = 0
    spikes, vs = [], []
    for d in drive:
        v = v + d
        omega = (1 - epsilon) + epsilon * sign(v)
        after = v + omega * lam
        if epsilon == 1 and sign(after) != sign(v):
            after = 0
        if after >= alpha:
            spikes.append(1)
            v = after - alpha
        else:
            spikes.append(0)
            v = -beta if after < -beta else after
        vs.append(v)
    return spikes, vs


def wrap16(x: int) -> int:
    return (x + 2**15) % 2**16 - 2**15


def clip16(x: int) -> int:
    return max(-(2**15), min(2**15 - 1, x))


def xylo_leak(x: int, dash: int) -> int:
    leak = x >> dash
    return 1 if leak == 0 and x > 0 else leak


def xylo_neuron(
    drive: list[int], shift: int, dash_syn: int, dash_mem: int, threshold: int, bias: int, most: int
) -> tuple[list[int], list[int], list[int]]:
    """xylosim core 2; one sum a step, `threshold` and `bias` as the registers hold them."""
    i = v = 0
    spikes, currents, vs = [], [], []
    for d in drive:
        i = clip16(i + (d << shift))
        i -= xylo_leak(i, dash_syn)
        change = wrap16(-xylo_leak(v, dash_mem))
        change = clip16(change + i)
        if bias:
            change = clip16(change + bias)
        v = clip16(v + change)
        n = 0
        while v >= threshold and n < most:
            n += 1
            v = wrap16(v - threshold)
        spikes.append(n)
        currents.append(i)
        vs.append(v)
    return spikes, currents, vs


def shift_neuron(
    drive: list[int], shift: int, bits: int, dash: int, threshold: int, bias: int, reset: str
) -> tuple[list[int], list[int]]:
    """Plain int8 hardware: no current, one spike, a register of `bits`; dash 0 is no decay."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def clip(x: int) -> int:
        return max(low, min(high, x))

    v = 0
    spikes, vs = [], []
    for d in drive:
        leak = xylo_leak(v, dash) if dash else 0
        v = clip(v + clip(clip(clip(d << shift) - leak) + bias))
        fired = v >= threshold
        if fired:
            v = v - threshold if reset == "subtract" else 0
        spikes.append(int(fired))
        vs.append(v)
    return spikes, vs


def float_neuron(
    drive: list[int], alpha: float, alpha_syn: float | None, vth: int, bias: int, reset: str
) -> tuple[list[int], list[float]]:
    """py-spinnaker2's recurrence in single precision, the threshold half an integer up."""
    f = np.float32
    i = v = f(0)
    spikes, vs = [], []
    for d in drive:
        i = f(d) if alpha_syn is None else f(f(i * f(alpha_syn)) + f(d))
        v = f(f(v * f(alpha)) + f(i + f(bias)))
        fired = bool(v > f(vth + 0.5))
        if fired:
            v = f(v - f(vth + 0.5)) if reset == "subtract" else f(0)
        spikes.append(int(fired))
        vs.append(float(v))
    return spikes, vs
