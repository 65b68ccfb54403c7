"""`X.npz`: an input batch in the model's encoding, read and checked against the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.data.npz import read_npz
from snnkd_deploy.errors import DataError
from snnkd_deploy.graph.model import Model

# More timesteps than this in one run are a slip of the keyboard.
MAX_STEPS = 1 << 20


def load_inputs(path: str | Path, model: Model) -> tuple[Inputs, Tensor | None]:
    """Read `x` (T, B, ...) and optional `T`, `y` (B,) from a `.npz`. Raises DataError with what does not fit."""
    path = Path(path)
    if not path.is_file():
        raise DataError("no such input file", where=str(path), remedy="np.savez(path, x=x, y=y)")
    arrays = read_npz(path)
    if "x" not in arrays:
        raise DataError("no array 'x' in the input file", where=str(path), need="x (T, B, ...)", have=sorted(arrays))
    inputs = make_inputs(arrays["x"], model, _steps(arrays.get("T"), f"{path} [T]"), where=str(path))
    return inputs, _labels(arrays.get("y"), inputs, model, f"{path} [y]")


def _steps(value: np.ndarray | None, where: str) -> int | None:
    if value is None:
        return None
    whole = value.size == 1 and value.dtype.kind in "iuf" and bool(np.isfinite(value).all())
    if not whole or value.item() != int(value.item()):
        raise DataError("T is the number of timesteps", where=where, need="one integer", have=value.tolist())
    return int(value.item())


def _labels(y: np.ndarray | None, inputs: Inputs, model: Model, where: str) -> Tensor | None:
    if y is None:
        return None
    if y.shape != (inputs.samples,):
        raise DataError("labels do not match the samples", where=where, need=(inputs.samples,), have=y.shape)
    if y.dtype.kind not in "iuf" or not np.isfinite(y).all() or (y != np.rint(y)).any():
        raise DataError("labels are class numbers", where=where, need="integers 0, 1, ...", have=f"{y.dtype} {y[:4]}")
    classes = len(model.profile.classes)
    if y.min() < 0 or (classes and y.max() >= classes):
        need = f"0..{classes - 1}" if classes else ">= 0"
        raise DataError("labels out of range", where=where, need=need, have=f"{y.min():g}..{y.max():g}")
    return torch.from_numpy(y.astype(np.int64))


def check_inputs(model: Model, inputs: Inputs) -> None:
    """What every backend asks before it runs: inputs that were made by hand are held to the model as well.

    Raises DataError for another shape, a number of steps that does not match, NaN, and fractions where the
    encoding takes integers.
    """
    x, shape = inputs.x, tuple(model.shapes[model.input_name])
    if tuple(x.shape[2:]) != shape or x.dim() != len(shape) + 2 or 0 in x.shape:
        need = f"(T, B, {', '.join(map(str, shape))})"
        raise DataError("the input does not have the model's shape", where="inputs.x", need=need, have=tuple(x.shape))
    if inputs.steps < 1 or x.shape[0] not in (1, inputs.steps):
        raise DataError("the steps do not match x", where="inputs.steps", need=x.shape[0], have=inputs.steps)
    if x.is_floating_point():
        low, high = torch.aminmax(x)  # either is NaN where any value is
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise DataError("x holds NaN or infinite values", where="inputs.x")
        if model.profile.encoding.kind != "float" and torch.frac(x).any():
            what = f"encoding '{model.profile.encoding.kind}' takes integers, x holds fractions"
            raise DataError(what, where="inputs.x", remedy=_integer_remedy(model))


def _integer_remedy(model: Model) -> str:
    encoding = model.profile.encoding
    if encoding.low < 0:
        notes = [n for n in model.profile.provenance.get("notes", []) if "input transform" in n]
        return "; ".join(["give the bias mantissas that the chip gets", *notes])
    return f"give integers 0..{encoding.levels} (pixel values, not normalised ones)"


def make_inputs(x: np.ndarray | Tensor, model: Model, steps: int | None = None, where: str = "input") -> Inputs:
    """Check an array against the model's input: shape (T, B, *shape), integers where the encoding has them.

    `x` of one step with `steps` > 1 is a constant input, held that long. Missing `steps` then means
    the number of steps that the model was trained for.
    """
    array = np.asarray(x)
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise DataError("the number of timesteps", where=f"{where} [T]", need=f"1..{MAX_STEPS:,}", have=f"{steps:,}")
    if array.dtype.kind in "iuf":  # torch knows neither foreign byte orders nor long doubles
        array = array.astype(np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("="), copy=False)
    shape = model.shapes[model.input_name]
    if tuple(n for n in array.shape[2:] if n > 1) == tuple(n for n in shape if n > 1) and array.ndim >= 2:
        array = array.reshape(*array.shape[:2], *shape)  # axes of length 1 carry no order
    if array.ndim != len(shape) + 2 or tuple(array.shape[2:]) != tuple(shape):
        raise DataError(
            "the input does not have the model's shape",
            where=f"{where} [x]",
            need=f"(T, B, {', '.join(map(str, shape))})",
            have=tuple(array.shape),
            remedy="time first, then samples; a constant image is (1, B, C, H, W) with T as a scalar array",
        )
    if array.dtype.kind not in "iufb":
        raise DataError("x must hold numbers", where=f"{where} [x]", need="integers or floats", have=array.dtype)
    if 0 in array.shape:
        raise DataError("the input holds no samples", where=f"{where} [x]", need="one or more", have=tuple(array.shape))
    encoding = model.profile.encoding
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError("x holds NaN or infinite values", where=f"{where} [x]", need="finite numbers")
    if encoding.kind != "float" and array.dtype.kind == "f" and np.any(array != np.rint(array)):
        raise DataError(
            f"encoding '{encoding.kind}' takes integers, x holds fractions",
            where=f"{where} [x]",
            remedy=_integer_remedy(model),
        )
    low, high = float(array.min()), float(array.max())
    if encoding.kind == "current" and (low < encoding.low or high > encoding.levels):
        raise DataError(
            "bias mantissas out of range" if encoding.low < 0 else "pixel values out of range",
            where=f"{where} [x]",
            need=f"{encoding.low}..{encoding.levels}",
            have=f"{low:g}..{high:g}",
        )
    # On a chip's grid the arithmetic is exact only for what the encoding declares.
    chip = model.profile.chip
    heard = 1 if chip is None else chip.neuron.max_input  # events of one input in a step, 0: any number
    top = {"events": heard or np.inf, "graded": encoding.levels}.get(encoding.kind)
    if top is not None and model.on_chip_grid and (low < 0 or high > top):
        raise DataError(
            f"values out of range of encoding '{encoding.kind}'",
            where=f"{where} [x]",
            need=f"0..{top:g}",
            have=f"{low:g}..{high:g}",
        )
    if encoding.kind == "current" and array.shape[0] > 1:
        if np.any(array != array[:1]):
            raise DataError(
                "encoding 'current' takes one constant image a sample, x changes over time",
                where=f"{where} [x]",
                need="(1, B, ...) and T",
                have=tuple(array.shape),
            )
        if steps not in (None, array.shape[0]):
            raise DataError("T does not match x", where=f"{where} [T]", need=array.shape[0], have=steps)
        steps, array = array.shape[0], array[:1]
    if array.shape[0] == 1 and steps is None:
        steps = model.profile.steps if encoding.kind == "current" else 1
        if steps is None:
            raise DataError("a constant input needs the number of steps", where=f"{where} [T]", remedy="add T")
    if steps is None:
        steps = array.shape[0]
    if array.shape[0] not in (1, steps):
        raise DataError("T does not match x", where=f"{where} [T]", need=array.shape[0], have=steps)
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if encoding.kind != "float" or array.dtype.kind != "f":
        tensor = tensor.to(torch.int64).to(torch.float64)
        if tensor.abs().max() <= 2**24:
            tensor = tensor.to(torch.float32)
    return Inputs(x=tensor, steps=steps)
