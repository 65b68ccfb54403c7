"""Data and students that say nothing: the run ends, and its report says so."""

import json

import numpy as np
import pytest

from snnkd_deploy.cli import main

RECIPE = """
method = "seal"
[teacher]
width = 0.1
epochs = 1
[student]
width = 0.2
steps = 2
[train]
epochs = 2
chip_epochs = 1
[validate]
backends = ["exact"]
samples = 5
"""


@pytest.fixture
def run(tmp_path, capsys):
    def of(*overrides):
        (tmp_path / "r.toml").write_text(RECIPE)
        code = main(["run", str(tmp_path / "r.toml"), *overrides, "--out", str(tmp_path / "run")])
        err = " ".join(capsys.readouterr().err.split())
        report = tmp_path / "run" / "report.json"
        return code, json.loads(report.read_text()) if report.exists() else None, err

    return of


def test_one_training_sample(run):
    code, report, err = run("data.options.limit_train=1", "data.options.limit_test=20")
    assert code == 0
    for text in ("only 1 samples to train on", "train samples are of 1 of 10 classes", "no validation samples"):
        assert any(text in warning for warning in report["warnings"]) and text in err


def test_one_class(run, tmp_path):
    x = np.random.default_rng(0).integers(0, 9, (40, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "one.npz", x=x, y=np.zeros(40, int))
    code, report, err = run("data.name=images-npz", f"data.options.file={tmp_path / 'one.npz'}")
    assert code == 0
    assert any("one class only" in warning for warning in report["warnings"]) and "one class only" in err


def test_a_silent_student(run):
    code, report, err = run("data.options.limit_train=60", "student.threshold=60")
    assert code == 0
    assert any("never spikes" in warning for warning in report["warnings"])
    # Said once a layer, at the end of the float phase, not after each epoch.
    assert err.count("lif0 is silent") == 1
    assert any("first layer on the host" in note for note in report["notes"])
    assert not any("first layer on the host" in warning for warning in report["warnings"])


def test_a_large_threshold_scales_with_the_hosts_current(run):
    code, report, _ = run("data.options.limit_train=60", "student.threshold=1000")
    assert code == 0 and report["parity"] is not None


def test_a_threshold_below_the_hosts_resolution(run):
    code, report, err = run("data.options.limit_train=60", "student.threshold=1e-6")
    assert code == 1 and report is None
    assert "student.threshold nearer to 1" in err
