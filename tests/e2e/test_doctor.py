"""`snnkd doctor` tells the truth: with the core packages alone, with what is here, with Lava in another interpreter."""

import importlib.metadata as metadata
import importlib.util
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from snnkd_deploy.doctor import examine

ROOT = Path(__file__).parents[2]
OPTIONAL = {"lava": "lava", "netx": "lava.lib.dl", "onnx": "onnxruntime", "norse": "norse", "sinabs": "sinabs"}
OPTIONAL |= {"snntorch": "snntorch", "speck": "sinabs", "spikingjelly": "spikingjelly"}


def core_names():
    """The package's own dependencies and theirs: what `pip install snnkd_deploy` brings, no extra of it."""
    found, waiting = set(), ["snnkd_deploy"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for text in metadata.requires(name) or []:
            wanted = Requirement(text)
            try:
                metadata.distribution(wanted.name)
            except metadata.PackageNotFoundError:
                continue
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(wanted.name)
    return found


@pytest.fixture(scope="module")
def core_only(tmp_path_factory):
    """A folder that holds the core packages and nothing else; a call of doctor that sees only that."""
    site = tmp_path_factory.mktemp("site")
    for name in core_names():
        distribution = metadata.distribution(name)
        for entry in {file.parts[0] for file in distribution.files or []} - {".."}:
            source = Path(str(distribution.locate_file(entry)))
            if source.exists() and not (site / entry).exists():
                (site / entry).symlink_to(source)
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(site)!r}]; from snnkd_deploy.cli import main; "
    code += "sys.exit(main(['doctor', '--json']))"

    def call(**environment):
        # -I -S: neither the environment's site-packages nor PYTHONPATH.
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return {f["what"]: f for f in json.loads(done.stdout)["findings"]}

    return call


def test_core_only(core_only):
    found = core_only(SNNKD_LAVA_PYTHON="", SNNKD_NETX_PYTHON="", SNNKD_REPLAY="", SNNKD_DATA="")
    assert found["torch"]["ok"] and found["backend exact"]["ok"] and found["backend float"]["ok"]
    for name in OPTIONAL:
        finding = found[f"backend {name}"]
        assert not finding["ok"] and "install" in finding["remedy"], finding
    assert "--ignore-requires-python lava-nc" in found["backend lava"]["remedy"]
    assert "[onnx]" in found["backend onnx"]["remedy"]


def test_lava_in_another_interpreter(core_only, tmp_path):
    if importlib.util.find_spec("lava") is None:
        pytest.skip("lava-nc is not installed: there is no other interpreter with it")
    python = tmp_path / "python-with-lava"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    lava = core_only(SNNKD_LAVA_PYTHON=str(python))["backend lava"]
    assert lava["ok"] and "lava-nc 0.10.0" in lava["state"] and str(python) in lava["state"]
    gone = core_only(SNNKD_LAVA_PYTHON=str(tmp_path / "nowhere"))["backend lava"]
    assert not gone["ok"] and "nowhere" in gone["state"]


def test_here_every_usable_backend_can_be_imported(monkeypatch):
    for name in ("SNNKD_LAVA_PYTHON", "SNNKD_NETX_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    findings = {f.what: f for f in examine().findings}
    for name, module in OPTIONAL.items():
        if findings[f"backend {name}"].ok:
            assert importlib.util.find_spec(module.split(".")[0]) is not None, name
        else:
            assert findings[f"backend {name}"].remedy, name


def test_extras_are_shown_as_they_are_typed(capsys):
    from rich.console import Console

    table = examine().render()
    with Console(width=300, record=True, file=open(os.devnull, "w")) as console:
        console.print(table)
    shown = console.export_text()
    if importlib.util.find_spec("onnxruntime") is None:
        assert "snnkd_deploy[onnx]" in shown


@pytest.mark.parametrize(
    ("variable", "value", "what"),
    [("SNNKD_DATA", "/no/such/folder", "data"), ("CXX", "no-such-compiler", "C++ compiler")],
)
def test_what_is_set_wrongly_is_said(variable, value, what, monkeypatch):
    monkeypatch.setenv(variable, value)
    finding = next(f for f in examine().findings if f.what == what)
    assert not finding.ok and value in finding.state + finding.remedy and finding.remedy


def test_data_folders_and_their_sets(tmp_path, monkeypatch):
    (tmp_path / "mine" / "MNIST").mkdir(parents=True)
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    states = [f.state for f in examine().findings if f.what == "data"]
    assert len(states) == 2 and "MNIST" in states[0] and "empty" in states[1]


def test_a_strangers_broken_backend_does_not_stop_it(monkeypatch):
    import snnkd_deploy.doctor as doctor

    def broken(name):
        raise ImportError("libfoo.so is missing")

    monkeypatch.setattr(doctor, "get_backend", broken)
    finding = next(f for f in examine().findings if f.what == "backend exact")
    assert not finding.ok and "libfoo.so" in finding.state
