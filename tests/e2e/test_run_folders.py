"""Run directories: found again from anywhere, never half made, never shared, never trusted when damaged."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from snnkd_deploy.chips import hardware_dir
from snnkd_deploy.cli import main
from snnkd_deploy.distill import loop
from snnkd_deploy.errors import BackendError, DataError, RecipeError, UsageError
from snnkd_deploy.pipeline import Run
from snnkd_deploy.recipe import load_recipe, make_recipe
from snnkd_deploy.runlock import locked

RECIPE = """
name = "small"
chip = "{chip}"
method = "seal"
[data]
name = "{data}"
{options}
[teacher]
net = "{teacher}"
width = 0.1
epochs = 1
[student]
width = 0.1
steps = 2
threshold = 0.3
[train]
epochs = 1
chip_epochs = 1
[validate]
backends = ["exact"]
samples = 10
"""
TEACHER = "from torch import nn\n\ndef flat():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"


@pytest.fixture
def project(tmp_path):
    """A recipe with a chip file, a teacher and a folder of images beside it, all named relatively."""
    from PIL import Image

    home = tmp_path / "project"
    home.mkdir()
    shutil.copy(hardware_dir() / "loihi2.toml", home / "mine.toml")
    (home / "nets.py").write_text(TEACHER)
    rng = np.random.default_rng(0)
    for label in range(10):
        (home / "images" / f"c{label}").mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(home / "images" / f"c{label}" / f"{i}.png")
    options = '[data.options]\npath = "images"\ngrayscale = true'
    text = RECIPE.format(chip="mine.toml", data="folder", teacher="nets.py:flat", options=options)
    (home / "recipe.toml").write_text(text)
    return home


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A finished run of very little work; tests copy it before they harm it."""
    recipe = make_recipe({**_table(), "data": {"name": "digits", "options": {"limit_train": 100, "limit_test": 40}}})
    run = Run(tmp_path_factory.mktemp("small") / "run", recipe)
    run.run_stages()
    return run.folder


def _table():
    import tomllib

    return tomllib.loads(RECIPE.format(chip="loihi2", data="digits", teacher="cnn", options=""))


@pytest.fixture
def copy(small, tmp_path):
    return shutil.copytree(small, tmp_path / "copy")


def test_files_beside_the_recipe_are_found_from_anywhere(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert main(["run", "recipe.toml", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "up to date" in capsys.readouterr().err
    # The same recipe from there is the same work.
    assert main(["run", "../project/recipe.toml", "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().err.count("up to date") == 6


def test_what_leaves_the_machine_names_no_folder(project, tmp_path):
    run = Run(tmp_path / "run", load_recipe(project / "recipe.toml"))
    run.run_stages()
    assert str(tmp_path) not in json.dumps(run.load_model().profile.provenance)
    assert str(tmp_path) not in json.loads((run.folder / "report.json").read_text())["provenance"]["recipe"]


def test_overrides_are_files_from_here(project, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(project / "mine.toml", here / "other.toml")
    monkeypatch.chdir(here)
    assert load_recipe(project / "recipe.toml", ["chip=other.toml"]).chip == str(here / "other.toml")


def test_the_data_folder_is_remembered(project, tmp_path):
    table = _table() | {"data": {"name": "folder", "options": {"grayscale": True}}}
    Run(tmp_path / "run", make_recipe(table), data_root=project / "images").run_stages(("teacher",))
    assert len(Run.open(tmp_path / "run").data.classes) == 10


@pytest.mark.parametrize(
    "override",
    ["data.options.limit_trian=1", "student.options.strides=[0,2,2]", "data.name=folder", "student.encoding=events"],
)
def test_a_failing_run_writes_nothing(copy, tmp_path, override, capsys):
    before = (copy / "recipe.toml").read_bytes()
    recipe = tmp_path / "r.toml"
    recipe.write_bytes(before)
    assert main(["run", str(recipe), override, "--out", str(copy)]) != 0
    assert main(["run", str(recipe), override, "--out", str(tmp_path / "new")]) != 0
    assert (copy / "recipe.toml").read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_two_processes_do_not_share_a_folder(copy, capsys):
    code = (
        "import sys, pathlib, snnkd_deploy.runlock as r\n"
        "with r.locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(copy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    try:
        assert main(["report", str(copy)]) == 2
        assert f"pid {process.pid} " in capsys.readouterr().err
    finally:
        process.kill()
        process.wait()
    with locked(copy) as entered:  # the kernel took it back
        assert entered


def test_a_new_price_retrains_nothing(project, tmp_path, capsys):
    main(["run", str(project / "recipe.toml"), "--out", str(tmp_path / "run")])
    file = project / "mine.toml"
    text = file.read_text()
    assert 'proxy = "loihi1"' in text
    file.write_text(text.replace('proxy = "loihi1"', 'proxy = ""'))
    capsys.readouterr()
    assert main(["report", str(tmp_path / "run")]) == 2  # evaluate is out of date
    assert f"try: snnkd evaluate {tmp_path / 'run'}" in capsys.readouterr().err
    main(["run", str(project / "recipe.toml"), "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert all(f"{stage}: up to date" in said for stage in ("teacher", "distill", "export", "validate"))
    assert "evaluate: up to date" not in said
    file.write_text(text.replace("lo = -256", "lo = -254"))
    main(["run", str(project / "recipe.toml"), "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert "teacher: up to date" in said and "distill: up to date" not in said


@pytest.mark.parametrize(
    ("file", "stage", "maker"),
    [("model.nir", "validate", "export"), ("student/weights.safetensors", "export", "distill")],
)
def test_damaged_outputs_are_not_used(copy, file, stage, maker, capsys):
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)
    with pytest.raises(DataError, match=f"{file}: not as stage '{maker}' wrote it"):
        Run.open(copy).stage(stage)
    assert main([maker, str(copy)]) == 0  # what the error says to try
    assert main([stage, str(copy)]) == 0


def test_a_recipe_edited_in_the_folder_is_noticed(copy):
    path = copy / "recipe.toml"
    path.write_text(path.read_text().replace("threshold = 0.3", "threshold = 0.4"))
    with pytest.raises(UsageError, match="needs 'distill', which ran with another recipe"):
        Run.open(copy).stage("evaluate")


@pytest.mark.parametrize("text", ["[]", "{", '{"stages": {"teacher": 3}}', "null"])
def test_a_damaged_manifest_is_an_error(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="manifest is damaged"):
        Run.open(copy)


def test_a_model_that_does_not_answer_as_training_did_fails(copy):
    from snnkd_deploy.distill.checkpoint import load_tensors, save_tensors
    from snnkd_deploy.manifest import Manifest, file_digest

    path = copy / "student" / "test_predictions.safetensors"
    predictions = load_tensors(path)[0]["predictions"]
    save_tensors(path, {"predictions": (predictions + 1) % 10}, {})
    manifest = Manifest(copy)
    manifest.stage("distill")["outputs"]["student/test_predictions.safetensors"] = file_digest(path)
    manifest.save()
    run = Run.open(copy)
    run.stage("export")
    with pytest.raises(BackendError, match="does not answer as training did"):
        run.stage("validate")
    assert not run.manifest.up_to_date("validate", run.key("validate"))


def test_resuming_with_other_threads_is_said(tmp_path, monkeypatch, capsys):
    recipe = make_recipe({**_table(), "data": {"name": "digits", "options": {"limit_train": 300}}})
    monkeypatch.setattr(loop.Trainer, "_step", _cut_after(loop.Trainer._step, 2))
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path / "run", recipe).run_stages(("teacher",))
    monkeypatch.undo()
    monkeypatch.setattr(loop.torch, "get_num_threads", lambda: 77)
    capsys.readouterr()
    Run(tmp_path / "run", recipe).run_stages(("teacher",))
    said = " ".join(capsys.readouterr().err.split())
    assert "-> 77" in said and "will not be those of an uninterrupted run" in said


def test_a_missing_backend_is_told_or_refused(tmp_path, monkeypatch, capsys):
    import snnkd_deploy.preflight as preflight

    def usable(name):
        if name == "lava":
            raise BackendError("backend 'lava' is not usable here: not installed", remedy="pip install x[lava]")

    monkeypatch.setattr(preflight, "usable_backend", usable)
    table = _table() | {"validate": {"backends": ["exact", "lava"], "samples": 5}}
    table["data"]["options"] = {"limit_train": 100, "limit_test": 20}
    with pytest.raises(RecipeError, match="not usable here"):
        Run(tmp_path / "run", make_recipe(table))
    Run(tmp_path / "run", make_recipe(table), skip_missing_backends=True).run_stages()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert any("lava did not run here" in warning for warning in report["warnings"])
    assert report["accuracy"]["lava"] is None and "lava is skipped" in capsys.readouterr().err
    assert Run.open(tmp_path / "run").missing  # as lenient as it was


def _cut_after(step, count):
    done = 0

    def cut(self, *args):
        nonlocal done
        done += 1
        if done > count:
            raise KeyboardInterrupt
        return step(self, *args)

    return cut


def test_all_mistakes_of_a_recipe_come_in_one_error(tmp_path):
    table = _table()
    table["student"] |= {"surrogate": "sigmiod", "options": {"stirdes": [1]}}
    table["teacher"] |= {"options": {"x": 1}, "mean": [0.5]}
    table["data"]["options"] = {"limit_trian": 5}
    table["loss"] = {"seal": {"alpha": "much"}}
    with pytest.raises(RecipeError) as caught:
        Run(tmp_path / "run", make_recipe(table))
    wanted = {
        "student.surrogate",
        "student.options.stirdes",
        "teacher.options.x",
        "teacher.mean",
        "data.options.limit_trian",
        "loss.seal.alpha",
    }
    assert wanted <= {problem.where for problem in caught.value.problems}


def test_a_width_beyond_memory_is_refused_without_building_it(tmp_path):
    table = _table()
    table["student"] |= {"net": "resnet18", "width": 64.0}
    with pytest.raises(RecipeError, match="does not fit in this machine's memory"):
        Run(tmp_path / "run", make_recipe(table))
    assert not (tmp_path / "run").exists()
