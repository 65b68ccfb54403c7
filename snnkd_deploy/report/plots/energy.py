"""Energy as intervals. What nobody has priced is written as text: it is not a bar of length zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from snnkd_deploy.report.numbers import interval, si
from snnkd_deploy.report.plots.style import BLUE, GREEN, GREY, INK, MUTED, ORANGE, PURPLE, WIDTH_PX, Plot, draw, shorten
from snnkd_deploy.report.schema import Energy, EnergyTerm, Estimate, Interval

_LOG_FROM = 30
# What a bar is made of, by colour and by the ends of its line.
_LOOK = {
    "dynamic": (BLUE, "o"),
    "static": (GREY, "s"),
    "io": (ORANGE, "^"),
    "host": (ORANGE, "^"),
    "proxy": (PURPLE, "D"),
    "bound": (GREY, "s"),
    "baseline": (GREEN, "^"),
}


@dataclass(frozen=True)
class Row:
    """One line of the figure: `look` picks the colour, `words` stand where there is no interval."""

    label: str
    value: Interval | None
    look: str
    words: str = ""


def plot_energy_overview(energy: Energy, chip: str, baseline: Estimate | None, baseline_name: str) -> Plot | None:
    """The chip's own estimate, and beside it what is not the chip: proxy, bound, the ordinary network."""
    # Room for the words at the line's end.
    label = f"{chip}, estimate" if energy.known or len(chip) < 16 else chip
    rows = [Row(label, energy, "dynamic", "unpriced: no published prices")]
    if energy.proxy is not None:
        rows.append(Row(f"proxy: prices of {energy.proxy.chip}", energy.proxy, "proxy"))
    if energy.bound is not None:
        rows.append(Row(energy.bound.label, energy.bound, "bound"))
    if baseline is not None and baseline.known:
        rows.append(Row(baseline_name, baseline, "baseline"))
    return _plot("energy", "Energy per inference", rows)


def plot_energy_terms(terms: Sequence[EnergyTerm], unpriced: Sequence[str], number: str) -> Plot | None:
    """The terms of one estimate: dynamic first, then static power, then I/O and host, then what has no price."""
    order = ("dynamic", "static", "io", "host")
    titles = {"static": "static: ", "io": "I/O: ", "host": "host: "}
    rows = [
        Row(
            term.name if term.name.startswith(term.group) else titles.get(term.group, "") + term.name,
            term,
            term.group,
            "unpriced",
        )
        for term in sorted(terms, key=lambda term: order.index(term.group))
    ]
    rows += [Row(name, None, "static", "unpriced") for name in unpriced]
    return _plot(f"energy-terms-{number}", "Energy terms per inference", rows)


def _plot(name: str, title: str, rows: Sequence[Row]) -> Plot | None:
    known = [row.value for row in rows if row.value is not None and row.value.known]
    ends = [end for value in known for end in (value.low, value.high) if end]
    if not ends:
        return None
    log = max(ends) / min(ends) > _LOG_FROM

    def is_known(row: Row) -> bool:
        return row.value is not None and row.value.known

    # A line of text needs less room than a line of text over a bar.
    heights, y = [], 0.0
    for row in rows:
        heights.append(y)
        y += 1.0 if is_known(row) else 0.6

    def paint(ax: Axes) -> None:
        low = min(ends) / 1.6 if log else 0.0
        high = max(ends) * (1.6 if log else 1.08)
        for y, row in zip(heights, rows, strict=True):
            text = row.words
            if row.value is not None and is_known(row):
                text = _bar(ax, y, row.value, row.look, low)
            # About 6 px a letter: the label has what the words at the line's other end leave.
            label = shorten(row.label, int(WIDTH_PX / 6) - len(text) - 4)
            ax.text(0, y - 0.24, label, transform=ax.get_yaxis_transform(), color=INK, va="bottom")
            ax.text(1, y - 0.24, text, transform=ax.get_yaxis_transform(), color=MUTED, va="bottom", ha="right")
        if log:
            ax.set_xscale("log")
            decades = math.log10(high / low)
            subs = (1.0, 3.0) if decades < 2.5 else (1.0,)
            ax.xaxis.set_major_locator(LogLocator(base=10 ** max(1, round(decades / 5)), subs=subs, numticks=9))
            ax.xaxis.set_minor_locator(NullLocator())
        else:
            ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value, "J", 1 if log else 2)))
        ax.set_xlim(low, high)
        ax.set_ylim(heights[-1] + (0.45 if is_known(rows[-1]) else 0.1), heights[0] - 0.95)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_xlabel("energy per inference" + (", log scale" if log else ""))

    def words(row: Row) -> str:
        if row.value is None or not is_known(row):
            return f"{row.label}: {row.words}"
        return f"{row.label}: {interval(row.value.low or 0, row.value.high or 0, 'J')}"

    alt = f"{title}: " + "; ".join(map(words, rows)) + "."
    return draw(name, alt, 56 + 40 * y, paint)


def _bar(ax: Axes, y: float, value: Interval, look: str, floor: float) -> str:
    color, marker = _LOOK[look]
    low, mid, high = value.low or floor, value.mid or floor, value.high or floor
    dashes = (0, (2.5, 1.2)) if look in ("proxy", "bound") else "-"
    ax.plot([low, high], [y, y], color=color, linewidth=4, alpha=0.55, linestyle=dashes, solid_capstyle="butt")
    ax.plot([mid], [y], color=color, marker=marker, markersize=6.5, linestyle="none")
    return interval(value.low or 0, value.high or 0, "J")
