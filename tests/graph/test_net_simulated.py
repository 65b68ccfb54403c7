"""`.net` files with what Lava's processes computed for them, through `snnkd simulate --state`: nothing may differ.

Dense, conv, delays of every kind, recurrent, bias-driven images, every sign mode. Recorded by support/record_lava.py,
so that they hold where Lava is not installed.
"""

from pathlib import Path

import numpy as np
import pytest

from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.cli import main
from snnkd_deploy.graph.load import load_model
from snnkd_deploy.graph.topology import NEURONS

FOLDER = Path(__file__).parent / "recorded"
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))


def test_there_are_recordings():
    assert {"conv", "image", "recurrent", "delay_out", "delay_each", "dense_bias"} <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_every_spike_and_state_of_lava(name, tmp_path):
    recorded = dict(np.load(FOLDER / f"{name}.npz"))
    (tmp_path / "m.net").write_bytes(recorded["net"].tobytes())
    np.savez(tmp_path / "x.npz", x=recorded["x"], T=recorded["T"])
    words = ["simulate", str(tmp_path / "m.net"), "--input", str(tmp_path / "x.npz"), "-o", str(tmp_path / "t.npz")]
    assert main([*words, "--backend", "exact", "--state"]) == 0
    trace, model = Trace.load(tmp_path / "t.npz"), load_model(tmp_path / "m.net")
    populations = [n for part in model.order for n in part if isinstance(model.nodes[n], NEURONS)]
    assert sum(key.startswith("u/") for key in recorded) == len(populations)
    for k, node in enumerate(populations):
        for key, found in (("spikes", trace.spikes), ("u", trace.u), ("v", trace.v)):
            assert np.array_equal(found[node][:, 0].numpy(), recorded[f"{key}/{k}"]), (node, key)
    assert any(recorded[key].any() for key in recorded if key.startswith("spikes"))
