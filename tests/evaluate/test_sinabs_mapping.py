"""Speck: fits or not, against sinabs' own mapper on random networks.

sinabs is AGPL-3, so it runs out of process: SNNKD_SINABS_PYTHON names an interpreter that has it.
"""

import json
import os
import random
import subprocess
from pathlib import Path

import nir
import numpy as np
import pytest

from snnkd_deploy.evaluate import fit

PYTHON = os.environ.get("SNNKD_SINABS_PYTHON", "")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="set SNNKD_SINABS_PYTHON to a Python with sinabs==3.1.3 (AGPL-3, run out of process)"
)


def jobs(count):
    """Square nets inside the chip's limits of geometry, so that memory alone decides."""
    rng = random.Random(0)
    while count:
        size = rng.choice([8, 16, 32, 64])
        shape, side, layers = [rng.choice([1, 2, 4]), size, size], size, []
        for _ in range(rng.randint(1, 8)):
            kernel = rng.choice([1, 2, 3, 5])
            stride, padding = rng.choice([1, 1, 2]), rng.choice([0, kernel // 2])
            if side + 2 * padding < kernel:
                break
            side = (side + 2 * padding - kernel) // stride + 1
            pool = rng.choice([1, 1, 2, 4])
            pool = pool if side >= pool else 1
            out = rng.choice([2, 8, 12, 16, 32, 48, 64, 100])
            layers.append(
                {"kind": "conv", "out": out, "kernel": kernel, "stride": stride, "padding": padding, "pool": pool}
            )
            side //= pool
        if not layers:
            continue
        for _ in range(rng.randint(0, 2) if side <= 16 else 0):
            layers.append({"kind": "linear", "out": rng.choice([10, 32, 100, 256])})
        for layer in layers:
            layer["bias"] = rng.random() < 0.3
        yield {"shape": shape, "layers": layers}
        count -= 1


def model_of(make, job):
    net = make.Net(tuple(job["shape"]))
    flat = False
    for i, layer in enumerate(job["layers"]):
        if layer["kind"] == "conv":
            net.conv(f"c{i}", layer["out"], layer["kernel"], layer["stride"], layer["padding"])
            if layer["bias"]:
                net.nodes[f"c{i}"].bias = np.ones(layer["out"])
        else:
            if not flat:
                net.flatten("flat")
                flat = True
            net.linear(f"c{i}", layer["out"])
            if layer["bias"]:
                net.nodes[f"c{i}"] = nir.Affine(net.nodes[f"c{i}"].weight, np.ones(layer["out"]))
        net.lif(f"n{i}")
        if layer.get("pool", 1) > 1 and i + 1 < len(job["layers"]):
            net.pool(f"p{i}", layer["pool"])
    return net.build()


def test_fits_where_sinabs_fits(make, tmp_path):
    drawn = list(jobs(200))
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps(drawn))
    script = Path(__file__).parent / "peers" / "run_sinabs_mapping.py"
    done = subprocess.run([PYTHON, str(script), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = [fit(model_of(make, job), "speck2f").fits for job in drawn]
    assert 40 < sum(theirs) < 160  # both answers occur
    assert [job for job, a, b in zip(drawn, ours, theirs, strict=True) if a != b] == []
