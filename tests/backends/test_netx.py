"""lava-dl's netx on our `.net` files, streamed in windows, against `exact`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chip_models import Net

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.lava.netx import NetxBackend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import BackendError

_STATE = NetxBackend().availability()
NEEDS_NETX = pytest.mark.skipif(not _STATE.usable, reason=f"netx: {_STATE.note} ({_STATE.install})")


def chain(kind, seed=2):
    """(model, inputs): what a .net file holds, from spikes or from an image on the host."""
    if kind == "current":
        net = Net((2, 6, 5), encoding="current", levels=15, seed=seed)
        host = net.conv("conv0", "input", net.weights((3, 2, 3, 3), -9, 9), padding=1, place="host", shift=1)
        h = net.lif("lif0", host, vth=60, Dv=700)
    else:
        net = Net((2, 6, 5), seed=seed)
        h = "input"
    if kind == "dense":
        h = net.flatten("flat0", h)
        h = net.lif("lif1", net.dense("fc1", h, net.weights((8, 60))), vth=70, Dv=300)
    elif kind == "recurrent":
        h = net.flatten("flat0", h)
        h = net.lif("lif1", net.dense("fc1", h, net.weights((8, 60))), vth=70, Dv=300)
        net.loop("rec", h, net.weights((8, 8), -30, 30))
    else:
        bias = net.rng.integers(-9, 9, 4) * 64.0
        h = net.lif(
            "lif1",
            net.conv("conv1", h, net.weights((4, net.shape(h)[0], 3, 2)), stride=2, bias=bias),
            vth=70,
            Du=900,
            bias_exp=6,
        )
        h = net.flatten("flat1", h)
    h = net.lif("lif2", net.dense("fc2", h, net.weights((6, net.shape(h)[0]))), vth=50, Dv=0)
    model = net.model(net.readout("readout", net.dense("out", h, net.weights((3, 6)))))
    return model, make_inputs(net.spikes(6, 5, 0.4), model, 6)


@NEEDS_NETX
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["conv", "dense", "recurrent", "current"])
def test_same_spikes_and_states(kind):
    model, inputs = chain(kind)
    backend = NetxBackend()
    assert backend.check(model) == []
    for record in (Record(), Record(states=True, readout=True)):
        got, expected = backend.run(model, inputs, record), ExactBackend().run(model, inputs, record)
        assert torch.equal(got.logits, expected.logits)
        for group in ("spikes", "u", "v"):
            a, b = getattr(got, group), getattr(expected, group)
            assert a.keys() == b.keys()
            for name in b:
                if (group, name) == ("u", "lif0"):  # a .net file puts the image into the bias: u stays empty
                    assert not a[name].any()
                else:
                    assert torch.equal(a[name], b[name]), (group, name)
        assert all(expected.spikes[n].any() for n in expected.spikes)


def test_what_a_net_file_does_not_hold_is_refused_at_once():
    net = Net((4,), seed=1)
    a = net.lif("a", net.dense("fa", "input", net.weights((4, 4))))
    b = net.lif("b", net.dense("fb", a, net.weights((4, 4))))
    c = net.lif("c", [net.dense("fc", b, net.weights((3, 4))), net.dense("skip", a, net.weights((3, 4)))])
    d = net.lif("d", [net.dense("fd", c, net.weights((3, 3))), net.dense("skip2", b, net.weights((3, 4)))])
    model = net.model(d)
    problems = NetxBackend().check(model)
    assert len(problems) >= 2
    assert sum("branches" in p.what for p in problems) >= 2, problems


def test_a_loop_that_its_bias_would_start_early_is_refused():
    net = Net((4,), seed=1)
    h = net.lif("lif", net.dense("fc", "input", net.weights((3, 4)), bias=np.array([0.0, 64.0, -64.0])), bias_exp=6)
    net.loop("rec", h, net.weights((3, 3)))
    problems = NetxBackend().check(net.model(net.readout("readout", net.dense("out", h, net.weights((2, 3))))))
    assert [p.where for p in problems] == ["lif"] and "loop" in problems[0].what


def test_a_missing_interpreter_is_said(monkeypatch):
    monkeypatch.setenv("SNNKD_NETX_PYTHON", "/nowhere/python")
    state = NetxBackend().availability()
    assert not state.usable and "/nowhere/python" in state.note and "lava-dl" in state.install
    model, inputs = chain("dense")
    with pytest.raises(BackendError, match="not usable here"):
        NetxBackend().run(model, inputs, Record())
