"""`--worker` and streaming from the command line: a run that was cut goes on where it was."""

from __future__ import annotations

import errno
import json
import sys

import numpy as np
import pytest

from snnkd_deploy.backends.stream import stream
from snnkd_deploy.cli import main


@pytest.fixture
def case(tiny_run, tmp_path):
    model = tiny_run.folder / "model.nir"
    x = np.random.default_rng(0).integers(0, 17, (1, 24, 1, 8, 8))
    np.savez(tmp_path / "x.npz", x=x, T=3)
    return str(model), str(tmp_path / "x.npz"), tmp_path


def call(capsys, *words):
    code = main([str(word) for word in words])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_simulate_behind_a_worker_gives_the_same_trace(case, capsys):
    model, x, folder = case
    common = ("simulate", model, "--input", x, "--state", "--json")
    assert call(capsys, *common, "-o", folder / "here.npz")[0] == 0
    code, out, _ = call(capsys, *common, "-o", folder / "there.npz", "--worker", sys.executable, "--chunk", "10")
    assert code == 0
    found = json.loads(out)
    assert found["stream"]["chunks"] == 3 and found["stream"]["samples_per_s"] > 0
    assert "snnkd_deploy.backends.worker" in found["worker"]
    with np.load(folder / "here.npz") as a, np.load(folder / "there.npz") as b:
        assert a.files == b.files
        assert all(a[k].tobytes() == b[k].tobytes() and a[k].dtype == b[k].dtype for k in a.files if k != "meta")
    assert not list(folder.glob("*.chunks"))


def test_an_interrupted_simulation_goes_on(case, capsys, monkeypatch):
    model, x, folder = case
    words = ("simulate", model, "--input", x, "-o", folder / "t.npz", "--chunk", "6", "--json")
    from snnkd_deploy import api

    def cut(backend, model, inputs, record, *, progress=None, **options):
        def stop(done, total):
            if done >= 12:
                raise KeyboardInterrupt

        return stream(backend, model, inputs, record, progress=stop, **options)

    monkeypatch.setattr(api, "stream", cut)
    assert call(capsys, *words)[0] == 130
    assert len(list((folder / "t.npz.chunks").glob("*.npz"))) == 2 and not (folder / "t.npz").exists()
    monkeypatch.undo()
    code, out, _ = call(capsys, *words)
    assert code == 0 and json.loads(out)["stream"]["resumed"] == 12
    assert (folder / "t.npz").exists() and not (folder / "t.npz.chunks").exists()


def test_a_full_disk_keeps_what_is_finished_and_says_where(case, capsys, monkeypatch):
    model, x, folder = case
    words = ("simulate", model, "--input", x, "-o", folder / "t.npz", "--chunk", "6", "--json")
    real, written = np.savez_compressed, []

    def disk(file, **arrays):
        written.append(file)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, **arrays)

    monkeypatch.setattr(np, "savez_compressed", disk)
    code, out, err = call(capsys, *words)
    assert code == 1 and out == ""
    assert f"{folder / 't.npz.chunks'}" in err and "No space left on device" in err
    monkeypatch.undo()
    assert len(list((folder / "t.npz.chunks").iterdir())) == 2  # nothing half written
    code, out, _ = call(capsys, *words)
    assert code == 0 and json.loads(out)["stream"]["resumed"] == 12


def test_a_worker_that_is_none_is_one_clear_error(case, capsys):
    model, x, folder = case
    code, out, err = call(capsys, "simulate", model, "--input", x, "-o", folder / "t.npz", "--worker", "echo hello")
    assert code == 1 and out == ""
    assert "not the protocol of a worker, but 'hello'" in err and "Traceback" not in err
    code, _, err = call(capsys, "simulate", model, "--input", x, "-o", folder / "t.npz", "--worker", "lava=python3")
    assert code == 2 and "no backend 'lava' in this call" in err


def test_matrix_from_the_command_line(capsys):
    code, out, _ = call(capsys, "compare", "--matrix", "--samples", "3", "--backends", "exact,float", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["good"] and {c["model"] for c in found["cells"]} >= {"mlp", "conv", "residual", "pooled", "recurrent"}
    assert call(capsys, "compare", "--matrix", "--samples", "0")[0] == 2
    assert call(capsys, "compare")[0] == 2
