"""Every recipe and script in examples/ runs, on a budget of seconds. Downloaded sets are read where SNNKD_DATA has them."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from snnkd_deploy.cli import main
from snnkd_deploy.data import load_dataset
from snnkd_deploy.errors import DataError
from snnkd_deploy.progress import set_quiet

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = ["teacher.epochs=1", "train.epochs=1", "train.chip_epochs=1", "train.batch=8", "teacher.batch=32"]
TINY += ["validate.samples=4", 'validate.backends=["exact"]', "student.threshold=0.3"]
FEW = ["data.options.limit_train=40", "data.options.limit_test=10"]
# Narrow networks on real data; None: those that need no downloaded data.
NEEDS = {
    "digits": None,
    "own_images": None,
    "own_teacher": None,
    "series": None,
    "keywords_xylo": None,
    "mnist": "mnist",
    "fashion_mnist": "fashion-mnist",
    "cifar10_resnet20": "cifar10",
    "cifar10_resnet19": "cifar10",
    "nmnist": "nmnist",
    "nmnist_speck": "nmnist",
}
SMALL = {
    "cifar10_resnet20": ["teacher.width=0.5", "student.width=0.25", "student.steps=1"],
    "cifar10_resnet19": ["teacher.net=resnet18", "teacher.width=0.05", "student.width=0.05", "student.steps=1"],
    "nmnist": ["student.steps=3", "student.width=0.25"],
    "nmnist_speck": ["student.steps=3", "student.width=0.25"],
}


@pytest.fixture(autouse=True)
def talkative():
    yield
    set_quiet(False)


def need(name):
    """Skip where the original files of a set are not at hand: a test downloads nothing."""
    try:
        load_dataset(name, download=False, validation=0, options={"limit_train": 1, "limit_test": 1})
    except DataError as error:
        if "was not found" in str(error):
            pytest.skip(f"no files of {name} in SNNKD_DATA ({os.environ.get('SNNKD_DATA', 'not set')})")
        raise


def series(path, features=6):
    digits = load_digits()
    x = np.repeat(digits.images[:60].astype(np.uint8) * 15, 4, axis=2)[:, :, :features]
    np.savez(path, X=x, y=digits.target[:60], speaker=np.arange(60) % 12)
    return path


def pictures(folder):
    from PIL import Image

    digits = load_digits()
    for i in range(60):
        place = folder / str(digits.target[i])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[i] * 15.9).astype(np.uint8)).save(place / f"{i}.png")
    return folder


def own(name, tmp_path):
    """What the user brings."""
    if name == "own_images":
        return [f"data.options.path={pictures(tmp_path / 'photos')}", "data.options.size=16"]
    if name == "series":
        return [f"data.options.file={series(tmp_path / 'mine.npz')}", "student.steps=8"]
    if name == "keywords_xylo":
        return [f"data.options.file={series(tmp_path / 'features.npz', 32)}", "student.steps=8"]
    return []


def test_every_recipe_is_here():
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(NEEDS)


SLOW = dict.fromkeys(("cifar10_resnet20", "cifar10_resnet19"), pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in NEEDS])
def test_recipe_runs(name, tmp_path, capsys):
    if NEEDS[name]:
        need(NEEDS[name])
    words = [*TINY, *FEW, *SMALL.get(name, []), *own(name, tmp_path)]
    assert main(["run", str(EXAMPLES / f"{name}.toml"), *words, "--json", "--out", str(tmp_path / "run")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["accuracy"]["exact"] == report["accuracy"]["student"]
    assert report["fit"]["fits"], report["fit"]["violations"]
    assert (tmp_path / "run" / "report.html").stat().st_size > 50_000


@pytest.mark.parametrize(("name", "data"), [(n, d) for n, d in NEEDS.items() if d])
def test_recipe_as_it_stands_passes_preflight(name, data):
    """The full sizes: nothing is trained, but networks are built, checked against the chip and put on its cores."""
    from snnkd_deploy.chips import load_chip
    from snnkd_deploy.preflight import check_networks, check_recipe
    from snnkd_deploy.recipe import load_recipe

    need(data)
    recipe = load_recipe(EXAMPLES / f"{name}.toml", FEW)
    chip = load_chip(recipe.chip)
    check_recipe(recipe, chip, ("exact",))
    found = load_dataset(data, download=False, options=dict(recipe.data.options), validation=recipe.data.validation)
    check_networks(recipe, found, chip)


def script(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_foreign_nir_then_existing_net(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parity = script("foreign_nir").main()
    assert 0 < parity.mismatches < 0.05 * parity.spikes_compared  # rounding moves a few spikes, not many
    assert main(["convert", "lowered.nir", "lowered.net"]) == 0
    counts = script("existing_net").main("lowered.net")
    assert counts.total.sop_event > 0 and (tmp_path / "from_net.nir").exists()
    assert "2 cores" in capsys.readouterr().out


def test_library_in_30_lines(tmp_path, capsys):
    assert main(["run", str(EXAMPLES / "digits.toml"), *TINY, *FEW, "--quiet", "--out", str(tmp_path / "run")]) == 0
    parity = script("library").main(str(tmp_path / "run" / "model.nir"), backend="float", samples=4)
    assert parity.spikes_compared > 0 and "loihi1: fits" in capsys.readouterr().out


def test_losses_in_a_plain_loop(capsys):
    assert script("losses_in_your_loop").main(epochs=1) > 0.3


def test_scripts_run_as_programs(tmp_path):
    """As the README says it, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "own_student.py")], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "populations on" in done.stdout, done.stderr


def test_every_script_is_run_somewhere():
    known = {"foreign_nir", "existing_net", "library", "losses_in_your_loop", "own_student"}
    known |= {"own_teacher"}  # by own_teacher.toml
    known |= {"own_backend"}  # by tests/contract
    assert {path.stem for path in EXAMPLES.glob("*.py")} == known
