"""Loihi 1 packing against nengo-loihi's own `block.utilization()`, layer by layer on one core.

nengo-loihi wants an older numpy: SNNKD_NENGO_PYTHON names an interpreter that has it.
"""

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from snnkd_deploy.chips import load_chip
from snnkd_deploy.evaluate.mapping.cuts import whole
from snnkd_deploy.evaluate.mapping.loihi1 import Loihi1
from snnkd_deploy.evaluate.wiring import wiring

PYTHON = os.environ.get("SNNKD_NENGO_PYTHON", "")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="set SNNKD_NENGO_PYTHON to a Python with nengo-loihi==1.1.0 and numpy<2"
)


def jobs(count):
    rng = random.Random(0)
    for _ in range(count):
        if rng.random() < 0.4:
            yield {"kind": "dense", "inputs": rng.randint(1, 6000), "outputs": rng.randint(1, 1500)}
        else:
            kernel = [rng.randint(1, 5), rng.randint(1, 5)]
            yield {
                "kind": "conv",
                "shape": [rng.randint(1, 24), rng.randint(5, 20), rng.randint(5, 20)],
                "filters": rng.randint(1, 24),
                "kernel": kernel,
                "strides": [rng.randint(1, k) for k in kernel],
            }


def test_equal_to_nengo_loihi(make):
    wanted = list(jobs(120))
    script = Path(__file__).parent / "peers" / "run_nengo_loihi.py"
    done = subprocess.run([PYTHON, str(script)], input=json.dumps(wanted), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    rules = Loihi1(load_chip("loihi1"))
    fitting = 0
    for job, found in zip(wanted, theirs, strict=True):
        if job["kind"] == "dense":
            model = make.Net((job["inputs"],)).linear("w", job["outputs"]).lif("n").build()
        else:
            net = make.Net(tuple(job["shape"])).conv("w", job["filters"], tuple(job["kernel"]), tuple(job["strides"]))
            model = net.lif("n").build()
        need = rules.need(model, wiring(model), "n", whole(model.shapes["n"]))
        assert need["compartments"] == found["compartments"][0], job
        assert need["synapse memory"] * 64 == found["synapses"][0], job
        # They reserve an in-axon for every input position, also where a stride skips it.
        assert need["in-axons"] <= found["in-axons"][0], job
        if job["kind"] == "dense" or job["strides"] == [1, 1]:
            assert need["in-axons"] == found["in-axons"][0], job
        ours = all(need[key] <= limit for key, limit in rules.limits.items() if key in need)
        assert ours == all(used <= limit for used, limit in found.values()), job
        fitting += ours
    assert 0 < fitting < len(wanted)
