"""One test for each known fault of stock NIR exporters and importers that a file of ours must not fall into (E1-E15).

`student`: a residual convolutional student as `export` writes it. `plain`: the same network for norse (`convert
--for`), which has no profile to rely on and must be safe by itself. The recurrent student stands for loops.
"""

import json

import h5py
import nir
import numpy as np
import pytest
import torch
from active import active_student
from chip_models import Net

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.float_reference import FloatBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.interop import DT_S, READERS, interop
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.nirfile import read_nir, write_nir
from snnkd_deploy.graph.normalise import normalise
from snnkd_deploy.graph.profile import PROFILE_KEY, Encoding, Profile
from snnkd_deploy.graph.topology import NEURONS
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan

torch.set_num_threads(1)
STEPS = 4


def students():
    return {
        "conv": StudentPlan("conv", (2, 8, 8), 5, 1, STEPS, encoding="events", width=0.25),
        "residual": StudentPlan("resnet20", (3, 8, 8), 5, 255, STEPS, encoding="current", width=0.25),
        "recurrent": StudentPlan("rnn", (6,), 4, 1, STEPS, encoding="events", options={"hidden": (10, 8)}),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name -> (model, path) of every kind of file that we write."""
    folder = tmp_path_factory.mktemp("files")
    models = {name: lower_student(active_student(plan, 8)[0]) for name, plan in students().items()}
    models |= {f"plain {target}": interop(models["conv"], target)[0] for target in READERS}
    models["plain maps"] = interop(average_maps(), "norse")[0]
    found = {}
    for i, (name, model) in enumerate(models.items()):
        write_nir(model, folder / f"{i}.nir")
        found[name] = (model, folder / f"{i}.nir")
    return found


def average_maps():
    """What the plain form has to rewrite: average pools, no bias, gains, odd names, a flatten that counts from 0."""
    rng = np.random.default_rng(0)
    one = np.ones((4, 6, 6))
    two = np.array([2, 2])
    nodes = {
        "in.put": nir.Input({"input": np.array([2, 6, 6])}),
        "conv ü": nir.Conv2d(None, rng.normal(0, 0.4, (4, 2, 3, 3)), 1, 1, 1, 1, np.full(4, 0.1)),
        "lif.1": nir.LIF(5e-3 * one, 3 * one, 0 * one, 0.4 * one),
        "pool": nir.AvgPool2d(two, two, 0 * two),
        "flat": nir.Flatten(None, 0, -1),
        "fc": nir.Linear(rng.normal(0, 0.5, (5, 36))),
        "lif.2": nir.LIF(np.full(5, 4e-3), np.full(5, 2.0), np.zeros(5), np.full(5, 0.3)),
        "out": nir.Output({"output": np.array([5])}),
    }
    names = list(nodes)
    graph = nir.NIRGraph(nodes, list(zip(names, names[1:], strict=False)), type_check=False)
    return Model(normalise(graph), Profile(dt_s=1e-3, reset="zero", encoding=Encoding(kind="float")))


def stock(files):
    """Every file as the stock reader sees it, types checked."""
    return {name: (model, nir.read(path, type_check=True)) for name, (model, path) in files.items()}


def spikes(model, backend, x):
    return backend.run(model, make_inputs(x, model, STEPS if len(x) == 1 else None), Record()).spikes


def test_e1_every_neuron_parameter_is_a_full_float_array(files):
    for name, (model, graph) in stock(files).items():
        for node_name, node in graph.nodes.items():
            for key, value in vars(node).items():
                if isinstance(node, NEURONS) and key in (
                    "tau",
                    "tau_syn",
                    "tau_mem",
                    "r",
                    "v_leak",
                    "v_threshold",
                    "v_reset",
                    "w_in",
                ):
                    assert type(value) is np.ndarray and value.dtype.kind == "f", (name, node_name, key)
                    assert value.shape == model.shapes[node_name], (name, node_name, key)


def test_e2_tau_is_in_seconds(files):
    """Not tau times dt (norse), not steps (sinabs): the file's numbers over the file's dt are the decays."""
    seen = 0
    for name, (model, graph) in stock(files).items():
        for node_name, node in graph.nodes.items():
            params = model.profile.nodes.get(node_name)
            if isinstance(node, nir.LIF) and hasattr(params, "Dv"):
                assert np.allclose(model.profile.dt_s / node.tau, params.Dv / 4096, rtol=1e-12), (name, node_name)
                seen += 1
    source, plain = files["conv"][0], files["plain norse"][0]
    for left, right in zip(source.spiking, plain.spiking, strict=True):
        a, b = source.nodes[left].tau / source.profile.dt_s, plain.nodes[right].tau / DT_S
        assert np.allclose(a, b, rtol=1e-6)
    assert seen > 10


def test_e3_no_lost_nodes_and_no_lost_edges(files):
    for name, (_, graph) in stock(files).items():
        assert all(isinstance(node, nir.NIRNode) for node in graph.nodes.values())
        ends = [end for edge in graph.edges for end in edge]
        assert set(ends) == set(graph.nodes) and len(set(graph.edges)) == len(graph.edges), name
        reached = ["input"]
        for node in reached:
            reached += [b for a, b in graph.edges if a == node and b not in reached]
        assert set(reached) == set(graph.nodes), name


def test_e4_types_have_neither_batch_nor_time(files):
    for name, (model, graph) in stock(files).items():
        assert tuple(graph.nodes["input"].input_type["input"]) == model.shapes["input"], name
        assert tuple(graph.nodes["output"].output_type["output"]) == model.shapes["output"], name
    assert files["residual"][0].shapes["input"] == (3, 8, 8)


def test_e5_convolutions_have_a_bias_a_square_kernel_and_plain_pads(files):
    seen = 0
    for name, (_, graph) in stock(files).items():
        for node in graph.nodes.values():
            if isinstance(node, nir.Conv2d):
                seen += 1
                assert node.bias.shape == node.weight.shape[:1], name
                assert node.weight.shape[2] == node.weight.shape[3], name
                assert np.asarray(node.padding).dtype.kind == "i" and np.size(node.padding) in (1, 2), name
    assert seen > 20
    wide = average_maps()
    wide.nodes["conv ü"].weight = np.ones((4, 2, 1, 3))
    wide.nodes["conv ü"].padding = (0, 1)
    with pytest.raises(GraphError, match="non-square"):
        interop(wide, "norse")


def test_e6_flatten_counts_its_axes_from_the_end(files):
    seen = []
    for _, graph in stock(files).values():
        seen += [(int(n.start_dim), int(n.end_dim)) for n in graph.nodes.values() if isinstance(n, nir.Flatten)]
    assert seen and set(seen) == {(-3, -1)}


def test_e7_pools_are_sums_without_padding(files):
    pools = []
    for _, graph in stock(files).values():
        pools += [n for n in graph.nodes.values() if isinstance(n, nir.SumPool2d | nir.AvgPool2d)]
    assert pools and all(isinstance(p, nir.SumPool2d) and not np.any(p.padding) for p in pools)
    before, after = average_maps(), files["plain maps"][0]
    gain = 2.0 * 1e-3 / 4e-3  # r dt / tau went into the weights as well, and r = 1 gives dt / tau back
    assert np.allclose(after.nodes["fc"].weight, before.nodes["fc"].weight / 4 * gain / (1e-3 / 4e-3), rtol=1e-6)
    padded = average_maps()
    padded.nodes["pool"].padding = np.array([1, 1])
    padded.nodes["fc"].weight = np.ones((5, 64))
    with pytest.raises(GraphError, match="padding of a pool"):
        interop(Model(normalise(padded.graph), padded.profile), "norse")


def test_e8_plain_files_have_affine_maps_only(files):
    for name, (_, graph) in stock(files).items():
        if name.startswith("plain"):
            assert not any(isinstance(n, nir.Linear) for n in graph.nodes.values()), name
    assert not files["plain maps"][0].nodes["fc"].bias.any()


def test_e9_plain_neurons_have_the_gain_that_their_reader_knows_and_thresholds_off_the_ties(files):
    for target, reader in READERS.items():
        model = files[f"plain {target}"][0]
        for name in model.spiking:
            node = model.nodes[name]
            steps = node.tau / DT_S if isinstance(node, nir.LIF) else 1.0
            wanted = steps if reader.unit_gain else 1.0
            assert isinstance(node, nir.IF) or np.allclose(node.r, wanted, rtol=1e-6)
            assert not node.v_reset.any() and not np.any(getattr(node, "v_leak", 0))
    net = Net((6,), seed=1)
    a = net.lif("a", net.dense("d", "input", net.weights((8, 6))), vth=64, Du=4096, Dv=0)
    net.nodes[a] = nir.IF(np.full(8, 1e3), np.full(8, 1.0))
    model = net.model(a)
    plain, _ = interop(model, "norse")
    register = float(plain.nodes["a"].v_threshold[0]) * 64 * 64  # 64 << 6 in units of v
    assert register == 64 * 64 + 0.5, "between two integers: > and >= are the same test"
    x = np.random.default_rng(0).integers(0, 2, (40, 6, 6)).astype(np.float64)
    want, found = spikes(model, ExactBackend(), x)["a"], spikes(plain, FloatBackend(), x)["a"]
    at = Model(plain.graph, plain.profile.model_copy(update={"fires": ">="}))
    assert want.any() and torch.equal(want, found) and torch.equal(want, spikes(at, FloatBackend(), x)["a"])


def test_e10_names_and_order(files):
    for name, (model, graph) in stock(files).items():
        assert {"input", "output"} <= set(graph.nodes)
        assert all(n.isascii() and "." not in n for n in graph.nodes), name
        flat = [n for part in model.order for n in part]
        if name.startswith("plain"):
            assert list(model.nodes) == flat, "in the order of execution"
    assert list(files["plain maps"][0].nodes) == ["input", "conv__", "lif_1", "pool", "flat", "fc", "lif_2", "output"]


def test_e11_what_nir_cannot_say_is_refused_or_carried_never_dropped(tmp_path):
    model = average_maps()
    model = Model(model.graph, model.profile.model_copy(update={"reset": "subtract"}))
    write_nir(model, tmp_path / "m.nir")
    assert read_nir(tmp_path / "m.nir").profile.reset == "subtract"
    for target in READERS:
        with pytest.raises(GraphError, match="no reset by subtraction"):
            interop(model, target)
    net = Net((4,), seed=2)
    delayed = net.model(net.lif("a", net.dense("d", "input", net.weights((5, 4)), delay=(0, 1, 2, 3))))
    write_nir(delayed, tmp_path / "d.nir")
    assert read_nir(tmp_path / "d.nir").synapse("d").delay == (0, 1, 2, 3)
    with pytest.raises(GraphError, match="axonal delays"):
        interop(delayed, "norse")
    # The stock node types have no place for either; without our profile such a file asks for its conventions.
    with h5py.File(tmp_path / "m.nir", "a") as file:
        del file[f"node/metadata/{PROFILE_KEY}"]
    with pytest.raises(GraphError, match="--dt and --reset missing"):
        read_nir(tmp_path / "m.nir")


@pytest.mark.parametrize("name", ["conv", "residual", "recurrent"])
def test_e12_batch_norm_is_folded(name):
    """The student's own spikes, whose norms have the statistics of a batch, are those of the exported file."""
    student, x = active_student(students()[name], 8)
    assert not any(isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) for m in student.modules())
    model = lower_student(student)
    array = x.numpy()[None] if students()[name].encoding == "current" else x.numpy()
    found = spikes(model, ExactBackend(), array)
    with torch.no_grad():
        want = student(x).spikes
    assert want.keys() == found.keys() and all(w.any() for w in want.values())
    assert all(torch.equal(want[n].to(torch.uint8), found[n]) for n in want)
    # The student's norms shift by 0.3: a folded bias is what is left of them.
    assert all(model.bias_int(n).any() for n in model.spiking[1:])


def test_e13_the_profile_survives_unchanged(files, tmp_path):
    for name, (_, path) in files.items():
        texts = []
        for hop in range(3):
            texts.append(str(nir.read(path).metadata[PROFILE_KEY]))
            model = read_nir(path)
            path = tmp_path / f"{hop}.nir"
            write_nir(model, path)
        assert texts[0] == texts[1] == texts[2], name
        assert json.loads(texts[0])["version"] == 1


def test_e14_files_run_as_their_source_after_the_stock_reader(files, tmp_path):
    """Through `nir.read` and `nir.write` of the stock library and back: the same spikes. Importers: test_interop."""
    for name, (model, path) in files.items():
        graph = nir.read(path, type_check=True)
        nir.write(tmp_path / "again.nir", graph)
        again = read_nir(tmp_path / "again.nir")
        assert again.sha256 == model.sha256, name
        rng = np.random.default_rng(0)
        lead = (1, 3) if model.profile.encoding.kind == "current" else (STEPS, 3)
        x = rng.integers(0, model.profile.encoding.levels + 1, (*lead, *model.shapes["input"]))
        backend = ExactBackend() if model.on_chip_grid else FloatBackend()
        a, b = spikes(model, backend, x), spikes(again, backend, x)
        assert all(torch.equal(a[n], b[n]) for n in a), name


def test_e15_weights_are_written_as_floats_and_the_profile_gives_the_integers_back(files):
    for name, (model, graph) in stock(files).items():
        for node_name, node in graph.nodes.items():
            weight = getattr(node, "weight", None)
            if weight is None:
                continue
            assert weight.dtype.kind == "f", (name, node_name)
            if model.on_chip_grid:
                scaled = weight.astype(np.float64) * model.synapse(node_name).weight_scale
                assert np.abs(scaled - np.rint(scaled)).max() < 1e-6
                # A grouped kernel is written out in full: zeros beside the same integers.
                found, wanted = np.rint(scaled).astype(np.int64), model.weight_int(node_name)
                assert np.array_equal(found[found != 0], wanted[wanted != 0])
                assert found.shape == wanted.shape or model.nodes[node_name].groups > 1
