"""norse, snnTorch, sinabs and spikingjelly on random graphs: the spikes of `float` and of `exact`, or a stated reason."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from chip_models import Net
from random_nir import RandomGraph

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.float_reference import FloatBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.registry import get_backend
from snnkd_deploy.backends.simulators.membrane import exact_steps
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import BackendError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import Encoding, Profile

torch.set_num_threads(1)
DT = 2.0**-10  # so that dt / tau is exact in float32 too
NAMES = ("norse", "snntorch", "sinabs", "spikingjelly")
ALL = Record(states=True)


@pytest.fixture(params=NAMES)
def backend(request):
    chosen = get_backend(request.param)
    state = chosen.availability()
    if not state.usable:
        pytest.skip(f"{request.param}: {state.note}; {state.install}")
    return chosen


def same_spikes(got, expected):
    assert got.spikes.keys() == expected.spikes.keys()
    for name in expected.spikes:
        assert torch.equal(got.spikes[name], expected.spikes[name]), name
    assert torch.equal(got.logits, expected.logits)


# -- in real units -------------------------------------------------------------------------------------------


def profile(reset="zero", fires=">"):
    return Profile(dt_s=DT, reset=reset, fires=fires, encoding=Encoding(kind="float"))


def one_layer(kind, n=6, seed=0, dtype=np.float64, reset="zero", fires=">", dyadic=False, v_reset=0.0):
    """A dense layer and a population, uniform so that every framework can hold it."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-4, 5, (n, 5)) / 4 if dyadic else rng.normal(0, 0.7, (n, 5))
    ones = np.ones(n, dtype=dtype)
    tau = ones * DT * (2.0 if dyadic else 3.7)
    th = ones * (0.5 if dyadic else 0.31)
    neuron = {
        "if": lambda: nir.IF(r=ones / DT, v_threshold=th, v_reset=ones * v_reset),
        "lif": lambda: nir.LIF(tau, ones * 1.5, ones * 0.0 + v_reset / 2, th, ones * v_reset),
        "cuba": lambda: nir.CubaLIF(tau, tau * 2, ones * 2, ones * v_reset / 2, th, ones * v_reset, w_in=ones * 2),
    }[kind]()
    nodes = {
        "input": nir.Input({"input": np.array([5])}),
        "fc": nir.Linear(weight.astype(dtype)),
        "n": neuron,
        "output": nir.Output({"output": np.array([n])}),
    }
    edges = [("input", "fc"), ("fc", "n"), ("n", "output")]
    model = Model(nir.NIRGraph(nodes, edges, type_check=False), profile(reset, fires))
    # Few enough steps that halving every step stays exact in float32: beyond, rounding is each framework's own.
    x = (rng.random((14, 40, 5)) < 0.4).astype(dtype)
    return model, make_inputs(x, model)


@pytest.mark.parametrize("fires", [">", ">="])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["if", "lif", "cuba"])
def test_populations_with_exact_ties(backend, kind, dtype, fires):
    """Dyadic weights meet thresholds exactly: the test of the framework is not ours, the spikes are."""
    model, inputs = one_layer(kind, dtype=dtype, fires=fires, dyadic=True, v_reset=-0.25)
    assert backend.check(model) == []
    expected = FloatBackend().run(model, inputs, ALL)
    assert 0.02 < float(expected.spikes["n"].float().mean()) < 0.9
    got = backend.run(model, inputs, ALL)
    same_spikes(got, expected)
    assert torch.allclose(got.v["n"], expected.v["n"], atol=1e-5)


@pytest.mark.parametrize("kind", ["if", "lif"])
def test_soft_reset_or_its_refusal(backend, kind):
    model, inputs = one_layer(kind, reset="subtract", seed=1)
    problems = backend.check(model)
    if backend.name == "snntorch" or (backend.name == "norse" and kind == "if"):
        assert [p.where for p in problems] == ["n"]
        with pytest.raises(BackendError):
            backend.run(model, inputs, ALL)
        return
    assert problems == []
    same_spikes(backend.run(model, inputs, ALL), FloatBackend().run(model, inputs, ALL))


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(backend, seed):
    """Any graph: refused with reasons, or equal to the reference at every node."""
    graph = RandomGraph(seed, integer_values=True, uniform=seed % 2 == 0)
    model = graph.model()
    inputs = make_inputs(graph.input(30, 3), model)
    if backend.check(model):
        with pytest.raises(BackendError):
            backend.run(model, inputs, Record())
        return
    same_spikes(backend.run(model, inputs, Record()), FloatBackend().run(model, inputs, Record()))


# -- in the chip's integers ------------------------------------------------------------------------------------


def chip_net(seed=0, Dv=0, Du=4096, bias=True, **profile):
    net = Net((2, 6, 6), seed=seed)
    b = net.rng.integers(-3, 4, 4) * 64.0 if bias else None
    h1 = net.lif("lif1", net.conv("conv1", "input", net.weights((4, 2, 3, 3)), padding=1, bias=b), Dv=Dv, Du=Du, vth=90)
    pooled = net.flatten("flat", net.pool("pool", h1, 2))
    h2 = net.lif("lif2", net.dense("fc", pooled, net.weights((8, 36))), Dv=Dv, Du=Du, vth=120)
    net.loop("rec", h2, net.weights((8, 8), -20, 20))
    model = net.model(net.readout("readout", net.dense("out", h2, net.weights((3, 8)))), **profile)
    return model, make_inputs(net.spikes(12, 6, 0.3), model)


@pytest.mark.parametrize("Du", [4096, 900, 0])
def test_chip_integers_without_leak(backend, Du):
    model, inputs = chip_net(Du=Du)
    assert backend.check(model) == []
    record = Record(states=True, readout=True)
    got, expected = backend.run(model, inputs, record), ExactBackend().run(model, inputs, record)
    assert expected.spikes["lif2"].any()
    same_spikes(got, expected)
    for group in ("u", "v"):
        a, b = getattr(got, group), getattr(expected, group)
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in b)


def test_a_leak_that_truncates_is_refused_with_its_reason(backend):
    problems = backend.check(chip_net(Dv=512, steps=12)[0])
    assert [p.where for p in problems] == ["lif1", "lif2"]
    assert all("drops fractions" in p.what for p in problems)


def test_a_leak_of_powers_of_two_as_long_as_it_is_exact(backend):
    """Halving 64 multiples stays integer for seven steps, and not for eight."""
    model, inputs = chip_net(Dv=2048, steps=7)
    assert exact_steps(model, "lif1") == 7
    assert backend.check(model) == []
    short = type(inputs)(inputs.x[:7], 7)
    same_spikes(backend.run(model, short, Record()), ExactBackend().run(model, short, Record()))
    with pytest.raises(BackendError, match="drops fractions"):
        backend.run(model, inputs, Record())
    assert len(backend.check(chip_net(Dv=2048, steps=8)[0])) == 2


def test_registers_that_overflow_are_an_error_not_a_difference(backend):
    net = Net((4,), seed=1)
    hot = np.full((3, 4), 254)
    h = net.lif("lif", net.dense("fc", "input", hot, weight_exp=7), vth=131072, Dv=0)
    model = net.model(h)
    inputs = make_inputs(np.ones((20, 1, 4)), model)
    assert backend.check(model) == []
    with pytest.raises(BackendError, match="register overflows"):
        backend.run(model, inputs, Record())


def test_integers_that_decay_for_a_while():
    """What `exact_steps` counts: bits to spare over bits that a step needs."""
    for Dv, bias, steps in (
        (0, 1.0, np.inf),
        (4096, 1.0, np.inf),
        (2048, 64.0, 7),
        (2048, 8.0, 4),
        (3072, 64.0, 4),
        (512, 64.0, 3),
    ):
        net = Net((4,), seed=1)
        h = net.lif("lif", net.dense("fc", "input", net.weights((3, 4)), bias=np.array([0.0, bias, -bias])), Dv=Dv)
        assert exact_steps(net.model(h), "lif") == steps, (Dv, bias)
