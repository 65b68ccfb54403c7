"""Several runs side by side: one table for the page and for the terminal, and two figures.

No run is called better. Accuracies stand beside their sample counts, energies beside their chips, and what
makes two columns incomparable is said above them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath

from rich.table import Table
from rich.text import Text

from snnkd_deploy.errors import UsageError
from snnkd_deploy.report import plots
from snnkd_deploy.report.headline import (
    TITLES,
    Fact,
    Figure,
    Words,
    energy_facts,
    fit_fact,
    latency_fact,
    parity_facts,
    plain,
    stages,
)
from snnkd_deploy.report.numbers import count, percent
from snnkd_deploy.report.render import Numbers, Picture, environment
from snnkd_deploy.report.schema import Energy, Pareto, ParetoPoint, ProxyEstimate, Report
from snnkd_deploy.report.write import write_atomically


@dataclass(frozen=True)
class Row:
    """One line: a cell per run, empty where a run does not have it."""

    title: str
    cells: tuple[Words, ...]


@dataclass(frozen=True)
class Group:
    title: str
    rows: tuple[Row, ...]


def compare_reports(runs: Mapping[str, Report]) -> list[Group]:
    """The table's rows. A row that no run can fill is left out. Needs at least two runs."""
    if len(runs) < 2:
        raise UsageError("a comparison needs at least two runs", have=len(runs))
    reports = list(runs.values())
    keys = dict.fromkeys(key for report in reports for key in report.accuracy.items())
    accuracy = {key: [_accuracy(report, key) for report in reports] for key in keys}
    titled: dict[str, list[Words]] = {}
    for index, report in enumerate(reports):
        for fact in _facts(report):
            titled.setdefault(fact.title, [()] * len(reports))[index] = fact.words
    groups = [
        Group("Setting", _rows({title: [words(r) for r in reports] for title, words in _SETTING.items()})),
        Group("Accuracy", _rows({TITLES.get(key, key): cells for key, cells in accuracy.items()})),
        Group("Work per inference", _rows({title: [_total(r, key) for r in reports] for key, title in _WORK.items()})),
        Group("On the chip", _rows(titled)),
    ]
    return [group for group in groups if group.rows]


def caveats(runs: Mapping[str, Report]) -> list[str]:
    """Why some columns cannot be held against each other."""
    reports, found = list(runs.values()), []
    if len({report.chip for report in reports}) > 1:
        found.append("The runs are for different chips: their energies and times come from different prices.")
    if len({(report.dataset.name, report.dataset.split) for report in reports}) > 1:
        found.append("The runs use different data: their accuracies do not compare.")
    elif len({report.dataset.samples for report in reports}) > 1:
        found.append("The accuracies are means over different numbers of samples.")
    if any(report.energy_j.proxy for report in reports):
        found.append("Proxy energies are another chip's prices: no prediction for this one.")
    return found


_FRONT = "The line joins the runs that no other beats in both."


def render_comparison(runs: Mapping[str, Report]) -> str:
    """The runs as one offline HTML page."""
    groups = compare_reports(runs)
    numbers = [Numbers(json.loads(report.to_json()), name) for name, report in runs.items()]
    steps = {name: r.accuracy_per_step for name, r in runs.items() if r.accuracy_per_step}
    points = [
        ParetoPoint(label=name, accuracy=r.accuracy.student, cost=r.totals.sop_event)
        for name, r in runs.items()
        if r.accuracy.student is not None and r.totals.sop_event is not None
    ]
    sops = Pareto(cost_name="Synaptic operations per inference", cost_unit="SOP", points=tuple(points))
    energies, prices = _energies(runs)
    drawn = (
        ("Accuracy against energy", plots.plot_pareto(energies, "pareto-energy"), f"{prices} {_FRONT}"),
        ("Accuracy against operations", plots.plot_pareto(sops), f"The student on the chip's arithmetic. {_FRONT}"),
        ("By timestep", plots.plot_steps_of_runs(steps), "Accuracy of all steps so far."),
    )
    return environment().get_template("compare.html.j2").render(
        names=list(runs),
        groups=[
            (g.title, [(row.title, [n.words(c) for n, c in zip(numbers, row.cells, strict=True)]) for row in g.rows])
            for g in groups
        ],
        caveats=caveats(runs),
        pictures_=[Picture(title, plot, caption) for title, plot, caption in drawn if plot is not None],
        commands={name: report.provenance.command for name, report in runs.items()},
    )  # fmt: skip


def _energies(runs: Mapping[str, Report]) -> tuple[Pareto, str]:
    """Points of accuracy and energy where one price list covers all runs, and whose prices they are; else no points.

    Different chips have different prices, so their points would say nothing about the networks.
    """
    reports = list(runs.values())
    costs: list[Energy | ProxyEstimate | None] = [r.energy_j if r.energy_j.mid is not None else None for r in reports]
    prices = "Low, middle and high prices of the chip."
    if None in costs:
        costs = [r.energy_j.proxy for r in reports]
        prices = next((f"{cost.label}." for cost in costs if isinstance(cost, ProxyEstimate)), "")
    points = [
        ParetoPoint(label=name, accuracy=r.accuracy.student, cost=c.mid, cost_low=c.low, cost_high=c.high)
        for (name, r), c in zip(runs.items(), costs, strict=True)
        if r.accuracy.student is not None and c is not None and c.mid is not None
    ]
    one_chip = len({report.chip for report in reports}) == 1
    complete = tuple(points) if one_chip and len(points) == len(reports) else ()
    return Pareto(cost_name="Energy per inference", cost_unit="J", points=complete), prices


def write_comparison(runs: Mapping[str, Report], path: str | FilePath) -> FilePath:
    """Write the page of `render_comparison`, atomically, and return its path."""
    text = render_comparison(runs)
    target = FilePath(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(target, text)


def comparison_table(runs: Mapping[str, Report]) -> Table:
    """The same rows for a terminal. Print it with a rich `Console`."""
    table = Table()
    for name in ("", *runs):
        table.add_column(Text(name))
    for group in compare_reports(runs):
        for row in group.rows:
            table.add_row(Text(row.title), *(Text(plain(cell) or "-") for cell in row.cells))
        table.add_section()
    for caveat in caveats(runs):
        table.caption = Text("\n".join(filter(None, (str(table.caption or ""), caveat))))
    return table


def _rows(cells: Mapping[str, list[Words]]) -> tuple[Row, ...]:
    return tuple(Row(title, tuple(row)) for title, row in cells.items() if any(row))


def _accuracy(report: Report, key: str) -> Words:
    for row in stages(report):
        if row.key == key and row.accuracy and row.samples:
            return (row.accuracy, " of ", row.samples)
    return ()


def _facts(report: Report) -> list[Fact]:
    return [*parity_facts(report), fit_fact(report), latency_fact(report), *energy_facts(report)]


def _total(report: Report, key: str) -> Words:
    value = getattr(report.totals, key)
    if value is None:
        return ()
    return (Figure(("totals", key), value, percent(value) if key == "rate" else count(value)),)


def _steps(report: Report) -> Words:
    if report.encoding is None:
        return ()
    return (Figure(("encoding", "steps"), report.encoding.steps, str(report.encoding.steps)),)


def _method(report: Report) -> Words:
    text = report.method.title or " + ".join(report.method.names)
    return (text,) if text else ()


def _student(report: Report) -> Words:
    return (report.networks.student.name,) if report.networks.student else ()


_SETTING = {
    "Chip": lambda report: (report.chip_info.name if report.chip_info else report.chip,),
    "Data": lambda report: (f"{report.dataset.name}, {report.dataset.split} split",),
    "Method": _method,
    "Student": _student,
    "Timesteps": _steps,
}
_WORK = {
    "neurons": "Neurons",
    "parameters": "Parameters",
    "rate": "Firing rate",
    "spikes_per_sample": "Spikes",
    "sop_event": "Synaptic operations",
    "sop_nonzero": "the same without zero weights",
    "macs_analog": "Host multiply-accumulates",
    "updates_active": "Neuron updates, active",
    "updates_idle": "Neuron updates, idle",
}
