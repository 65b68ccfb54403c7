"""What every distillation loss shares: precision, shape checks, KL forms, seeded draws.

Notation used in all loss files: T steps, B samples, C (or K) classes, `z` student logits (T, B, C),
`zbar` their mean over time, `u` teacher logits (B, C), `y` labels (B,), `softmax_tau(a) = softmax(a / tau)`,
`KL(q || p) = sum_c q_c (log q_c - log p_c)` with `0 log 0 = 0`, `sg[.]` stop-gradient.
"""

from __future__ import annotations

import difflib
import functools
import zlib
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from snnkd_deploy.errors import Problem, UsageError

P = ParamSpec("P")
R = TypeVar("R")


def widen(x: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; everything else is returned as it is."""
    if x.is_floating_point() and x.dtype not in (torch.float32, torch.float64):
        return x.float()
    return x


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run a loss in float32 or wider, whatever autocast says: its tensor arguments are widened first.

    Casting the inputs alone is not enough: under autocast a matmul inside would go back to half precision.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        values = [*args, *kwargs.values()]
        device = next((v.device.type for v in values if isinstance(v, Tensor)), "cpu")
        wide_args = [widen(a) if isinstance(a, Tensor) else a for a in args]
        wide_kwargs = {k: widen(v) if isinstance(v, Tensor) else v for k, v in kwargs.items()}
        with torch.autocast(device_type=device, enabled=False):
            return function(*wide_args, **wide_kwargs)  # type: ignore[arg-type]

    return wrapper


def check_shapes(**named: tuple[Tensor, str]) -> None:
    """Refuse tensors that do not fit together, all problems at once.

    Each value is (tensor, one letter per dimension), e.g. `z=(z, "TBC"), u=(u, "BC")`; a letter means the
    same size everywhere. Without this, broadcasting would turn many mistakes into a plausible number.
    A lone "B" is a vector of class indices, all else must be floating point.
    """
    sizes: dict[str, tuple[int, str]] = {}
    problems: list[Problem] = []
    for name, (tensor, letters) in named.items():
        need = f"({', '.join(letters)})"
        if tensor.dim() != len(letters):
            problems.append(Problem("wrong number of dimensions", where=name, need=need, have=str(tuple(tensor.shape))))
            continue
        if tensor.numel() == 0:
            problems.append(Problem("is empty", where=name, need=need, have=str(tuple(tensor.shape))))
        for letter, size in zip(letters, tensor.shape, strict=True):
            known, owner = sizes.setdefault(letter, (size, name))
            if known != size:
                problems.append(
                    Problem("sizes differ", name, f"{letter} = {known} as in {owner}", f"{letter} = {size}")
                )
        if (letters == "B") == tensor.is_floating_point():
            kind = "integer class indices" if letters == "B" else "floating-point values (de-quantised)"
            problems.append(Problem("wrong dtype", where=name, need=kind, have=str(tensor.dtype)))
    if problems:
        raise UsageError.from_problems(problems)


def nearest(word: str, known: Iterable[str]) -> str:
    """Advice for a misspelt name: the closest known one, or the whole list."""
    choices = list(known)
    close = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {close[0]!r}?" if close else f"one of: {', '.join(choices)}"


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"unknown {what} {value!r}", remedy=nearest(str(value), choices))


def first_argmax(x: Tensor, dim: int = -1) -> Tensor:
    """argmax that takes the first index on ties (torch documents this for `argmax`; the tests hold it)."""
    return torch.argmax(x, dim=dim)


def graph_zero(x: Tensor) -> Tensor:
    """Exactly 0, connected to `x` so that backward works and gives zeros (also where x is inf or NaN)."""
    return x.flatten()[:0].sum()


@full_precision
def time_mean(student: Tensor) -> Tensor:
    """Mean over the leading time axis: (T, ...) -> (...). `zbar` for logits, F for features."""
    return student.mean(0)


def kl_from_log_probs(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) over the last axis, (..., C) -> (...), of two distributions with the same total mass.

    Summed as q (log q - log p) + p - q: the added part is 0 in total, but makes every summand >= 0 and the
    gradient exactly p - q. The plain sum cancels to first order, which in float32 costs two digits where q
    and p are close. A class with q = 0 is in order, whatever log p is.
    """
    q, p = log_q.exp(), log_p.exp()
    d = torch.where(q > 0, log_q - log_p, 0.0)
    near = (q > 0) & (d.abs() < 1)
    # p - q = q expm1(-d), exact to rounding where d is small; it would overflow where d is very negative.
    return torch.where(near, q * (d + torch.expm1(-d.clamp(-1, 1))), q * d + (p - q)).sum(-1)


def kl_divergence(target_logits: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax_tau(target) || softmax_tau(logits)) over the last axis, without any tau^2 factor."""
    log_q = F.log_softmax(target_logits / temperature, dim=-1)
    log_p = F.log_softmax(logits / temperature, dim=-1)
    return kl_from_log_probs(log_q, log_p)


def kd(logits: Tensor, target_logits: Tensor, temperature: float) -> Tensor:
    """KD(a, u; tau) = tau^2 mean KL(softmax_tau(sg[u]) || softmax_tau(a)).

    Sum over classes, mean over the rest: with logits (T, B, C) and a target (B, C) or (T, B, C) this is the
    mean over steps and samples.
    """
    return temperature**2 * kl_divergence(target_logits.detach(), logits, temperature).mean()


def soft_cross_entropy(target_logits: Tensor, logits: Tensor, target_temperature: float, temperature: float) -> Tensor:
    """-sum_c softmax(target / tau_target)_c log softmax(logits / tau)_c over the last axis.

    Unlike KL it keeps the entropy of the target, so it is not 0 when both agree.
    """
    q = F.softmax(target_logits / target_temperature, dim=-1)
    log_p = F.log_softmax(logits / temperature, dim=-1)
    return -(q * torch.where(q > 0, log_p, 0.0)).sum(-1)


def seeded_generator(seed: int | None, stream: str) -> torch.Generator | None:
    """A CPU generator for one named draw, or None (draw from torch's global generator) without a seed.

    The stream name keeps two losses that share a seed from drawing correlated numbers. It lives on the CPU
    so that a run draws the same noise whatever device it trains on.
    """
    if seed is None:
        return None
    mixed = (seed * 0x9E3779B97F4A7C15 + zlib.crc32(stream.encode())) % 2**63
    return torch.Generator().manual_seed(mixed)


def standard_normal(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """N(0, 1) draws in the shape, dtype and device of `like`.

    A generator's draws are made in float64 on its own device, then cast: float32 and float64 runs, on any
    device, see the same noise.
    """
    if generator is None:
        return torch.randn_like(like)
    draw = torch.randn(like.shape, generator=generator, device=generator.device, dtype=torch.float64)
    return draw.to(device=like.device, dtype=like.dtype)
