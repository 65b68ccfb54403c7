"""How training went, and how this network compares with others of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from snnkd_deploy.report.numbers import count, percent, significant
from snnkd_deploy.report.plots.style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    SERIES,
    Plot,
    draw,
    legend_above,
    share_axis,
    shorten,
)
from snnkd_deploy.report.schema import Curve, Pareto, ParetoPoint

_LOG_FROM = 30  # a spread of values above which a linear axis hides the smaller ones
Series = Sequence[float | None]


def plot_losses(curve: Curve) -> Plot | None:
    """Every loss term of one stage by epoch."""
    terms = {name: values for name, values in curve.losses.items() if any(v is not None for v in values)}
    if not terms:
        return None
    values = [v for series in terms.values() for v in series if v is not None]
    log = min(values) > 0 and max(values) / min(values) > _LOG_FROM

    def paint(ax: Axes) -> None:
        for index, (name, series) in enumerate(terms.items()):
            _line(ax, curve.epochs, series, index, shorten(name, 18))
        if log:
            ax.set_yscale("log")
            _plain_log(ax)
        else:
            ax.yaxis.set_major_locator(MaxNLocator(5))
        _epochs(ax, curve)
        ax.set_ylabel("loss" + (" (log scale)" if log else ""))
        if len(terms) > 1:
            legend_above(ax, *ax.get_legend_handles_labels())

    ends = ", ".join(f"{name} {_last(series)}" for name, series in terms.items())
    alt = f"Loss terms of {curve.stage} over {len(curve.epochs)} epochs; at the end: {ends}."
    return draw(f"loss-{curve.stage}", alt, 232, paint)


def plot_learning(curve: Curve) -> Plot | None:
    """Training and validation accuracy of one stage by epoch, with the epoch that was kept."""
    if not any(v is not None for v in (*curve.train_accuracy, *curve.val_accuracy)):
        return None

    def paint(ax: Axes) -> None:
        both = (("training", curve.train_accuracy), ("validation", curve.val_accuracy))
        known = [(name, series) for name, series in both if any(v is not None for v in series)]
        for index, (name, series) in enumerate(known):
            _line(ax, curve.epochs, series, index, name)
        _epochs(ax, curve)
        ax.yaxis.set_major_locator(MaxNLocator(5))
        share_axis(ax.yaxis)
        handles, labels = ax.get_legend_handles_labels()
        ax.set_ylabel("accuracy" if len(labels) > 1 else f"{labels[0]} accuracy")
        if len(labels) > 1:
            legend_above(ax, handles, labels)

    alt = (
        f"Accuracy of {curve.stage} over {len(curve.epochs)} epochs; at the end: "
        f"training {_last(curve.train_accuracy, True)}, validation {_last(curve.val_accuracy, True)}."
    )
    return draw(f"learning-{curve.stage}", alt, 232, paint)


def plot_firing(curve: Curve) -> Plot | None:
    """Mean firing rate of one stage by epoch."""
    if not any(v is not None for v in curve.firing_rate):
        return None

    def paint(ax: Axes) -> None:
        _line(ax, curve.epochs, curve.firing_rate, 0, "")
        _epochs(ax, curve)
        ax.set_ylim(0, 1.15 * max(max(v for v in curve.firing_rate if v is not None), 1e-9))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        share_axis(ax.yaxis)
        ax.set_ylabel("firing rate")

    alt = f"Firing rate of {curve.stage} over {len(curve.epochs)} epochs; at the end {_last(curve.firing_rate, True)}."
    return draw(f"firing-{curve.stage}", alt, 232, paint)


def plot_pareto(pareto: Pareto, name: str = "pareto") -> Plot | None:
    """Accuracy against cost of a sweep; a line joins the points that no other point beats. `name`: see `draw`."""
    if not pareto.points:
        return None
    points = sorted(pareto.points, key=lambda p: (p.cost, -p.accuracy))
    front = [p for i, p in enumerate(points) if all(p.accuracy > q.accuracy for q in points[:i])]
    positive = [p.cost for p in points if p.cost > 0]
    log = len(positive) == len(points) and max(positive) / min(positive) > 5

    first, last = points[0].cost, points[-1].cost
    middle = (first * last) ** 0.5 if log else (first + last) / 2
    one = any(p.this_run for p in points)  # the one that the page is about, among others

    def color(point: ParetoPoint) -> str:
        return GREY if one and not point.this_run else BLUE

    def paint(ax: Axes) -> None:
        ax.plot([p.cost for p in front], [p.accuracy for p in front], color=GREY, linewidth=1, marker="none")
        for p in points:
            if p.cost_low is not None and p.cost_high is not None:
                ends = [p.cost_low, p.cost_high]
                ax.plot(ends, [p.accuracy] * 2, color=color(p), linewidth=4, alpha=0.4, solid_capstyle="butt")
            ax.plot(
                p.cost, p.accuracy, marker="D" if p.this_run else "o", markersize=7 if p.this_run else 5,
                color=color(p),
            )  # fmt: skip
            # Points on the right half write to their left, so that no name leaves the figure.
            right = p.cost > middle
            ax.annotate(
                shorten(p.label, 24), (p.cost, p.accuracy), (-7, 6) if right else (7, -12), textcoords="offset points",
                color=MUTED if color(p) == GREY else INK, fontsize=8.4, ha="right" if right else "left",
            )  # fmt: skip
        if log:
            ax.set_xscale("log")
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=7))
        else:
            ax.xaxis.set_major_locator(MaxNLocator(5))
        physical = pareto.cost_unit in ("J", "s", "W")
        ax.xaxis.set_major_formatter(EngFormatter(pareto.cost_unit, sep=" ") if physical else EngFormatter(sep=""))
        ax.margins(x=0.12, y=0.2)
        ax.yaxis.set_major_locator(MaxNLocator(5))
        share_axis(ax.yaxis)
        ax.set_ylabel("accuracy")
        about = ([] if physical or not pareto.cost_unit else [pareto.cost_unit]) + ["log scale"] * log
        ax.set_xlabel(shorten(pareto.cost_name, 44) + (f" ({', '.join(about)})" if about else ""))

    parts = ", ".join(f"{p.label} {percent(p.accuracy)} at {count(p.cost)} {pareto.cost_unit}" for p in points)
    return draw(name, f"Accuracy against {pareto.cost_name}: {parts}.", 260, paint)


def _line(ax: Axes, epochs: Sequence[int], series: Series, index: int, label: str) -> None:
    shown = [(e, v) for e, v in zip(epochs, series, strict=True) if v is not None]
    look = dict(SERIES[index % len(SERIES)])
    if len(shown) > 12:
        look["markevery"] = max(1, len(shown) // 8)
    ax.plot([e for e, _ in shown], [v for _, v in shown], label=label, **look)


def _epochs(ax: Axes, curve: Curve) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    ax.set_xlabel("epoch")
    if curve.picked_epoch is not None:
        ax.axvline(curve.picked_epoch, color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=0)


def _plain_log(ax: Axes) -> None:
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=7))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value, 1)))


def _last(series: Series, share: bool = False) -> str:
    known = [v for v in series if v is not None]
    if not known:
        return "not measured"
    return percent(known[-1]) if share else significant(known[-1], 3)
