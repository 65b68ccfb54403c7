"""`onnx`: the exported ONNX file, run by onnxruntime. The check of the exporter, and of what a user would deploy."""

from __future__ import annotations

import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.trace import Record, Trace, concatenate
from snnkd_deploy.errors import BackendError, Problem, SnnkdError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.onnxfile import write_onnx

_SAMPLES = 256  # at once
_INSTALL = 'pip install "snnkd_deploy[onnx]"'


class OnnxBackend:
    """Spikes and logits of any lowered model. States stay inside the loop and are not recorded."""

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
        import onnxruntime

        with tempfile.TemporaryDirectory(prefix="snnkd_") as folder:
            path = Path(folder) / "model.onnx"
            write_onnx(model, path)
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
        outputs = session.run(["logits", *(f"spikes.{n}" for n in wanted)], feed)  # type: ignore[attr-defined]
        spikes = {n: torch.from_numpy(array.astype(np.uint8)) for n, array in zip(wanted, outputs[1:], strict=True)}
        return Trace(logits=torch.from_numpy(outputs[0]), spikes=spikes, meta={"backend": self.name})
