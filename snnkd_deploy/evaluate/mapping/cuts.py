"""Cutting a layer into blocks: width slabs of maps, blocks of flat outputs."""

from __future__ import annotations

import math
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


def slabs(shape: Shape, room: float) -> Iterator[list[Box]]:
    """Cuts into blocks of at most `room` elements: slabs of columns, then of rows, of ever fewer channels."""

    def fewest(rest: int, size: int) -> int:
        """No cut into fewer pieces can hold the elements: there is no need to try it."""
        return max(1, math.ceil(rest * size / room))

    if len(shape) == 1:
        for length in even_lengths(shape[0], fewest(1, shape[0])):
            yield grid([blocks(shape[0], length)])
        return
    channels = 1
    while True:
        depth = even_blocks(shape[0], channels)
        deepest = max(stop - start for start, stop in depth)
        rows = [[(0, size)] for size in shape[1:-1]]
        column = deepest * math.prod(shape[1:-1])
        if column <= room:
            for length in even_lengths(shape[-1], fewest(column, shape[-1])):
                yield grid([depth, *rows, blocks(shape[-1], length)])
        if len(shape) > 2 and deepest <= room:
            for length in even_lengths(shape[1], fewest(deepest, shape[1])):
                yield grid([depth, blocks(shape[1], length), *[blocks(s, 1) for s in shape[2:]]])
        if channels >= shape[0]:
            if column > room and deepest > room:
                yield grid([blocks(size, 1) for size in shape])
            return
        channels = min(shape[0], channels * 2)
