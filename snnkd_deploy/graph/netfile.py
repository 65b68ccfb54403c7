"""Lava's `.net` files (netx HDF5): trained networks in, deployable networks out.

A file that we wrote also carries our profile, so that reading it gives the same model back; any other file is
read with the meaning that netx gives it.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py

from snnkd_deploy.errors import GraphError, Problem, SnnkdError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.net_layers import NetLayer, read_layer, write_layer
from snnkd_deploy.graph.net_profile import GROUP, read_profile, write_profile
from snnkd_deploy.graph.netfile_read import model_of_layers
from snnkd_deploy.graph.netfile_write import layers_of_model

DT_S = 1e-3  # lava-dl's sampling time where the file says none; integers do not depend on it


def write_net(model: Model, path: str | Path) -> None:
    """Write a lowered model atomically, so that lava-dl's netx loads it and `read_net` restores it whole.

    Raises GraphError with every layer that the format cannot hold (branches, pools, off-grid weights, ...).
    """
    layers = layers_of_model(model)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    try:
        with h5py.File(temporary, "w") as file:
            for layer in layers:
                write_layer(file.create_group(f"layer/{layer.index}"), layer)
            file.create_dataset("simulation/Ts", data=model.profile.dt_s * 1e3)
            if model.profile.steps is not None:
                file.create_dataset("simulation/tSample", data=model.profile.steps)
            write_profile(file.create_group(GROUP), model)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_net(path: str | Path) -> Model:
    """Read a `.net` file, ours or another tool's. Raises GraphError for anything damaged or not understood.

    Populations of a foreign file are called `layer<i>`. An input layer with neurons is driven by bias: its
    input is the image of bias mantissas. Notes on what netx changes or ignores are in the provenance.
    """
    path = Path(path)
    if not path.is_file():
        raise GraphError("no such file", where=str(path))
    try:
        with h5py.File(path, "r") as file:
            layers = _layers(file, path)
            dt_s, steps = _timing(file)
            profile = read_profile(file[GROUP], str(path)) if GROUP in file else None
    except SnnkdError:
        raise
    except Exception as error:  # a damaged HDF5 file raises whatever its readers run into
        raise GraphError(f"not a readable .net file: {type(error).__name__}: {error}", where=str(path)) from error
    if profile is None:
        return model_of_layers(layers, str(path), dt_s=dt_s, steps=steps)
    return profile.restore(layers, path)


def _layers(file: h5py.File, path: Path) -> list[NetLayer]:
    group = file.get("layer")
    if not isinstance(group, h5py.Group) or len(group) == 0:
        raise GraphError("an HDF5 file, but not a netx network (no 'layer' group)", where=str(path))
    names = [str(i) for i in range(len(group))]
    missing = [name for name in names if name not in group]
    if missing:
        raise GraphError("layers are not numbered 0, 1, ...", where=str(path), need=f"layer/{missing[0]}")
    layers, problems = [], []
    for index, name in enumerate(names):
        layer, found = read_layer(group.get(name), index, f"{path} [/layer/{name}]", path.stat().st_size)
        problems += found
        if layer is not None:
            layers.append(layer)
    if problems:
        raise GraphError.from_problems(problems)
    return layers


def _timing(file: h5py.File) -> tuple[float, int | None]:
    """(dt in seconds, steps of a sample): both only describe the training, and are optional."""

    def number(key: str) -> float | None:
        item = file.get(key)
        if not isinstance(item, h5py.Dataset) or item.size != 1 or item.dtype.kind not in "iuf":
            return None
        value = float(item[()].ravel()[0]) if item.shape else float(item[()])
        return value if 0 < value < 1e9 else None

    ts, samples = number("simulation/Ts"), number("simulation/tSample")
    return (ts * 1e-3 if ts else DT_S), (int(samples) if samples and samples >= 1 else None)


__all__ = ["Problem", "read_net", "write_net"]
