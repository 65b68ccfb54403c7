"""The terminal's table says the same as the top of the page."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console, RenderableType

from snnkd_deploy.report import Report
from snnkd_deploy.report.cost import cost_table
from snnkd_deploy.report.fit import fit_table
from snnkd_deploy.report.headline import facts, stages
from snnkd_deploy.report.numbers import NBSP
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


def printed(item: RenderableType, width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(item)
    return capture.get()


@pytest.mark.parametrize("width", [80, 120])
def test_energy_on_a_terminal_cuts_nothing(width: int) -> None:
    """What is paid by the second shows seconds; a layer that does not spike has no rate; long names are folded."""
    layer = {"name": "lif0", "neurons": 4, "rate": 0.25, "spiking": True, "macs_analog": 0.0, "updates_active": 4.0}
    layer |= {"sop_event": 7744.0, "sop_nonzero": 7000.0}
    long = "multiply-accumulates outside the chip, by the processor of the host"
    found = {
        "chip": "loihi1",
        "layers": [layer, layer | {"name": "readout", "rate": 0.0, "spiking": False}],
        "energy_j": {
            "low": 1e-6, "mid": 2e-6, "high": 4e-6,
            "terms": [
                {"name": "static power", "low": 1e-6, "mid": 2e-6, "high": 4e-6, "kind": "measured", "price": "70 mW",
                 "count": 3.3e-4, "count_unit": "s"},
            ],
            "unpriced": [{"name": long, "count": 7744.0, "reason": "nobody has published a price"}],
        },
        "latency_s": {"low": None, "mid": None, "high": None, "excludes": []},
    }  # fmt: skip
    text = printed(cost_table(found), width)
    assert "…" not in text and f"330{NBSP}µs" in text and "7,744" in text
    assert all(word in text for word in long.replace(",", "").split() if len(word) < 14)
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
    assert "25.0 %" in rows["lif0"] and "%" not in rows["readout"]


def test_fit_on_a_terminal_names_the_nearest_limit_with_its_share() -> None:
    fit = {
        "fits": True, "cores": 4, "cores_available": 128, "chips": 1, "binding": "slab neurons",
        "utilisation": {"neurons": 0.125, "slab neurons": 0.323}, "violations": [], "unknown_limits": [], "note": "",
    }  # fmt: skip
    nothing = {"fits": None, "cores": None, "cores_available": None, "chips": None, "binding": None, "utilisation": {}}
    text = printed(fit_table({"loihi2": fit, "float32": fit | nothing}), 80).replace(NBSP, " ")
    assert "slab neurons 32.3 %" in next(line for line in text.splitlines() if "4 of 128" in line)
    assert "loihi2: of the fullest core: neurons 12.5 %, slab neurons 32.3 %" in text
    assert "no limits" in text and "float32: of the fullest" not in text
