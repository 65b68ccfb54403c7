"""`onnx`: the exported ONNX file, run by onnxruntime. The check of the exporter, and of what a user would deploy."""

from __future__ import annotations

import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.inputs import check_inputs
from snnkd_deploy.backends.trace import Record, Trace, concatenate
from snnkd_deploy.errors import BackendError, Problem, SnnkdError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.onnxfile import write_onnx
from snnkd_deploy.graph.profile import ReadoutParams
from snnkd_deploy.graph.topology import NEURONS

_SAMPLES = 256  # at once
_INSTALL = 'pip install "snnkd_deploy[onnx]"'


class OnnxBackend:
    """Spikes, states and logits of any lowered model."""

    name = "onnx"

    def availability(self) -> Availability:
        found = []
        for package in ("onnx", "onnxruntime"):
            try:
                found.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                return Availability(False, install=_INSTALL, note=f"{package} is not installed")
        return Availability(True, version=", ".join(found))

    def check(self, model: Model) -> list[Problem]:
        try:
            import onnx

            from snnkd_deploy.graph.onnxfile import OnnxWriter

            OnnxWriter(model, onnx)
        except ImportError:
            return [Problem("onnx is not installed", remedy=_INSTALL)]
        except SnnkdError as error:
            return list(error.problems)
        return []

    def run(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        problems = self.check(model)
        if problems:
            raise BackendError.from_problems(problems)
        check_inputs(model, inputs)
        import onnxruntime

        with tempfile.TemporaryDirectory(prefix="snnkd_") as folder:
            path = Path(folder) / "model.onnx"
            write_onnx(model, path, keep_states=record.states or record.readout)
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            parts = [
                self._chunk(model, session, inputs.chunk(start, start + _SAMPLES), record)
                for start in range(0, inputs.samples, _SAMPLES)
            ]
        return concatenate(parts)

    def _chunk(self, model: Model, session: object, inputs: Inputs, record: Record) -> Trace:
        x = inputs.x.to(torch.float32).numpy()
        if model.profile.encoding.kind == "current":
            feed = {"x": x[0], "T": np.array(inputs.steps, dtype=np.int64)}
        else:
            feed = {"x": np.broadcast_to(x, (inputs.steps, *x.shape[1:]))}
        wanted = [n for n in model.spiking if record.spikes and record.wants(n)]
        stateful = [n for n in model.nodes if isinstance(model.nodes[n], NEURONS)]
        stateful = [n for n in stateful if (record.states and record.wants(n)) or self._read(model, n, record)]
        names = ["logits", *(f"spikes.{n}" for n in wanted), *(f"after_{s}.{n}" for n in stateful for s in "uv")]
        arrays = dict(zip(names, session.run(names, feed), strict=True))  # type: ignore[attr-defined]
        trace = Trace(logits=torch.from_numpy(arrays["logits"]), meta={"backend": self.name})
        trace.spikes = {n: torch.from_numpy(arrays[f"spikes.{n}"].astype(np.uint8)) for n in wanted}
        if record.states:
            trace.u = {n: torch.from_numpy(arrays[f"after_u.{n}"].astype(np.int32)) for n in stateful}
        trace.v = {n: torch.from_numpy(arrays[f"after_v.{n}"].astype(np.int32)) for n in stateful}
        if record.readout and not record.states and (name := model.readout_name) is not None:
            params = model.profile.nodes[name]
            state = "u" if isinstance(params, ReadoutParams) and params.read == "u" else "v"
            trace.v[name] = torch.from_numpy(arrays[f"after_{state}.{name}"].astype(np.int32))
        return trace

    def _read(self, model: Model, name: str, record: Record) -> bool:
        return record.readout and name == model.readout_name
