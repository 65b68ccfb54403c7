"""The page: offline, escaped, every figure of it in report.json, and whole with parts missing."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from importlib.metadata import entry_points
from typing import Any

import pytest
import torch

from snnkd_deploy.distill.losses import DistillBatch, build_method
from snnkd_deploy.report import Report, plots
from snnkd_deploy.report.compare import render_comparison
from snnkd_deploy.report.headline import TITLES, parity_facts
from snnkd_deploy.report.numbers import NBSP
from snnkd_deploy.report.page import LOSS_TERMS, render_page
from snnkd_deploy.report.render import pointer
from snnkd_deploy.report.schema import ChipInfo

WHICH = ["full", "minimal", "priced"]
VOID = {"meta", "br", "img", "link", "input", "hr", "path", "use", "rect"}


class Page(HTMLParser):
    """Elements with their attributes, the text of the headline, and the text under each <data>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.figures: list[tuple[str, float, str]] = []
        self.headline: list[str] = []  # text outside <data>
        self._stack: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._stack.append((tag, attributes))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self._stack, f"</{tag}> closes nothing"
        assert self._stack[-1][0] == tag, f"</{tag}> closes <{self._stack[-1][0]}>"
        self._stack.pop()

    def handle_data(self, data: str) -> None:
        if self._stack and self._stack[-1][0] == "data":
            attributes = self._stack[-1][1]
            self.figures.append((attributes["data-at"], json.loads(attributes["value"]), data))
        elif any(a.get("id") == "headline" or a.get("class") == "badges" for _, a in self._stack):
            self.headline.append(data)


def find(document: Any, at: str) -> Any:
    """RFC 6901."""
    for part in at.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def strings(document: Any) -> list[str]:
    if isinstance(document, str):
        return [document]
    if isinstance(document, dict):
        return [text for key, value in document.items() for text in (key, *strings(value))]
    return [text for value in document for text in strings(value)] if isinstance(document, list) else []


@pytest.mark.parametrize("which", WHICH)
def test_every_figure_is_in_the_json(which: str, pages: dict[str, str], request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(which)
    page, document = Page(pages[which]), json.loads(report.to_json())
    assert page.figures
    for at, value, text in page.figures:
        assert find(document, at) == value, at
        # The printed digits are those of the value, but for rounding to two digits, unit and per cent.
        shown = float(re.sub(r"[^\d.]", "", text))
        assert (shown == 0) == (value == 0), (at, value, text)
        if value:
            ratio = math.log10(shown / value)
            assert abs(ratio - round(ratio)) < math.log10(1.051), (at, value, text)


@pytest.mark.parametrize("which", WHICH)
def test_no_digit_of_the_headline_stands_outside_a_figure(
    which: str, pages: dict[str, str], request: pytest.FixtureRequest
) -> None:
    report = request.getfixturevalue(which)
    words = strings(json.loads(report.to_json()))
    for text in Page(pages[which]).headline:
        for word in re.findall(r"\S*\d\S*", text):
            assert any(word.strip(",;:.") in known for known in words), text


@pytest.mark.parametrize("which", WHICH)
def test_nothing_is_loaded_and_nothing_runs(which: str, pages: dict[str, str], request: pytest.FixtureRequest) -> None:
    text = pages[which]
    page = Page(text)
    assert not re.search(r"@import|<script|<iframe|<object|<embed|<link|javascript:", text)
    for url in re.findall(r"url\(([^)]*)\)", text):
        assert url.startswith("#"), url
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "poster", "action", "background"):
            if name in attributes:
                assert attributes[name].startswith(("#", "data:image/png;base64,")), (tag, attributes[name])
        assert not [name for name in attributes if name.startswith("on")]
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("which", WHICH)
def test_links_lead_somewhere_and_ids_are_unique(
    which: str, pages: dict[str, str], request: pytest.FixtureRequest
) -> None:
    page = Page(pages[which])
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids, attributes["href"]


def test_pictures_have_words(pages: dict[str, str]) -> None:
    page = Page(pages["full"])
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) >= 14
    assert len(images) == 9
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in pictures)
    assert all(len(a["alt"]) > 10 for a in images)


ATTACK = """</title><script>alert(1)</script>"'><img src=x onerror=alert(1)> {{ 7 * 7 }} $\\frac{1}{2}$ --> &amp;"""


def _attacked(value: Any) -> Any:
    """Every free text of a document replaced."""
    if isinstance(value, dict):
        fixed = {"schema", "kind", "place", "group"}
        return {key: item if key in fixed else _attacked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_attacked(item) for item in value]
    return ATTACK + value if isinstance(value, str) else value


def test_user_text_is_escaped_everywhere(full: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render_page(Report.model_validate(_attacked(json.loads(full.to_json()))))
    assert "<script" not in text
    assert "{{ 7 * 7 }}" in text, "the text is shown, not run"
    for tag, attributes in Page(text).elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert attributes.get("src", "data:").startswith("data:")


def test_names_as_keys_are_escaped(edited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_drawing(monkeypatch)
    accuracy = {"teacher": 1.0, "student_float": 1.0, "student": 1.0, "<b>/~x": 0.5}
    report = edited(accuracy=accuracy, accuracy_detail={}, parity={})
    text = render_page(report)
    page = Page(text)
    assert "<b>/~x" not in text
    assert (pointer(("accuracy", "<b>/~x")), 0.5, f"50.0{NBSP}%") in page.figures


OPTIONAL = ["accuracy_per_step", "chip_info", "confusion", "cores", "encoding", "pareto", "raster"]
OPTIONAL_LISTS = ["curves", "maps", "stages", "warnings", "layers"]
OPTIONAL_TABLES = ["parity", "accuracy_detail", "networks", "method", "totals", "fit", "latency_s", "energy_j"]


@pytest.mark.parametrize("part", [*OPTIONAL, *OPTIONAL_LISTS, *OPTIONAL_TABLES, "baseline_ann"])
def test_the_page_does_without(part: str, edited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = None if part in OPTIONAL else [] if part in OPTIONAL_LISTS else {}
    _without_drawing(monkeypatch)
    assert "Deployment report" in render_page(edited(**{part: missing}))


def test_the_core_map_counts_layers_as_the_network_has_them(edited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speck's readout sits on core 0, its first layer on core 3."""
    _without_drawing(monkeypatch)
    names = ["lif1", "lif2", "lif3", "lif4"]
    items = [{"core": core, "layers": [name]} for core, name in enumerate(reversed(names))]
    report = edited(cores={"items": items})
    listed = [f"{number}: {name}" for number, name in enumerate(names, 1)]
    assert "; ".join(listed) in render_page(report)
    drawn = plots.plot_cores(report.cores, names)
    assert drawn is not None and drawn.alt.endswith("; 1 = lif1, 2 = lif2, 3 = lif3, 4 = lif4.")


def test_a_map_without_a_place_that_stands_out_says_so(edited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_drawing(monkeypatch)
    blank, bump = [[0.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]
    text = render_page(edited(maps=[{"cam": bump, "sam": blank}, {"cam": blank, "sam": bump}]))
    assert re.findall(r"<span>((?:CAM|SAM), [^<]*)</span>", text) == [
        *("CAM, teacher", "SAM, student: flat"),
        *("CAM, teacher: flat", "SAM, student"),
    ]


def test_a_rate_is_a_percentage_only_where_a_neuron_fires_once(full: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_drawing(monkeypatch)
    for most in (1, 31):
        report = full.model_copy(update={"chip_info": ChipInfo(name="chip", max_spikes=most)})
        for page in (render_page(report), render_comparison({"a": report, "b": report})):
            shown = [text for at, _, text in Page(page).figures if at == "/totals/rate"]
            assert shown and all(text.endswith("%") == (most == 1) for text in shown), (most, shown)


def test_backends_are_called_by_their_names(edited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every backend of the package has a title; within a sentence names keep their capitals and words lose them."""
    _without_drawing(monkeypatch)
    parity = {"samples": 2, "spikes_compared": 10, "mismatches": 0, "first_divergence": None}
    report = edited(parity={"speck": parity, "lava": parity | {"reference": "norse"}, "stranger": parity})
    told = [fact.title for fact in parity_facts(report)]
    assert told == [
        "Sinabs for Speck against exact simulator",
        "Lava against Norse",
        "stranger against exact simulator",
    ]
    assert all(title in render_page(report) for title in told)
    shipped = {point.name for point in entry_points(group="snnkd_deploy.backends") if "snnkd_deploy." in point.value}
    assert len(shipped) >= 12 and shipped <= set(TITLES)


def _without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots keep their logic but skip matplotlib, which takes most of a page's time."""
    from snnkd_deploy.report.plots import accuracy, activity, energy, learning
    from snnkd_deploy.report.plots.style import Plot

    for module in (accuracy, activity, energy, learning):
        monkeypatch.setattr(module, "draw", lambda name, alt, *_: Plot("<svg></svg>", alt))


def test_energy_without_prices_is_words_not_a_number(pages: dict[str, str]) -> None:
    text = pages["full"]
    headline = text[text.index('id="headline"') : text.index('id="accuracy"')]
    assert "unpriced: no published prices for this chip" in headline
    assert 'data-at="/energy_j/low"' not in text
    assert "not this chip&#39;s energy" in headline
    assert "This is not the energy of Intel Loihi 2." in text


def test_mismatch_and_misfit_are_not_hidden(pages: dict[str, str]) -> None:
    text = pages["priced"]
    assert re.search(r'<li class="bad">.*spikes differ over', text)
    assert "where it first differs" in text
    assert "threshold off by one" in text
    assert "--student.width 0.75" in text
    assert "The network does not fit" in text


def test_two_renderings_are_equal(full: Report, pages: dict[str, str]) -> None:
    assert render_page(full) == pages["full"]


def test_loss_terms_and_columns_are_explained(pages: dict[str, str]) -> None:
    text = pages["full"]
    assert re.search(r"<b>ce</b>: cross-entropy", text) and re.search(r"<b>SOP, w≠0</b>: the same without", text)


def test_every_loss_term_of_the_default_methods_has_words() -> None:
    batch = DistillBatch(
        student_logits=torch.rand(2, 3, 4),
        labels=torch.tensor([0, 1, 2]),
        teacher_logits=torch.rand(3, 4),
        student_features=torch.rand(2, 3, 5, 2, 2),
        teacher_features=torch.rand(3, 5, 2, 2),
        classifier_weight=torch.rand(4, 5),
    )
    terms = build_method(["seal", "ckd"])(batch)
    assert set(terms) == {"ce", "ela", "sta", "samd", "nld"} and set(terms) <= set(LOSS_TERMS)
