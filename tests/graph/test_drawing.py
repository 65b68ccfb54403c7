"""`snnkd show`: what the drawing says, and that the SVG is well-formed, named and safe."""

import json
import re
import xml.etree.ElementTree as ET

import nir
import numpy as np
import pytest
from chip_models import Net
from random_nir import RandomGraph

from snnkd_deploy.cli import main
from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.drawing import render_svg, render_text, rows
from snnkd_deploy.graph.interop import interop
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.nirfile import write_nir

SVG = "{http://www.w3.org/2000/svg}"


def network():
    """A skip around a convolution and a recurrent layer behind it."""
    net = Net((2, 5, 4), seed=3)
    a = net.lif("a", net.conv("c1", "input", net.weights((2, 2, 3, 3)), padding=1), vth=70, Dv=300)
    b = net.lif(
        "b",
        [
            net.conv("c2", a, net.weights((2, 2, 3, 3), -8, 8), padding=1),
            net.conv("skip", a, net.weights((2, 2, 1, 1))),
        ],
    )
    c = net.lif("c", net.dense("fc", net.flatten("f", b), net.weights((6, 40))))
    net.loop("back", c, net.weights((6, 6)))
    return net.model(net.readout("r", net.dense("last", c, net.weights((3, 6)))))


def test_rows_name_integers_and_edges():
    model = network()
    found = {row.name: row for row in rows(model)}
    assert set(found) == set(model.nodes)
    assert "threshold 70 << 6" in found["a"].facts and "Du 4096, Dv 300" in found["a"].facts
    weights = model.weight_int("c1")
    assert f"3x3 kernel, 36 integers {weights.min()}..{weights.max()}" == found["c1"].facts
    assert found["b"].hears == ("c2", "skip") and found["b"].late == ()
    assert found["back"].late == ("c",) and found["r"].kind == "readout"
    text = render_text(model)
    assert text.splitlines()[0].startswith("integers of loihi2, input events")
    assert "<- c2 + skip" in text and "c of the step before" in text
    assert all(re.search(rf"^  {re.escape(name)} ", text, re.M) for name in model.nodes)


def test_floats_show_their_own_parameters():
    text = render_text(RandomGraph(7).model())
    assert text.startswith("float, input float, dt 0.001 s")
    assert "threshold" in text


FAMILIES = {
    "speck2f": ({"v_min": -70}, "v_min -70, leak 0, threshold 70"),
    "truenorth": ({"leak": 3}, "leak 3, threshold 70"),
    "xylo_a2": ({"dash_syn": 2, "dash_mem": 4}, "dash_syn 2, dash_mem 4, threshold 70"),
    "float32": ({"alpha": 0.5}, "alpha 0.5, threshold 70"),
}


@pytest.mark.parametrize("chip", FAMILIES)
def test_other_families_show_their_own_registers(chip):
    numbers, text = FAMILIES[chip]
    net = Net((4,), chip=chip)
    a = net.lif("a", net.dense("d", "input", net.weights((5, 4))), vth=70)
    net.params[a] = net.params[a].model_copy(update=numbers)
    model = net.model(a)
    drawn = render_text(model)
    assert text in drawn and "Dv" not in drawn and f"integers of {chip}" in drawn
    if chip != "float32":
        with pytest.raises(GraphError, match="no neurons of family"):
            interop(model, "norse")


def test_svg_is_well_formed_accessible_and_complete():
    model = network()
    root = ET.fromstring(render_svg(model))
    assert root.get("role") == "img" and root.get("aria-label")
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}" and int(root.get("height")) > 400
    assert root.find(f"{SVG}title").text and render_text(model) in root.find(f"{SVG}desc").text
    assert len(root.findall(f"{SVG}rect")) == len(model.nodes)
    assert len(root.findall(f"{SVG}path")) == len(model.graph.edges)
    assert sum(p.get("class") == "late" for p in root.findall(f"{SVG}path")) == 1
    assert "prefers-color-scheme" in render_svg(model)
    assert "prefers-color-scheme" not in render_svg(model, standalone=False), "the page has its own colours"


def test_edges_beside_the_boxes_do_not_overlap():
    for seed in range(60):
        model = RandomGraph(seed).model()
        at = {row.name: i for i, row in enumerate(rows(model))}
        sides = {}
        for path in ET.fromstring(render_svg(model)).findall(f"{SVG}path"):
            beside = re.match(r"M(\d+) (\d+)H(-?\d+)V(\d+)", path.get("d"))
            if beside:
                x0, y0, x, y1 = map(int, beside.groups())
                sides.setdefault(x, []).append(sorted((y0, y1)))
        for spans in sides.values():
            spans.sort()
            assert all(a[1] <= b[0] + 4 for a, b in zip(spans, spans[1:], strict=False)), seed
        assert at


def test_names_of_files_are_escaped():
    nodes = {"input": nir.Input({"input": np.array([2])}), "<script>&": nir.Scale(np.ones(2))}
    nodes["output"] = nir.Output({"output": np.array([2])})
    graph = nir.NIRGraph(nodes, [("input", "<script>&"), ("<script>&", "output")], type_check=False)
    text = render_svg(Model(graph, RandomGraph(1).model().profile))
    assert "<script>" not in text and ET.fromstring(text) is not None


def test_through_the_command_line(tmp_path, capsys):
    write_nir(network(), tmp_path / "m.nir")
    assert main(["show", str(tmp_path / "m.nir"), "--svg", str(tmp_path / "new" / "m.svg")]) == 0
    assert "threshold 70 << 6" in capsys.readouterr().out
    ET.parse(tmp_path / "new" / "m.svg")
    assert main(["show", str(tmp_path / "m.nir"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chip"] == "loihi2" and {n["name"] for n in found["nodes"]} >= {"a", "back"}
    assert main(["show", str(tmp_path / "none.nir")]) == 1
