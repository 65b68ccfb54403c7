"""What every verb with a model asks for: the conventions that the model's file may leave open."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from snnkd_deploy.errors import DataError, UsageError

if TYPE_CHECKING:
    from snnkd_deploy.graph.model import Model


def add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the file of another tool does not say")
    group.add_argument("--dt", type=float, metavar="S", help="timestep in seconds, for a .nir without a profile")
    group.add_argument("--reset", choices=("zero", "subtract"), help="reset kind, for a .nir without a profile")
    group.add_argument(
        "--fires", choices=(">", ">="), help="threshold test, for a .nir without a profile (default: '>')"
    )
    group.add_argument("--v0", type=float, metavar="V", help="membrane at the start, for such a .nir (default: 0)")
    group.add_argument(
        "--input-shape", metavar="C,H,W", help="for a .net file that begins with a convolution and does not say it"
    )


def model_from(path: Path, args: argparse.Namespace, inputs: Path | None = None) -> Model:
    """The model file with the verb's options; the shape of `inputs` (an X.npz) stands in for --input-shape.

    Raises UsageError, GraphError.
    """
    from snnkd_deploy.graph.load import load_model

    shape = _shape(args.input_shape) if args.input_shape else _shape_of(inputs)
    return load_model(path, dt_s=args.dt, reset=args.reset, fires=args.fires, v0=args.v0, input_shape=shape)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"not a shape: '{text}'", where="--input-shape", remedy="whole numbers, e.g. 2,34,34")
    return shape


def _shape_of(path: Path | None) -> tuple[int, ...] | None:
    """(C, H, W) of `x` (T, B, C, H, W); None where there is none. What is wrong with the file is said later."""
    from snnkd_deploy.data.npz import read_npz

    try:
        shape = () if path is None else read_npz(path, ("x",))["x"].shape
    except DataError:
        return None
    return tuple(shape[2:]) if len(shape) == 5 else None
