"""The terminal's table says the same as the top of the page."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from snnkd_deploy.report import Report
from snnkd_deploy.report.headline import facts, stages
from snnkd_deploy.report.table import plain_table, render_table


@pytest.mark.parametrize("which", ["full", "minimal", "priced"])
def test_same_words_as_the_page(which: str, pages: dict[str, str], request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(which)
    table = " ".join(plain_table(report, width=400).split())
    page = " ".join(re.sub(r"<[^>]+>", "", pages[which]).replace("&#39;", "'").split())
    for words in [f.text for f in facts(report)] + [s.accuracy_text for s in stages(report)]:
        assert " ".join(words.split()) in table
        assert " ".join(words.split()) in page


def test_numbers_a_reader_looks_for(full: Report) -> None:
    text = " ".join(plain_table(full).split())
    for words in (
        "0 of 3,456,000 spikes differ over 300 samples",
        "98.3 %",
        "97.7 %",
        "unpriced",
        "yes, on 7 of 128 cores",
    ):
        assert words in text


def test_a_backend_that_differs_is_loud(full: Report) -> None:
    document = full.model_dump(by_alias=True)
    document["accuracy"]["lava"] = 0.5
    assert "DIFFERS from the student on these samples" in " ".join(
        plain_table(Report.model_validate(document), 200).split()
    )


def test_names_are_not_markup(full: Report) -> None:
    named = full.model_copy(update={"name": "[red]x[/red]", "warnings": ("[bold]y",)})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_table(named))
    text = console.export_text()
    assert "[red]x[/red]" in text
    assert "[bold]y" in text
