"""Files of snnTorch, spikingjelly and norse with what those tools computed for them, through `snnkd simulate`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.cli import main

FOLDER = Path(__file__).parent / "recorded"
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))


def simulate(name, folder, *options):
    recorded = dict(np.load(FOLDER / f"{name}.npz"))
    np.savez(folder / "x.npz", x=recorded["x"])
    (folder / "f.nir").write_bytes(recorded["nir"].tobytes())
    words = ["simulate", str(folder / "f.nir"), "--input", str(folder / "x.npz"), "-o", str(folder / "t.npz")]
    words += ["--state", "--dt", str(recorded["dt"]), "--reset", str(recorded["reset"]), *options]
    assert main(words) == 0
    return recorded, Trace.load(folder / "t.npz")


def test_there_are_recordings_of_every_tool():
    assert {name.split("_")[0] for name in CASES} == {"snntorch", "spikingjelly", "norse"}


@pytest.mark.parametrize("name", CASES)
def test_same_spikes_and_states(name, tmp_path):
    recorded, trace = simulate(name, tmp_path, "--backend", "float")
    spiking = list(trace.spikes)
    assert len(spiking) == sum(key.startswith("spikes") for key in recorded)
    for k, node in enumerate(spiking):
        expected = recorded[f"spikes{k}"]
        assert expected.any() and np.array_equal(trace.spikes[node].numpy(), expected), node
        for key, states in ((f"v{k}", trace.v), (f"c{k}", trace.u)):
            if key in recorded:
                found = states[node].to(torch.float32).numpy()
                assert np.allclose(found, recorded[key], rtol=1e-4, atol=2e-5), (node, key)
