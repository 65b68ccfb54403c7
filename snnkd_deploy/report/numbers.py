"""Numbers as people read them: units, prefixes, thin spaces, and no more digits than are known."""

from __future__ import annotations

import math

NBSP = "\u00a0"
UNKNOWN = "not known"

_PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


def percent(fraction: float, samples: int | None = None) -> str:
    """A share of `samples`: 0.9722 is "97.2 %", or "97.22 %" where there are samples enough to tell.

    What is not nothing does not read as nothing: 0.000297 is "0.030 %".
    """
    digits = 2 if samples is not None and samples >= 1000 else 1
    if fraction and not round(100 * fraction, digits):
        return f"{significant(100 * fraction, 2)}{NBSP}%"
    return f"{100 * fraction:.{digits}f}{NBSP}%"


def count(value: float, digits: int = 3) -> str:
    """A number of things: whole and grouped from 100 on ("1,234,567"), else `digits` significant ("8.41")."""
    if value == int(value) or abs(value) >= 10 ** (digits - 1):
        return f"{round(value):,}"
    return significant(value, digits)


def significant(value: float, digits: int) -> str:
    """`digits` significant digits without an exponent: 0.0284 -> "0.028", 127 -> "130" (digits = 2)."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    # Rounding may add a digit (9.97 -> 10), which then needs one decimal less.
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(places, 0)}f}"


def prefix(value: float) -> int:
    """The power of ten of the SI prefix in which `value` reads as 1..999."""
    if value == 0:
        return 0
    # Two digits are the most that is printed: 999.6 must become "1.0 k", not "1000".
    exponent = math.floor(math.log10(abs(float(f"{value:.1e}"))))
    return min(max(3 * math.floor(exponent / 3), min(_PREFIXES)), max(_PREFIXES))


def scaled(value: float, power: int, digits: int = 2) -> str:
    """`value` in units of `10^power`, at most `digits` significant digits."""
    return significant(value / 10.0**power, digits)


def unit(power: int, base: str) -> str:
    """The unit with its prefix: (-6, "J") is "µJ"."""
    return _PREFIXES[power] + base


def si(value: float, base: str, digits: int = 2) -> str:
    """`value` with a prefix and at most `digits` significant digits: 2.84e-7 J is "280 nJ"."""
    power = prefix(value)
    return f"{scaled(value, power, digits)}{NBSP}{unit(power, base)}"


def interval_parts(low: float, high: float, base: str, digits: int = 2) -> tuple[str, str, str]:
    """Two ends in one unit ("280", "720", "nJ"), or, too far apart, each with its own and none in common."""
    power = prefix(high)
    if low == 0 or low >= 0.1 * 10.0**power:
        return scaled(low, power, digits), scaled(high, power, digits), unit(power, base)
    return si(low, base, digits), si(high, base, digits), ""


def interval(low: float, high: float, base: str, digits: int = 2) -> str:
    """Two ends as one text: "280–720 nJ", "31 µs – 1.1 s"; one number where they are equal."""
    if low == high:
        return si(low, base, digits)
    left, right, common = interval_parts(low, high, base, digits)
    return f"{left}–{right}{NBSP}{common}" if common else f"{left} – {right}"


def seconds(value: float) -> str:
    """A duration of a stage: "0.6 s", "97 s", "12 min 5 s"."""
    if value < 120:
        return f"{value:.1f}{NBSP}s" if value < 9.95 else f"{value:.0f}{NBSP}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 120:
        return f"{minutes}{NBSP}min {rest}{NBSP}s"
    return f"{minutes // 60}{NBSP}h {minutes % 60}{NBSP}min"
