"""Seeded splits of a pool of samples."""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd_deploy.data.stateless import hash64, permutation


def stratified(y: Tensor, count: int, seed: int, salt: int) -> tuple[Tensor, Tensor]:
    """Set `count` samples aside, in every class its share: (kept rows, rows set aside), both ascending int64.

    Shares are rounded by the largest remainder, so the number set aside is exactly `count`. `y` is int64 (N,);
    `salt` keeps splits for different purposes independent under one seed.
    """
    n = int(y.numel())
    labels, counts = torch.unique(y, return_counts=True)
    exact = [int(c) * count for c in counts]  # in units of 1/n, integers: no rounding to depend on
    take = [e // n for e in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (-(exact[i] % n), i))
    for i in by_remainder[: count - sum(take)]:
        take[i] += 1
    aside = torch.zeros(n, dtype=torch.bool)
    for label, number in zip(labels.tolist(), take, strict=True):
        rows = torch.nonzero(y == label).flatten()
        aside[rows[permutation(rows.numel(), seed, salt, label)[:number]]] = True
    return torch.nonzero(~aside).flatten(), torch.nonzero(aside).flatten()


def grouped(groups: Tensor, count: int, seed: int, salt: int) -> tuple[Tensor, Tensor]:
    """As `stratified`, but whole groups (int64 (N,), e.g. speakers) go to one side, in seeded order, until at
    least `count` samples are aside. Classes keep their shares only as far as the groups do."""
    names, sizes = torch.unique(groups, return_counts=True)
    order = torch.argsort(hash64(seed, salt, names), stable=True)
    chosen, total = [], 0
    for i in order.tolist():
        if total >= count:
            break
        chosen.append(int(names[i]))
        total += int(sizes[i])
    aside = torch.isin(groups, torch.tensor(chosen, dtype=torch.int64))
    return torch.nonzero(~aside).flatten(), torch.nonzero(aside).flatten()
