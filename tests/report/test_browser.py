"""The page in a real browser: no console message, nothing fetched, no sideways scrolling, all pictures drawn."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium, needs_browser

pytestmark = needs_browser

EMPTY_FIGURES = (
    "[...document.querySelectorAll('figure')].filter(f => !f.querySelector('svg, img')).map(f => f.innerText)"
)
# What is drawn outside a picture's frame is not seen: a label that does not fit.
CUT_DRAWINGS = """[...document.querySelectorAll('figure svg')].filter(svg => {
  const box = svg.getBBox(), frame = svg.viewBox.baseVal;
  return box.x < -1 || box.y < -1 || box.x + box.width > frame.width + 1 || box.y + box.height > frame.height + 1;
}).map(svg => svg.getAttribute('aria-label'))"""
SKIPPED_HEADINGS = """[...document.querySelectorAll('h1, h2, h3, h4')].filter((heading, i, all) =>
  Number(heading.tagName[1]) > (i ? Number(all[i - 1].tagName[1]) : 0) + 1).map(heading => heading.innerText)"""
# WCAG 2.1, AA: text has at least 4.5 times the luminance of what is behind it, or the other way round.
FAINT_TEXT = """(() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = rgb => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const c = rgb[i] / 255;
    return sum + weight * (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
  };
  const own = e => [...e.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  return [...document.querySelectorAll('main *:not(svg *)')].filter(own).filter(e => {
    const [a, b] = [light(parts(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05) < 4.5;
  }).map(e => e.outerHTML.slice(0, 90));
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    chromium = Chromium(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", ["full", "minimal", "priced", "comparison"])
def test_page_in_a_browser(
    which: str, width: int, scheme: str, browser: Chromium, pages: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(pages[which], encoding="utf-8")
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(path)

    assert browser.loud() == []
    assert browser.fetched() == [path.as_uri()]

    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('main *:not(.scroll *):not(pre *):not(svg *):not(.unseen, .unseen *)')]"
    outside = f"{wide}.filter(e => e.getBoundingClientRect().right > {width} + 0.5).map(e => e.outerHTML.slice(0, 90))"
    assert browser.evaluate(outside) == []
    broken = "[...document.images].filter(i => !i.naturalWidth).length"
    assert browser.evaluate(broken) == 0
    assert browser.evaluate(EMPTY_FIGURES) == []
    assert browser.evaluate(CUT_DRAWINGS) == []
    assert browser.evaluate(SKIPPED_HEADINGS) == []
    assert browser.evaluate(FAINT_TEXT) == []
    flat = "[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().height < 40).length"
    assert browser.evaluate(flat) == 0
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(246, 247, 248)" if scheme == "light" else "rgb(15, 19, 24)"
    )


def test_page_prints(browser: Chromium, pages: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(pages["full"], encoding="utf-8")
    browser.open(path)
    pdf = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert 6 <= pdf.count(b"/Type /Page\n") <= 14
