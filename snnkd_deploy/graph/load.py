"""Model files by suffix: `.nir`, `.net` and `.onnx`, in and out (`.onnx` in: those that we wrote)."""

from __future__ import annotations

from pathlib import Path

from snnkd_deploy.errors import GraphError, UsageError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.netfile import read_net, write_net
from snnkd_deploy.graph.nirfile import read_nir, write_nir
from snnkd_deploy.graph.onnx_read import read_onnx
from snnkd_deploy.graph.onnxfile import write_onnx


def load_model(
    path: str | Path,
    dt_s: float | None = None,
    reset: str | None = None,
    *,
    fires: str | None = None,
    v0: float | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> Model:
    """Read a model file.

    What a `.nir` of another tool does not say: `dt_s` in seconds, `reset` ("zero" or "subtract"), `fires` (">" or
    ">=", default ">"), `v0` (the membrane at the start, default 0). What a `.net` may leave out: `input_shape`
    (C, H, W) of a first convolution; it is ignored where the file says it.

    Raises GraphError for a file that is damaged or not understood, UsageError for options that do not apply.
    """
    path = Path(path)
    if path.is_dir():
        raise GraphError("a folder, a model file is needed", where=str(path), remedy=".nir, .net or our .onnx")
    suffix = path.suffix.lower()
    if suffix == ".nir":
        return read_nir(path, dt_s=dt_s, reset=reset, fires=fires, v0=v0)
    given = {"--dt": dt_s, "--reset": reset, "--fires": fires, "--v0": v0}
    named = ", ".join(name for name, value in given.items() if value is not None)
    if suffix == ".net":
        if named:
            raise UsageError(
                f"{named} does not apply to a .net file",
                where=str(path),
                remedy="leave it out: its neurons are Lava's, with a hard reset",
            )
        return read_net(path, input_shape=input_shape)
    if suffix == ".onnx":
        if named:
            raise UsageError(
                f"{named} does not apply to a .onnx file", where=str(path), remedy="leave it out: ours say all of it"
            )
        return read_onnx(path)
    raise UsageError(
        f"unknown kind of model file '{suffix or path.name}'", where=str(path), remedy=".nir, .net or our .onnx"
    )


def check_kind(path: str | Path) -> None:
    """Raises UsageError where `save_model` could not write a file of this name."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".nir", ".net", ".onnx"):
        raise UsageError(f"cannot write '{suffix or path.name}' files", where=str(path), remedy=".nir, .net or .onnx")


def save_model(model: Model, path: str | Path) -> None:
    """Write a model file of the suffix's kind, atomically.

    `.onnx` holds the whole run as one loop, `.step.onnx` one timestep with its states as inputs and outputs.
    """
    path = Path(path)
    check_kind(path)
    suffix = path.suffix.lower()
    if suffix == ".nir":
        write_nir(model, path)
    elif suffix == ".net":
        write_net(model, path)
    else:
        write_onnx(model, path, "step" if path.name.lower().endswith(".step.onnx") else "scan")
