"""`.net` files as lava-dl's slayer exports them, from random integers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

Layer = dict[str, object]


def cuba(du: int = 1024, dv: int = 512, vth: int = 80, kind: str = "CUBA") -> dict[str, object]:
    return {"type": kind, "iDecay": du, "vDecay": dv, "vThMant": vth, "refDelay": 1, "gradedSpike": False}


def dense(weight: np.ndarray, neuron: dict | None = None, **more: object) -> Layer:
    shapes = {"shape": np.array([weight.shape[0]]), "inFeatures": weight.shape[1], "outFeatures": weight.shape[0]}
    return {"type": "dense", **shapes, "weight": weight.astype(np.float32), "neuron": neuron, **more}


def conv(weight: np.ndarray, shape: tuple[int, ...], neuron: dict | None = None, **more: object) -> Layer:
    """`shape` is that of the output, (C, H, W)."""
    geometry = {"stride": np.array([1, 1]), "padding": np.array([0, 0]), "dilation": np.array([1, 1]), "groups": 1}
    sizes = {"inChannels": weight.shape[1], "outChannels": weight.shape[0], "kernelSize": np.array(weight.shape[2:4])}
    layer = {"type": "conv", "shape": np.array(shape), **sizes, **geometry, **more}
    return layer | {"weight": weight.astype(np.float32)[..., None], "neuron": neuron or cuba()}


def write(path: Path, layers: list[Layer], **simulation: object) -> Path:
    with h5py.File(path, "w") as file:
        for i, layer in enumerate(layers):
            group = file.create_group(f"layer/{i}")
            group.create_dataset("type", (1,), "S10", [str(layer["type"]).encode("ascii")])
            for key, value in layer.items():
                if key == "neuron" and value is not None:
                    for name, number in value.items():
                        group.create_dataset(f"neuron/{name}", data=number)
                elif key not in ("type", "neuron"):
                    group.create_dataset(key, data=value)
        for key, value in simulation.items():
            file.create_dataset(f"simulation/{key}", data=value)
    return path


def even(rng: np.random.Generator, *shape: int, low: int = -60, high: int = 60) -> np.ndarray:
    return rng.integers(low // 2, high // 2 + 1, shape) * 2
