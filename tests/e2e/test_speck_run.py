"""A run for Speck: events in, spikes counted, and a report that says what its figures are."""

import json

import pytest

from snnkd_deploy.assess import _warnings
from snnkd_deploy.backends.registry import get_backend
from snnkd_deploy.pipeline import Run
from snnkd_deploy.recipe import make_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    installed = ["speck"] if get_backend("speck").availability().usable else []
    recipe = make_recipe(
        {
            "chip": "speck2f",
            "method": ["kd"],
            "data": {"name": "digits", "options": {"limit_train": 300, "limit_test": 60}},
            "teacher": {"width": 0.1, "epochs": 1},
            "student": {"net": "mlp", "encoding": "counts", "steps": 3, "options": {"hidden": [24]}},
            "train": {"epochs": 1, "chip_epochs": 1},
            "validate": {"backends": ["exact", *installed], "samples": 30},
        }
    )
    run = Run(tmp_path_factory.mktemp("speck") / "run", recipe)
    run.run_stages()
    return run


def test_the_report_says_what_is_not_modelled(run):
    report = json.loads((run.folder / "report.json").read_text())
    promise, order = report["notes"][-2:]
    assert "event by event" in promise and promise.startswith("speck2f")
    assert "5 random orders" in order and "60 samples" in order and "accuracy" in order
    assert all(p["mismatches"] == 0 for p in report["parity"].values())


def test_an_order_that_decided_is_a_warning(run):
    found = {"layers": [], "event_order": {"lif0": [9, 4], "lif1": [3, 0]}}
    (warning,) = [w for w in _warnings(run, found, {}, {"missing": {}}) if "order" in w]
    assert warning.startswith("lif0") and " 4 times" in warning and "input_shift" in warning
