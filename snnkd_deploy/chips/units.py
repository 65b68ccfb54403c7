"""Units of chip files in SI: `pJ` is 1e-12 J. A unit that is not understood is an error, never a factor 1."""

from __future__ import annotations

from dataclasses import dataclass

from snnkd_deploy.chips.spec import Quantity
from snnkd_deploy.errors import ChipError

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
_BASE = {"J": "energy", "s": "time", "W": "power"}
_BYTES = {"B": 1.0, "bytes": 1.0, "byte": 1.0, "kB": 1e3, "KiB": 1024.0, "MB": 1e6, "MiB": 1024.0**2}
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
