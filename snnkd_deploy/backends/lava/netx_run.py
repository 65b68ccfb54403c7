"""A `.net` file on the processes that lava-dl's own netx builds. Runs in the child (`child.py FOLDER netx`).

Samples follow one another in windows of T steps, which netx resets layer by layer (`reset_interval`). A loop or a
delay would carry spikes from one window into the next: then every sample gets a graph of its own.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

# What lava-dl imports for its training examples and netx never calls.
_UNUSED = (
    "matplotlib",
    "matplotlib.pyplot",
    "cv2",
    "torchvision",
    "torchvision.transforms",
    "torchvision.transforms.functional",
    "PIL",
    "PIL.Image",
    "PIL.ImageDraw",
    "PIL.ImageFont",
    "IPython",
    "IPython.display",
)


def import_netx() -> Any:
    """lava-dl's netx, with stand-ins for those packages that are missing here."""
    for name in _UNUSED:
        try:
            __import__(name)
        except Exception:
            # Missing, or broken in its own way (torchvision beside another torch: RuntimeError). Nothing here calls it.
            stub = MagicMock()
            stub.__spec__, stub.__path__ = importlib.machinery.ModuleSpec(name, None), []
            sys.modules[name] = stub
    from lava.lib.dl import netx
    from lava.proc.conv import utils

    utils.TORCH_IS_AVAILABLE = False  # torch hangs in a forked process
    return netx


def run(folder: Path, progress: Callable[[int], None], watch: Callable[[Any], Any]) -> None:
    """Run `model.net` on `x.npy`; fills spikes<k>.npy, u<k>.npy, v<k>.npy and readout.npy in `folder`."""
    netx = import_netx()
    plan = json.loads((folder / "plan.json").read_text())
    x = np.load(folder / "x.npy", mmap_mode="r")
    results = {f: np.load(folder / f"{f}.npy", mmap_mode="r+") for f in plan["files"]}
    size = 1 if plan["one_by_one"] else plan["samples"]
    for first in range(0, plan["samples"], size):
        _Windows(netx, folder, plan, x, results, first, size).run(progress, watch)
        progress(first + size)
    for array in results.values():
        array.flush()


class _Windows:
    """One graph, `count` samples."""

    def __init__(
        self, netx: Any, folder: Path, plan: dict[str, Any], x: np.ndarray, results: dict, first: int, count: int
    ) -> None:
        from lava.proc.io.sink import RingBuffer as Sink
        from lava.proc.io.source import RingBuffer as Source

        self.plan, self.x, self.results, self.first, self.count = plan, x, results, first, count
        self.steps, self.image = plan["steps"], plan["image"]
        # Without a layer of neurons at the input, the first data arrive one step later.
        self.begin = 0 if self.image else 1
        self.net = netx.hdf5.Network(
            net_config=str(folder / "model.net"),
            reset_interval=self.steps if not plan["one_by_one"] else self.steps + 300,
            reset_offset=self.begin,
            input_message_bits=plan["message_bits"],
        )
        self.neurons = [layer.neuron for layer in self.net.layers if hasattr(layer, "neuron")]
        self.total = count * self.steps + self.begin + len(self.neurons)
        if self.image:
            self.net.in_layer.neuron.bias_mant.init = reverse(np.asarray(x[first])).astype(int)
        else:
            shape = self.net.inp.shape
            columns = np.zeros((*shape, self.total + 1), dtype=int)
            for n in range(count):
                for t in range(self.steps):
                    step = np.asarray(x[t, first + n])
                    # A dense layer behind a flattened input takes torch's order.
                    columns[..., n * self.steps + t] = step.ravel() if len(shape) == 1 else reverse(step)
            Source(data=columns).s_out.connect(self.net.inp)
        self.sinks = {}
        for k, cell in enumerate(self.neurons):
            if f"spikes{k}" in results:
                self.sinks[k] = Sink(shape=cell.s_out.shape, buffer=self.total + 1)
                cell.s_out.connect(self.sinks[k].a_in)

    def run(self, progress: Callable[[int], None], watch: Callable[[Any], Any]) -> None:
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import RunConfig

        class FixedPoint(RunConfig):
            def __init__(self) -> None:
                super().__init__(custom_sync_domains=None)

            def select(self, _process: Any, models: Any) -> Any:
                return next((m for m in models if "fixed_pt" in m.tags), models[0])

        first = self.neurons[0]
        first.create_runtime(run_cfg=FixedPoint())
        look = watch(first.runtime)
        at, stops = 0, self._stops()
        for stop in stops:
            first.run(condition=RunSteps(num_steps=stop - at))
            at = stop
            self._between(at)
            progress(self.first + max(0, at - self.begin - len(self.neurons) + 1) // self.steps)
        for k, sink in self.sinks.items():
            self._keep(f"spikes{k}", k, sink.data.get())
        look.over = True
        first.stop()

    def _stops(self) -> list[int]:
        """Steps after which something is read or set."""
        if self.plan["states"] or self.plan["readout_steps"]:
            return list(range(1, self.total + 1))
        last = self.begin + len(self.neurons) - 1
        stops = {self.total} | {n * self.steps + last for n in range(1, self.count + 1)}
        if self.image:
            stops |= {n * self.steps for n in range(1, self.count)}
        return sorted(s for s in stops if s > 0)

    def _between(self, at: int) -> None:
        n, rest = divmod(at, self.steps)
        if self.image and rest == 0 and n < self.count:
            value = reverse(np.asarray(self.x[self.first + n])).astype(int)
            self.neurons[0].bias_mant.set(value)
        for k, cell in enumerate(self.neurons):
            logical = at - 1 - (self.begin + k)
            if not 0 <= logical < self.count * self.steps:
                continue
            sample, t = divmod(logical, self.steps)
            for state in "uv":
                if f"{state}{k}" in self.results:
                    self._store(f"{state}{k}", t, sample, getattr(cell, state).get())
            if k == len(self.neurons) - 1 and "readout" in self.results:
                whole = self.plan["readout_steps"]
                if whole or t == self.steps - 1:
                    self._store("readout", t if whole else 0, sample, getattr(cell, self.plan["read"]).get())

    def _store(self, file: str, t: int, sample: int, value: np.ndarray) -> None:
        target = self.results[file]
        target[t, self.first + sample] = reverse(value).reshape(target.shape[2:])

    def _keep(self, file: str, k: int, columns: np.ndarray) -> None:
        for n in range(self.count):
            for t in range(self.steps):
                self._store(file, t, n, columns[..., self.begin + k + n * self.steps + t])


def reverse(array: np.ndarray) -> np.ndarray:
    """(C, H, W) <-> (W, H, C)."""
    return array.transpose(*range(array.ndim)[::-1])
