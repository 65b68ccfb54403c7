"""Units of chip files in SI: `pJ` is 1e-12 J. A unit that is not understood is an error, never a factor 1.

Every unit of a chip file is looked at when the file is read, priced or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snnkd_deploy.chips.spec import ChipSpec, PerCore, Quantity
from snnkd_deploy.errors import ChipError, Problem

_PREFIX = {
    "": 1.0,
    "f": 1e-15,
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "µ": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
}
_PRINTED = {name: factor for name, factor in _PREFIX.items() if name != "u"}
_BASE = {"J": "energy", "s": "time", "W": "power"}
# Words are a chip's own: their size is in the note of the limit.
_WORDS = {"words": 1.0, "Kiwords": 1024.0}
_BYTES = {"B": 1.0, "bytes": 1.0, "byte": 1.0, "kB": 1e3, "KiB": 1024.0, "MB": 1e6, "MiB": 1024.0**2}
# What a limit may count.
_THINGS = {
    "axons",
    "bits",
    "channels",
    "configurations",
    "cores",
    "edges",
    "neurons",
    "pixels",
    "steps",
    "synapses",
    "ticks",
    "tiles",
}
# What a price may be "per": things that are counted, so they carry no dimension.
_COUNTED = {
    "neuron",
    "step",
    "tick",
    "spike",
    "sop",
    "synop",
    "event",
    "hop",
    "message",
    "bit",
    "byte",
    "inference",
    "MAC",
    "update",
    "sample",
    "chip",
    "core",
}


@dataclass(frozen=True)
class Unit:
    """`value * factor` is the number in J, s, W or bytes."""

    factor: float
    dimension: str


def parse_unit(text: str) -> Unit:
    """`pJ`, `us`, `mW`, `KiB`, `pJ/neuron/tick` ... Raises ChipError for anything else."""
    head, *per = (part.strip() for part in text.split("/"))
    if all(part in _COUNTED for part in per):
        if head in _BYTES:
            return Unit(_BYTES[head], "bytes")
        if head in _WORDS:
            return Unit(_WORDS[head], "words")
        prefix, base = head[:-1], head[-1:]
        if base in _BASE and prefix in _PREFIX:
            return Unit(_PREFIX[prefix], _BASE[base])
    raise ChipError(
        f"unit '{text}' is not understood",
        remedy="J, s or W with one of f p n u m k M G in front, B, kB, KiB or MiB; '/neuron', '/step' ... may follow",
    )


def to_si(value: float, unit: str, dimension: str) -> float:
    """`value` in J (dimension 'energy'), s ('time'), W ('power') or bytes ('bytes')."""
    parsed = parse_unit(unit)
    if parsed.dimension != dimension:
        raise ChipError(f"unit '{unit}' is {parsed.dimension}", need=dimension, have=parsed.dimension)
    return value * parsed.factor


def si_range(quantity: Quantity, dimension: str, where: str = "") -> tuple[float, float, float]:
    """(low, value, high) in SI. Raises ChipError for an unknown quantity or a wrong unit."""
    if quantity.value is None:
        raise ChipError("no published value", where=where, remedy=f"source says: {quantity.source}")
    try:
        factor = to_si(1.0, quantity.unit, dimension)
    except ChipError as error:
        raise ChipError(error.problems[0].what, where=where, remedy=error.problems[0].remedy) from error
    return quantity.lo * factor, quantity.value * factor, quantity.hi * factor


def span_text(low: float, high: float, base: str) -> str:
    """Two SI values with the prefix of the larger, two digits each: `14 to 38 µJ`."""
    prefix, factor = max((p for p in _PRINTED.items() if p[1] <= high), key=lambda p: p[1], default=("", 1.0))
    ends = (f"{float(f'{value / factor:.2g}'):g}" for value in (low, high))
    return f"{' to '.join(ends)} {prefix}{base}"


def unit_problems(chip: ChipSpec) -> list[Problem]:
    """Every quantity of a chip whose unit is not understood or measures something else."""
    sections: tuple[tuple[str, str, Mapping[str, Quantity | PerCore]], ...] = (
        ("limits", "", chip.limits),
        ("cores.memory", "", chip.cores.memory),
        ("energy.prices", "energy", chip.energy.prices),
        ("power", "power", chip.power),
        ("time", "time", chip.time),
    )
    problems = []
    for section, dimension, quantities in sections:
        for key, quantity in quantities.items():
            if quantity.kind == "unknown" or (not dimension and quantity.unit in _THINGS):
                continue
            where = f"{chip.path} [{section}.{key}]"
            try:
                found = parse_unit(quantity.unit).dimension
            except ChipError as error:
                remedy = error.problems[0].remedy if dimension else f"bytes, words or {', '.join(sorted(_THINGS))}"
                problems.append(Problem(error.problems[0].what, where, remedy=remedy))
                continue
            allowed = (dimension,) if dimension else ("bytes", "words")
            if found not in allowed:
                problems.append(Problem(f"unit '{quantity.unit}' is {found}", where, " or ".join(allowed), found))
    return problems
