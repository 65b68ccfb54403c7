"""Energy equal to SANA-FE's, digit for digit, on the spikes that SANA-FE itself produced.

SANA-FE 2.2.9 is GPL-3 and lives in an interpreter of its own: SNNKD_SANAFE_PYTHON names it.
"""

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.chips import load_chip
from snnkd_deploy.evaluate import count_ops, estimate_energy, estimate_latency
from snnkd_deploy.evaluate.mapping import FitReport, Tile
from snnkd_deploy.evaluate.mapping.greedy import mesh_of
from snnkd_deploy.evaluate.mapping.placement import Placement
from snnkd_deploy.evaluate.wiring import wiring

PYTHON = os.environ.get("SNNKD_SANAFE_PYTHON", "")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="set SNNKD_SANAFE_PYTHON to a Python with sanafe==2.2.9 (GPL-3, run out of process)"
)
MESH = mesh_of(load_chip("loihi1"))


def mlp(make, sizes, cores):
    net = make.Net((sizes[0],), reset="subtract", seed=1)
    for i, size in enumerate(sizes[1:]):
        weight = net.rng.choice([-0.25, 0.25, 0.5, 0.75], size=(size, net.shape()[-1]), p=[0.2, 0.3, 0.3, 0.2])
        net.linear(f"w{i}", size, weight).lif(f"n{i}")
    return net.build(), cores


def conv(make):
    net = make.Net((2, 6, 6), reset="subtract", seed=2).conv("w0", 4, 3, padding=1)
    net.nodes["w0"].weight = net.rng.choice([-0.25, 0.25, 0.5], size=(4, 2, 3, 3))
    net.lif("n0").flatten("f")
    net.linear("w1", 5, net.rng.choice([-0.25, 0.25], size=(5, 144))).lif("n1")
    return net.build(), {"input": [0], "n0": [5, 70], "n1": [127]}


NETS = {
    "one core": lambda make: mlp(make, (16, 32, 10), {"input": [0], "n0": [0], "n1": [0]}),
    "cores on far tiles": lambda make: mlp(
        make, (20, 40, 24, 6), {"input": [3], "n0": [4, 37], "n1": [60, 61, 127], "n2": [8]}
    ),
    "convolution": conv,
}


def boxes(shape, pieces):
    """Even slabs of the last axis."""
    edges = [shape[-1] * i // pieces for i in range(pieces + 1)]
    whole = [(0, size) for size in shape[:-1]]
    return [(*whole, (a, b)) for a, b in pairwise(edges)]


@pytest.mark.parametrize("name", NETS)
def test_energy_equals_sanafe(make, name):
    model, cores = NETS[name](make)
    steps = 15
    x = np.random.default_rng(3).random((steps, *model.shapes["input"])) < 0.3
    tiles = tuple(
        Tile(layer, box, {}, core)
        for layer in model.spiking
        for box, core in zip(boxes(model.shapes[layer], len(cores[layer])), cores[layer], strict=True)
    )
    found = run(model, x, cores, tiles, steps)
    streams = {n: np.zeros((steps, int(np.prod(model.shapes[n]))), dtype=np.uint8) for n in ("input", *model.spiking)}
    for step, row in enumerate(found["spikes"]):
        for address in row:
            group, _, neuron = address.rpartition(".")
            streams[group][step, int(neuron)] = 1
    spikes = {n: torch.from_numpy(s.reshape(steps, 1, *model.shapes[n])) for n, s in streams.items()}
    assert np.array_equal(streams["input"], x.reshape(steps, -1))
    assert spikes[model.spiking[0]].sum() > 0
    trace = Trace(torch.zeros(1, 1), {n: spikes[n] for n in model.spiking})
    counts = count_ops(model, trace, Inputs(spikes["input"].float(), steps))
    placement = Placement(model, wiring(model), tiles, mesh=MESH, input_core=(0, cores["input"][0]))
    routed = placement.route(counts)
    estimate = estimate_energy(routed, "loihi1", profile="sanafe")
    theirs = found["result"]
    assert routed.total.sop_event == theirs["spikes"]
    assert routed.messages == theirs["packets_sent"]
    terms = {t.name: t.mid_j for t in estimate.terms}
    assert terms["synaptic operations"] == pytest.approx(theirs["energy"]["synapse"], rel=1e-12, abs=0)
    assert terms["neuron updates"] + terms["spike generation"] == pytest.approx(
        theirs["energy"]["soma"], rel=1e-12, abs=0
    )
    network = terms["spike messages"] + terms["hops between tiles"]
    assert network == pytest.approx(theirs["energy"]["network"], rel=1e-12, abs=0)
    assert estimate.mid == pytest.approx(theirs["energy"]["total"], rel=1e-12, abs=0)
    # Their simple timing model knows each step's load; ours spreads it, and fills the pipeline.
    used = {(t.chip, t.core) for t in tiles}
    report = FitReport("loihi1", True, len(used), 1, tiles=tiles, placement=placement)
    latency = estimate_latency(routed, "loihi1", fit=report)
    assert latency.step_s is not None
    assert latency.step_s[1] * steps == pytest.approx(theirs["sim_time"], rel=0.5, abs=0)
    print(name, latency.step_s[1] * steps / theirs["sim_time"])


def run(model, x, cores, tiles, steps):
    def at(core):
        column, row = MESH.position(core)
        return [column, row, core % MESH.cores_per_tile]

    inputs = x.reshape(steps, -1)
    groups = {
        "input": {
            "neurons": [at(cores["input"][0])] * inputs.shape[1],
            "spikes": [inputs[:, i].astype(int).tolist() for i in range(inputs.shape[1])],
        }
    }
    for layer in model.spiking:
        owner = np.zeros(model.shapes[layer], dtype=int)
        for tile in tiles:
            if tile.layer == layer:
                owner[tuple(slice(a, b) for a, b in tile.box)] = tile.core
        groups[layer] = {"neurons": [at(c) for c in owner.flatten().tolist()], "threshold": 1.0}
    edges = []
    for connection in wiring(model).connections:
        node = model.nodes[connection.synapse]
        source = connection.arrivals[0].source
        shape = model.shapes[model.sources[connection.synapse][0]]
        weight = torch.from_numpy(np.asarray(node.weight, dtype=np.float64))
        size = int(np.prod(shape))
        eye = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
        kind = "loihi_dense_synapse"
        if connection.shared:
            matrix = torch.nn.functional.conv2d(eye, weight, None, 1, 1).flatten(1)
            exists = torch.nn.functional.conv2d(eye, torch.ones_like(weight), None, 1, 1).flatten(1) > 0
            kind = "loihi_conv_synapse"
        else:
            matrix = weight.T
            exists = torch.ones_like(matrix) > 0
        pairs = exists.nonzero().tolist()
        edges.append(
            {
                "source": source,
                "target": connection.target,
                "synapse": kind,
                "pairs": pairs,
                "weights": [float(matrix[i, j]) for i, j in pairs],
            }
        )
    job = {"groups": groups, "edges": edges, "steps": steps}
    script = Path(__file__).parent / "peers" / "run_sanafe.py"
    done = subprocess.run(
        [PYTHON, str(script)], input=json.dumps(job), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
