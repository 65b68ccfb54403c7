"""The same spikes counted by NeuroBench 2.3 and spikingjelly 2.0, in an interpreter of their own.

SNNKD_COUNTERS_PYTHON names it; both packages would replace this environment's torch.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from snnkd_deploy.evaluate import count_ops
from snnkd_deploy.graph.topology import conv_padding, pair

PYTHON = os.environ.get("SNNKD_COUNTERS_PYTHON", "")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="set SNNKD_COUNTERS_PYTHON to a Python with neurobench==2.3.0 and spikingjelly==2.0.0"
)


def nets(make):
    yield "mlp", make.Net((30,)).linear("w1", 40, zeros=0.3).lif("n1").linear("w2", 10).lif("n2").build()
    net = make.Net((2, 9, 8)).conv("w1", 6, 3, 2, 1, zeros=0.2).lif("n1")
    net.conv("w2", 8, (3, 2), 1, (2, 1), (2, 1), 2).lif("n2").flatten("f").linear("w3", 7).lif("n3")
    yield "conv", net.build()


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_equal_to_peers(make, tmp_path, kind):
    model = dict(nets(make))[kind]
    steps, samples = 4, 3
    trace, inputs = make.random_run(model, steps, samples, 0.25)
    counts = count_ops(model, trace, inputs)
    for layer, synapse in zip(counts.layers, ("w1", "w2", "w3"), strict=False):
        node = model.nodes[synapse]
        source = model.sources[synapse][0]
        source = model.sources[source][0] if source == "f" else source
        x = (inputs.x if source == "input" else trace.spikes[source]).flatten(0, 1)
        if np.asarray(node.weight).ndim == 2:
            x = x.flatten(1)
        geometry = ()
        if hasattr(node, "stride"):
            groups = (int(np.asarray(node.groups)),)
            geometry = (*pair(node.stride), *conv_padding(node), *pair(node.dilation), *groups)
        path = tmp_path / f"{synapse}.npz"
        np.savez(path, x=x.numpy(), weight=np.asarray(node.weight), geometry=np.array(geometry))
        script = Path(__file__).parent / "peers" / "run_op_counters.py"
        done = subprocess.run([PYTHON, str(script), str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        theirs = json.loads(done.stdout.splitlines()[-1])
        assert theirs["neurobench_spiking"]
        exact = counts.exact[layer.name]
        assert exact["sop_nonzero"] == theirs["neurobench_effective"]
        assert exact["sop_dense"] == theirs["neurobench_dense"]
        assert exact["sop_event"] == theirs["spikingjelly_synops"]
