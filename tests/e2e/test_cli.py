"""The command line as users meet it: exit codes, one clear error each, JSON on stdout."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from snnkd_deploy.cli import main


def call(capsys, *words):
    code = main([str(w) for w in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        path = tmp_path / "recipe.toml"
        path.write_text(text)
        return path

    return write


GOOD = 'name = "x"\n[validate]\nbackends = ["exact"]\n'
WRONG_RECIPES = {
    "unknown chip": ('chip = "loihi3"', "unknown chip 'loihi3'", "did you mean"),
    "unknown key": ("[student]\nwidht = 2.0", "student.widht", "did you mean width?"),
    "unknown section": ("[studnet]\nwidth = 2.0", "studnet", "did you mean student?"),
    "wrong type": ('[student]\nwidth = "wide"', "student.width", "wide"),
    "negative": ("[train]\nlr = -1.0", "train.lr", "greater than 0"),
    "max pooling on Loihi": ('[student]\npool = "max"', "max pooling", "stride"),
    "unknown method": ('method = "seel"', "seel", "seal"),
    "unknown option of a method": ("[loss.seal]\nalfa = 1.0", "alfa", "alpha"),
    "unknown surrogate": ('[student]\nsurrogate = "sigmiod"', "sigmiod", "sigmoid4"),
    "unknown augmentation": ('[train]\naugment = ["flipp"]', "flipp", "flip"),
    "unknown backend": ('[validate]\nbackends = ["lavaa"]', "lavaa", "did you mean lava?"),
    "unknown data set": ('[data]\nname = "mnis"', "mnis", "mnist"),
    "unknown student": ('[student]\nnet = "convv"', "convv", "did you mean conv?"),
    "broken TOML": ("name = ", "not valid TOML", "recipe.toml"),
    "features without maps": ('method="ckd"\n[student]\nnet = "mlp"', "feature maps", "kd"),
}


@pytest.mark.parametrize("case", WRONG_RECIPES)
def test_wrong_recipes_give_one_clear_error(case, recipe, capsys, tmp_path):
    text, *expected = WRONG_RECIPES[case]
    extra = "" if "validate" in text else '\n[validate]\nbackends = ["exact"]\n'
    if case == "features without maps":
        extra += "[teacher]\nepochs = 1\nwidth = 0.1\n"
    code, out, err = call(capsys, "run", recipe(text + extra), "--out", tmp_path / "run")
    assert code != 0
    assert out == ""
    lines = err.strip().splitlines()
    assert any(line.startswith("error: ") for line in lines)
    assert "Traceback" not in err
    for part in expected:
        assert part in err


def test_all_mistakes_of_a_recipe_come_at_once(recipe, capsys, tmp_path):
    path = recipe('[student]\nwidht = 1\nsteps = 0\n[train]\nlr = "fast"\n')
    code, _, err = call(capsys, "run", path, "--out", tmp_path / "run")
    assert code == 2
    assert all(word in err for word in ("widht", "student.steps", "train.lr"))


def test_missing_data_folder(recipe, capsys, tmp_path):
    path = recipe('[data]\nname = "mnist"\n[validate]\nbackends = ["exact"]\n')
    code, _, err = call(capsys, "run", path, "--out", tmp_path / "run", "--data", tmp_path / "nowhere")
    assert code != 0
    assert "nowhere" in err and "Traceback" not in err and "try:" in err


def test_unwritable_run_directory(recipe, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = call(capsys, "run", recipe(GOOD), "--out", tmp_path / "file" / "run")
    assert code == 2
    assert "cannot write" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rnu"], "did you mean run?"),
        (["run"], "RECIPE.toml"),
        (["run", "missing.toml"], "no such recipe"),
        (["chips", "loihi9"], "unknown chip"),
        (["report", "nowhere"], "not a run directory"),
        (["simulate", "m.nir", "--imput", "x.npz"], "--input"),
        (["compare", "a.npz"], "two traces"),
        (["compare", "a.npz", "b.npz"], "no such trace file"),
    ],
)
def test_wrong_calls(words, expected, capsys):
    code, out, err = call(capsys, *words)
    assert code != 0 and out == ""
    assert expected in err and "Traceback" not in err


def test_a_fault_of_ours_is_one_line_and_a_traceback_only_with_debug(monkeypatch, capsys):
    def broken(*_):
        raise KeyError("lif0")

    monkeypatch.setattr("snnkd_deploy.verbs.chips.chips", broken)
    code, out, err = call(capsys, "chips")
    assert code == 1 and out == ""
    assert "fault of this program: KeyError: 'lif0'" in err and "--debug" in err and "Traceback" not in err
    with pytest.raises(KeyError):
        main(["chips", "--debug"])


def test_simulate_compare_fit_energy(tiny_run, tmp_path, capsys):
    model = tiny_run.folder / "model.nir"
    x = tiny_run.data.test.x[:20].numpy()[None]
    np.savez(tmp_path / "x.npz", x=x, T=np.array(3), y=tiny_run.data.test.y[:20].numpy())
    code, out, _ = call(
        capsys, "simulate", model, "--input", tmp_path / "x.npz", "-o", tmp_path / "t.npz", "--state", "--json"
    )
    assert code == 0
    assert 0 <= json.loads(out)["accuracy"] <= 1
    with np.load(tmp_path / "t.npz") as trace:
        assert trace["spikes/lif0"].dtype == np.uint8 and trace["spikes/lif0"].shape[:2] == (3, 20)
        assert {"u/lif0", "v/lif0", "logits", "meta"} <= set(trace.files)
    code, out, _ = call(capsys, "compare", tmp_path / "t.npz", tmp_path / "t.npz", "--json")
    assert code == 0 and json.loads(out)["identical"] is True
    code, out, _ = call(capsys, "fit", model, "--chip", "all", "--json")
    assert code == 0 and json.loads(out)["fit"]["loihi2"]["fits"] is True
    code, out, _ = call(capsys, "energy", model, "--chip", "loihi1", "--trace", tmp_path / "t.npz", "--json")
    assert code == 0
    energy = json.loads(out)["energy_j"]
    assert 0 < energy["low"] <= energy["mid"] <= energy["high"]


@pytest.mark.slow
def test_kill_minus_nine_and_again(tiny_run, tmp_path):
    """A real SIGKILL in the middle of training; the same command then ends with the same weights."""
    from snnkd_deploy.recipe import recipe_toml

    path = tmp_path / "recipe.toml"
    path.write_text(recipe_toml(tiny_run.recipe))
    command = [sys.executable, "-m", "snnkd_deploy.cli", "run", str(path), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ)
    checkpoint = tmp_path / "run" / "student" / "checkpoint.safetensors"
    deadline = time.monotonic() + 600  # against a hang: a busy machine may take minutes to start
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists(), "training ended before it could be killed"
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    expected = tiny_run.manifest.stage("distill")["facts"]["weights_sha256"]
    assert manifest["stages"]["distill"]["facts"]["weights_sha256"] == expected
