"""The layers of a netx `.net` file as plain values, and their HDF5 form (lava-dl 0.6.0 `netx.hdf5`).

Shapes are (C, H, W) as in the file, weights integers as Lava casts them. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.hdf5_tree import Tree

WITH_WEIGHTS = ("dense", "dense_rec", "conv")
KINDS = ("input", "flatten", "average", *WITH_WEIGHTS)
NOT_IN_NETX = ("pool", "convT", "unpool", "concat", "dense_comp")
NEVER_FIRES = 131072  # << 6 is one above the largest v
MAX_DELAY = 62


@dataclass(frozen=True)
class NetNeuron:
    """CUBA parameters of a layer; decays of 4096, threshold mantissa."""

    iDecay: int  # noqa: N815  (the file's names)
    vDecay: int  # noqa: N815
    vThMant: int  # noqa: N815
    message_bits: int = 0


# What netx does with a dense layer that has no neuron group: u adds up, v = u + bias, nothing fires.
INTEGRATOR = NetNeuron(iDecay=0, vDecay=4096, vThMant=NEVER_FIRES)


@dataclass(frozen=True)
class NetLayer:
    """One entry of `/layer`. Arrays are int64; `delay` is a scalar, (out,), (in,) or (out, in)."""

    index: int
    kind: str
    shape: tuple[int, ...]
    neuron: NetNeuron | None = None
    weight: np.ndarray | None = None
    weight_rec: np.ndarray | None = None
    bias: np.ndarray | None = None
    delay: np.ndarray | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        return f"layer{self.index}"


class _Reader:
    """Reads one layer group and collects everything that is wrong with it."""

    def __init__(self, group: Tree, where: str) -> None:
        self.group, self.where = group, where
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def problem(self, what: str, key: str = "", **more: str) -> None:
        self.problems.append(Problem(what, f"{self.where}/{key}" if key else self.where, **more))

    def value(self, key: str) -> Any:
        """What stands at `key` (a path), or None."""
        at: Any = self.group
        for part in key.split("/"):
            at = at.get(part) if isinstance(at, dict) else None
        if isinstance(at, dict):
            self.problem("is a group where a value is expected", key)
            return None
        return at

    def text(self, key: str) -> str:
        value = self.value(key)
        if isinstance(value, np.ndarray):
            value = value.ravel()[0] if value.size else ""
        return str(value) if isinstance(value, str) else ""

    def integers(self, key: str, *, needed: bool = False) -> np.ndarray | None:
        """Numbers cast toward zero, as netx casts them; a note says so where that changes one."""
        value = self.value(key)
        if value is None:
            if needed and not any(p.where.endswith(f"/{key}") for p in self.problems):
                self.problem("is missing", key)
            return None
        array = np.asarray(value)
        if array.dtype.kind not in "iufb":
            self.problem(f"must hold numbers, not {array.dtype}", key)
            return None
        real = array.astype(np.float64)
        if not np.isfinite(real).all() or np.abs(real).max(initial=0) >= 2**31:
            self.problem("holds NaN, infinite or too large values", key)
            return None
        whole = np.trunc(real)
        if np.any(whole != real):
            self.notes.append(f"{key}: fractions were cut off, as netx does")
        return whole.astype(np.int64)

    def number(self, key: str, low: int, high: int, default: int | None = None) -> int:
        array = self.integers(key, needed=default is None)
        if array is None:
            return default if default is not None else low
        if array.size == 0 or np.any(array != array.ravel()[0]):
            self.problem("must be one number a layer", key, remedy="netx knows no per-neuron parameters")
            return low
        number = int(array.ravel()[0])
        if not low <= number <= high:
            self.problem("is out of range", key, need=f"{low}..{high}", have=f"{number}")
        return number

    def pair(self, key: str, low: int, default: int) -> tuple[int, int]:
        """(H, W) from a number or two."""
        array = self.integers(key)
        if array is None:
            return (default, default)
        if array.size not in (1, 2) or np.any(array < low) or np.any(array > 2**15):
            self.problem(f"must be one or two numbers of at least {low}", key, have=f"{array.tolist()}")
            return (default, default)
        return (int(array.ravel()[0]), int(array.ravel()[-1]))

    def neuron(self) -> NetNeuron | None:
        item = self.group.get("neuron")
        if item is None:
            return None
        if not isinstance(item, dict):
            self.problem("is not a group", "neuron")
            return None
        kind = self.text("neuron/type")
        if kind not in ("CUBA", "LOIHI"):
            remedy = "CUBA is understood; SDNN, RF and ALIF neurons are not"
            self.problem(f"neuron type '{kind}' is not understood", "neuron/type", remedy=remedy)
            return None
        for key, harmless in (("neuron/refDelay", 1), ("neuron/wgtExp", 0), ("neuron/weight_exp", 0)):
            if self.value(key) is not None and self.number(key, -(2**20), 2**20, harmless) != harmless:
                self.notes.append(f"{key} is ignored, as netx does")
        return NetNeuron(
            iDecay=self.number("neuron/iDecay", 0, 4096),
            vDecay=self.number("neuron/vDecay", 0, 4096),
            # v saturates one below 131072 << 6, so every larger threshold means the same.
            vThMant=min(self.number("neuron/vThMant", 0, 2**25 - 1), NEVER_FIRES),
            message_bits=self.number("neuron/messageBits", 0, 32, 0),
        )


def read_layer(group: Any, index: int, where: str) -> tuple[NetLayer | None, list[Problem]]:
    """One layer, and everything that is wrong with it."""
    if not isinstance(group, dict):
        return None, [Problem("is not a group", where)]
    read = _Reader(group, where)
    kind = read.text("type")
    if kind not in KINDS:
        known = f"netx knows {', '.join(KINDS)}"
        what = f"layer type '{kind}' is not understood" if kind else "has no layer type"
        if kind in NOT_IN_NETX:
            what = f"layer type '{kind}' is not implemented in netx"
        return None, [*read.problems, Problem(what, f"{where}/type", remedy=known)]
    shape = read.integers("shape", needed=kind != "flatten")
    if shape is not None and (shape.ndim != 1 or not 1 <= shape.size <= 3 or shape.min() < 1):
        read.problem("must be one to three positive numbers (C, H, W)", "shape", have=f"{shape.tolist()}")
        shape = None
    values: dict[str, Any] = {"shape": () if shape is None else tuple(int(n) for n in shape)}
    if kind == "input" or kind in WITH_WEIGHTS:
        values["neuron"] = read.neuron()
    if kind == "input":
        _note_transform(read)
    if kind in WITH_WEIGHTS:
        values["weight"] = read.integers("weight", needed=True)
        values["bias"] = read.integers("bias")
    if kind == "dense_rec":
        values["weight_rec"] = read.integers("weight_rec", needed=True)
    if kind in ("dense", "dense_rec"):
        values["delay"] = read.integers("delay")
    if kind == "conv":
        if "neuron" not in group:
            read.problem("a convolution needs a neuron", "neuron", remedy="netx gives only dense layers a default")
        values |= {"stride": read.pair("stride", 1, 1), "dilation": read.pair("dilation", 1, 1)}
        values |= {"padding": read.pair("padding", 0, 0), "groups": read.number("groups", 1, 2**15, 1)}
        if "delay" in group and np.any(read.integers("delay")):
            read.problem("netx ignores delays of a convolution", "delay", remedy="remove them, or use a dense layer")
    if read.problems:
        return None, read.problems
    return NetLayer(index=index, kind=kind, notes=tuple(read.notes), **values), []


def _note_transform(read: _Reader) -> None:
    """netx reads an affine input transform and leaves it to the caller; so do we, but we say it."""
    weight, bias = read.integers("weight"), read.integers("bias")
    if weight is not None or bias is not None:
        w = 64 if weight is None or not weight.size else int(weight.ravel()[0])
        b = 0 if bias is None or not bias.size else int(bias.ravel()[0])
        read.notes.append(f"input transform: the inputs are bias mantissas, e.g. int({w} * x + {b})")


def write_layer(group: h5py.Group, layer: NetLayer) -> None:
    """The layer in the form that netx reads; scalars as (), which numpy 2.4 needs."""
    group.create_dataset("type", (1,), "S10", [layer.kind.encode("ascii")])
    group.create_dataset("shape", data=np.array(layer.shape, dtype=np.int64))
    scalar: Callable[[str, Any], Any] = lambda key, value: group.create_dataset(key, data=value)  # noqa: E731
    if layer.neuron is not None:
        group.create_dataset("neuron/type", data="CUBA")
        for key in ("iDecay", "vDecay", "vThMant"):
            scalar(f"neuron/{key}", np.int64(getattr(layer.neuron, key)))
        scalar("neuron/refDelay", np.int64(1))
        scalar("neuron/gradedSpike", np.bool_(False))
    if layer.weight is not None:
        smallest = np.int8 if np.abs(layer.weight).max() < 128 else np.int16
        group.create_dataset("weight", data=layer.weight.astype(smallest), compression="gzip")
    if layer.weight_rec is not None:
        group.create_dataset("weight_rec", data=layer.weight_rec.astype(np.int16), compression="gzip")
    if layer.bias is not None:
        group.create_dataset("bias", data=layer.bias.astype(np.int64))
    if layer.delay is not None:
        group.create_dataset("delay", data=layer.delay.astype(np.int64))
    if layer.weight is not None and layer.kind in ("dense", "dense_rec"):
        scalar("inFeatures", np.int64(layer.weight.shape[1]))
        scalar("outFeatures", np.int64(layer.weight.shape[0]))
    if layer.weight is not None and layer.kind == "conv":
        scalar("inChannels", np.int64(layer.weight.shape[1] * layer.groups))
        scalar("outChannels", np.int64(layer.weight.shape[0]))
        group.create_dataset("kernelSize", data=np.array(layer.weight.shape[2:4], dtype=np.int64))
        for key in ("stride", "padding", "dilation"):
            group.create_dataset(key, data=np.array(getattr(layer, key), dtype=np.int64))
        scalar("groups", np.int64(layer.groups))
