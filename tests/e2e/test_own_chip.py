"""A user's own chip: a shipped file copied, a few values changed. It trains, lowers, simulates and reports as it is."""

import json

import pytest
import torch

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.registry import get_backend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips import hardware_dir, load_chip
from snnkd_deploy.cli import main
from snnkd_deploy.pipeline import Run
from snnkd_deploy.recipe import make_recipe

FOUR_BITS = {"{ lo = -256, hi = 254, step = 2 }": "{ lo = -16, hi = 14, step = 2 }"}
SPECK_4 = {
    "weight = { lo = -128, hi = 127 }": "weight = { lo = -8, hi = 7 }",
    "threshold = { lo = 128,": "threshold = { lo = 8,",
}
HARD_CURRENT = {
    'reset = "subtract"': 'reset = "zero"',
    "u_bits = 0 ": "u_bits = 24",
    '"lif", "if"': '"cuba_lif", "if"',
    "\ncuba_lif = ": "\nlif = ",
}


def own_chip(folder, source, changes):
    """A copy of a shipped chip file with another name and other values."""
    text = (hardware_dir() / f"{source}.toml").read_text("utf-8")
    for old, new in {f'id = "{source}"': 'id = "mine"', **changes}.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def trained(folder, chip, student, backends=("exact",)):
    recipe = make_recipe(
        {
            "chip": str(chip),
            "method": ["kd"],
            "data": {"name": "digits", "options": {"limit_train": 400, "limit_test": 60}},
            "teacher": {"width": 0.1, "epochs": 2, "batch": 32},
            "student": {"steps": 4, **student},
            "train": {"epochs": 4, "chip_epochs": 2, "batch": 32},
            "validate": {"backends": list(backends), "samples": 20},
        }
    )
    run = Run(folder / "run", recipe)
    run.run_stages()
    return run


def assert_what_was_trained_runs(run, weights):
    """Training forward == exact, integers in the file's own range, a report with the file's name."""
    model, student = run.load_model(), run.load_student()
    trace = ExactBackend().run(model, run.test_inputs(model), Record(readout=True))
    feed, test = run.feed(run.data), run.data.test
    rows = torch.arange(len(test))
    with torch.no_grad():
        out = student(feed.student(feed.raw(test, rows), test.index[rows]))
    for name, spikes in out.spikes.items():
        assert torch.equal(trace.spikes[name].to(torch.int32), spikes.to(torch.int32)), name
        assert spikes.any(), name
    used = [
        model.weight_int(name) for name in model.nodes if getattr(model.profile.nodes.get(name), "place", "") == "chip"
    ]
    low, high, step = weights
    assert used and all(low <= w.min() and w.max() <= high and not (w % step).any() for w in used)
    assert any(w.max() == high or w.min() == low for w in used), "the grid is used to its end"
    report = json.loads((run.folder / "report.json").read_text())
    assert report["chip"] == "mine" and report["accuracy"]["exact"] == report["accuracy"]["student"] > 0.15
    assert (run.folder / "report.html").stat().st_size > 10_000
    return model, report


@pytest.mark.slow
def test_loihi_with_four_bits(tmp_path, capsys):
    chip = own_chip(tmp_path, "loihi2", FOUR_BITS)
    lava = get_backend("lava").availability().usable
    run = trained(
        tmp_path, chip, {"net": "mlp", "options": {"hidden": [24]}}, ("exact", "lava") if lava else ("exact",)
    )
    model, report = assert_what_was_trained_runs(run, (-16, 14, 2))
    if lava:
        assert report["parity"]["lava"]["mismatches"] == 0 and report["parity"]["lava"]["spikes_compared"] > 0
    # The other verbs take the file as they take a name.
    capsys.readouterr()
    assert main(["fit", str(run.folder / "model.nir"), "--chip", str(chip), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fit"][str(chip)]["fits"] is True
    trace = str(run.folder / "traces" / "exact.npz")
    assert main(["energy", str(run.folder / "model.nir"), "--chip", str(chip), "--trace", trace, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["chip"] == "mine"


@pytest.mark.slow
def test_speck_with_four_bits(tmp_path):
    chip = own_chip(tmp_path, "speck2f", SPECK_4)
    run = trained(tmp_path, chip, {"net": "mlp", "encoding": "counts", "options": {"hidden": [24]}})
    model, _ = assert_what_was_trained_runs(run, (-8, 7, 1))
    assert model.family == "iaf" and all(model.neuron(name).v_min == -model.neuron(name).vth for name in model.spiking)


@pytest.mark.slow
def test_int8_with_hard_resets_and_a_current(tmp_path):
    chip = own_chip(tmp_path, "generic_int8", HARD_CURRENT)
    assert load_chip(chip).neuron.u_bits == 24
    run = trained(tmp_path, chip, {"net": "mlp", "encoding": "rate", "steps": 8, "options": {"hidden": [24]}})
    model, _ = assert_what_was_trained_runs(run, (-128, 127, 1))
    assert model.profile.reset == "zero" and model.neuron(model.spiking[-1]).dash_syn is not None
