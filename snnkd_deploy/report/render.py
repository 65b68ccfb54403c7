"""What the pages share: numbers that can be traced, pictures, and a jinja2 that escapes everything.

A template has no numbers of its own. Every figure is looked up in the plain `report.json` and printed as
`<data value="..." data-at="/json/pointer">`, so each one can be traced, and a test traces them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from snnkd_deploy.report.headline import Figure, Path, span
from snnkd_deploy.report.numbers import UNKNOWN, count, percent, seconds, si, significant
from snnkd_deploy.report.plots import Plot
from snnkd_deploy.report.schema import Interval

_FORMATS: dict[str, Callable[[Any], str]] = {
    "count": count,
    "percent": percent,
    "seconds": seconds,
    "whole": lambda value: f"{value:,}",
    "three": lambda value: significant(value, 3),
    "plain": str,
    "duration": lambda value: si(value, "s"),
}


@dataclass(frozen=True)
class Picture:
    """One figure of the page."""

    title: str
    plot: Plot
    caption: str = ""

    @property
    def svg(self) -> Markup:
        # Made by plots.style, which escapes what it takes from the report.
        return Markup(self.plot.svg)


def pointer(path: Iterable[str | int]) -> str:
    """RFC 6901: names of layers and backends may hold any character."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


class Numbers:
    """Prints values of one report by their path. `run` tells reports apart on a page that shows several."""

    def __init__(self, document: dict[str, Any], run: str = "") -> None:
        self.document = document
        self.run = run

    def show(self, *parts: str | int | Sequence[str | int], as_: str = "count", missing: str = "–") -> Markup:
        """The number at `path`; `missing`, marked as not known, where it is null."""
        path = _flat(parts)
        value: Any = self.document
        for part in path:
            value = value[part]
        if value is None:
            return Markup('<span class="none" title="{}">{}</span>').format(UNKNOWN, missing)
        return self._data(path, value, _FORMATS[as_](value))

    def words(self, words: Sequence[str | Figure]) -> Markup:
        """Text with its figures marked."""
        parts = [escape(w) if isinstance(w, str) else self._data(w.path, w.value, w.text) for w in words]
        return Markup("").join(parts)

    def interval(self, value: Interval, *parts: str | int | Sequence[str | int], base: str = "J") -> Markup:
        """Both ends of an interval that stands at the path `parts`."""
        if not value.known:
            return Markup('<span class="none">unpriced</span>')
        return self.words(span(value, _flat(parts), base))

    def _data(self, path: Path, value: float, text: str) -> Markup:
        run = Markup(' data-run="{}"').format(self.run) if self.run else ""
        html = '<data value="{}" data-at="{}"{}>{}</data>'
        return Markup(html).format(json.dumps(value), pointer(path), run, text)


def _flat(parts: Sequence[str | int | Sequence[str | int]]) -> Path:
    """A path in pieces, as a template has it: `(["energy_j", "terms"], 0, "count")`."""
    flat: list[str | int] = []
    for part in parts:
        if isinstance(part, str | int):
            flat.append(part)
        else:
            flat += part
    return tuple(flat)


@cache
def environment() -> Environment:
    """Templates of this folder. An unknown name is an error, not an empty place on the page."""
    made = Environment(
        loader=PackageLoader("snnkd_deploy.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["sentence"] = lambda text: text[:1].upper() + text[1:]
    made.filters["plural"] = lambda unit: unit + "s" if unit.islower() and len(unit) > 1 and unit[-1] != "s" else unit
    return made
