"""`.net` files on real Lava processes against `exact`: every spike, u and v of every layer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
from net_files import conv, cuba, dense, even, write

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.graph.netfile import read_net, write_net
from snnkd_deploy.graph.topology import NEURONS

_SCRIPT = Path(__file__).parents[1] / "support" / "run_lava_net.py"
_ROOT = Path(__file__).parents[2]


def have(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


NEEDS_LAVA = pytest.mark.skipif(not have("lava-nc"), reason="lava-nc is not installed")
NEEDS_NETX = pytest.mark.skipif(
    not have("lava-dl") or importlib.util.find_spec("h5py") is None, reason="lava-dl is not installed"
)
STEPS = 12


def delayed(rng, out, inputs, delay):
    return dense(even(rng, out, inputs), cuba(), delay=np.asarray(delay, dtype=np.float32))


def cases() -> dict[str, tuple[list, tuple[int, ...] | None]]:
    """Name -> (layers, input shape; None for an image of biases)."""
    rng = np.random.default_rng(7)
    flat = {"type": "input", "shape": np.array([9])}
    image = {"type": "input", "shape": np.array([2, 6, 5]), "neuron": cuba(4096, 700, 60, "LOIHI")}
    maps = {"type": "input", "shape": np.array([2, 6, 5])}
    bias = rng.integers(-30, 60, 7).astype(np.float32)
    w = rng.integers(-5, 6, (4, 2, 3, 2)) * 8
    grouped = even(rng, 4, 1, 2, 3, low=-120, high=120)
    return {
        "dense_bias": ([flat, dense(even(rng, 7, 9), cuba(), bias=bias), dense(even(rng, 3, 7))], (9,)),
        "odd_weights": ([flat, dense(rng.integers(-99, 100, (7, 9)), cuba(4096, 300))], (9,)),
        "inhibitory_power": ([flat, dense(even(rng, 6, 9), cuba()), dense(-(2 ** rng.integers(1, 5, (4, 6))), cuba())], (9,)),
        "excitatory_full": ([flat, dense(rng.integers(0, 256, (5, 9)), cuba(2000, 3, 400))], (9,)),
        "flat_weights": ([flat, dense(even(rng, 1, 9), cuba()) | {"weight": even(rng, 9).astype(np.float32)}], (9,)),
        "delay_out": ([flat, delayed(rng, 7, 9, rng.integers(0, 9, 7)), dense(even(rng, 4, 7), cuba())], (9,)),
        "delay_in": ([flat, delayed(rng, 7, 9, rng.integers(0, 9, 9))], (9,)),
        "delay_one": ([flat, delayed(rng, 7, 9, 3)], (9,)),
        "delay_square": ([flat, delayed(rng, 9, 9, [0, 3, 1, 0, 70, 5, 0, 2, 8])], (9,)),
        "delay_each": ([flat, delayed(rng, 3, 9, rng.integers(0, 5, (3, 9)))], (9,)),
        "recurrent": (
            [flat, {**dense(even(rng, 6, 9), cuba(), weight_rec=even(rng, 6, 6)), "type": "dense_rec"}, dense(even(rng, 4, 6))],
            (9,),
        ),
        "conv": (
            [
                maps,
                conv(w, (4, 3, 4), cuba(), stride=np.array([2, 1]), padding=np.array([1, 0]), bias=np.array([3, -9, 0, 20.0])),
                conv(grouped, (4, 2, 2), cuba(4096, 0, 50), groups=4),
                {"type": "flatten", "shape": np.array([1, 1, 16])},
                dense(even(rng, 5, 16)),
            ],
            (2, 6, 5),
        ),
        "image": ([image, conv(w, (4, 2, 2), cuba(), dilation=np.array([2, 1]), stride=np.array([1, 2])), *rest(rng)], None),
        "full_bias": ([maps, conv(w, (4, 4, 4), cuba(), bias=rng.integers(-40, 40, (4, 4, 4)).astype(np.float32))], (2, 6, 5)),
    }  # fmt: skip


def rest(rng):
    neuron = cuba(4096, 0, 131072)
    return [{"type": "flatten"}, dense(even(rng, 6, 16), cuba(), bias=np.full(6, -3.0)), dense(even(rng, 3, 6), neuron)]


def compare(mode: str, name: str, folder: Path, again: bool = False) -> int:
    """Spikes seen; fails on the first difference. `again`: the model is written by us and read from there."""
    layers, shape = cases()[name]
    path = write(folder / "model.net", layers)
    model = read_net(path)
    if again:
        path = folder / "ours.net"
        write_net(model, path)
    rng = np.random.default_rng(1)
    if shape is None:
        x = rng.integers(-40, 200, (1, 1, 2, 6, 5))
        np.savez(folder / "x.npz", image=x[0, 0], T=STEPS)
    else:
        x = (rng.random((STEPS, 1, *shape)) < 0.5).astype(np.int64)
        np.savez(folder / "x.npz", x=x[:, 0])
    trace = ExactBackend().run(model, make_inputs(x, model, STEPS), Record(states=True))
    command = [sys.executable, str(_SCRIPT), mode, str(path), str(folder / "x.npz"), str(folder / "out.npz")]
    done = subprocess.run(command, capture_output=True, timeout=300, cwd=_ROOT, env=environment(), check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    populations = [n for part in model.order for n in part if isinstance(model.nodes[n], NEURONS)]
    seen = 0
    with np.load(folder / "out.npz") as lava:
        assert len(lava.files) == 3 * len(populations)
        for k, population in enumerate(populations):
            for key, found in (("spikes", trace.spikes), ("u", trace.u), ("v", trace.v)):
                expected = lava[f"{key}/{k}"]
                assert np.array_equal(found[population][:, 0].numpy(), expected), (name, population, key)
            seen += int(lava[f"spikes/{k}"].sum())
    return seen


def environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": str(_ROOT)}


@NEEDS_LAVA
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(cases()))
def test_lava_processes_agree(name, tmp_path):
    assert compare("processes", name, tmp_path) > 0


@NEEDS_NETX
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(cases()))
def test_netx_agrees_on_the_foreign_file_and_on_ours(name, tmp_path):
    assert compare("netx", name, tmp_path) > 0
    if name not in ("inhibitory_power", "odd_weights"):
        compare("netx", name, tmp_path, again=True)
