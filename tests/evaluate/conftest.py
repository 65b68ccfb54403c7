"""Networks by hand, float or on Loihi's grid, and traces of made-up spikes: counts need nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nir
import numpy as np
import pytest
import torch

from bench.calibration import pilotnet
from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import Encoding, Profile
from snnkd_deploy.graph.topology import infer_shapes


class Net:
    """Adds nodes in a chain; `spikes` fills a trace for all of its populations."""

    def __init__(self, shape: tuple[int, ...], encoding: str = "events", reset: str = "zero", seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.encoding = Encoding(kind=encoding, levels=255 if encoding == "current" else 1)  # type: ignore[arg-type]
        self.reset = reset
        self.nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(shape)})}
        self.edges: list[tuple[str, str]] = []
        self.last = "input"

    def add(self, name: str, node: nir.NIRNode, sources: str | list[str] | None = None) -> Net:
        for source in [sources or self.last] if not isinstance(sources, list) else sources:
            self.edges.append((source, name))
        self.nodes[name] = node
        self.last = name
        return self

    def shape(self, name: str | None = None) -> tuple[int, ...]:
        graph = nir.NIRGraph(nodes=self.nodes, edges=self.edges, type_check=False)
        return infer_shapes(graph)[name or self.last]

    def conv(self, name, channels, kernel=3, stride=1, padding=0, dilation=1, groups=1, source=None, zeros=0.0):
        shape = self.shape(source)
        kernel = (kernel,) * (len(shape) - 1) if isinstance(kernel, int) else kernel
        weight = self.rng.normal(size=(channels, shape[0] // groups, *kernel))
        weight *= self.rng.random(weight.shape) >= zeros
        if len(shape) == 2:
            node = nir.Conv1d(shape[1], weight, stride, padding, dilation, groups, np.zeros(channels))
        else:
            node = nir.Conv2d(shape[1:], weight, stride, padding, dilation, groups, np.zeros(channels))
        return self.add(name, node, source)

    def linear(self, name, outputs, weight=None, source=None, zeros=0.0):
        if weight is None:
            weight = self.rng.normal(size=(outputs, self.shape(source)[-1]))
            weight *= self.rng.random(weight.shape) >= zeros
        return self.add(name, nir.Linear(weight=weight), source)

    def pool(self, name, size=2, stride=None):
        return self.add(name, nir.SumPool2d(np.array([size] * 2), np.array([stride or size] * 2), np.array([0, 0])))

    def flatten(self, name):
        return self.add(name, nir.Flatten({"input": np.array(self.shape())}, 0, -1))

    def lif(self, name, sources=None):
        """A spiking population in the shape of what feeds it."""
        first = sources[0] if isinstance(sources, list) else sources
        ones = np.ones(self.shape(first))
        return self.add(name, nir.LIF(tau=ones, r=ones, v_leak=0 * ones, v_threshold=ones), sources)

    def build(self) -> Model:
        output = nir.Output({"output": np.array(self.shape())})
        self.add("output", output)
        graph = nir.NIRGraph(self.nodes, self.edges, type_check=False)
        return Model(graph, Profile(dt_s=1e-3, reset=self.reset, encoding=self.encoding))  # type: ignore[arg-type]


def random_run(model: Model, steps: int, samples: int, rate: float = 0.3, seed: int = 0) -> tuple[Trace, Inputs]:
    """Spikes drawn at random for the input and every population, unrelated to the weights."""
    rng = np.random.default_rng(seed)

    def draw(name: str) -> np.ndarray:
        return (rng.random((steps, samples, *model.shapes[name])) < rate).astype(np.uint8)

    spikes = {name: torch.from_numpy(draw(name)) for name in model.spiking}
    trace = Trace(logits=torch.zeros(samples, 1, dtype=torch.float64), spikes=spikes)
    return trace, Inputs(torch.from_numpy(draw(model.input_name)).float(), steps)


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "energy_golden.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The helpers of this file, for tests that cannot import it (importlib mode)."""
    return SimpleNamespace(Net=Net, random_run=random_run, toy=toy_net, pilotnet=pilotnet)


Fires = Callable[[np.ndarray], np.ndarray]


def toy_net(steps: int = 20, strict: bool = False, lag: bool = False) -> tuple[Model, Trace, Inputs]:
    """16 -> 32 -> 10, soft reset, float: the golden file's net, stepped here because no chip has that neuron.

    strict: fires on > instead of >=. lag: layer k + 1 sees layer k's spikes one step later (as SANA-FE).
    """
    g = np.random.default_rng(0)
    x = (g.random((20, 16)) < 0.3).astype(float)
    w1 = g.choice([-0.25, 0.25, 0.5, 0.0], size=(16, 32), p=[0.2, 0.4, 0.2, 0.2])
    w2 = g.choice([-0.25, 0.25, 0.5], size=(32, 10))
    x = np.concatenate([x, np.zeros((steps - 20, 16))])
    v1, v2 = np.zeros(32), np.zeros(10)
    hidden, output = [], []
    before, x_before = np.zeros(32), np.zeros(16)
    for now in x:
        v1 += (x_before if lag else now) @ w1
        fired = (v1 > 1 if strict else v1 >= 1).astype(float)
        v1 -= fired
        v2 += (before if lag else fired) @ w2
        out = (v2 > 1 if strict else v2 >= 1).astype(float)
        v2 -= out
        before, x_before = fired, now
        hidden.append(fired)
        output.append(out)
    net = Net((16,), reset="subtract").linear("w1", 32, w1.T).lif("h").linear("w2", 10, w2.T).lif("o")

    def tensor(rows: list[np.ndarray] | np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(rows)[:, None].astype(np.uint8))

    trace = Trace(torch.zeros(1, 10, dtype=torch.float64), {"h": tensor(hidden), "o": tensor(output)})
    return net.build(), trace, Inputs(tensor(x).float(), steps)
