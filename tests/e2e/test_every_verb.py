"""Every verb: one JSON object with --json, silence on stderr with --quiet, an example in --help that can be typed."""

import json
import re
import runpy
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from snnkd_deploy.cli import _parse, build_parser, main, verbs_of
from snnkd_deploy.recipe import make_recipe, recipe_toml

QUICK = ["teacher.epochs=1", "teacher.width=0.1", "train.epochs=1", "train.chip_epochs=1", "student.width=0.25"]
QUICK += ["student.threshold=0.3", 'validate.backends=["exact"]', "validate.samples=5"]
QUICK += ["data.options.limit_train=60", "data.options.limit_test=10"]

# The words of each verb, from a folder with a run in it.
CALLS = {
    "demo": ["--out", "demo"],
    "new": ["digits", "-o", "new.toml"],
    "run": ["recipe.toml", *QUICK, "--out", "second"],
    "sweep": ["recipe.toml", *QUICK, "--steps", "2,3", "--out", "sweep"],
    "teacher": ["run"],
    "distill": ["run"],
    "export": ["run"],
    "validate": ["run"],
    "evaluate": ["run"],
    "report": ["run"],
    "report --compare": ["--compare", "run", "other", "-o", "compare.html"],
    "simulate": ["run/model.nir", "--input", "X.npz", "-o", "again.npz", "--state"],
    "compare": ["T.npz", "T.npz"],
    "compare --backends": ["run/model.nir", "--backends", "exact,onnx", "--input", "X.npz"],
    "lower": ["foreign.nir", "--chip", "loihi2", "--dt", "1e-4", "--reset", "zero", "-o", "lowered.nir"],
    "convert": ["run/model.nir", "model.net"],
    "show": ["run/model.nir", "--svg", "model.svg"],
    "fit": ["run/model.nir", "--chip", "all"],
    "energy": ["run/model.nir", "--chip", "loihi1", "--trace", "T.npz"],
    "chips": ["loihi2"],
    "chips --schema": ["--schema"],
    "backends": [],
    "completion": ["bash"],
    "doctor": [],
}


@pytest.fixture(scope="module")
def desk(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    for name in ("run", "other"):
        shutil.copytree(tiny_run.folder, folder / name)
    (folder / "recipe.toml").write_text(recipe_toml(tiny_run.recipe))
    np.savez(folder / "X.npz", x=tiny_run.data.test.x[:6].numpy()[None], T=np.array(3))
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "foreign_nir.py"))["example"]
    example(folder / "foreign.nir", 1e-4)
    model, x, trace = (str(folder / name) for name in ("run/model.nir", "X.npz", "T.npz"))
    assert main(["simulate", model, "--input", x, "-o", trace]) == 0
    return folder


@pytest.fixture
def here(desk, monkeypatch):
    monkeypatch.chdir(desk)
    quick = make_recipe({}, QUICK)
    monkeypatch.setattr("snnkd_deploy.demo.demo_recipe", lambda: quick)
    return desk


def skip_without_onnx(call):
    if call == "compare --backends":
        pytest.importorskip("onnxruntime", reason="the second backend of this call")


def test_every_verb_is_called():
    assert {call.split()[0] for call in CALLS} == set(verbs_of(build_parser()))


@pytest.mark.parametrize("call", CALLS)
def test_one_json_object_and_nothing_else(call, here, capfd):
    skip_without_onnx(call)
    code = main([call.split()[0], *CALLS[call], "--json"])
    out, err = capfd.readouterr()
    assert code == 0, err
    assert isinstance(json.loads(out), dict)  # fails on a second object or a stray line
    assert err == ""


@pytest.mark.parametrize("call", CALLS)
def test_quiet_says_nothing_on_stderr(call, here, capfd):
    skip_without_onnx(call)
    if call == "new":
        (here / "new.toml").unlink(missing_ok=True)
    assert main([call.split()[0], *CALLS[call], "--quiet"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("verb", verbs_of(build_parser()))
def test_the_example_of_the_help_can_be_typed(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    examples = re.split(r"\n| && ", text.split("example:\n")[1].strip())
    assert any(line.strip().startswith(f"snnkd {verb}") for line in examples)
    for line in examples:
        words = shlex.split(line.split(">")[0])  # the shell keeps what comes after >
        assert words[0] == "snnkd" and _parse(words[1:]) is not None
