"""Surrogate derivatives of the spike: ds/dv as a function of x = v - threshold, in real units."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
from torch import Tensor

from snnkd_deploy.errors import UsageError

Surrogate = Callable[[Tensor], Tensor]


def sigmoid4(x: Tensor) -> Tensor:
    """a sigma(a x) (1 - sigma(a x)) with a = 4 (SeAl-KD; spikingjelly's default)."""
    if torch.compiler.is_compiling() and x.dtype == torch.float32:
        return sech_squared_of_twice(x)
    s = torch.sigmoid(4.0 * x)
    return 4.0 * s * (1.0 - s)


def sech_squared_of_twice(x: Tensor) -> Tensor:
    """1 / cosh(2x)^2, which is `sigmoid4`, to 1e-6 of its largest value, without an exponential.

    In a compiled kernel an exponential is a call that spills every register, and costs more than all the rest of the
    backward pass. a = 2 (cosh(x / 4) - 1) by its series, then three times cosh(2y) = 2 cosh(y)^2 - 1, which reads
    a <- a (a + 4).
    """
    z = x * x
    a = z * (1 / 16 + z * (1 / 3072 + z * (1 / 1474560 + z * (1 / 1321205760))))
    for _ in range(3):
        a = a * (a + 4.0)
    return 4.0 / ((a + 2.0) * (a + 2.0))


def triangle(x: Tensor) -> Tensor:
    """max(0, 1 - |x|) (CKDSNN's triangle with gamma = 1)."""
    return (1.0 - x.abs()).clamp_min(0.0)


def atan(x: Tensor) -> Tensor:
    """1 / (1 + (pi x)^2) (Fang et al. 2021, alpha = 2)."""
    return 1.0 / (1.0 + (torch.pi * x) ** 2)


SURROGATES: dict[str, Surrogate] = {"sigmoid4": sigmoid4, "triangle": triangle, "atan": atan}


def get_surrogate(name: str) -> Surrogate:
    """A surrogate by its recipe name. Raises UsageError with the nearest name."""
    if name not in SURROGATES:
        near = difflib.get_close_matches(name, SURROGATES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown surrogate '{name}'", remedy=f"{hint}known: {', '.join(SURROGATES)}")
    return SURROGATES[name]
