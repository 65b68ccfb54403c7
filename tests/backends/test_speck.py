"""Backend `speck`: `exact` equals sinabs' neurons on random networks, and refuses what the chip would not compute."""

import json
import subprocess
import sys
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from family_nets import FamilyNet, random_speck

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.simulators.speck import SpeckBackend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import BackendError

torch.set_num_threads(1)
needs_sinabs = pytest.mark.skipif(not SpeckBackend().availability().usable, reason="sinabs is not installed")


def compare(seeds):
    """(most spikes in a step, nets with merged sources)"""
    most = merged = 0
    for seed in seeds:
        model, inputs = random_speck(seed)
        exact = ExactBackend().run(model, inputs, Record(states=True))
        speck = SpeckBackend().run(model, inputs, Record(states=True))
        assert torch.equal(exact.logits, speck.logits)
        for name in model.spiking:
            assert exact.spikes[name].dtype == speck.spikes[name].dtype
            assert torch.equal(exact.spikes[name], speck.spikes[name]), name
            assert torch.equal(exact.v[name], speck.v[name]), name
            assert torch.equal(exact.u[name], speck.u[name]), name
        most = max(most, *(int(s.max()) for s in exact.spikes.values()))
        merged += any(len(sources) > 1 for sources in model.sources.values())
    return most, merged


@needs_sinabs
@pytest.mark.parametrize("block", range(4))
def test_random_nets(block):
    most, merged = compare(range(30 * block, 30 * block + 30))
    assert most > 20 and merged > 3


@needs_sinabs
@pytest.mark.slow
def test_many_random_nets():
    compare(range(1000, 2000))


def spoiled(**changes):
    net = FamilyNet((2, 6, 6), levels=3, chip=changes.get("chip", "speck2f"))
    conv = {k: changes[k] for k in ("dilation", "groups", "padding") if k in changes}
    weight = net.integers((4, 2 // conv.get("groups", 1), *changes.get("kernel", (3, 3))))
    net.conv("c", "input", weight, **conv, **changes.get("synapse", {}))
    net.population("n", "c", vth=changes.get("vth", 300), v_min=-300, **changes.get("neuron", {}))
    net.pool("p", "n", 2, stride=changes.get("stride", 2))
    net.flatten("f", "p")
    net.dense("fc", "f", net.integers((3, net.shape("f")[0])))
    into = ["fc"]
    if changes.get("skip"):
        net.flatten("f0", "input")
        into.append(net.dense("skip", "f0", net.integers((3, 72))))
    net.population("out", into, vth=300, v_min=-300)
    if changes.get("loop"):
        net.loop("loop", "out", net.integers((3, 3)))
    return net.model("out", **({"reset": "subtract", "fires": ">="}))


def test_a_sound_model_is_accepted():
    assert SpeckBackend().check(spoiled()) == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"chip": "loihi2"}, "chip"),
        ({"dilation": 2}, "c"),
        ({"groups": 2}, "c"),
        ({"kernel": (3, 2)}, "c"),
        ({"stride": 1}, "p"),
        ({"neuron": {"leak": 3}}, "n"),
        ({"neuron": {"max_spikes": 1}}, "n"),
        ({"vth": 0}, "n"),
        ({"synapse": {"delay": (1,)}}, "c"),
        ({"synapse": {"message_bits": 3}}, "c"),
        ({"synapse": {"weight_exp": 1}}, "c"),
        ({"skip": True}, "out"),
        ({"loop": True}, "loop, out"),
    ],
)
def test_what_the_chip_does_not_have_is_refused(changes, where):
    problems = SpeckBackend().check(spoiled(**changes))
    assert where in {p.where for p in problems} and all(p.remedy for p in problems), [str(p) for p in problems]


def test_all_reasons_at_once():
    model = spoiled(dilation=2, stride=1, neuron={"leak": 3}, skip=True)
    model.nodes["p"] = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    assert {"c", "n", "p", "out"} <= {p.where for p in SpeckBackend().check(model)}
    with pytest.raises(BackendError):
        SpeckBackend().run(model, make_inputs(np.zeros((2, 1, 2, 6, 6)), model), Record())


def as_job(model, inputs):
    """The network in the words of `peers/run_dynapcnn.py`: layers with their sources, weights and biases."""
    layers, arrays, number = [], {"x": inputs.x.numpy()}, {"input": -1}
    for name in model.spiking:
        (synapse,) = model.weight_sources(name)
        node, params = model.nodes[synapse], model.neuron(name)
        heard = []
        for source in model.sources[synapse]:
            while source not in number:
                source = model.sources[source][0]
            heard.append(number[source])
        conv = isinstance(node, nir.Conv2d)
        layer = {
            "kind": "conv" if conv else "linear",
            "sources": heard,
            "pool": 1,
            "vth": params.vth,
            "v_min": params.v_min,
        }
        if conv:
            layer |= {"stride": int(node.stride[0]), "padding": int(node.padding[0])}
        k = number[name] = len(layers)
        arrays[f"w{k}"] = model.weight_int(synapse)
        bias = model.bias_int(name)
        if bias.any():
            arrays[f"b{k}"] = bias.reshape(len(bias), -1)[:, 0]
        pools = [
            n for n, sources in model.sources.items() if sources == [name] and isinstance(model.nodes[n], nir.SumPool2d)
        ]
        layer["pool"] = int(model.nodes[pools[0]].kernel_size[0]) if pools else 1
        layers.append(layer)
    return {"shape": list(model.shapes["input"]), "layers": layers}, arrays


@needs_sinabs
@pytest.mark.parametrize(
    "seeds", [range(0, 6), pytest.param(range(100, 200), marks=pytest.mark.slow)], ids=["6", "100"]
)
def test_the_network_that_sinabs_would_send_to_the_chip(tmp_path, seeds):
    """`DynapcnnNetwork` without another discretisation, in a child (it imports samna: replaced there by a stand-in)."""
    nets = {}
    for seed in seeds:
        model, inputs = random_speck(seed)
        job, arrays = as_job(model, inputs)
        (tmp_path / f"{seed}.json").write_text(json.dumps(job))
        np.savez(tmp_path / f"{seed}.npz", **arrays)
        nets[seed] = model, inputs, arrays
    script = Path(__file__).parent / "peers" / "run_dynapcnn.py"
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    for seed, (model, inputs, arrays) in nets.items():
        found = np.load(tmp_path / f"{seed}.out.npz")
        exact = ExactBackend().run(model, inputs, Record()).spikes["out"]
        np.testing.assert_array_equal(found["spikes"], exact.flatten(2).numpy(), err_msg=str(seed))
        mine = sorted(int(a.sum()) for name, a in arrays.items() if name.startswith("w"))
        assert sorted(found["sums"].tolist()) == mine  # the weights have reached its layers unchanged
