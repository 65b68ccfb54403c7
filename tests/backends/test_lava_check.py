"""What `lava` refuses, and its algebra against torch. None of this needs Lava."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from snnkd_deploy.backends.base import Backend
from snnkd_deploy.backends.lava import LavaBackend, availability
from snnkd_deploy.backends.lava.schedule import depths_of
from snnkd_deploy.backends.registry import get_backend
from snnkd_deploy.backends.routes import Routes
from snnkd_deploy.backends.unroll import conv_matrix, sign_mode


def small(net_type, **options):
    net = net_type((6,), **options)
    net.lif("l1", net.dense("d1", "input", net.weights((5, 6))), vth=40)
    return net


def texts(model, **options):
    return [str(problem) for problem in LavaBackend(**options).check(model)]


def test_is_registered_and_keeps_the_contract():
    backend = get_backend("lava")
    assert isinstance(backend, LavaBackend) and isinstance(backend, Backend)


def test_supported_model_has_no_problem(net_type):
    net = small(net_type)
    net.readout("r", net.dense("d2", "l1", net.weights((3, 5))))
    assert texts(net.model("r")) == []


def test_model_without_chip(net_type):
    (problem,) = LavaBackend().check(small(net_type).model("l1", chip=None))
    assert "no integers" in problem.what and "snnkd lower" in problem.remedy


def test_every_reason_is_named_at_once(net_type):
    net = small(net_type)
    net.chip = net.chip.model_copy(
        update={"neuron": net.chip.neuron.model_copy(update={"reset": "subtract", "u_bits": 16})}
    )
    net.dense("odd", "l1", np.array([[3, -5, 1, 1, 1]] * 5))
    net.dense("slow", "l1", net.weights((5, 5)), delay=(70,))
    net.lif("l2", ["odd", "slow"], vth=40)
    net.dense("uneven", "l2", net.weights((5, 5)), delay=(0, 1, 2, 1, 0), weight_exp=-1)
    net.lif("l3", "uneven", vth=40)
    found = "\n".join(texts(net.model("l3")))
    for reason in ("another reset", "another u_bits", "clip or truncate", "out of range", "negative weight exp"):
        assert reason in found, reason


@pytest.mark.parametrize(
    ("weights", "mode"),
    [
        ([-256, 254, 0], "MIXED"),
        ([2, 4], "MIXED"),
        ([1, 255], "EXCITATORY"),
        ([-255, -1], "INHIBITORY"),
        ([-256, -2], "MIXED"),  # pure sign, but Lava's INHIBITORY would clip it to -255
        ([-256, -1], None),
        ([-2, 3], None),
        ([256], None),
        ([], "MIXED"),
    ],
)
def test_sign_mode(weights, mode):
    assert sign_mode(np.array(weights, dtype=np.int64)) == mode


def test_loop_over_two_populations_is_faster_than_its_synapses(net_type):
    """Two synapses, one logical step: no chip can do it; a delay on the way back pays for it."""

    def loop(**params):
        net = small(net_type)
        net.lif("l2", net.dense("d2", "l1", net.weights((4, 5))), vth=40)
        net.dense("back", "l2", net.weights((5, 4)), **params)
        net.edges.append(("back", "l1"))
        return net.model("l2")

    assert any("faster than its synapses" in text for text in texts(loop()))
    assert texts(loop(delay=(1,))) == []


def test_weights_behind_weights(net_type):
    net = net_type((6,))
    net.dense("d1", "input", net.weights((5, 6)))
    net.lif("l1", net.dense("d2", "d1", net.weights((5, 5))))
    assert any("weights behind weights" in text for text in texts(net.model("l1")))


def test_readout_that_feeds_a_population(net_type):
    net = small(net_type)
    net.readout("r", net.dense("d2", "l1", net.weights((3, 5))))
    net.lif("l2", net.dense("d3", "r", net.weights((2, 3))))
    assert any("sends no spikes" in text for text in texts(net.model("l2")))


def test_graded_convolution_that_may_wrap_needs_lavas_own(net_type):
    net = net_type((2, 4, 4), "graded", levels=2**16, bits=16)
    net.lif("l1", net.conv("c", "input", np.full((2, 2, 3, 3), 254), message_bits=16))
    model = net.model("l1")
    assert any("wrap at 24 bits" in text for text in texts(model)) and texts(model, conv="conv") == []


def test_large_unrolled_convolution_names_the_way_out(net_type):
    net = net_type((64, 224, 224))
    net.lif("l1", net.conv("c", "input", net.weights((64, 64, 3, 3), 1, 255), padding=1))
    problems = LavaBackend().check(net.model("l1"))
    assert "unrolled" in problems[0].what and "conv='conv'" in problems[0].remedy


def test_hardware_refuses_what_only_the_cpu_can_do(net_type):
    net = small(net_type, encoding="current", levels=9)
    net.params["d1"] = net.params["d1"].model_copy(update={"place": "host"})
    net.loop("rec", "l1", net.weights((5, 5)))
    found = "\n".join(texts(net.model("l1"), hardware=True))
    assert "no counterpart on the chip" in found and "cross samples" in found


def test_depth_counts_synapses_on_the_longest_path(net_type):
    net = small(net_type)
    net.lif("l2", net.dense("d2", "l1", net.weights((5, 5))))
    net.lif("l3", [net.dense("d3", "l2", net.weights((5, 5))), net.dense("skip", "input", net.weights((5, 6)))])
    model = net.model("l3")
    assert depths_of(model, Routes(model)) == {"l1": 1, "l2": 2, "l3": 3}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_unrolled_convolution_equals_torch(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    groups = draw(1, 2)
    shape = (groups * draw(1, 2), draw(3, 7), draw(3, 7))
    kernel = (groups * draw(1, 2), shape[0] // groups, draw(1, 3), draw(1, 3))
    stride, padding = (draw(1, 3), draw(1, 3)), (draw(0, 2), draw(0, 2))
    dilation = (draw(1, 2) if shape[1] > 4 else 1, draw(1, 2) if shape[2] > 4 else 1)
    rng = np.random.default_rng(draw(0, 2**20))
    weight, x = rng.integers(-9, 10, kernel), rng.integers(0, 5, (1, *shape))
    want = F.conv2d(*(torch.from_numpy(a).double() for a in (x, weight)), None, stride, padding, dilation, groups)
    got = conv_matrix(weight, shape, stride, padding, dilation, groups) @ x.ravel()
    np.testing.assert_array_equal(got, want.numpy().ravel())


def test_other_interpreters_are_asked(monkeypatch, tmp_path):
    missing = LavaBackend(python=str(tmp_path / "python")).availability()
    assert not missing.usable and "cannot run" in missing.note
    silent = tmp_path / "python3"
    silent.write_text("#!/bin/sh\nexit 1\n")
    silent.chmod(0o755)
    monkeypatch.setenv(availability.PYTHON_VARIABLE, str(silent))
    state = LavaBackend().availability()
    assert not state.usable and "not installed" in state.note and "--no-deps" in state.install


def test_python_without_lava_support_says_so(monkeypatch):
    monkeypatch.setattr(availability.sys, "version_info", (3, 13, 1))
    state = LavaBackend().availability()
    assert not state.usable and "3.13" in state.note and availability.PYTHON_VARIABLE in state.install


def test_missing_lava_gives_both_pip_lines(monkeypatch):
    def absent(name):
        raise availability.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(availability.importlib.metadata, "version", absent)
    monkeypatch.setattr(availability.sys, "version_info", (3, 11, 7))
    state = LavaBackend().availability()
    assert not state.usable
    assert state.install.splitlines() == [
        "pip install scipy networkx asteval",
        "pip install --no-deps --ignore-requires-python lava-nc==0.10.0",
    ]


def test_importing_the_backend_does_not_import_lava():
    code = (
        "import sys, snnkd_deploy.backends.lava as b; b.LavaBackend().availability(); assert 'lava' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_child_imports_no_torch(tmp_path):
    """Started by path, the child's imports must not pull in the package's own __init__s."""
    child = Path(availability.__file__).with_name("child.py")
    command = [sys.executable, "-X", "importtime", str(child), str(tmp_path), "lava"]
    with open(tmp_path / "log", "wb") as log:  # stdin stays open: its end means that the caller is gone
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log)
        assert process.wait(timeout=60) == 1
    process.stdin.close()
    assert (tmp_path / "error.json").exists()  # there is no plan to run
    imported = (tmp_path / "log").read_text()
    assert "numpy" in imported and "torch" not in imported and "pydantic" not in imported
