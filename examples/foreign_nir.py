"""Post-training lowering: a NIR graph of another tool onto a chip, and what the chip's integers change.

python examples/foreign_nir.py                  # makes a small graph, as snnTorch or norse would export it
python examples/foreign_nir.py yours.nir 1e-4   # yours, and its timestep in seconds
"""

import sys
from itertools import pairwise
from pathlib import Path

import nir
import numpy as np

import snnkd_deploy as sd

STEPS, SAMPLES = 50, 16


def example(path: Path, dt: float, seed: int = 0) -> Path:
    """20 inputs, 30 leaky neurons, 5 leaky neurons; real weights, equations in continuous time."""
    rng = np.random.default_rng(seed)

    def population(n: int) -> nir.LIF:
        one = np.ones(n)
        return nir.LIF(tau=20 * dt * one, r=20 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)

    nodes = {
        "input": nir.Input({"input": np.array([20])}),
        "fc1": nir.Affine(rng.normal(0.1, 0.4, (30, 20)), np.zeros(30)),
        "lif1": population(30),
        "fc2": nir.Affine(rng.normal(0.1, 0.4, (5, 30)), np.zeros(5)),
        "lif2": population(5),
        "output": nir.Output({"output": np.array([5])}),
    }
    nir.write(path, nir.NIRGraph(nodes, list(pairwise(nodes))))
    return path


def main(path: str = "", dt: float = 1e-4, chip: str = "loihi2", out: str = "lowered.nir") -> sd.ParityReport:
    source = Path(path) if path else example(Path("foreign.nir"), dt)
    # NIR does not say what happens after a spike, nor the timestep: both are said here.
    foreign = sd.load_model(source, dt_s=dt, reset="zero")
    rng = np.random.default_rng(1)
    shape = foreign.shapes[foreign.input_name]
    spikes = (rng.random((STEPS, SAMPLES, *shape)) < 0.2).astype(np.uint8)

    lowered = sd.lower(foreign, chip)
    sd.save_model(lowered, out)
    parity = sd.compare(sd.run(foreign, spikes, backend="float"), sd.run(lowered, spikes, backend="exact"))
    mapping = sd.fit(lowered, sd.load_chip(chip))
    print(f"{chip}: {'fits' if mapping.fits else 'does not fit'} on {mapping.cores} cores; {out}")
    print(f"rounding moved {parity.mismatches:,} of {parity.spikes_compared:,} spikes")
    return parity


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(float, sys.argv[2:3]))
