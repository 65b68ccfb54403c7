"""From a matplotlib figure to inline SVG that follows the page: its ink, its colours, light or dark.

matplotlib has no CSS variables. The plots are drawn in marker colours, and the finished SVG gets `var(--ink)`
and so on in their place, so that one figure serves light, dark and print.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

# Marker colours; template.html.j2 defines the CSS variables for light, dark and print.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
BLUE, ORANGE, GREEN, PURPLE, RED, GREY = "#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    PURPLE: "purple",
    RED: "red",
    GREY: "grey",
}

# Told apart by colour, and by dash and marker where colour is not seen.
SERIES: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "linestyle": "-", "marker": "o"},
    {"color": ORANGE, "linestyle": (0, (5, 1.5)), "marker": "s"},
    {"color": GREEN, "linestyle": (0, (1.5, 1.2)), "marker": "^"},
    {"color": PURPLE, "linestyle": (0, (6, 1.5, 1.5, 1.5)), "marker": "D"},
    {"color": RED, "linestyle": (0, (3, 1)), "marker": "v"},
    {"color": GREY, "linestyle": (0, (8, 2)), "marker": "P"},
)

WIDTH_PX = 352  # one column of the page, and a phone: text keeps its size on both
_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "svg.fonttype": "path",
    "svg.hashsalt": "snnkd_deploy",
    "text.color": INK,
    "text.parse_math": False,  # names come from users; a "$" is a dollar
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 8.8,
    "legend.handlelength": 2.2,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "hatch.linewidth": 0.6,
}


@dataclass(frozen=True)
class Plot:
    """One picture: `svg` to inline into the page, `alt` what it shows in words (also in the SVG's title)."""

    svg: str
    alt: str


def draw(name: str, alt: str, height_px: float, paint: Callable[[Axes], Any], width_px: float = WIDTH_PX) -> Plot:
    """Run `paint` on fresh axes and return the figure. `name` must be unique on a page: ids are built from it."""
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width_px / 96, height_px / 96))
        FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        # Laid out once here: an engine that stays with the figure would draw it a second time to measure it.
        ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03).execute(figure)
        buffer = io.StringIO()
        # No date and no creator: the same report gives the same bytes.
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Plot(_inline(buffer.getvalue(), name, alt, width_px), alt)


def share_axis(axis: Axis) -> None:
    """Ticks as "97.5 %", with no more decimals than the ticks need."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def legend_above(ax: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend over the axes, in as many columns as fit the width: the lines keep the whole plot."""
    widest = max(map(len, labels), default=0)
    # About 6 px a letter and 38 px for handle and gap, at the legend's font size.
    columns = max(1, min(len(labels), int(WIDTH_PX // (38 + 6 * widest))))
    ax.figure.legend(  # type: ignore[call-arg]
        handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.2, handlelength=1.9, borderpad=0
    )


def shorten(text: str, limit: int = 26) -> str:
    """A label that cannot push a plot aside: the page's tables have the full name."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _inline(svg: str, name: str, alt: str, width_px: float) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    # Figures share one page, so each gets its own name space of ids (glyphs, clips).
    key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'href="#{key}-\2"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)
    for marker, variable in _VARIABLES.items():
        svg = svg.replace(marker, f"var(--{variable})")
    # Two decimals are a hundredth of a point; matplotlib's six make the page half as long again. Numbers below
    # one keep theirs: glyphs are scaled by such.
    svg = re.sub(r"(?<![\d.])([1-9]\d*\.\d{2})\d+", r"\1", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    viewbox = re.search(r'viewBox="([^"]+)"', svg)
    assert viewbox, "matplotlib writes a viewBox"
    body = svg[svg.index(">") + 1 :]
    head = (
        f'<svg role="img" aria-label="{html.escape(alt)}" viewBox="{viewbox[1]}" '
        f'style="max-width:{width_px:g}px" xmlns="http://www.w3.org/2000/svg">'
    )
    return head + f"<title>{html.escape(alt)}</title>" + body.strip()
