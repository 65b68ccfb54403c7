"""Cutting a layer into blocks: width slabs of maps, blocks of flat outputs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

from snnkd_deploy.evaluate.mapping.report import Box
from snnkd_deploy.graph.topology import Shape


def blocks(size: int, length: int) -> list[tuple[int, int]]:
    """size cut into pieces of `length`, the last one shorter."""
    return [(start, min(start + length, size)) for start in range(0, size, length)]


def even_blocks(size: int, pieces: int) -> list[tuple[int, int]]:
    """size cut into `pieces` whose lengths differ by at most one."""
    pieces = min(pieces, size)
    edges = [size * i // pieces for i in range(pieces + 1)]
    return [(a, b) for a, b in pairwise(edges)]


def grid(axes: list[list[tuple[int, int]]]) -> list[Box]:
    """All combinations of pieces of the axes."""
    return [tuple(combination) for combination in product(*axes)]


def powers_down(size: int) -> Iterator[int]:
    """Powers of two from the first that covers `size` down to 1."""
    width = 1
    while width < size:
        width *= 2
    while width >= 1:
        yield width
        width //= 2


def even_lengths(size: int, first: int = 1) -> Iterator[int]:
    """Block lengths for `first`, `first` + 1, ... pieces, each length once."""
    last = 0
    for pieces in range(min(first, size), size + 1):
        length = -(-size // pieces)
        if length != last:
            last = length
            yield length


def whole(shape: Shape) -> Box:
    return tuple((0, size) for size in shape)
