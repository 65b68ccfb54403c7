"""The float reference: hand-computed steps, an obvious simulation on random graphs, conventions of files."""

import itertools

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_nir import DT, RandomGraph, simulate

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.float_reference import FloatBackend, number_type
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import BackendError, GraphError
from snnkd_deploy.graph.check import check_model
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.nirfile import read_nir
from snnkd_deploy.graph.normalise import normalise
from snnkd_deploy.graph.profile import Encoding, Profile


def chain(*nodes, shape=(1,), dt=1.0, reset="zero", **profile):
    """input -> nodes -> output as a model."""
    named = {"input": nir.Input({"input": np.array(shape)})} | {f"n{i}": node for i, node in enumerate(nodes)}
    named["output"] = nir.Output({"output": None})
    names = list(named)
    graph = nir.NIRGraph(named, list(itertools.pairwise(names)), type_check=False)
    return Model(normalise(graph), Profile(dt_s=dt, reset=reset, encoding=Encoding(kind="float"), **profile))


def run(model, x, **record):
    x = np.asarray(x, dtype=np.float64)
    x = x.reshape(len(x), 1, *model.shapes["input"]) if x.ndim == 1 else x
    return FloatBackend().run(model, make_inputs(x, model), Record(states=True, **record))


def full(**values):
    return {key: np.array([float(value)]) for key, value in values.items()}


# -- by hand ------------------------------------------------------------------------------------------------


def test_lif_by_hand():
    """tau = 2, r = 3, v_leak = 1, v_reset = -1: v += (1 - v + 3 x) / 2, from v = 0."""
    trace = run(chain(nir.LIF(**full(tau=2, r=3, v_leak=1, v_threshold=1.5, v_reset=-1))), [0, 1, 1, 0])
    assert trace.v["n0"].flatten().tolist() == [0.5, -1.0, 1.5, 1.25]
    assert trace.spikes["n0"].flatten().tolist() == [0, 1, 0, 0], "v = 1.5 is not above 1.5"


def test_reset_by_subtraction_spikes_once_a_step():
    model = chain(nir.IF(**full(r=1, v_threshold=1, v_reset=0)), reset="subtract")
    trace = run(model, [3.5, 0, 0, 0])
    assert trace.spikes["n0"].flatten().tolist() == [1, 1, 1, 0]
    assert trace.v["n0"].flatten().tolist() == [2.5, 1.5, 0.5, 0.5]


def test_cuba_uses_the_updated_current():
    """c += (2 x - c) / 4 ; v += (c - v) / 2 with the new c."""
    node = nir.CubaLIF(**full(tau_syn=4, tau_mem=2, r=1, v_leak=0, v_threshold=0.35, v_reset=0, w_in=2))
    trace = run(chain(node), [1, 1, 0])
    assert trace.u["n0"].flatten().tolist() == [0.5, 0.875, 0.65625]
    assert trace.v["n0"].flatten().tolist() == [0.25, 0.0, 0.328125]
    assert trace.spikes["n0"].flatten().tolist() == [0, 1, 0]


def test_integrators_delay_and_threshold():
    assert run(chain(nir.I(**full(r=0.5))), [1, 1, -1]).v["n0"].flatten().tolist() == [0.5, 1.0, 0.5]
    assert run(chain(nir.LI(**full(tau=2, r=1, v_leak=1))), [1, 0]).v["n0"].flatten().tolist() == [1.0, 1.0]
    node = nir.CubaLI(**full(tau_syn=2, tau_mem=1, r=2, v_leak=0, w_in=1))
    assert run(chain(node), [1, 0]).v["n0"].flatten().tolist() == [1.0, 0.5]
    model = chain(nir.Delay(np.array([2.0])), nir.Threshold(np.array([0.5])))
    assert run(model, [1, 0.5, 0.6, 0, 0]).spikes["n1"].flatten().tolist() == [0, 0, 1, 0, 1]


def test_at_threshold_where_the_profile_says_so():
    node = nir.IF(**full(r=1, v_threshold=1, v_reset=0))
    assert run(chain(node), [1, 0]).spikes["n0"].flatten().tolist() == [0, 0]
    assert run(chain(node, fires=">="), [1, 0]).spikes["n0"].flatten().tolist() == [1, 0]


def test_logits_by_what_the_output_hears():
    spiking = run(chain(nir.IF(**full(r=1, v_threshold=0.5, v_reset=0))), [1, 0, 1])
    assert spiking.logits.tolist() == [[2.0]], "counts"
    assert run(chain(nir.I(**full(r=1))), [1, 0, 2]).logits.tolist() == [[3.0]], "the last value"
    assert run(chain(nir.Scale(np.array([2.0]))), [1, 0, 2]).logits.tolist() == [[2.0]], "the mean"


# -- against the obvious simulation -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_random_graphs(seed, dyadic):
    net = RandomGraph(seed, integer_values=dyadic)
    model = net.model()
    check_model(model)
    x = net.input(10, 2)
    trace = FloatBackend().run(model, make_inputs(x, model), Record(states=True))
    for sample in range(2):
        expected = simulate(net, x[:, sample])
        for name in model.spiking:
            assert np.array_equal(trace.spikes[name][:, sample].numpy(), expected[name]), name
        for name in set(trace.v) - set(model.spiking):
            assert np.allclose(trace.v[name][:, sample].numpy(), expected[name]), name


def test_soft_reset_on_random_graphs():
    tried = 0
    for seed in range(40):
        net = RandomGraph(seed, uniform=True)
        model = net.model("subtract")
        x = net.input(10)
        trace = FloatBackend().run(model, make_inputs(x, model), Record())
        expected = simulate(net, x[:, 0], soft=True)
        for name in model.spiking:
            assert np.array_equal(trace.spikes[name][:, 0].numpy(), expected[name]), (seed, name)
            tried += int(expected[name].sum())
    assert tried > 500


# -- conventions of files -------------------------------------------------------------------------------------


def test_number_type_is_that_of_the_file():
    half = nir.LIF(*np.ones((5, 1), dtype=np.float32))
    assert number_type(chain(half)) == torch.float32
    assert number_type(chain(half, nir.Linear(np.ones((1, 1))))) == torch.float64


def test_float32_ties_are_those_of_float32():
    weight = np.full((1, 10), 0.1, dtype=np.float32)
    node = nir.LIF(*(np.full(1, v, dtype=np.float32) for v in (1, 1, 0, 1)))
    trace = run(chain(nir.Linear(weight), node, shape=(10,)), np.ones((1, 1, 10)))
    expected = torch.nn.functional.linear(torch.ones(1, 10), torch.from_numpy(weight)) > 1
    assert bool(trace.spikes["n1"].any()) == bool(expected)


def test_a_constant_input_is_held_and_meets_delays_in_time():
    model = chain(nir.Delay(np.array([1.0])), nir.I(**full(r=1)))
    trace = FloatBackend().run(model, make_inputs(np.ones((1, 1, 1)), model, 4), Record(states=True))
    assert trace.v["n1"].flatten().tolist() == [0.0, 1.0, 2.0, 3.0]


def test_padding_same_with_an_even_kernel_is_torchs():
    weight = torch.randn(2, 3, 2, 4, dtype=torch.float64)
    node = nir.Conv2d((5, 6), weight.numpy(), 1, "same", 1, 1, np.zeros(2))
    x = torch.randn(1, 3, 5, 6, dtype=torch.float64)
    trace = run(chain(node, nir.I(np.ones((2, 5, 6))), shape=(3, 5, 6)), x[None].numpy())
    expected = torch.nn.functional.conv2d(x, weight, padding="same")
    assert torch.allclose(trace.v["n1"][0], expected)


def test_average_counts_its_padding():
    node = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([1, 1]))
    trace = run(chain(node, nir.I(np.ones((1, 2, 2))), shape=(1, 2, 2)), np.ones((1, 1, 1, 2, 2)))
    assert set(trace.v["n1"].flatten().tolist()) == {0.25}


def test_subtract_with_a_reset_voltage_is_refused():
    model = chain(nir.IF(**full(r=1, v_threshold=1, v_reset=-1)), reset="subtract")
    with pytest.raises(GraphError):
        check_model(model)
    with pytest.raises(BackendError, match="no meaning"):
        run(model, [1.0])


def test_a_lowered_model_runs_in_real_units():
    from chip_models import Net

    net = Net((8,), seed=2)
    a = net.lif("a", net.dense("d1", "input", net.weights((12, 8)), bias=np.zeros(12)), vth=90, Dv=1024)
    model = net.model(net.readout("r", net.dense("d2", a, net.weights((4, 12)))))
    # In this helper's units NIR's LIF multiplies by dt/tau: give the float side what `lower` would write.
    model.nodes["d1"].weight = model.nodes["d1"].weight * 4
    params = model.profile.nodes["d1"].model_copy(update={"weight_scale": 16.0})
    model.profile.nodes["d1"] = params
    x = make_inputs(net.spikes(8, 30), model)
    integers, floats = ExactBackend().run(model, x, Record()), FloatBackend().run(model, x, Record())
    differ = (integers.spikes["a"] != floats.spikes["a"]).double().mean()
    assert integers.spikes["a"].any() and differ < 0.02


def test_files_of_other_tools_run(tmp_path):
    net = RandomGraph(5)
    nir.write(tmp_path / "f.nir", net.graph())
    model = read_nir(tmp_path / "f.nir", dt_s=DT, reset="zero")
    x = net.input(6)
    trace = FloatBackend().run(model, make_inputs(x, model), Record())
    expected = simulate(net, x[:, 0])
    assert all(np.array_equal(trace.spikes[n][:, 0].numpy(), expected[n]) for n in model.spiking)
