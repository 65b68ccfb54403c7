"""Model files by suffix: `.nir` and `.net` in and out, `.onnx` out."""

from __future__ import annotations

from pathlib import Path

from snnkd_deploy.errors import GraphError, UsageError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.netfile import read_net, write_net
from snnkd_deploy.graph.nirfile import read_nir, write_nir
from snnkd_deploy.graph.onnxfile import write_onnx


def load_model(path: str | Path, dt_s: float | None = None, reset: str | None = None) -> Model:
    """Read a model file. `dt_s` and `reset` are for a `.nir` that another tool wrote.

    Raises GraphError for a file that is damaged or not understood, UsageError for options that do not apply.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".nir":
        return read_nir(path, dt_s=dt_s, reset=reset)
    if suffix == ".net":
        if dt_s is not None or reset is not None:
            raise UsageError(
                "--dt and --reset do not apply to a .net file",
                where=str(path),
                remedy="leave them out: its neurons are Lava's, with a hard reset",
            )
        return read_net(path)
    if suffix == ".onnx":
        raise GraphError(
            "an ONNX file holds operators, not neurons: which of them are a population cannot be recovered",
            where=str(path),
            remedy="use the model.nir it was exported from, or train a student from the ONNX teacher",
        )
    raise UsageError(f"unknown kind of model file '{suffix or path.name}'", where=str(path), remedy=".nir or .net")


def save_model(model: Model, path: str | Path) -> None:
    """Write a model file of the suffix's kind, atomically.

    `.onnx` holds the whole run as one loop, `.step.onnx` one timestep with its states as inputs and outputs.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".nir":
        write_nir(model, path)
    elif suffix == ".net":
        write_net(model, path)
    elif suffix == ".onnx":
        write_onnx(model, path, "step" if path.name.lower().endswith(".step.onnx") else "scan")
    else:
        raise UsageError(f"cannot write '{suffix or path.name}' files", where=str(path), remedy=".nir, .net or .onnx")
