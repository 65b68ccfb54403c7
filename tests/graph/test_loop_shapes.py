"""Shapes around a loop: the weight node of a back edge comes first and knows nothing yet."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.topology import infer_shapes


def recurrent(back: np.ndarray) -> nir.NIRGraph:
    ones = np.ones(4)
    nodes = {
        "input": nir.Input({"input": np.array([3])}),
        "forward": nir.Linear(np.ones((4, 3))),
        "back": nir.Linear(back),
        "lif": nir.LIF(tau=ones, r=ones, v_leak=ones * 0, v_threshold=ones),
        "output": nir.Output({"output": np.array([4])}),
    }
    edges = [("input", "forward"), ("forward", "lif"), ("back", "lif"), ("lif", "back"), ("lif", "output")]
    return nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)


def test_weights_of_a_back_edge_take_their_shape_from_the_population():
    shapes = infer_shapes(recurrent(np.ones((4, 4))))
    assert shapes["back"] == shapes["lif"] == shapes["output"] == (4,)


def test_back_edge_of_another_shape_is_an_error():
    with pytest.raises(GraphError, match="different shapes"):
        infer_shapes(recurrent(np.ones((5, 4))))
