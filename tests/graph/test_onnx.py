"""Exported students in onnxruntime against `exact`: no spike may differ; and `.onnx` files back to models."""

import random

import numpy as np
import pytest
import torch
from active import active_student
from chip_models import Net

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.onnx_runtime import OnnxBackend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import GraphError, UsageError
from snnkd_deploy.graph.load import load_model, save_model
from snnkd_deploy.graph.model import same
from snnkd_deploy.graph.onnxfile import write_onnx
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
torch.set_num_threads(1)
STEPS = 4
PLANS = {
    "residual": StudentPlan("resnet20", (3, 12, 12), 5, 255, STEPS, encoding="current", width=0.25),
    "conv events": StudentPlan("conv", (2, 10, 10), 5, 1, STEPS, encoding="events", width=0.5),
    "mlp": StudentPlan("mlp", (20,), 5, 255, STEPS, encoding="current", options={"hidden": (32, 24)}),
    "recurrent": StudentPlan("rnn", (8,), 5, 1, STEPS, encoding="events", options={"hidden": (24, 16)}),
}


def student(name, samples=24):
    """(model, inputs) of a student that fires everywhere."""
    net, x = active_student(PLANS[name], samples)
    model = lower_student(net)
    array = x.numpy()[None] if PLANS[name].encoding == "current" else x.numpy()
    return model, make_inputs(array, model, STEPS)


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def images(inputs):
    return inputs.x.to(torch.float32).numpy()


def equal(a, b):
    assert a.spikes.keys() == b.spikes.keys() and all(s.any() for s in a.spikes.values())
    assert {n: int((a.spikes[n] != b.spikes[n]).sum()) for n in a.spikes} == dict.fromkeys(a.spikes, 0)
    assert torch.equal(a.logits, b.logits)


@pytest.mark.parametrize("name", PLANS)
def test_no_spike_differs_and_no_state(name):
    model, inputs = student(name)
    a, b = (backend.run(model, inputs, Record(states=True)) for backend in (ExactBackend(), OnnxBackend()))
    equal(a, b)
    for state in ("u", "v"):
        left, right = getattr(a, state), getattr(b, state)
        assert set(right) >= set(model.spiking)
        assert all(torch.equal(left[n], right[n]) for n in right), state


@pytest.mark.slow
def test_1000_samples_of_a_residual_student():
    model, inputs = student("residual", 1000)
    a, b = (backend.run(model, inputs, Record()) for backend in (ExactBackend(), OnnxBackend()))
    equal(a, b)
    assert inputs.samples == 1000


@pytest.mark.parametrize("name", PLANS)
def test_the_step_model_carries_its_state(name, tmp_path):
    """T calls of one step, states handed on by name, any batch size; states at zero again give step 0 again."""
    model, inputs = student(name, 3)
    save_model(model, tmp_path / "m.step.onnx")
    run = session(tmp_path / "m.step.onnx")
    states = [i for i in run.get_inputs() if i.name != "x"]
    assert states, "a spiking network without states would forget each step"
    assert {f"{s.name}_next" for s in states} <= {o.name for o in run.get_outputs()}
    outputs = [o.name for o in run.get_outputs()]
    want = ExactBackend().run(model, inputs, Record())
    x = images(inputs)
    for batch in (3, 1):
        kinds = {"tensor(double)": np.float64, "tensor(float)": np.float32}
        now = {s.name: np.zeros((batch, *s.shape[1:]), dtype=kinds[s.type]) for s in states}
        for t in range(STEPS):
            found = dict(zip(outputs, run.run(None, {"x": x[min(t, len(x) - 1)][:batch], **now}), strict=True))
            now = {s.name: found[f"{s.name}_next"] for s in states}
            for node in model.spiking:
                assert np.array_equal(found[f"spikes.{node}"], want.spikes[node][t, :batch].numpy()), (node, t)


@pytest.mark.parametrize("name", ["residual", "recurrent"])
def test_the_scan_model_takes_any_batch_and_any_length(name, tmp_path):
    model, _ = student(name)
    save_model(model, tmp_path / "m.onnx")
    run = session(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    for batch, steps in ((1, 1), (5, 7)):
        image = PLANS[name].encoding == "current"
        x = rng.integers(0, PLANS[name].levels + 1, (1 if image else steps, batch, *PLANS[name].input_shape))
        inputs = make_inputs(x, model, steps)
        feed = {"x": images(inputs)[0], "T": np.array(steps)} if image else {"x": images(inputs)}
        found = dict(zip([o.name for o in run.get_outputs()], run.run(None, feed), strict=True))
        want = ExactBackend().run(model, inputs, Record())
        assert np.array_equal(found["logits"], want.logits.numpy())
        assert all(np.array_equal(found[f"spikes.{n}"], want.spikes[n].numpy()) for n in model.spiking)


def test_plain_operators_and_weights_inside(tmp_path):
    model, _ = student("residual")
    save_model(model, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert [f.name for f in tmp_path.iterdir()] == ["m.onnx"]
    assert {o.domain for o in proto.opset_import} == {""}
    assert not any(t.external_data for t in proto.graph.initializer)


def test_a_float_model_is_refused(tmp_path):
    from random_nir import RandomGraph

    with pytest.raises(GraphError, match="no integers"):
        write_onnx(RandomGraph(1).model(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


# -- back ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    net = Net((2, 5, 4), seed=3)
    a = net.lif("a", net.conv("c1", "input", net.weights((3, 2, 3, 3)), padding=1, bias=np.array([64, -128, 0])))
    return net.model(net.readout("r", net.dense("fc", net.flatten("f", a), net.weights((4, 60)))))


@pytest.mark.parametrize("suffix", [".onnx", ".step.onnx"])
def test_our_files_read_back_equal(suffix, small, tmp_path):
    save_model(small, tmp_path / f"m{suffix}")
    again = load_model(tmp_path / f"m{suffix}")
    assert same(small, again) and again.profile == small.profile
    save_model(again, tmp_path / "m.nir")
    assert same(load_model(tmp_path / "m.nir"), small)


def test_files_of_others_and_edited_ones(small, tmp_path):
    path = tmp_path / "m.onnx"
    save_model(small, path)
    proto = onnx.load(path)
    kept = list(proto.metadata_props)
    proto.graph.node[0].name = "edited"
    onnx.save(proto, path)
    with pytest.raises(GraphError, match="edited"):
        load_model(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    with pytest.raises(GraphError, match="another tool"):
        load_model(path)
    assert kept
    for content in (b"", b"hello", b"\x80\x04\x95pickle"):
        path.write_bytes(content)
        with pytest.raises(GraphError):
            load_model(path)
    with pytest.raises(GraphError, match="no such file"):
        load_model(tmp_path / "missing.onnx")
    with pytest.raises(UsageError, match="--dt"):
        load_model(path, dt_s=1e-3)


def test_100_damaged_files_each_give_one_error(small, tmp_path):
    path = tmp_path / "m.onnx"
    save_model(small, path)
    data = path.read_bytes()
    for seed in range(100):
        rng, broken = random.Random(seed), bytearray(data)
        if seed % 3 == 0:
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        elif seed % 3 == 1:
            for _ in range(8):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
        else:
            del broken[rng.randrange(len(broken)) :]
        if bytes(broken) == data:
            continue
        path.write_bytes(broken)
        with pytest.raises(GraphError) as caught:
            load_model(path)
        assert str(path) in str(caught.value)
