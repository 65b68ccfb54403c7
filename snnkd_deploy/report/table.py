"""The headline for a terminal: the same rows as the top of the page."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from snnkd_deploy.report.headline import facts, stages
from snnkd_deploy.report.schema import Report


def render_table(report: Report) -> Group:
    """Accuracy per stage and backend, then parity, fit, energy and latency. Print it with a rich `Console`."""
    name = report.chip_info.name if report.chip_info else report.chip
    accuracy = Table(title=Text(f"{report.name or report.dataset.name} on {name}"), title_justify="left")
    accuracy.add_column("Accuracy")
    accuracy.add_column("", justify="right")
    accuracy.add_column("samples", justify="right")
    accuracy.add_column("")
    for row in stages(report):
        accuracy.add_row(*map(Text, (row.title, row.accuracy_text, row.samples_text, row.verdict)))
    rest = Table(show_header=False)
    for fact in facts(report):
        style = {"good": "green", "bad": "bold red"}.get(fact.mood, "")
        rest.add_row(Text(fact.title), Text(fact.text, style=style))
    for note in report.notes:
        rest.add_row(Text("note"), Text(note))
    for warning in report.warnings:
        rest.add_row(Text("warning", style="yellow"), Text(warning))
    return Group(accuracy, rest)


def plain_table(report: Report, width: int = 120) -> str:
    """The same as text without colours, for logs and README files."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render_table(report))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
