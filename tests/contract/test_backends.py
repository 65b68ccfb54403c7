"""The contract: what every backend that is usable here has to do, the example in examples/ too."""

import importlib.util
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from chip_models import Net
from family_nets import FamilyNet

from snnkd_deploy.backends.base import Availability, Backend, Inputs
from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.registry import backend_names, get_backend
from snnkd_deploy.backends.replay import ReplayBackend, stamp
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.backends.worker import WorkerBackend
from snnkd_deploy.errors import BackendError, DataError, Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import NeuronParams

torch.set_num_threads(1)
STEPS, SAMPLES = 5, 4
REAL = {"float"}  # runs a lowered model too, in real units and without the chip's roundings


def example():
    path = Path(__file__).parents[2] / "examples" / "own_backend.py"
    spec = importlib.util.spec_from_file_location("own_backend", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MyBackend()


@pytest.fixture(scope="module")
def case(backend, chain):
    """The chain, or one of the same shape for a backend of another chip."""
    other = {"speck": speck_chain, "xylo": xylo_chain}.get(backend.name)
    return chain if other is None else other()


def speck_chain():
    net = Net((6,), seed=4, chip="speck2f")
    at = "input"
    for i, (size, vth) in enumerate(((8, 150), (5, 130)), start=1):
        dense = net.dense(f"fc{i}", at, net.weights((size, net.shape(at)[0]), -100, 127))
        ones = np.ones(size)
        node = nir.IF(r=ones / 1e-3, v_threshold=ones * vth / 64)
        at = net.add(f"lif{i}", node, dense, NeuronParams(vth=vth, v_min=-vth, bias_exp=0))
    model = net.model(at, reset="subtract", fires=">=")
    return model, make_inputs(net.spikes(STEPS, SAMPLES, 0.5), model)


def xylo_chain():
    net = FamilyNet((6,), seed=4, chip="xylo_a2")
    net.dense("fc1", "input", net.integers((8, 6), -60, 120))
    net.population("lif1", "fc1", vth=400, dash_syn=1, dash_mem=3, max_spikes=31)
    net.dense("fc2", "lif1", net.integers((5, 8)), delay=(1,))
    net.population("lif2", "fc2", vth=90, dash_syn=2, dash_mem=4, max_spikes=1)
    model = net.model("lif2", reset="subtract", fires=">=")
    return model, make_inputs(net.spikes(STEPS, SAMPLES, 0.5), model)


@pytest.fixture(scope="module")
def chain():
    """A chain that every backend can run: dense, IF with a decaying current, dense, IF; spikes counted."""
    net = Net((6,), seed=4)
    h1 = net.lif("lif1", net.dense("fc1", "input", net.weights((8, 6))), vth=60, Du=4096, Dv=0)
    h2 = net.lif("lif2", net.dense("fc2", h1, net.weights((5, 8))), vth=40, Du=1700, Dv=0)
    model = net.model(h2)
    return model, make_inputs(net.spikes(STEPS, SAMPLES, 0.5), model)


@pytest.fixture(scope="module", params=[*backend_names(), "example", "worker"])
def backend(request, chain, tmp_path_factory):
    name = request.param
    if name == "worker":  # the reference in another process is held to the same contract
        behind = WorkerBackend("exact")
        request.addfinalizer(behind.close)
        return behind
    if name == "example":
        return example()
    if name == "replay":  # a recording of the case stands in for the board
        model, inputs = chain
        path = tmp_path_factory.mktemp("replay") / "t.npz"
        stamp(ExactBackend().run(model, inputs, Record(states=True, readout=False)), model, inputs).save(path)
        return ReplayBackend(path)
    chosen = get_backend(name)
    state = chosen.availability()
    if not state.usable:
        pytest.skip(f"{name}: {state.note or state.install}")
    return chosen


@pytest.fixture(scope="module")
def whole(backend, case):
    return backend.run(*case, Record(states=True))


def same(a, b):
    assert torch.equal(a.logits, b.logits)
    assert a.spikes.keys() == b.spikes.keys()
    assert all(torch.equal(a.spikes[n], b.spikes[n]) for n in a.spikes)


@pytest.mark.parametrize("name", [*backend_names(), "example"])
def test_availability_never_raises(name, monkeypatch):
    monkeypatch.setenv("SNNKD_REPLAY", "/nowhere/trace.npz")
    monkeypatch.setenv("SNNKD_LAVA_PYTHON", "/nowhere/python")
    chosen = example() if name == "example" else get_backend(name)
    assert isinstance(chosen, Backend) and chosen.name
    state = chosen.availability()
    assert isinstance(state, Availability)
    assert state.usable or state.install or state.note


def test_check_accepts_the_case_and_does_not_change_it(backend, case):
    model, _ = case
    before = model.sha256
    assert backend.check(model) == []
    assert Model(model.graph, model.profile).sha256 == before


def test_check_names_every_problem_and_run_refuses(backend, case):
    """Two average pools and no recording: whatever a backend cannot do, it says at once, and run refuses the same."""
    model, _ = case
    if backend.name == "float":
        pytest.skip("float runs these graphs")
    ones = np.array([1, 1])
    pools = {f"bad{i}": nir.AvgPool2d(ones, ones, np.array([0, 0])) for i in (1, 2)}
    nodes = {"input": nir.Input({"input": np.array([2, 4, 4])}), **pools}
    nodes["output"] = nir.Output({"output": np.array([2, 4, 4])})
    edges = [("input", "bad1"), ("bad1", "bad2"), ("bad2", "output")]
    profile = model.profile.model_copy(update={"nodes": {}})
    bad = Model(nir.NIRGraph(nodes, edges, type_check=False), profile)
    problems = backend.check(bad)
    assert problems and all(isinstance(p, Problem) for p in problems)
    if backend.name != "replay":  # a recording knows its model, not the model's parts
        assert {"bad1", "bad2"} <= {p.where for p in problems}
    with pytest.raises(BackendError):
        backend.run(bad, Inputs(torch.zeros(STEPS, 1, 2, 4, 4), STEPS), Record())


def test_shapes_types_and_meta(whole, case):
    model, _ = case
    for name in model.spiking:
        assert whole.spikes[name].shape == (STEPS, SAMPLES, *model.shapes[name])
        most = model.profile.chip.neuron.max_spikes or 255  # several a step on some chips
        assert whole.spikes[name].dtype == torch.uint8 and int(whole.spikes[name].max()) <= most
        assert whole.v[name].shape == whole.spikes[name].shape
    assert whole.logits.shape == (SAMPLES, 5) and whole.logits.dtype == torch.float64
    assert whole.meta["backend"]


def test_logits_and_predictions(whole):
    assert torch.equal(whole.logits, whole.spikes["lif2"].double().sum(0))
    assert torch.equal(whole.predictions, torch.from_numpy(np.argmax(whole.logits.numpy(), 1)))


def test_integer_backends_are_exact(backend, whole, case):
    if backend.name in REAL:
        pytest.skip("runs in real units")
    reference = ExactBackend().run(*case, Record(states=True))
    same(whole, reference)
    assert all(torch.equal(whole.v[n], reference.v[n]) for n in reference.v)


def test_a_leak_that_truncates_is_run_exactly_or_refused(backend):
    """The one arithmetic that frameworks of real numbers do not have: they say so, and never come close instead."""
    if backend.name in REAL | {"replay", "speck", "xylo"}:
        pytest.skip("runs in real units, or another chip, or nothing at all")
    net = Net((6,), seed=5)
    h1 = net.lif("lif1", net.dense("fc1", "input", net.weights((8, 6))), vth=60, Dv=400)
    model = net.model(net.lif("lif2", net.dense("fc2", h1, net.weights((5, 8))), vth=40, Dv=700))
    inputs = make_inputs(net.spikes(STEPS, SAMPLES, 0.5), model)
    if problems := backend.check(model):
        assert {p.where for p in problems} == {"lif1", "lif2"} and all(p.remedy for p in problems)
        with pytest.raises(BackendError):
            backend.run(model, inputs, Record())
    else:
        same(backend.run(model, inputs, Record()), ExactBackend().run(model, inputs, Record()))


@pytest.mark.parametrize("wrong", ["shape", "features", "nan", "no_steps", "steps", "not_integer"])
def test_wrong_inputs_are_refused(backend, case, wrong):
    """Inputs that were never checked (`make_inputs` was bypassed) do not become plausible spikes."""
    model, inputs = case
    x = inputs.x.clone()
    if wrong == "not_integer" and backend.name in REAL:
        pytest.skip("real numbers are its inputs")
    bad = {
        "shape": lambda: Inputs(x.flatten(), STEPS),
        "features": lambda: Inputs(x[:, :, :4], STEPS),
        "nan": lambda: Inputs(x * float("nan"), STEPS),
        "no_steps": lambda: Inputs(x, 0),
        "steps": lambda: Inputs(x, STEPS + 3),
        "not_integer": lambda: Inputs(x + 0.5, STEPS),
    }[wrong]()
    with pytest.raises((DataError, BackendError)):
        backend.run(model, bad, Record())


def test_zero_state_and_determinism(backend, whole, case):
    """A second run on the same object starts from nothing and gives the same bits."""
    same(backend.run(*case, Record(states=True)), whole)


def test_chunks_and_single_samples(backend, whole, case):
    model, inputs = case
    for start, stop in ((0, 3), (3, 4)):
        part = backend.run(model, inputs.chunk(start, stop), Record())
        assert torch.equal(part.logits, whole.logits[start:stop])
        assert all(torch.equal(part.spikes[n], whole.spikes[n][:, start:stop]) for n in model.spiking)


def test_states_and_layers_only_when_asked(backend, case):
    trace = backend.run(*case, Record(nodes=frozenset({"lif2"})))
    assert set(trace.spikes) == {"lif2"} and not trace.u and not trace.v
    assert not backend.run(*case, Record(spikes=False)).spikes


def test_inputs_are_left_alone(backend, case):
    model, inputs = case
    before = inputs.x.clone()
    backend.run(model, inputs, Record())
    assert torch.equal(inputs.x, before)
