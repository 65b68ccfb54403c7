"""The slow, obvious twin of the chip's arithmetic: Python integers, one neuron at a time. The oracle of `exact`."""

from __future__ import annotations

import numpy as np


def decay(x: int, amount: int) -> int:
    sign = (x > 0) - (x < 0)
    return sign * ((abs(x) * (4096 - amount)) >> 12)


def cuba_neuron(drive: list[int], Du: int, Dv: int, vth: int, bias: int) -> tuple[list[int], list[int], list[int]]:
    """Spikes, u and v after each step of one neuron (specification: Loihi CUBA LIF, fixed point)."""
    u = v = 0
    spikes, us, vs = [], [], []
    for a in drive:
        u = decay(u, Du) + (a << 6)
        if u > 2**23:
            u -= 2**24
        if u <= -(2**23):
            u += 2**24
        v = decay(v, Dv) + u + bias
        v = max(-(2**23) + 1, min(2**23 - 1, v))
        fired = v > (vth << 6)
        if fired:
            v = 0
        spikes.append(int(fired))
        us.append(u)
        vs.append(v)
    return spikes, us, vs


def cuba(drive: np.ndarray, Du: int, Dv: int, vth: int, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for drive (T, N) and bias (N,)."""
    out = [cuba_neuron([int(a) for a in drive[:, n]], Du, Dv, vth, int(bias[n])) for n in range(drive.shape[1])]
    return tuple(np.array([o[i] for o in out], dtype=np.int64).T for i in range(3))  # type: ignore[return-value]


def conv2d(x: np.ndarray, w: np.ndarray, stride: int, padding: int, groups: int = 1) -> np.ndarray:
    """Cross-correlation of one (C, H, W) map by loops, int64."""
    c, h, width = x.shape
    o, cg, kh, kw = w.shape
    padded = np.zeros((c, h + 2 * padding, width + 2 * padding), dtype=np.int64)
    padded[:, padding : padding + h, padding : padding + width] = x
    ho, wo = (h + 2 * padding - kh) // stride + 1, (width + 2 * padding - kw) // stride + 1
    out = np.zeros((o, ho, wo), dtype=np.int64)
    for k in range(o):
        first = (k // (o // groups)) * cg
        for i in range(ho):
            for j in range(wo):
                patch = padded[first : first + cg, i * stride : i * stride + kh, j * stride : j * stride + kw]
                out[k, i, j] = int((patch * w[k]).sum())
    return out
