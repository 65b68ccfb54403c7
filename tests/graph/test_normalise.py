"""Exporters' conventions brought into one form: subgraphs, parameter shapes, flatten axes, order of loops."""

import nir
import numpy as np
import pytest

from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.model import same
from snnkd_deploy.graph.nirfile import read_nir, write_nir
from snnkd_deploy.graph.normalise import normalise
from snnkd_deploy.graph.topology import execution_order, infer_shapes


def lif(*shape, value=1.0):
    return nir.LIF(*np.full((4, *shape), value))


def ends(inside, outside):
    return {"input": nir.Input({"input": np.array(inside)}), "output": nir.Output({"output": np.array(outside)})}


def graph(nodes, *edges):
    return nir.NIRGraph(nodes, [tuple(e.split(">")) for e in edges], type_check=False)


def recurrent_cell():
    nodes = ends((3,), (3,)) | {"lif": lif(3), "w_rec": nir.Linear(np.ones((3, 3)))}
    return graph(nodes, "input>lif", "lif>output", "lif>w_rec", "w_rec>lif")


def test_subgraphs_are_opened_and_keep_their_names():
    nodes = ends((2,), (3,)) | {"fc": nir.Linear(np.ones((3, 2))), "rnn": recurrent_cell()}
    flat = normalise(graph(nodes, "input>fc", "fc>rnn", "rnn>output"))
    assert set(flat.nodes) == {"input", "fc", "rnn.lif", "rnn.w_rec", "output"}
    assert set(flat.edges) == {
        ("input", "fc"),
        ("fc", "rnn.lif"),
        ("rnn.lif", "rnn.w_rec"),
        ("rnn.w_rec", "rnn.lif"),
        ("rnn.lif", "output"),
    }


def test_subgraphs_in_subgraphs_and_one_that_only_passes_on():
    empty = graph(ends((3,), (3,)), "input>output")
    outer = graph(
        ends((3,), (3,)) | {"cell": recurrent_cell(), "wire": empty}, "input>wire", "wire>cell", "cell>output"
    )
    flat = normalise(graph(ends((3,), (3,)) | {"block": outer}, "input>block", "block>output"))
    assert set(flat.nodes) == {"input", "block.cell.lif", "block.cell.w_rec", "output"}
    assert ("input", "block.cell.lif") in flat.edges and ("block.cell.lif", "output") in flat.edges


def test_names_with_slashes(tmp_path):
    """HDF5 takes a slash for a group in a group."""
    nodes = ends((3,), (2,)) | {"block/1/fc": nir.Linear(np.ones((2, 3))), "block/1/lif": lif(2)}
    edges = ("input>block/1/fc", "block/1/fc>block/1/lif", "block/1/lif>output")
    nir.write(tmp_path / "f.nir", graph(nodes, *edges))
    model = read_nir(tmp_path / "f.nir", dt_s=1e-3, reset="zero")
    assert set(model.nodes) == set(nodes) and model.spiking == ["block/1/lif"]
    write_nir(model, tmp_path / "again.nir")
    assert same(read_nir(tmp_path / "again.nir"), model)


def test_a_subgraph_with_two_inputs_is_ambiguous():
    cell = recurrent_cell()
    cell.nodes["second"] = nir.Input({"input": np.array([3])})
    cell.edges.append(("second", "lif"))
    with pytest.raises(GraphError, match="2 inputs"):
        normalise(graph(ends((3,), (3,)) | {"cell": cell}, "input>cell", "cell>output"))


@pytest.mark.parametrize("shape", [(), (1,), (2, 1, 1), (2, 3, 4), (1, 2, 3, 4)])
def test_parameters_become_full_arrays(shape):
    flat = normalise(graph(ends((2, 3, 4), (2, 3, 4)) | {"n": lif(*shape)}, "input>n", "n>output"))
    assert flat.nodes["n"].tau.shape == (2, 3, 4)


@pytest.mark.parametrize("shape", [(3,), (4,), (2, 3), (24,), (2, 4, 3)])
def test_parameters_of_other_shapes_are_refused(shape):
    with pytest.raises(GraphError, match="does not fit the neurons"):
        normalise(graph(ends((2, 3, 4), (2, 3, 4)) | {"n": lif(*shape)}, "input>n", "n>output"))


@pytest.mark.parametrize(("start", "end"), [(0, -1), (1, -1), (-3, -1), (0, 2), (1, 3), (-3, 2)])
def test_every_way_to_flatten_a_map_before_a_matrix(start, end):
    """(1, -1) and (1, 3) count the batch axis: only so does the matrix fit."""
    flatten = nir.Flatten({"input": None}, start, end)
    nodes = ends((2, 3, 4), (5,)) | {"f": flatten, "fc": nir.Linear(np.ones((5, 24)))}
    flat = normalise(graph(nodes, "input>f", "f>fc", "fc>output"))
    assert infer_shapes(flat)["f"] == (24,)
    assert (flat.nodes["f"].start_dim, flat.nodes["f"].end_dim) == (-3, -1)


def test_flatten_of_some_axes_means_what_it_says():
    nodes = ends((2, 3, 4), (2, 5)) | {"f": nir.Flatten({"input": None}, 1, -1), "fc": nir.Linear(np.ones((5, 12)))}
    assert infer_shapes(normalise(graph(nodes, "input>f", "f>fc", "fc>output")))["f"] == (2, 12)
    vector = ends((6,), (6,)) | {"f": nir.Flatten({"input": None}, 1, -1), "n": lif(6)}
    assert infer_shapes(normalise(graph(vector, "input>f", "f>n", "n>output")))["f"] == (6,)
    with pytest.raises(GraphError, match="Flatten"):
        normalise(graph(ends((6,), (6,)) | {"f": nir.Flatten({"input": None}, 3, -1)}, "input>f", "f>output"))


def test_non_square_kernels_and_types():
    conv = nir.Conv2d(None, np.ones((2, 1, 3, 5)), 1, (1, 2), 1, 1, np.zeros(2))
    flat = normalise(graph(ends((1, 8, 8), (2, 8, 8)) | {"c": conv}, "input>c", "c>output"))
    assert flat.nodes["c"].output_type["output"].tolist() == [2, 8, 8] and flat.nodes["c"].input_shape == (8, 8)
    again = normalise(flat)
    assert again.nodes["c"].input_shape == (8, 8)


def test_an_input_that_kept_its_batch_axis():
    """norse's exporter: the graph only fits together without it."""
    nodes = ends((4, 10), (4, 20)) | {"fc": nir.Linear(np.ones((20, 10))), "n": lif(20)}
    shapes = infer_shapes(normalise(graph(nodes, "input>fc", "fc>n", "n>output")))
    assert shapes["input"] == (10,) and shapes["output"] == (20,)


def test_a_batch_of_one_is_no_axis_of_the_network():
    """norse's exporter again, whose neurons have one number for all: the graph fits together, but as rows."""
    one = np.array(1.0)
    neuron = nir.LIF(tau=one, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
    nodes = ends((1, 10), (1, 20)) | {"fc": nir.Linear(np.ones((20, 10))), "n": neuron}
    shapes = infer_shapes(normalise(graph(nodes, "input>fc", "fc>n", "n>output")))
    assert shapes["input"] == (10,) and shapes["n"] == shapes["output"] == (20,)


# -- order of loops -----------------------------------------------------------------------------------------


def place(g):
    flat = [name for part in execution_order(g) for name in part]
    return {name: i for i, name in enumerate(flat)}


def test_a_loop_is_cut_behind_the_population_that_feeds_back():
    at = place(recurrent_cell())
    assert at["w_rec"] < at["lif"], "the weights hear last step's spikes"


@pytest.mark.parametrize("swap", [False, True])
def test_forward_edges_inside_a_loop_have_no_delay(swap):
    """input -> a -> ab -> b -> ba -> a: only b -> ba goes back, in whatever order the file lists the nodes."""
    linear = lambda: nir.Linear(np.ones((2, 2)))  # noqa: E731
    inner = {"a": lif(2), "ab": linear(), "b": lif(2), "ba": linear()}
    if swap:
        inner = dict(reversed(inner.items()))
    nodes = ends((2,), (2,)) | inner
    at = place(graph(nodes, "input>a", "a>ab", "ab>b", "b>ba", "ba>a", "a>output"))
    assert at["ba"] < at["a"] < at["ab"] < at["b"]


def test_loops_without_neurons():
    nodes = ends((2,), (2,)) | {"w": nir.Linear(np.ones((2, 2))), "s": nir.Scale(np.ones(2))}
    for edges in (("w>w",), ("w>s", "s>w")):
        with pytest.raises(GraphError, match="without a neuron"):
            execution_order(graph(nodes, "input>w", "w>output", *edges))
