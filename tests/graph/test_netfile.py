"""`.net` files: foreign ones with netx's meaning, ours restored whole, and everything that is refused."""

import h5py
import nir
import numpy as np
import pytest
import torch
from chip_models import Net
from net_files import conv, cuba, dense, even, write

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips import load_chip
from snnkd_deploy.cli import main
from snnkd_deploy.errors import DataError, GraphError, UsageError
from snnkd_deploy.graph.load import load_model, save_model
from snnkd_deploy.graph.model import same
from snnkd_deploy.graph.netfile import read_net, write_net
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.zoo import StudentPlan, build_student

RNG = np.random.default_rng(0)
FLAT = {"type": "input", "shape": np.array([1, 1, 9])}
MAPS = {"type": "input", "shape": np.array([2, 6, 5])}


def run(model, x, steps=None, states=True):
    return ExactBackend().run(model, make_inputs(x, model, steps), Record(states=states))


# -- foreign files ----------------------------------------------------------------------------------------


def test_populations_are_called_after_their_layer(tmp_path):
    layers = [FLAT, {"type": "flatten"}, dense(even(RNG, 4, 9), cuba()), dense(even(RNG, 3, 4))]
    model = read_net(write(tmp_path / "m.net", layers, Ts=1, tSample=20))
    assert model.spiking == ["layer2"] and model.readout_name == "layer3"
    assert model.profile.steps == 20 and model.profile.dt_s == 1e-3
    trace = run(model, np.ones((5, 2, 9), dtype=int))
    assert trace.v["layer3"].shape == (5, 2, 3)
    assert not trace.spikes["layer3"].any(), "netx runs the readout as a LIF that cannot fire"


def test_dense_without_a_neuron_integrates_u_by_hand(tmp_path):
    model = read_net(write(tmp_path / "m.net", [dense(np.array([[2, -4], [6, 8]]), bias=np.array([1.0, -2.0]))]))
    trace = run(model, np.array([[[1, 0]], [[1, 1]], [[0, 1]]]))
    assert trace.u["layer0"][:, 0].tolist() == [[128, 384], [0, 1280], [-256, 1792]]
    assert trace.v["layer0"][:, 0].tolist() == [[192, 256], [64, 1152], [-192, 1664]]
    assert trace.logits.tolist() == [[-256 / (64 * 64 * 3), 1792 / (64 * 64 * 3)]]


def test_the_empty_spike_train_of_such_a_layer_is_no_wrong_answer(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "f.net", [dense(even(rng, 4, 5), cuba()), dense(even(rng, 3, 4))])
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 2, (8, 2, 5)))
    words = ["--input", str(tmp_path / "x.npz")]
    assert main(["simulate", str(path), *words, "-o", str(tmp_path / "t.npz")]) == 0
    spikes = np.load(tmp_path / "t.npz")["spikes/layer1"]
    assert spikes.shape == (8, 2, 3) and not spikes.any()


def test_an_image_of_biases_drives_the_input_layer(tmp_path):
    image = {
        "type": "input",
        "shape": np.array([3]),
        "neuron": cuba(4096, 1024, 5, "LOIHI"),
        "weight": 36.0,
        "bias": 34.0,
    }
    model = read_net(write(tmp_path / "m.net", [image, dense(np.array([[2, 2, -2]]), cuba())]))
    trace = run(model, np.array([3.0, 6, -4]).reshape(1, 1, 3), steps=3)
    # v = 3/4 v + 64 x, fires above 320
    assert trace.v["layer0"][:, 0].tolist() == [[192, 0, -256], [0, 0, -448], [192, 0, -592]]
    assert trace.spikes["layer0"][:, 0].tolist() == [[0, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert not trace.u["layer0"].any(), "a bias does not pass through u"
    with pytest.raises(DataError, match=r"36 \* x \+ 34"):
        make_inputs(np.full((1, 1, 3), 0.5), model, 3)
    with pytest.raises(DataError, match="out of range"):
        make_inputs(np.full((1, 1, 3), 5000), model, 3)


def test_average_layer_votes_in_groups(tmp_path):
    layers = [dense(np.full((6, 2), 2), cuba(4096, 0, 1)), {"type": "average", "shape": np.array([3, 1, 1])}]
    model = read_net(write(tmp_path / "m.net", layers))
    trace = run(model, np.ones((4, 1, 2), dtype=int))
    counts = trace.spikes["layer0"].sum(0)[0].double()
    assert trace.logits[0].tolist() == counts.reshape(3, 2).mean(1).tolist()


def test_odd_mixed_weights_stay_legal_on_the_chip_with_an_exponent(tmp_path):
    model = read_net(write(tmp_path / "m.net", [dense(np.array([[3, -5]]), cuba(4096, 0, 50))]))
    assert model.profile.chip.id == "loihi2"
    assert model.synapse("layer0_weights").weight_exp == -1
    assert run(model, np.array([[[1, 0]], [[0, 1]]])).u["layer0"].flatten().tolist() == [192, -320]


def test_weights_beyond_the_chip_run_as_lava_runs_them(tmp_path):
    layers = [MAPS, conv(np.array([[[[301]], [[-3]]]]), (1, 6, 5), cuba(4096, 0, 9000))]
    model = read_net(write(tmp_path / "m.net", layers))
    assert model.profile.chip.id == "lava"
    assert any("off the chip's grid" in note for note in model.profile.provenance["notes"])
    x = np.zeros((1, 1, 2, 6, 5), dtype=int)
    x[0, 0, 0] = 1
    assert set(run(model, x).u["layer1"].unique().tolist()) == {301 * 64}


def test_changed_weights_and_ignored_fields_are_noted(tmp_path):
    neuron = cuba() | {"refDelay": 3}
    model = read_net(write(tmp_path / "m.net", [dense(np.array([[-4, 0], [-2, 0]]), neuron)]))
    notes = " ".join(model.profile.provenance["notes"])
    assert "refDelay is ignored" in notes and "netx changes some weights" in notes
    assert model.weight_int("layer0_weights").tolist() == [[-3, 0], [-2, 0]]


SDNN = {"type": "SDNN", "vThMant": 3}
BROKEN = {
    "empty": ([], "no 'layer' group"),
    "kind": ([{"type": "pool", "shape": np.array([3])}], "not implemented in netx"),
    "unknown": ([{"type": "magic", "shape": np.array([3])}], "'magic' is not understood"),
    "sdnn": ([dense(even(RNG, 3, 9), SDNN)], "'SDNN' is not understood"),
    "decay": ([dense(even(RNG, 3, 9), cuba(du=5000))], "iDecay: is out of range"),
    "threshold": ([dense(even(RNG, 3, 9), cuba(vth=-1))], "vThMant: is out of range"),
    "per_neuron": ([dense(even(RNG, 3, 9), cuba() | {"vDecay": np.array([1, 2, 3])})], "one number a layer"),
    "zeros": ([dense(np.zeros((3, 9)), cuba())], "all weights are zero"),
    "wide": ([dense(np.full((3, 9), 256), cuba())], "beyond 8 bits"),
    "nan": ([dense(np.full((3, 9), np.nan), cuba())], "NaN"),
    "width": ([FLAT, dense(even(RNG, 3, 8), cuba())], "does not fit the matrix"),
    "maps": ([MAPS, dense(even(RNG, 3, 60), cuba())], "flatten layer between"),
    "conv_shape": ([MAPS, conv(even(RNG, 4, 2, 3, 3), (4, 6, 5))], "what the convolution gives"),
    "conv_input": ([conv(even(RNG, 4, 2, 3, 3), (4, 6, 5), stride=np.array([2, 1]))], "size of the input is unknown"),
    "conv_neuron": ([MAPS, {**conv(even(RNG, 4, 2, 3, 3), (4, 4, 3)), "neuron": None}], "needs a neuron"),
    "conv_delay": ([MAPS, conv(even(RNG, 4, 2, 3, 3), (4, 4, 3), delay=np.ones(4))], "ignores delays"),
    "delay_size": ([dense(even(RNG, 3, 9), cuba(), delay=np.ones(5))], "delays do not fit"),
    "delay_sign": ([dense(even(RNG, 3, 9), cuba(), delay=np.full(3, -2))], "negative"),
    "rec_delay": (
        [{**dense(even(RNG, 3, 3), cuba(), weight_rec=even(RNG, 3, 3), delay=np.arange(3)), "type": "dense_rec"}],
        "loses the weight exponent",
    ),
    "bias_size": ([dense(even(RNG, 3, 9), cuba(), bias=np.ones(4))], "bias does not fit"),
    "bias_wide": ([dense(even(RNG, 3, 9), cuba(), bias=np.full(3, 40000))], "16 bits"),
    "late_input": ([dense(even(RNG, 3, 9), cuba()), FLAT], "must be the first"),
    "groups": (
        [dense(even(RNG, 3, 9), cuba()), {"type": "average", "shape": np.array([2])}],
        "do not divide into groups",
    ),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_files_give_one_clear_error(name, tmp_path):
    layers, message = BROKEN[name]
    path = write(tmp_path / "m.net", layers)
    with pytest.raises(GraphError) as caught:
        read_net(path)
    assert message in str(caught.value) and "m.net" in str(caught.value)


def test_all_broken_layers_are_named_at_once(tmp_path):
    path = write(tmp_path / "m.net", [dense(even(RNG, 3, 9), cuba(du=5000)), dense(even(RNG, 3, 3), SDNN)])
    with pytest.raises(GraphError) as caught:
        read_net(path)
    assert {p.where.split("[")[1][:8] for p in caught.value.problems} == {"/layer/0", "/layer/1"}


def test_gaps_in_the_numbering(tmp_path):
    path = write(tmp_path / "m.net", [FLAT, dense(even(RNG, 3, 9), cuba())])
    with h5py.File(path, "a") as file:
        file.move("layer/1", "layer/2")
    with pytest.raises(GraphError, match="not numbered"):
        read_net(path)


# -- ours -------------------------------------------------------------------------------------------------


def student(net="conv", encoding="current", shape=(3, 8, 6), **options):
    torch.manual_seed(0)
    plan = StudentPlan(net, shape, 5, 255 if encoding == "current" else 1, 4, encoding=encoding, width=0.25, **options)
    built = build_student(plan)
    built.to_chip(load_chip("loihi2"))
    return lower_student(built)


@pytest.mark.parametrize(
    ("net", "encoding", "shape"),
    [
        ("conv", "current", (3, 8, 6)),
        ("mlp", "current", (12,)),
        ("mlp", "events", (30,)),
        ("conv", "events", (2, 8, 6)),
    ],
)
def test_students_come_back_whole(net, encoding, shape, tmp_path):
    model = student(net, encoding, shape)
    write_net(model, tmp_path / "m.net")
    again = read_net(tmp_path / "m.net")
    assert same(model, again) and again.profile == model.profile
    save_model(again, tmp_path / "m.nir")
    assert same(load_model(tmp_path / "m.nir"), model)
    assert list(model.nodes) == list(again.nodes)


def test_without_our_group_the_file_still_means_the_same(tmp_path):
    model = student("mlp", "events", (30,))
    write_net(model, tmp_path / "m.net")
    with h5py.File(tmp_path / "m.net", "a") as file:
        del file["snnkd_deploy"]
    plain = read_net(tmp_path / "m.net")
    x = (np.random.default_rng(0).random((6, 4, 30)) < 0.5).astype(int)
    a, b = run(model, x), run(plain, x)
    assert [t.tolist() for t in a.v.values()] == [t.tolist() for t in b.v.values()]


def test_edited_layers_beside_our_group_are_refused(tmp_path):
    write_net(student("mlp", "events", (30,)), tmp_path / "m.net")
    with h5py.File(tmp_path / "m.net", "a") as file:
        file["layer/1/neuron/vThMant"][...] = 17
    with pytest.raises(GraphError, match="do not belong together"):
        read_net(tmp_path / "m.net")


def test_foreign_net_to_nir_to_net_keeps_integers(tmp_path):
    layers = [
        MAPS,
        conv(even(RNG, 4, 2, 3, 3), (4, 4, 3), cuba(900, 300, 70), bias=RNG.integers(-9, 9, (3, 4, 4)).astype(float)),
        {"type": "flatten"},
        dense(even(RNG, 6, 48), cuba(), delay=RNG.integers(0, 9, 6)),
        {**dense(even(RNG, 5, 6), cuba(), weight_rec=even(RNG, 5, 5)), "type": "dense_rec"},
        dense(even(RNG, 3, 5), delay=RNG.integers(0, 9, 5)),
    ]
    model = read_net(write(tmp_path / "a.net", layers))
    save_model(model, tmp_path / "b.nir")
    save_model(load_model(tmp_path / "b.nir"), tmp_path / "c.net")
    with h5py.File(tmp_path / "c.net", "a") as file:
        del file["snnkd_deploy"]
    again = read_net(tmp_path / "c.net")
    x = (np.random.default_rng(0).random((15, 3, 2, 6, 5)) < 0.6).astype(int)
    a, b = run(model, x), run(again, x)
    assert sum(int(s.sum()) for s in a.spikes.values()) > 0
    for name in a.v:
        assert torch.equal(a.v[name], b.v[name]) and torch.equal(a.u[name], b.u[name])


def residual():
    net = Net((4,))
    a = net.lif("a", net.dense("d1", "input", net.weights((4, 4))))
    b = net.lif("b", net.dense("d2", a, net.weights((4, 4))))
    return net.model(net.lif("c", [net.dense("d3", b, net.weights((4, 4))), net.dense("skip", a, net.weights((4, 4)))]))


def pooled():
    net = Net((2, 4, 4))
    a = net.lif("a", net.conv("c1", "input", net.weights((2, 2, 1, 1))))
    return net.model(net.lif("b", net.dense("d", net.flatten("f", net.pool("p", a, 2)), net.weights((3, 8)))))


def with_weights(weight, **lif):
    net = Net((weight.shape[1],))
    return net.model(net.lif("a", net.dense("d1", "input", weight), **lif))


@pytest.mark.parametrize(
    ("model", "node", "message"),
    [
        (residual(), "skip", "branches have no place"),
        (pooled(), "p", "pooling has no place"),
        (with_weights(np.zeros((3, 4), dtype=int)), "d1", "zero"),
        (with_weights(np.array([[-4, 0], [-2, 0]])), "d1", "power of two"),
        (with_weights(np.array([[2, -4]]), leak=7, bias_exp=0), "a", "steps of 64"),
    ],
)
def test_what_the_format_cannot_say_is_refused_with_the_layer(model, node, message, tmp_path):
    with pytest.raises(GraphError) as caught:
        write_net(model, tmp_path / "m.net")
    assert any(p.where == node and message in p.what for p in caught.value.problems)
    assert caught.value.problems[0].remedy
    assert not list(tmp_path.iterdir()), "nothing half-written stays behind"


def test_float_models_and_options_that_do_not_apply(tmp_path):
    graph = nir.NIRGraph(
        {"input": nir.Input({"input": np.array([2])}), "output": nir.Output({"output": np.array([2])})},
        [("input", "output")],
        type_check=False,
    )
    nir.write(tmp_path / "f.nir", graph)
    with pytest.raises(GraphError, match="snnkd lower"):
        write_net(load_model(tmp_path / "f.nir"), tmp_path / "m.net")
    write(tmp_path / "m.net", [dense(even(RNG, 3, 9), cuba())])
    with pytest.raises(UsageError, match="does not apply"):
        load_model(tmp_path / "m.net", dt_s=1e-3)
    for name in ("m.onnx", "m.txt"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises((GraphError, UsageError)):
            load_model(tmp_path / name)
