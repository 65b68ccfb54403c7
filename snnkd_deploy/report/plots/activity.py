"""What the network does: firing rates, synaptic operations, spikes in time, and the cores that hold it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.ticker import EngFormatter, MaxNLocator

from snnkd_deploy.report.numbers import count, percent
from snnkd_deploy.report.plots.style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    SERIES,
    WIDTH_PX,
    Plot,
    draw,
    legend_above,
    share_axis,
    shorten,
)
from snnkd_deploy.report.schema import CoreMap, LayerInfo, RasterSample

# A core map is at least this wide, in cores.
_FEWEST_COLUMNS = 9


def plot_rates(layers: Sequence[LayerInfo], once: bool = True) -> Plot | None:
    """Spikes per neuron and timestep, per layer; `once`: a neuron fires at most once, so that this is a share."""
    rows = [(layer.name, layer.rate) for layer in layers if layer.rate is not None and layer.spiking]
    if not rows:
        return None

    def paint(ax: Axes) -> None:
        rates = [rate for _, rate in rows]
        ax.barh(range(len(rows)), rates, height=0.56, color=BLUE)
        for row, rate in enumerate(rates):
            _value(ax, rate, row, percent(rate) if once else f"{rate:.2g}")
        _name_rows(ax, [name for name, _ in rows])
        ax.set_xlim(0, max(max(rates), 1e-9) * 1.22)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        if once:
            share_axis(ax.xaxis)
        ax.set_xlabel("neurons that fire in a timestep" if once else "spikes per neuron and timestep")

    alt = "Firing rate per layer: " + ", ".join(f"{name} {percent(rate)}" for name, rate in rows) + "."
    return draw("rates", alt, _height(rows), paint)


def plot_sops(layers: Sequence[LayerInfo]) -> Plot | None:
    """Synaptic operations per layer: what spikes caused, inside what a dense network would do, and host MACs."""
    rows = [
        (layer.name, layer.sop_event or 0, layer.sop_dense or 0, layer.macs_analog or 0)
        for layer in layers
        if layer.sop_event or layer.sop_dense or layer.macs_analog
    ]
    if not rows:
        return None

    def paint(ax: Axes) -> None:
        top = max(max(row[1:]) for row in rows)
        for y, (_, event, dense, analog) in enumerate(rows):
            if analog:
                ax.barh(y, analog, height=0.56, color=ORANGE, hatch="////", edgecolor=PAPER, linewidth=0)
            ax.barh(y, dense, height=0.56, facecolor="none", edgecolor=GREY, linewidth=0.8)
            ax.barh(y, event, height=0.56, color=BLUE)
            told = f"{_short(event)} of {_short(dense)}" if dense else f"{_short(analog)} MAC"
            _value(ax, max(event, dense, analog), y, told)
        _name_rows(ax, [row[0] for row in rows])
        ax.set_xlim(0, top * 1.6)  # room for the counts at the bars' ends
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.set_xlabel("operations per inference")
        handles = [Rectangle((0, 0), 1, 1, color=BLUE), Rectangle((0, 0), 1, 1, facecolor="none", edgecolor=GREY)]
        labels = ["by spikes", "if all fired"]
        if any(row[3] for row in rows):
            handles.append(Rectangle((0, 0), 1, 1, facecolor=ORANGE, hatch="////", edgecolor=PAPER, linewidth=0))
            labels.append("host MAC")
        legend_above(ax, handles, labels)

    alt = "Synaptic operations per inference: " + ", ".join(
        f"{name} {count(event)} of {count(dense)} possible" if dense else f"{name} {count(analog)} MAC"
        for name, event, dense, analog in rows
    )
    return draw("sops", alt + ".", _height(rows) + 22, paint)


def plot_raster(sample: RasterSample, steps: int, number: int) -> Plot:
    """One sample's spikes: a column per timestep, a row per shown neuron, layers on top of each other."""
    rows_each = [len(layer.neurons) for layer in sample.layers]
    gap = max(3, round(0.03 * sum(rows_each)))

    def paint(ax: Axes) -> None:
        top = 0
        middles = []
        for index, layer in enumerate(sample.layers):
            color = SERIES[index % len(SERIES)]["color"]
            rows = len(layer.neurons)
            ax.add_patch(Rectangle((-0.5, top - 0.5), steps, rows, facecolor=GREY, alpha=0.1, linewidth=0))
            # One path for all spikes of a layer: thousands of separate marks would make the page heavy.
            corners: list[tuple[float, float]] = []
            for row, times in enumerate(layer.times):
                for t in times:
                    x, y = t - 0.42, top + row - 0.65
                    corners += [(x, y), (x + 0.84, y), (x + 0.84, y + 1.3), (x, y + 1.3), (x, y)]
            if corners:
                codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
                outline = Outline(corners, codes * (len(corners) // 5))
                ax.add_patch(PathPatch(outline, facecolor=color, linewidth=0))
            middles.append(top + rows / 2)
            top += rows + gap
        labels = [
            f"{shorten(layer.name, 12)}\n{len(layer.neurons)} of {layer.neurons_total:,}" for layer in sample.layers
        ]
        ax.set_yticks(middles, labels)
        ax.set_xlim(-0.5, steps - 0.5)
        ax.set_ylim(top - gap + 0.5, -1)
        ax.set_xticks(*_step_ticks(steps))
        ax.grid(False)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel("timestep")

    spikes = sum(len(times) for layer in sample.layers for times in layer.times)
    alt = f"Spike raster of sample {sample.index}: {spikes} spikes of {sum(rows_each)} shown neurons, {steps} steps."
    return draw(f"raster-{number}", alt, min(max(300, 60 + 1.25 * sum(rows_each)), 580), paint)


def plot_cores(cores: CoreMap) -> Plot | None:
    """The chip's cores as a grid, coloured by the layer they hold, the number telling the colours apart."""
    if not cores.items:
        return None
    chips = sorted({item.chip for item in cores.items})
    per_chip = cores.cores_per_chip or max(item.core for item in cores.items) + 1
    columns = cores.columns or min(16, per_chip)
    rows = -(-per_chip // columns)
    room = max(columns, _FEWEST_COLUMNS)  # few cores: squares of the usual size, not one as large as the page
    layers = list(dict.fromkeys(name for item in cores.items for name in item.layers))

    def paint(ax: Axes) -> None:
        used = {(item.chip, item.core): item for item in cores.items}
        for c, chip in enumerate(chips):
            top = c * (rows + 1)
            for core in range(per_chip):
                y, x = divmod(core, columns)
                box = (x - 0.44, top + y - 0.44)
                item = used.get((chip, core))
                if item is None:
                    ax.add_patch(Rectangle(box, 0.88, 0.88, facecolor=GREY, alpha=0.16, linewidth=0))
                    continue
                number = layers.index(item.layers[0]) if item.layers else 0
                color = SERIES[number % len(SERIES)]["color"]
                ax.add_patch(Rectangle(box, 0.88, 0.88, facecolor=color, linewidth=0))
                label = str(number + 1) + ("+" if len(item.layers) > 1 else "")
                ax.text(x, top + y, label, ha="center", va="center", fontsize=7.6, color=PAPER)
        ax.set_xlim(-0.6, room - 0.4)
        ax.set_ylim(len(chips) * (rows + 1) - 1.4, -0.6)
        ax.set_aspect("equal")
        ax.axis("off")

    names = ", ".join(f"{i + 1} = {name}" for i, name in enumerate(layers))
    alt = f"Core map: {len(cores.items)} of {per_chip * len(chips)} cores used; {names}."
    lines = (rows + 1) * len(chips) - 0.8
    return draw("cores", alt, min(WIDTH_PX / (room + 0.2) * lines + 6, 1200), paint)


def _step_ticks(steps: int) -> tuple[list[int], list[str]]:
    """At most about eight labels, timesteps counted from 1 as people do."""
    every = max(1, -(-steps // 8))
    marks = list(range(0, steps, every))
    return marks, [str(mark + 1) for mark in marks]


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), [shorten(name, 14) for name in names])
    ax.tick_params(axis="y", labelcolor=INK)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def _value(ax: Axes, x: float, y: float, text: str) -> None:
    ax.annotate(text, (x, y), (4, 0), textcoords="offset points", va="center", color=MUTED, fontsize=8.6)


def _short(value: float) -> str:
    """Three digits with a prefix: 55.1k."""
    return EngFormatter(sep="").format_eng(float(f"{value:.3g}"))


def _height(rows: Sequence[object]) -> float:
    return 62 + 22 * len(rows)
