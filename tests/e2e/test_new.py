"""`snnkd new`: whatever the data, the recipe that it writes runs, and explains each of its keys."""

import json
import tomllib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from snnkd_deploy.chips import list_chips, load_chip
from snnkd_deploy.cli import main
from snnkd_deploy.data import load_dataset
from snnkd_deploy.pipeline import Run
from snnkd_deploy.preflight import check_networks
from snnkd_deploy.recipe import Recipe, load_recipe

TINY = ["teacher.epochs=1", "teacher.width=0.1", "train.epochs=1", "train.chip_epochs=1", "student.width=0.2"]
TINY += ["student.threshold=0.3", 'validate.backends=["exact"]', "validate.samples=5"]


def images(folder, count=120):
    from PIL import Image

    digits = load_digits()
    for i in range(count):
        place = folder / str(digits.target[i])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 15.9).astype(np.uint8)).save(place / f"{i}.png")
    return folder


def image_arrays(folder):
    digits = load_digits()
    np.savez(folder / "images.npz", x=digits.images[:120].astype(np.uint8), y=digits.target[:120])
    return folder / "images.npz"


def series(folder):
    digits = load_digits()
    np.savez(folder / "series.npz", X=digits.images[:120, :, :6].astype(np.uint8), y=digits.target[:120])
    return folder / "series.npz"


def events(folder):
    n = 60
    x = np.tile(np.arange(10), n)
    ptr, label = np.arange(0, 10 * n + 1, 10), np.arange(n) % 3
    np.savez(folder / "events.npz", x=x, y=x * 9, p=x % 2, t=x * 1000, ptr=ptr, label=label)
    return folder / "events.npz"


SOURCES = {
    "folder": lambda tmp: images(tmp / "my images"),
    "images-npz": image_arrays,
    "series-npz": series,
    "events-npz": events,
}


def test_new_then_run(tmp_path, monkeypatch):
    images(tmp_path / "my images")
    monkeypatch.chdir(tmp_path)
    assert main(["new", "my images", "-o", "mine.toml"]) == 0
    assert main(["run", "mine.toml", *TINY, "--quiet", "--out", "run"]) == 0
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("chip", ["loihi2", "loihi1"])
def test_what_it_writes_runs(kind, chip, tmp_path, capsys):
    path, source = tmp_path / "mine.toml", SOURCES[kind](tmp_path)
    assert main(["new", str(source), "--chip", chip, "-o", str(path), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)["content"]
    assert content["data"]["name"] == kind and content["chip"] == chip
    if chip == "loihi1":
        assert content["student"]["encoding"] != "graded"  # it has no payloads
        return
    run = Run(tmp_path / "run", load_recipe(path, TINY))
    run.run_stages(("teacher", "distill", "export", "validate"))
    assert run.manifest.stage("validate")["facts"]["backends"]["exact"]["student_predictions_differ"] == 0


@pytest.mark.parametrize("chip", list_chips())
def test_a_series_gets_a_student_that_the_chip_holds(chip, tmp_path, capsys):
    """Channels, recurrence, decays and size are what the chip has: the recipe passes every check before a run."""
    digits = load_digits()
    few = digits.target < 8  # Xylo Audio 2 has eight outputs
    np.savez(
        tmp_path / "wide.npz", X=np.repeat(digits.images[few][:200], 3, 2).astype(np.uint8), y=digits.target[few][:200]
    )
    assert main(["new", str(tmp_path / "wide.npz"), "--chip", chip, "-o", str(tmp_path / "r.toml"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)["content"]
    spec, recipe = load_chip(chip), load_recipe(tmp_path / "r.toml")
    data = load_dataset(recipe.data.name, options=dict(recipe.data.options))
    check_networks(recipe, data, spec)
    assert data.shape[1] == min(24, spec.limit("input_channels") or 24)
    assert content["student"]["net"] == ("rnn" if spec.lacks("recurrent") is None else "mlp")
    if chip.startswith("xylo"):
        assert content["student"]["counts"] == 15 and content["data"]["options"]["channels"] == 16


def test_what_no_size_makes_fit_is_said(tmp_path, capsys):
    source = image_arrays(tmp_path)
    assert main(["new", str(source), "--chip", "xylo_a3", "-o", str(tmp_path / "r.toml")]) == 2
    error = capsys.readouterr().err
    assert "too many input channels" in error and "hidden neurons" not in error  # which narrower ones would mend
    assert not (tmp_path / "r.toml").exists()


def test_every_key_is_there_with_its_meaning(tmp_path, capsys):
    path = tmp_path / "digits.toml"
    assert main(["new", "digits", "-o", str(path)]) == 0
    text = path.read_text()
    table = tomllib.loads(text)
    assert load_recipe(path).dump() == Recipe.model_validate(table).dump() == table  # nothing is left to a default
    for line in text.splitlines():
        if " = " in line and not line.startswith("#"):
            assert "# " in line, line


def test_paths_are_relative_to_the_recipe(tmp_path, monkeypatch):
    images(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    main(["new", "images", "-o", "r.toml"])
    assert tomllib.loads((tmp_path / "r.toml").read_text())["data"]["options"]["path"] == "images"


def test_large_and_unequal_images_are_resized(tmp_path, capsys):
    from PIL import Image

    for name, size in (("a", (300, 200)), ("b", (100, 120))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", size, (i, 0, 9)).save(tmp_path / "photos" / name / f"{i}.jpg")
    assert main(["new", str(tmp_path / "photos"), "-o", str(tmp_path / "r.toml"), "--json"]) == 0
    options = json.loads(capsys.readouterr().out)["content"]["data"]["options"]
    assert options["size"] == 32 and "grayscale" not in options


def test_an_existing_recipe_is_kept(tmp_path, capsys):
    path = tmp_path / "r.toml"
    path.write_text("# mine\n")
    assert main(["new", "digits", "-o", str(path)]) == 2
    assert path.read_text() == "# mine\n" and "--force" in capsys.readouterr().err
    assert main(["new", "digits", "-o", str(path), "--force"]) == 0


def test_data_that_is_not_here_is_not_downloaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SNNKD_DATA", raising=False)
    assert main(["new", "nmnist", "-o", str(tmp_path / "r.toml")]) == 0
    assert "not here yet" in capsys.readouterr().out
