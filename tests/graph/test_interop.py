"""`convert --for`: plain NIR that the untouched importers of other simulators run with the same spikes."""

import importlib.util
import logging
import warnings

import nir
import numpy as np
import pytest
import torch
from chip_models import Net
from random_nir import RandomGraph

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.float_reference import FloatBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.cli import INTEROP, main
from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.interop import READERS, TARGETS, interop
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.nirfile import read_nir, write_nir
from snnkd_deploy.graph.normalise import normalise
from snnkd_deploy.graph.profile import Encoding, Profile

STEPS, SAMPLES = 20, 3


# -- networks ---------------------------------------------------------------------------------------------------


def float_model(shape, nodes, edges=None, dt=1e-3, **profile):
    named = {"input": nir.Input({"input": np.array(shape)})} | nodes | {"output": nir.Output({"output": None})}
    names = list(named)
    graph = nir.NIRGraph(named, edges or list(zip(names, names[1:], strict=False)), type_check=False)
    return Model(normalise(graph), Profile(dt_s=dt, reset="zero", encoding=Encoding(kind="float"), **profile))


def lif(rng, *shape, threshold=0.4, **more):
    one = np.ones(shape)
    values = {"tau": 5e-3 * one, "r": 2.5 * one, "v_leak": 0 * one, "v_threshold": threshold * one, "v_reset": 0 * one}
    return nir.LIF(**(values | more))


def affine(rng, out, inputs):
    return nir.Affine(rng.normal(0, 1 / np.sqrt(inputs), (out, inputs)), rng.normal(0.1, 0.1, out))


def conv(rng, out, inputs, groups=1):
    weight = rng.normal(0, 0.3, (out, inputs // groups, 3, 3))
    return nir.Conv2d(None, weight, 1, 1, 1, groups, rng.normal(0.1, 0.1, out))


def average(size):
    return nir.AvgPool2d(np.array([size, size]), np.array([size, size]), np.array([0, 0]))


def dense():
    rng = np.random.default_rng(0)
    leaky = lif(rng, 16, v_leak=np.linspace(-0.1, 0.1, 16), r=np.linspace(1, 3, 16))
    return float_model((9,), {"a.fc": affine(rng, 16, 9), "a.lif": leaky, "b": affine(rng, 5, 16), "c": lif(rng, 5)})


def maps():
    rng = np.random.default_rng(1)
    fire = nir.IF(np.full((4, 8, 8), 1e3), np.full((4, 8, 8), 0.7), np.zeros((4, 8, 8)))
    nodes = {
        "c1": conv(rng, 4, 2),
        "if1": fire,
        "p": average(2),
        "c2": conv(rng, 6, 4, groups=2),
        "lif2": lif(rng, 6, 4, 4),
    }
    flat = {"p2": average(2), "f": nir.Flatten(None, 0, -1), "fc": affine(rng, 5, 24), "lif3": lif(rng, 5)}
    return float_model((2, 8, 8), nodes | flat)


def currents():
    rng = np.random.default_rng(2)
    one = np.ones(12)
    cuba = nir.CubaLIF(4e-3 * one, 6e-3 * one, 1.5 * one, 0 * one, 0.15 * one, w_in=2 * one)
    return float_model((9,), {"a": affine(rng, 12, 9), "cuba": cuba, "b": affine(rng, 5, 12), "lif": lif(rng, 5)})


def branches():
    rng = np.random.default_rng(3)
    nodes = {"a": affine(rng, 9, 9), "l1": lif(rng, 9), "b": affine(rng, 9, 9), "s": affine(rng, 9, 9)}
    edges = [("input", "a"), ("a", "l1"), ("l1", "b"), ("l1", "s"), ("b", "l2"), ("s", "l2"), ("l2", "output")]
    return float_model((9,), nodes | {"l2": lif(rng, 9)}, edges)


def skip():
    """A skip edge without weights of its own; `branches` has two ways with weights."""
    rng = np.random.default_rng(3)
    nodes = {"a": affine(rng, 9, 9), "l1": lif(rng, 9), "b": affine(rng, 9, 9), "l2": lif(rng, 9, r=5e0 * np.ones(9))}
    edges = [("input", "a"), ("a", "l1"), ("l1", "b"), ("l1", "l2"), ("b", "l2"), ("l2", "output")]
    return float_model((9,), nodes, edges)


def loop():
    rng = np.random.default_rng(4)
    nodes = {"a": affine(rng, 6, 6), "l": lif(rng, 6), "r": affine(rng, 6, 6), "b": affine(rng, 4, 6), "m": lif(rng, 4)}
    edges = [("input", "a"), ("a", "l"), ("l", "b"), ("b", "m"), ("l", "r"), ("r", "l"), ("m", "output")]
    return float_model((6,), nodes, edges)


def chip():
    """Integers without decays: what the importer runs in floats is what the chip runs."""
    net = Net((12,), seed=1)
    bias = net.rng.integers(-2, 3, 16) * 64
    a = net.lif("l1", net.dense("d1", "input", net.weights((16, 12)), bias=bias), vth=80, Du=4096, Dv=0)
    b = net.lif("l2", net.dense("d2", a, net.weights((10, 16))), vth=60, Du=4096, Dv=0)
    for name, vth in ((a, 80), (b, 60)):
        ones = np.ones(net.shape(name))
        net.nodes[name] = nir.IF(ones / 1e-3, ones * vth / 64)
        net.params[name] = net.params[name].model_copy(update={"scale": 64.0})
    for name in ("d1", "d2"):
        params = net.params[name]
        if isinstance(net.nodes[name], nir.Affine):
            net.nodes[name].bias = net.nodes[name].bias / 4096
            net.params[name] = params.model_copy(update={"bias_scale": 4096.0})
    return net.model(net.readout("out", net.dense("d3", b, net.weights((4, 10)))))


def ties():
    """Integers everywhere, so that membranes stand at their thresholds, where this one fires."""
    rng = np.random.default_rng(5)
    weights = [nir.Linear(rng.integers(-2, 4, shape).astype(np.float64)) for shape in ((7, 6), (5, 7))]
    fire = [nir.IF(np.full(n, 1e3), np.full(n, 3.0), np.zeros(n)) for n in (7, 5)]
    return float_model((6,), {"a": weights[0], "l": fire[0], "b": weights[1], "m": fire[1]}, fires=">=")


NETS = {
    "dense": dense,
    "maps": maps,
    "currents": currents,
    "branches": branches,
    "skip": skip,
    "loop": loop,
    "chip": chip,
    "ties": ties,
}
REFUSED = {("branches", "norse"): "depth first", ("loop", "snntorch"): "recurrent", ("skip", "norse"): "no gain"}
REFUSED |= {("ties", tool): "fires above the threshold" for tool in ("norse", "snntorch")}
PAIRS = [(n, t) for n in NETS for t in READERS if (n, t) not in REFUSED]


def expected(model, x):
    backend = ExactBackend() if model.on_chip_grid else FloatBackend()
    return backend.run(model, make_inputs(x, model), Record())


def events(model):
    rng = np.random.default_rng(5)
    return (rng.random((STEPS, SAMPLES, *model.shapes["input"])) < 0.5).astype(np.float32)


# -- in our own reference -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "target"), PAIRS)
def test_same_spikes_in_the_reference(name, target, tmp_path):
    """E1, E3 to E8, E10, E13, E14: written, read by the stock reader with its checks, read by ours, run, equal."""
    model = NETS[name]()
    made, _ = interop(model, target)
    write_nir(made, tmp_path / "x.nir")
    graph = nir.read(tmp_path / "x.nir", type_check=True)
    assert {"input", "output"} < set(graph.nodes) and all(n.isascii() and "." not in n for n in graph.nodes)
    assert not any(isinstance(n, nir.Linear | nir.AvgPool2d) for n in graph.nodes.values())
    again = read_nir(tmp_path / "x.nir")
    x = events(model)
    a, b = expected(model, x), FloatBackend().run(again, make_inputs(x, again), Record())
    assert len(a.spikes) == len(b.spikes)
    for left, right in zip(model.spiking, again.spiking, strict=True):
        assert a.spikes[left].any()
        assert int((a.spikes[left] != b.spikes[right]).sum()) == 0, left


def test_the_command_line_knows_the_same_tools():
    assert set(INTEROP) == set(TARGETS)


# -- in the importers ---------------------------------------------------------------------------------------------


def run_norse(path, x):
    import norse.torch as norse

    net = norse.from_nir(nir.read(path), dt=1e-4)
    return stepwise(lambda now, state: net(now, state), x)


def run_snntorch(path, x):
    from snntorch.import_nir import import_from_nir

    net = import_from_nir(nir.read(path))
    return stepwise(lambda now, state: (net(now), None), x)


def run_spikingjelly(path, x):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    net = import_from_nir(path, dt=1e-4)
    return stepwise(lambda now, state: net(now, state), x)


def stepwise(step, x):
    """Outputs (T, B, ...) of the whole network."""
    state, outputs = None, []
    with torch.no_grad():
        for now in torch.from_numpy(x):
            out, state = step(now, state)
            outputs.append(out[0] if isinstance(out, tuple) else out)
    return torch.stack(outputs).numpy()


RUN = {"norse": run_norse, "snntorch": run_snntorch, "spikingjelly": run_spikingjelly}


@pytest.mark.parametrize(("name", "target"), PAIRS)
def test_same_spikes_in_the_stock_importer(name, target, tmp_path):
    if importlib.util.find_spec(target) is None:
        pytest.skip(f"{target} is not installed")
    logging.disable(logging.WARNING)
    model = NETS[name]()
    made, _ = interop(model, target)
    write_nir(made, tmp_path / "x.nir")
    x = events(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = RUN[target](tmp_path / "x.nir", x)
    if name == "chip":  # the readout is left out: what arrives there, added up
        logits = expected(model, x).logits.numpy()
        assert np.allclose(found.sum(0) / STEPS, logits * 32 / 64, atol=1e-4)
        return
    want = expected(model, x).spikes[model.spiking[-1]].numpy()
    assert want.any() and int((found != want).sum()) == 0


# -- refusals -----------------------------------------------------------------------------------------------------


def refused(model, target):
    with pytest.raises(GraphError) as caught:
        interop(model, target)
    return str(caught.value)


def test_hopeless_tools_say_why():
    assert "several spikes a step" in refused(dense(), "sinabs") and "backend" in refused(dense(), "sinabs")
    assert "fails on every nir.LIF" in refused(dense(), "rockpool")


def test_every_reason_at_once():
    rng = np.random.default_rng(0)
    one = np.ones((4, 3, 8))
    nodes = {
        "c": nir.Conv2d(None, np.ones((4, 2, 1, 3)), 1, (0, 1), 1, 1, np.zeros(4)),
        "l": lif(rng, 4, 3, 8, v_reset=-one, tau=np.linspace(2e-3, 9e-3, 96).reshape(4, 3, 8)),
        "p": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([1, 1])),
        "t": nir.Threshold(np.ones((4, 2, 5))),
    }
    model = float_model((2, 3, 8), nodes, fires=">=", v0=0.5)
    text = refused(model, "norse")
    for part in (
        "non-square",
        "v_reset",
        "padding of a pool",
        "does not know Threshold",
        "start at 0",
        "above",
    ):
        assert part in text, part
    assert "one tau a population" in refused(model, "spikingjelly")
    soft = Model(dense().graph, dense().profile.model_copy(update={"reset": "subtract"}))
    assert "no reset by subtraction" in refused(soft, "norse")
    cuba = currents()
    cuba.nodes["cuba"].v_leak = np.ones(12)
    assert "leak of a CubaLIF" in refused(cuba, "snntorch")


@pytest.mark.parametrize(("name", "target"), REFUSED)
def test_what_one_importer_gets_wrong(name, target):
    assert REFUSED[name, target] in refused(NETS[name](), target)


def test_a_refusal_names_the_importers_that_take_the_model():
    assert "try: --for norse or spikingjelly, whose importer computes this model" in refused(loop(), "snntorch")
    for target in ("norse", "spikingjelly"):
        interop(loop(), target)
    soft = Model(dense().graph, dense().profile.model_copy(update={"reset": "subtract"}))
    assert "try: no importer computes this model as it stands" in refused(soft, "snntorch")


def test_random_graphs_agree_or_are_refused():
    """Whatever is accepted computes the same; whatever is not has a reason."""
    accepted = 0
    for seed in range(150):
        net = RandomGraph(seed, uniform=True)
        model = net.model()
        for target in READERS:
            try:
                made, _ = interop(model, target)
            except GraphError:
                continue
            accepted += 1
            x = net.input(8, 2)
            a, b = expected(model, x), FloatBackend().run(made, make_inputs(x, made), Record())
            for left, right in zip(model.spiking, made.spiking, strict=True):
                assert torch.equal(a.spikes[left], b.spikes[right]), (seed, target, left)
    assert accepted >= 15


def test_through_the_command_line(tmp_path, capsys):
    write_nir(chip(), tmp_path / "m.nir")
    assert main(["convert", str(tmp_path / "m.nir"), str(tmp_path / "x.nir"), "--for", "norse"]) == 0
    text = capsys.readouterr().out
    assert "0 of" in text and "norse.torch.from_nir" in text and "readout is left out" in text
    assert main(["convert", str(tmp_path / "m.nir"), str(tmp_path / "y.nir"), "--for", "sinabs"]) == 1
    assert "several spikes a step" in capsys.readouterr().err and not (tmp_path / "y.nir").exists()
    assert main(["convert", str(tmp_path / "m.nir"), str(tmp_path / "y.net"), "--for", "norse"]) == 2
