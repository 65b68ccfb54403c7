"""Files of other tools through the command line: the conventions that they leave open, and conversions."""

import json

import nir
import numpy as np
import pytest
from chip_models import Net
from net_files import conv, cuba, dense, even, write
from random_nir import DT, RandomGraph

from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.cli import main
from snnkd_deploy.graph.load import load_model
from snnkd_deploy.graph.model import same
from snnkd_deploy.graph.nirfile import write_nir


def one_neuron(path, **values):
    one = np.ones(1)
    values = {"r": one, "v_threshold": one, "v_reset": one * 0} | {k: one * v for k, v in values.items()}
    nodes = {"input": nir.Input({"input": np.array([1])}), "if": nir.IF(**values)}
    nodes["output"] = nir.Output({"output": np.array([1])})
    nir.write(path, nir.NIRGraph(nodes, [("input", "if"), ("if", "output")], type_check=False))


def simulate(folder, model, x, *options, **arrays):
    np.savez(folder / "x.npz", x=x, **arrays)
    words = ["simulate", str(model), "--input", str(folder / "x.npz"), "-o", str(folder / "t.npz"), "--state", *options]
    assert main(words) == 0
    return Trace.load(folder / "t.npz")


def test_a_foreign_graph_runs_in_float_unless_told_otherwise(tmp_path, capsys):
    net = RandomGraph(11)
    nir.write(tmp_path / "f.nir", net.graph())
    trace = simulate(tmp_path, tmp_path / "f.nir", net.input(6, 2), "--dt", str(DT), "--reset", "zero")
    assert trace.meta["backend"] == "float" and trace.spikes
    words = ["simulate", str(tmp_path / "f.nir"), "--input", str(tmp_path / "x.npz"), "-o", str(tmp_path / "u.npz")]
    assert main([*words, "--dt", str(DT), "--reset", "zero", "--backend", "exact"]) == 1
    assert "lower" in capsys.readouterr().err
    assert not (tmp_path / "u.npz").exists()


def test_comparison_and_start_of_other_tools(tmp_path):
    """spikingjelly and sinabs fire at the threshold; spikingjelly starts at v_reset, norse at v_leak."""
    one_neuron(tmp_path / "m.nir", v_reset=-1)
    x = np.array([1, 1, 1, 0]).reshape(4, 1, 1)
    found = {}
    for name, options in {"": (), "at": ("--fires", ">="), "late": ("--v0", "-1")}.items():
        trace = simulate(tmp_path, tmp_path / "m.nir", x, "--dt", "1", "--reset", "zero", *options)
        found[name] = (trace.spikes["if"].flatten().tolist(), trace.v["if"].flatten().tolist())
    assert found[""] == ([0, 1, 0, 0], [1, -1, 0, 0])
    assert found["at"] == ([1, 0, 1, 0], [-1, 0, -1, -1])
    assert found["late"] == ([0, 0, 1, 0], [0, 1, -1, -1])


def test_options_beside_a_profile_that_says_otherwise(tmp_path, capsys):
    write_nir(RandomGraph(2).model(), tmp_path / "m.nir")
    for options in (["--fires", ">="], ["--v0", "1"], ["--dt", "1"], ["--reset", "subtract"]):
        assert main(["convert", str(tmp_path / "m.nir"), str(tmp_path / "n.nir"), *options]) == 1
        assert f"{options[0]} contradicts" in capsys.readouterr().err


@pytest.mark.parametrize("foreign", [True, False])
@pytest.mark.parametrize("options", [("--dt", "-1"), ("--dt", "0"), ("--dt", "nan"), ("--v0", "inf")])
def test_an_option_that_no_file_could_mean_is_wrong_use(options, foreign, tmp_path, capsys):
    if foreign:
        one_neuron(tmp_path / "m.nir")
    else:
        write_nir(RandomGraph(2).model(), tmp_path / "m.nir")
    assert main(["convert", str(tmp_path / "m.nir"), str(tmp_path / "n.nir"), "--reset", "zero", *options]) == 2
    err = capsys.readouterr().err
    assert f"error: {options[0]}: " in err and "\n  try: " in err
    assert not (tmp_path / "n.nir").exists()


STRIDES = {"unstrided": 1, "strided": 2}


@pytest.mark.parametrize("name", STRIDES)
def test_a_net_file_that_begins_with_a_convolution(name, tmp_path, capsys):
    """netx asks its caller for the shape; ours takes it from the input, from an option, or from the output's size."""
    rng = np.random.default_rng(0)
    stride = np.array([STRIDES[name]] * 2)
    w, size = even(rng, 3, 2, 3, 3), {1: (3, 8, 7), 2: (3, 4, 4)}[STRIDES[name]]
    layers = [conv(w, size, cuba(), stride=stride, padding=np.array([1, 1]))]
    flat = int(np.prod(size))
    layers += [{"type": "flatten", "shape": np.array([1, 1, flat])}, dense(even(rng, 4, flat), cuba())]
    bare = write(tmp_path / "bare.net", layers)
    told = write(tmp_path / "told.net", [{"type": "input", "shape": np.array([2, 8, 7])}, *layers])
    x = (rng.random((9, 2, 2, 8, 7)) < 0.4).astype(np.uint8)
    a, b = simulate(tmp_path, bare, x), simulate(tmp_path, told, x)
    for k, (left, right) in enumerate(zip(a.spikes.values(), b.spikes.values(), strict=True)):
        assert left.any() and np.array_equal(left.numpy(), right.numpy()), k
    words = ["convert", str(bare), str(tmp_path / "m.nir")]
    assert main([*words, "--input-shape", "2,8,7"]) == 0
    assert load_model(tmp_path / "m.nir").shapes["input"] == (2, 8, 7)
    capsys.readouterr()
    if name == "strided":
        assert main(words) == 1 and "--input-shape" in capsys.readouterr().err
    else:
        assert main(words) == 0 and load_model(tmp_path / "m.nir").shapes["input"] == (2, 8, 7)
    assert main([*words, "--input-shape", "two"]) == 2
    assert "not a shape" in capsys.readouterr().err


@pytest.mark.parametrize("through", [".net", ".onnx", ".step.onnx"])
def test_convert_there_and_back_keeps_every_integer(through, tmp_path, capsys):
    if through.endswith("onnx"):
        pytest.importorskip("onnx", reason="onnx is not installed")
    net = Net((2, 5, 4), seed=3)
    a = net.lif("a", net.conv("c1", "input", net.weights((3, 2, 3, 3)), padding=1, bias=np.array([64, -128, 0])))
    model = net.model(net.readout("r", net.dense("fc", net.flatten("f", a), net.weights((4, 60)))))
    write_nir(model, tmp_path / "a.nir")
    assert main(["convert", str(tmp_path / "a.nir"), str(tmp_path / f"b{through}"), "--json"]) == 0
    assert main(["convert", str(tmp_path / f"b{through}"), str(tmp_path / "c.nir"), "--json"]) == 0
    assert same(load_model(tmp_path / "c.nir"), model)
    text = capsys.readouterr().out.split("}\n{")
    assert len(text) == 2 and json.loads(text[0] + "}")["model"]["chip"] == "loihi2"
