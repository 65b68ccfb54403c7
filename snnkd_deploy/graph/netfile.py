"""Lava's `.net` files (netx HDF5): trained networks in, deployable networks out.

A file that we wrote also carries our profile, so that reading it gives the same model back; any other file is
read with the meaning that netx gives it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snnkd_deploy.errors import GraphError
from snnkd_deploy.files import replacing
from snnkd_deploy.graph.hdf5_tree import Tree, read_hdf5, sealed
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
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for layer in layers:
            write_layer(file.create_group(f"layer/{layer.index}"), layer)
        file.create_dataset("simulation/Ts", data=model.profile.dt_s * 1e3)
        if model.profile.steps is not None:
            file.create_dataset("simulation/tSample", data=model.profile.steps)
        write_profile(file.create_group(GROUP), model)
    with replacing(path) as temporary:
        temporary.write_bytes(sealed(content.getvalue()))


def read_net(path: str | Path, *, input_shape: tuple[int, ...] | None = None) -> Model:
    """Read a `.net` file, ours or another tool's. Raises GraphError for anything damaged or not understood.

    Populations of a foreign file are called `layer<i>`. An input layer with neurons is driven by bias: its
    input is the image of bias mantissas. `input_shape` (C, H, W) is for a file that begins with a convolution and
    does not say it, as netx needs it too. Notes on what netx changes or ignores are in the provenance.
    """
    path = Path(path)
    tree = read_hdf5(path)
    layers = _layers(tree, path)
    if GROUP in tree:
        return read_profile(tree[GROUP], str(path)).restore(layers, path)
    dt_s, steps = _timing(tree.get("simulation"))
    return model_of_layers(layers, str(path), dt_s=dt_s, steps=steps, input_shape=input_shape)


def _layers(tree: Tree, path: Path) -> list[NetLayer]:
    group = tree.get("layer")
    if not isinstance(group, dict) or not group:
        raise GraphError("an HDF5 file, but not a netx network (no 'layer' group)", where=str(path))
    names = [str(i) for i in range(len(group))]
    missing = [name for name in names if name not in group]
    if missing:
        raise GraphError("layers are not numbered 0, 1, ...", where=str(path), need=f"layer/{missing[0]}")
    layers, problems = [], []
    for index, name in enumerate(names):
        layer, found = read_layer(group[name], index, f"{path} [/layer/{name}]")
        problems += found
        if layer is not None:
            layers.append(layer)
    if problems:
        raise GraphError.from_problems(problems)
    return layers


def _timing(group: Any) -> tuple[float, int | None]:
    """(dt in seconds, steps of a sample): both only describe the training, and are optional."""

    def number(key: str) -> float | None:
        array = np.asarray(group.get(key, ())) if isinstance(group, dict) else np.zeros(0)
        usable = array.size == 1 and array.dtype.kind in "iuf"
        value = float(array.ravel()[0]) if usable else 0.0
        return value if 0 < value < 1e9 else None

    ts, samples = number("Ts"), number("tSample")
    return (ts * 1e-3 if ts else DT_S), (int(samples) if samples and samples >= 1 else None)
