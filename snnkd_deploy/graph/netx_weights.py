"""What Lava makes of the integer weights of a `.net` file: the effective integers, and where it goes wrong.

netx rescales a dense matrix to fill 8 bits (lava-dl 0.6.0 `netx.utils.optimize_weight_bits`), then Lava's
Dense clips and truncates it in the sign mode that it sees (lava-nc 0.10.0 `lava.utils.weightutils`). The
two do not cancel everywhere: a matrix without positive values and with a power of two as minimum comes
out different, an all-zero one does not load. Convolutions take the weights as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NetxDense:
    """Effective integers of a dense layer as Lava computes with them, and netx's 8-bit format.

    `parts`: the matrices that were given, in order. `bits` above 8 is exact on CPU and no chip format.
    """

    parts: tuple[np.ndarray, ...]
    bits: int
    exponent: int


def effective_dense(*parts: np.ndarray) -> NetxDense:
    """Run integer matrices (out, in_k) through netx and Lava. Several are rescaled together (dense_rec).

    Raises ValueError, with the reason, where netx fails or its result is undefined.
    """
    whole = np.hstack(parts).astype(np.int64)
    if whole.size == 0:
        raise ValueError("the weight matrix is empty")
    high, low = int(whole.max()), int(whole.min())
    if high == 0 and low == 0:
        raise ValueError("all weights are zero, which netx cannot load (it divides by the largest)")
    if (high > 254 and low < 0) or (low < -256 and high > 0):
        whole = np.clip(whole, -256, 254)
        high, low = int(whole.max()), int(whole.min())
    mixed = not (high < 0 or low >= 0)
    if mixed:
        scale = min(127 / high if high else np.inf, -128 / low)
    elif high < 0:
        scale = -256 / low
    else:
        scale = 255 / high
    shift = int(np.floor(np.log2(scale))) + mixed
    if shift < 0:
        raise ValueError(f"weights {low}..{high} are beyond 8 bits, and netx then shifts by a negative number")
    even = next((n for n in range(8, 0, -1) if not np.any(whole % (1 << n))), 0) - mixed
    bits = 8 - shift - even
    stored = whole << shift
    results, start = [], 0
    for part in parts:
        piece = stored[:, start : start + part.shape[1]]
        start += part.shape[1]
        results.append(_clip_and_truncate(piece, bits) >> shift)
    return NetxDense(tuple(results), bits, -shift)


def _clip_and_truncate(weights: np.ndarray, bits: int) -> np.ndarray:
    """Lava's Dense and Sparse on the first step, in the sign mode that the data show."""
    mixed = not (weights.min() >= 0 or weights.max() <= 0)
    sign = -1 if weights.min() < 0 and not mixed else 1
    clipped = np.clip(sign * weights, -256 if mixed else 0, 255)
    drop = 8 - bits + mixed
    # numpy's shift by a negative number gives 0 and Lava does just that; the callers see it as changed.
    return sign * ((clipped >> drop) << drop) if drop >= 0 else np.zeros_like(weights)


def changed_by_netx(*parts: np.ndarray) -> str:
    """Why these integers would not arrive as they are, or "" where they do."""
    try:
        effective = effective_dense(*parts)
    except ValueError as error:
        return str(error)
    if effective.bits > 8:
        return f"they need {effective.bits} bits: odd integers in a mixed matrix must stay in -128..127"
    for before, after in zip(parts, effective.parts, strict=True):
        if np.any(before != after):
            index = tuple(int(i) for i in np.argwhere(before != after)[0])
            return (
                f"netx turns {int(before[index])} into {int(after[index])} at {index}: a matrix without positive "
                "weights must not have a power of two as its minimum"
                if before.max() <= 0
                else f"netx turns {int(before[index])} into {int(after[index])} at {index}"
            )
    return ""
