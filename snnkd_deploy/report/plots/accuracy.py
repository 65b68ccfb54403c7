"""Accuracy: per stage and backend, by timestep, and where the mistakes are."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from snnkd_deploy.report.numbers import percent
from snnkd_deploy.report.plots.style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    SERIES,
    Plot,
    draw,
    legend_above,
    share_axis,
    shorten,
)
from snnkd_deploy.report.schema import Confusion, PerStep

_MARKS = 12  # of a line; more run into each other
_LABELLED_CLASSES = 12  # more, and the counts no longer fit their cells


def plot_accuracy(accuracy: Mapping[str, float | None], titles: Mapping[str, str]) -> Plot | None:
    """One dot per stage and backend, on an axis that starts where the values are (hence dots, not bars)."""
    known = {key: value for key, value in accuracy.items() if value is not None}
    if not known:
        return None
    trained = ("teacher", "student_float", "student")

    def paint(ax: Axes) -> None:
        values = list(known.values())
        span = max(max(values) - min(values), 0.02)
        low, high = max(min(values) - span, 0), max(values) + 0.6 * span
        for row, (key, value) in enumerate(known.items()):
            color = BLUE if key in trained else ORANGE
            ax.plot([low, value], [row, row], color=color, linewidth=1.2, alpha=0.45, marker="none")
            ax.plot(value, row, marker="o" if key in trained else "s", color=color, markersize=6)
            ax.annotate(percent(value), (value, row), (7, 0), textcoords="offset points", va="center", color=INK)
        ax.set_yticks(range(len(known)), [shorten(titles.get(key, key), 25) for key in known])
        ax.tick_params(axis="y", labelcolor=INK)
        ax.set_ylim(len(known) - 0.5, -0.5)
        ax.set_xlim(low, high)
        ax.grid(axis="y", visible=False)
        ax.spines["left"].set_visible(False)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        share_axis(ax.xaxis)
        ax.set_xlabel("accuracy (axis starts above 0)" if low > 0 else "accuracy")

    parts = ", ".join(f"{titles.get(key, key)} {percent(value)}" for key, value in known.items())
    return draw("accuracy", f"Accuracy per stage and backend: {parts}.", 60 + 27 * len(known), paint)


def plot_per_step(steps: PerStep, teacher: float | None) -> Plot:
    """Accuracy after each timestep, the last step alone, and the teacher as the line to reach."""
    shown = list(range(1, len(steps.cumulative) + 1))

    def paint(ax: Axes) -> None:
        every = max(1, len(shown) // _MARKS)
        ax.plot(shown, steps.cumulative, **SERIES[0], markevery=every, label="sum so far")
        if steps.single:
            ax.plot(shown, steps.single, **SERIES[1], markevery=every, label="step alone")
        if teacher is not None:
            ax.axhline(teacher, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label="teacher")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        share_axis(ax.yaxis)
        ax.margins(x=0.06, y=0.14)
        ax.set_xlabel("timesteps")
        legend_above(ax, *ax.get_legend_handles_labels())

    first, last = steps.cumulative[0], steps.cumulative[-1]
    alt = f"Accuracy by timestep: {percent(first)} after 1 step, {percent(last)} after {len(shown)}." + (
        f" Teacher {percent(teacher)}." if teacher is not None else ""
    )
    return draw("per-step", alt, 230, paint)


def plot_steps_of_runs(runs: Mapping[str, PerStep]) -> Plot | None:
    """Accuracy after each timestep, one line per run."""
    if not runs:
        return None

    def paint(ax: Axes) -> None:
        for index, (name, steps) in enumerate(runs.items()):
            look = SERIES[index % len(SERIES)]
            every = max(1, len(steps.cumulative) // _MARKS)
            reached = range(1, len(steps.cumulative) + 1)
            ax.plot(reached, steps.cumulative, **look, markevery=every, label=shorten(name, 26))
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        share_axis(ax.yaxis)
        ax.margins(x=0.06, y=0.14)
        ax.set_xlabel("timesteps")
        legend_above(ax, *ax.get_legend_handles_labels())

    ends = ", ".join(
        f"{name} {percent(s.cumulative[0])} after 1 step, {percent(s.cumulative[-1])} after {len(s.cumulative)}"
        for name, s in runs.items()
        if s.cumulative
    )
    return draw("steps-of-runs", f"Accuracy by timestep: {ends}.", 230 + 8 * len(runs), paint)


def plot_confusion(confusion: Confusion) -> Plot | None:
    """Rows are true classes, columns predictions. Hits and misses have their own colours and their own scales:
    on a good network a shared scale would show the diagonal and nothing else."""
    counts, classes = confusion.counts, confusion.classes
    size = len(classes)
    if not size:
        return None
    hits = max((counts[i][i] for i in range(size)), default=0)
    misses = max((counts[i][j] for i in range(size) for j in range(size) if i != j), default=0)

    def paint(ax: Axes) -> None:
        for i in range(size):
            for j in range(size):
                if not (value := counts[i][j]):
                    continue
                top, color = (hits, BLUE) if i == j else (misses, ORANGE)
                strength = 0.25 + 0.75 * value / top
                ax.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, facecolor=color, alpha=strength, linewidth=0))
                if size <= _LABELLED_CLASSES:
                    ax.text(
                        j, i, str(value), ha="center", va="center", fontsize=8.2,
                        color=PAPER if strength > 0.75 else INK,
                    )  # fmt: skip
        ax.set_xlim(-0.5, size - 0.5)
        ax.set_ylim(size - 0.5, -0.5)
        ax.set_aspect("equal")
        ax.grid(False)
        every = max(1, -(-size // 20))
        marks = list(range(0, size, every))
        names = [shorten(classes[i], 11) for i in marks]
        long_names = max(map(len, names), default=0) > 3
        ax.set_xticks(marks, names, rotation=90 if long_names else 0)
        ax.set_yticks(marks, names)
        ax.tick_params(length=0)
        ax.set_xlabel("predicted")
        ax.set_ylabel("true", color=MUTED)

    wrong = sum(counts[i][j] for i in range(size) for j in range(size) if i != j)
    total = sum(map(sum, counts))
    worst = max(
        ((counts[i][j], classes[i], classes[j]) for i in range(size) for j in range(size) if i != j),
        default=(0, "", ""),
        key=lambda item: item[0],
    )
    alt = f"Confusion matrix of {size} classes: {wrong} of {total} samples on the wrong class."
    if worst[0]:
        alt += f" Most often, {worst[1]} is taken for {worst[2]} ({worst[0]} times)."
    return draw("confusion", alt, 340, paint)
