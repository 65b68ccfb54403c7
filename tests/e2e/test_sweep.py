"""`snnkd sweep`: a run per point, one teacher for all, nothing done twice, and a page with the Pareto plot."""

import json

import pytest

from snnkd_deploy.cli import main
from snnkd_deploy.recipe import Recipe, recipe_toml


@pytest.fixture
def recipe(tmp_path):
    table = {
        "method": ["kd"],
        "data": {"name": "digits", "options": {"limit_train": 200}},
        "teacher": {"width": 0.1, "epochs": 1},
        "student": {"net": "mlp", "options": {"hidden": [16]}},
        "train": {"epochs": 1, "chip_epochs": 1},
        "validate": {"backends": ["exact"], "samples": 10},
    }
    path = tmp_path / "small.toml"
    path.write_text(recipe_toml(Recipe.model_validate(table)))
    return path


@pytest.mark.slow
def test_a_sweep_resumes_and_trains_one_teacher(recipe, tmp_path, capsys):
    words = ["sweep", str(recipe), "--steps", "1,2", "--width", "0.5", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["runs"]) == ["steps1_width0.5", "steps2_width0.5"]
    folders = [tmp_path / "out" / name for name in found["runs"]]
    stages = [json.loads((f / "manifest.json").read_text())["stages"] for f in folders]
    assert stages[0]["teacher"] == stages[1]["teacher"]
    assert [run["encoding"]["steps"] for run in found["runs"].values()] == [1, 2]
    page = (tmp_path / "out" / "sweep.html").read_text("utf-8")
    assert "Accuracy against energy" in page
    assert main(words) == 0
    again = [json.loads((f / "manifest.json").read_text())["stages"] for f in folders]
    assert again == stages


@pytest.mark.parametrize("options", [["--steps", "2"], ["--steps", "2,x"], []])
def test_what_is_no_sweep_is_refused(recipe, tmp_path, capsys, options):
    assert main(["sweep", str(recipe), *options, "--out", str(tmp_path / "out")]) == 2
    assert "--" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
