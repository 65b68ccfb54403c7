"""Record what Lava's processes compute for `.net` files: `python record_lava.py FOLDER`. Needs lava-nc 0.10.

One `<case>.npz` a case of tests/graph/test_net_on_lava.py: the bytes of the file in `net`, `x` (T, 1, ...) or the
image of biases (1, 1, C, H, W) with `T`, and `spikes/<k>`, `u/<k>`, `v/<k>` of the k-th population, (T, ...). The
files in tests/graph/recorded were written by it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "graph"), str(HERE.parents[1])]

from net_files import write  # noqa: E402
from test_net_on_lava import STEPS, cases, environment  # noqa: E402


def record(name: str, target: Path) -> None:
    layers, shape = cases()[name]
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "model.net", layers)
        inputs, out = Path(folder) / "x.npz", Path(folder) / "out.npz"
        if shape is None:
            x = rng.integers(-40, 200, (1, 1, 2, 6, 5))
            np.savez(inputs, image=x[0, 0], T=STEPS)
        else:
            x = (rng.random((STEPS, 1, *shape)) < 0.5).astype(np.int64)
            np.savez(inputs, x=x[:, 0])
        command = [sys.executable, str(HERE / "run_lava_net.py"), "processes", str(path), str(inputs), str(out)]
        subprocess.run(command, check=True, timeout=300, env=environment())
        found = {k: v.astype(np.uint8 if k.startswith("spikes") else np.int32) for k, v in np.load(out).items()}
        net = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        np.savez_compressed(target / f"{name}.npz", net=net, x=x.astype(np.int16), T=STEPS, **found)
    print(name, {k: int(v.sum()) for k, v in found.items() if k.startswith("spikes")})


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases():
        record(case, folder)
