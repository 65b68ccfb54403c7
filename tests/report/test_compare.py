"""Runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from snnkd_deploy.errors import UsageError
from snnkd_deploy.report import Report, compare_reports, comparison_table, write_comparison
from snnkd_deploy.report.compare import caveats


def _find(document: Any, at: str) -> Any:
    for part in at.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def test_one_column_per_run_and_no_empty_row(full: Report, priced: Report, minimal: Report) -> None:
    groups = compare_reports({"a": full, "b": priced, "c": minimal})
    rows = [row for group in groups for row in group.rows]
    assert all(len(row.cells) == 3 and any(row.cells) for row in rows)
    titles = [row.title for row in rows]
    assert len(titles) == len(set(titles))
    assert {"Lava", "Synaptic operations", "Fits the chip", "Energy per inference", "Proxy, at loihi1 prices"} <= {
        *titles
    }


def test_figures_point_into_their_own_run(full: Report, priced: Report, tmp_path: Path) -> None:
    from html.parser import HTMLParser

    runs = {"runs/<a>": full, "b": priced}
    path = write_comparison(runs, tmp_path / "out" / "compare.html")
    text = path.read_text("utf-8")
    found = []

    class Figures(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "data":
                found.append({key: value or "" for key, value in attrs})
            assert tag not in ("a", "script", "link")

    Figures().feed(text)
    documents = {name: json.loads(report.to_json()) for name, report in runs.items()}
    assert len(found) > 40
    for figure in found:
        assert _find(documents[figure["data-run"]], figure["data-at"]) == json.loads(figure["value"])
    assert "<a>" not in text


def test_what_does_not_compare_is_said(full: Report, priced: Report, edited: Any) -> None:
    assert any("different chips" in line for line in caveats({"a": full, "b": priced}))
    other = edited(dataset={"name": "mnist", "split": "test", "samples": 10})
    assert any("different data" in line for line in caveats({"a": full, "b": other}))
    fewer = edited(dataset={"name": "digits", "split": "test", "samples": 10})
    assert any("different numbers of samples" in line for line in caveats({"a": full, "b": fewer}))
    bare = edited(energy_j={})
    assert caveats({"a": bare, "b": bare}) == []


def test_terminal_table(full: Report, minimal: Report) -> None:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(comparison_table({"a": full, "[red]b": minimal}))
    text = capture.get()
    assert "[red]b" in text
    assert "97.5" in text


def test_one_run_is_no_comparison(full: Report) -> None:
    with pytest.raises(UsageError, match="at least two runs"):
        compare_reports({"a": full})
