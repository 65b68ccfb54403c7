"""The generated pages, and that `make docs` builds without a warning."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from chromium import Chromium, needs_browser

from snnkd_deploy.chips import list_chips, load_chip
from snnkd_deploy.distill.losses import METHODS, method_options

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocstrings") is None, reason="mkdocs is not installed: pip install -e '.[docs]'"
)


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "tools" / "docs_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", list_chips())
def test_chip_page_has_every_number(name, pages):
    chip = load_chip(name)
    text = pages.chip_page(chip)
    quantities = [*chip.limits.values(), *chip.energy.prices.values(), *chip.power.values(), *chip.time.values()]
    for quantity in quantities:
        assert quantity.source.split(";")[0][:20].replace("_", "\\_") in text or quantity.source[:20] in text
        assert quantity.value is None or f"{quantity.value:g} {quantity.unit}" in text
    assert all(f"`{key}`" in text for key in (*chip.operations.supported, *chip.operations.refused))


@pytest.mark.parametrize("name", METHODS)
def test_method_page_has_every_option(name, pages):
    text = pages.method_page(name)
    assert all(f"`loss.{name}.{key}`" in text for key in method_options(name))
    assert "## Formulas" in text and "*Published:*" in text


def test_every_method_has_a_source(pages):
    assert set(pages.PAPERS) == set(METHODS)


@pytest.mark.parametrize("name", list_chips())
def test_the_command_of_a_chip_passes_preflight(name, pages, monkeypatch):
    """What a chip's page tells readers to run is not refused."""
    from snnkd_deploy.data import load_dataset
    from snnkd_deploy.preflight import check_networks, check_recipe
    from snnkd_deploy.recipe import load_recipe

    monkeypatch.chdir(ROOT)
    recipe_file, *overrides = pages.trial(load_chip(name)).split()[2:]
    recipe = load_recipe(recipe_file, overrides)
    chip = load_chip(recipe.chip)
    assert chip.id == name
    check_recipe(recipe, chip, ("exact",))
    if recipe.data.name == "digits":
        check_networks(recipe, load_dataset("digits", options=dict(recipe.data.options)), chip)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-2000:]
    return site


@pytest.mark.slow
def test_site_builds_without_a_warning(site):
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        fetched = re.findall(r"(?:<script[^>]*src|<link[^>]*href|<img[^>]*src)=\"(https?:[^\"]*)", text)
        assert not fetched, (page, fetched)  # pages open without a network
    names = {page.stem for page in site.rglob("*.html")}
    assert set(list_chips()) | set(METHODS) <= names


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_in_a_browser(site, width, tmp_path):
    """From the disk: scripts run to their ends, nothing is fetched from elsewhere, the switch of colours works."""
    browser = Chromium(tmp_path)
    try:
        browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=True)
        for name in ("index", "how_it_works", "chips", "api", "chip/loihi2", "method/seal"):
            browser.open(site / f"{name}.html")
            assert browser.loud() == [], name
            assert [url for url in browser.fetched() if not url.startswith(site.as_uri())] == []
            assert browser.evaluate("document.documentElement.scrollWidth") <= width, name
            for mode in ("dark", "light"):
                browser.evaluate(f"document.querySelector('[data-bs-theme-value={mode}]').click()")
                assert browser.evaluate("document.documentElement.dataset.bsTheme") == mode
                assert browser.evaluate("document.querySelector('[aria-pressed=true]').dataset.bsThemeValue") == mode
    finally:
        browser.close()
