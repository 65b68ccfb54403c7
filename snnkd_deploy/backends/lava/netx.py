"""`netx`: lava-dl itself loads our `.net` file, as its users do, in a child interpreter.

The check that the file means to lava-dl what it means to us. It is the only backend that needs lava-dl.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.exact import ExactBackend, logits_of
from snnkd_deploy.backends.inputs import check_inputs
from snnkd_deploy.backends.lava.check import arithmetic_problems
from snnkd_deploy.backends.lava.hostside import host_values
from snnkd_deploy.backends.lava.session import run_session
from snnkd_deploy.backends.routes import Routes
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.errors import BackendError, GraphError, Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.netfile import write_net
from snnkd_deploy.graph.netfile_write import layers_of_model
from snnkd_deploy.graph.profile import ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import NEURONS, is_loop

PYTHON_VARIABLE = "SNNKD_NETX_PYTHON"
INSTALL = (
    "pip install scipy networkx asteval h5py; "
    "pip install --no-deps --ignore-requires-python lava-nc==0.10.0 lava-dl==0.6.0"
)
_NEEDS = ("lava", "scipy", "networkx", "asteval", "h5py", "torch")
_PROBE = (
    "import importlib.metadata as m, importlib.util as u, json;"
    f"print(json.dumps([m.version('lava-dl'), [n for n in {_NEEDS!r} if u.find_spec(n) is None]]))"
)


class NetxBackend:
    """Chains of dense and convolutional layers: what a `.net` file holds. python: default $SNNKD_NETX_PYTHON.

    stall_s, timeout_s, progress: as of LavaBackend.
    """

    name = "netx"
    chunk_samples = 50

    def __init__(
        self,
        *,
        python: str | None = None,
        stall_s: float = 180.0,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.python, self.stall_s, self.timeout_s, self.progress = python, stall_s, timeout_s, progress

    def availability(self) -> Availability:
        chosen = self._interpreter()
        if chosen != sys.executable:
            return _elsewhere(chosen)
        try:
            version = importlib.metadata.version("lava-dl")
            missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
        except (importlib.metadata.PackageNotFoundError, ValueError):
            return Availability(False, install=INSTALL, note="lava-dl is not installed")
        return _judge(version, missing)

    def check(self, model: Model) -> list[Problem]:
        if model.profile.chip is None:
            what = "the model carries no integers of a chip"
            return [Problem(what, model.path or "model", remedy="snnkd lower IN.nir --chip loihi2 -o OUT.nir")]
        problems = [*arithmetic_problems(model, model.profile.chip.neuron), *ExactBackend().check(model)]
        try:
            layers_of_model(model)
        except GraphError as error:
            problems += error.problems
        if model.profile.vote_groups is not None:
            problems.append(Problem("netx has no layer that averages votes", model.output_name))
        return problems or _early_loops(model)

    def run(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        state = self.availability()
        if not state.usable:
            raise BackendError(f"backend 'netx' is not usable here: {state.note}", remedy=state.install)
        problems = self.check(model)
        if problems:
            raise BackendError.from_problems(problems)
        check_inputs(model, inputs)
        folder = Path(tempfile.mkdtemp(prefix="snnkd_netx_"))
        try:
            populations = _populations(model)
            _write_plan(model, populations, inputs, record, folder)
            child = run_session(
                folder,
                samples=inputs.samples,
                python=self._interpreter(),
                stall_s=self.stall_s,
                timeout_s=self.timeout_s,
                progress=self.progress,
                mode="netx",
            )
            trace = _collect(model, populations, inputs.steps, record, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        trace.meta = {"backend": self.name, "lava_dl": state.version, "python": child["python"]}
        return trace

    def _interpreter(self) -> str:
        return self.python or os.environ.get(PYTHON_VARIABLE) or sys.executable


def _early_loops(model: Model) -> list[Problem]:
    """netx resets u and v at a layer's first step, but not what its bias has sent over its own loop before."""
    what = "its bias may fire it before the first step, and netx delivers that spike over the loop"
    looped = [n for component in model.order if is_loop(model.graph, component) for n in component]
    early = [n for n in looped if isinstance(model.nodes[n], NEURONS) and (model.bias_int(n) > 0).any()]
    return [Problem(what, name, "no positive bias", remedy="--backend lava") for name in early]


def _populations(model: Model) -> list[str]:
    return [n for component in model.order for n in component if isinstance(model.nodes[n], NEURONS)]


def _write_plan(model: Model, populations: list[str], inputs: Inputs, record: Record, folder: Path) -> None:
    write_net(model, folder / "model.net")
    image = model.profile.encoding.kind == "current"
    np.save(folder / "x.npy", _mantissas(model, populations, inputs) if image else _events(inputs))
    files = []

    def result(file: str, steps: int, name: str, dtype: type) -> None:
        shape = (steps, inputs.samples, *model.shapes[name])
        np.lib.format.open_memmap(folder / f"{file}.npy", mode="w+", dtype=dtype, shape=shape).flush()
        files.append(file)

    readout = model.readout_name
    for k, name in enumerate(populations):
        counted = readout is None and name in model.sources[model.output_name]
        params = model.profile.nodes[name]
        spiking = not isinstance(params, ReadoutParams) or params.silent
        if counted or (spiking and record.spikes and record.wants(name)):
            result(f"spikes{k}", inputs.steps, name, np.uint8)
        for state in "uv" if record.states and record.wants(name) else "":
            result(f"{state}{k}", inputs.steps, name, np.int32)
    read = "v"
    if readout is not None:
        params = model.profile.nodes[readout]
        assert isinstance(params, ReadoutParams)
        read = params.read
        result("readout", inputs.steps if record.readout else 1, readout, np.int32)
    loops = any(is_loop(model.graph, component) for component in model.order)
    delays = any(any(p.delay) for p in model.profile.nodes.values() if isinstance(p, SynapseParams))
    delays = delays or any(type(node).__name__ == "Delay" for node in model.nodes.values())
    plan = {
        "steps": inputs.steps,
        "samples": inputs.samples,
        "image": image,
        "one_by_one": loops or delays,
        "states": record.states,
        "readout_steps": record.readout,
        "read": read,
        "message_bits": model.profile.encoding.bits,
        "files": files,
    }
    (folder / "plan.json").write_text(json.dumps(plan))


def _events(inputs: Inputs) -> np.ndarray:
    x = inputs.x.expand(inputs.steps, *inputs.x.shape[1:])
    return x.numpy().astype(np.int32)


def _mantissas(model: Model, populations: list[str], inputs: Inputs) -> np.ndarray:
    """(B, *shape): what the host puts into the bias registers of the first layer."""
    (source,) = model.sources[populations[0]]
    values = host_values(model, Routes(model), inputs, {source})[source]
    return values[0].reshape(inputs.samples, *model.shapes[populations[0]])


def _collect(model: Model, populations: list[str], steps: int, record: Record, folder: Path) -> Trace:
    def load(file: str) -> torch.Tensor:
        return torch.from_numpy(np.load(folder / f"{file}.npy"))

    trace = Trace(torch.zeros(0))
    readout = model.readout_name
    if readout is not None:
        values = load("readout")
        if record.readout:
            trace.v[readout] = values
        trace.logits = logits_of(model, {model.output_name: values[-1:], readout: values}, steps)
    for k, name in enumerate(populations):
        if (folder / f"spikes{k}.npy").exists():
            spikes = load(f"spikes{k}")
            if readout is None and name in model.sources[model.output_name]:
                trace.logits = logits_of(model, {model.output_name: spikes}, steps)
            if record.spikes and record.wants(name):
                trace.spikes[name] = spikes
        if record.states and record.wants(name):
            trace.u[name], trace.v[name] = load(f"u{k}"), load(f"v{k}")
    return trace


def _judge(version: str, missing: list[str]) -> Availability:
    if missing:
        return Availability(False, version, INSTALL, f"lava-dl lacks {', '.join(missing)}")
    return Availability(True, version=f"lava-dl {version}")


@functools.cache
def _elsewhere(python: str) -> Availability:
    where = f"{python} (${PYTHON_VARIABLE})"
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return Availability(False, install=INSTALL, note=f"cannot run {where}: {error}")
    if done.returncode != 0:
        return Availability(False, install=INSTALL, note=f"lava-dl is not installed for {where}")
    version, missing = json.loads(done.stdout)
    return _judge(version, missing)
