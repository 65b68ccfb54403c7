"""`Trace`: what ran. Spikes, optional states and logits in logical time, and its `.npz` file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.data.npz import read_npz
from snnkd_deploy.errors import DataError
from snnkd_deploy.files import replacing

# Meta entry of `exact` on chips whose currents add events one by one and saturate: layer -> [neuron-steps in which
# the order of events could matter, those in which it did].
EVENT_ORDER = "event_order"


@dataclass(frozen=True)
class Record:
    """What a backend should keep. `nodes` None means every spiking node.

    `readout` asks for v of the integrating readout after each step, without the states of all the others.
    """

    spikes: bool = True
    states: bool = False
    readout: bool = False
    nodes: frozenset[str] | None = None

    def wants(self, node: str) -> bool:
        return self.nodes is None or node in self.nodes


@dataclass
class Trace:
    """Result of a run. Time first: spikes[node] is (T, B, *shape) uint8, logits (B, C) float64.

    `u` and `v` hold states after each step, integers (int32) on integer chips, floats otherwise.
    Logical time: step t of every node is the answer to input step t, whatever the pipeline depth.
    """

    logits: Tensor
    spikes: dict[str, Tensor] = field(default_factory=dict)
    u: dict[str, Tensor] = field(default_factory=dict)
    v: dict[str, Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        # A notebook shows what there is, not millions of numbers.
        layers = ", ".join(f"{name} {tuple(spikes.shape)}" for name, spikes in self.spikes.items())
        states = ", with states" if self.u or self.v else ""
        return (
            f"Trace(backend {self.meta.get('backend', 'unknown')}; logits {tuple(self.logits.shape)}; {layers}{states})"
        )

    @property
    def samples(self) -> int:
        return int(self.logits.shape[0])

    @property
    def predictions(self) -> Tensor:
        """Class of each sample, (B,) int64; the lowest index wins a tie."""
        # torch.argmax leaves ties undefined; numpy takes the first.
        return torch.from_numpy(np.argmax(self.logits.numpy(), axis=1))

    def save(self, path: str | Path) -> None:
        """Write a `.npz` atomically: spikes/<node>, u/<node>, v/<node>, logits, meta (JSON string)."""
        arrays: dict[str, np.ndarray] = {"logits": self.logits.numpy()}
        for group, tensors in (("spikes", self.spikes), ("u", self.u), ("v", self.v)):
            arrays |= {f"{group}/{node}": tensor.numpy() for node, tensor in tensors.items()}
        arrays["meta"] = np.array(json.dumps(self.meta, sort_keys=True))
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a trace file. Raises DataError where it is not one."""
        path = Path(path)
        if not path.is_file():
            raise DataError("no such trace file", where=str(path), remedy="snnkd simulate ... -o TRACE.npz writes one")
        remedy = "write it with `snnkd simulate ... -o`"
        if path.suffix.lower() in (".nir", ".net", ".onnx"):
            remedy = "snnkd compare MODEL --backends exact,lava --input X.npz"
            raise DataError("a model, not a trace", where=str(path), remedy=remedy)
        arrays = read_npz(path)
        groups: dict[str, dict[str, Tensor]] = {"spikes": {}, "u": {}, "v": {}}
        try:
            for key, array in arrays.items():
                group, _, node = key.partition("/")
                if node and group == "spikes":
                    _check_counts(array, f"{path} [{key}]", remedy)
                if node and group in groups:
                    groups[group][node] = torch.from_numpy(array)
            logits = arrays.get("logits", np.zeros((0, 0)))
            meta = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
        except (ValueError, TypeError) as error:
            raise DataError(f"not a readable trace: {error}", where=str(path), remedy=remedy) from error
        # Every layer holds the same steps of the same samples.
        batches = {tuple(tensor.shape[:2]) for group in groups.values() for tensor in group.values()}
        sound = logits.ndim == 2 and logits.dtype.kind == "f" and isinstance(meta, dict)
        sound = sound and len(batches) <= 1 and all(len(pair) == 2 for pair in batches)
        if "logits" in arrays:
            sound = sound and all(pair[1] == len(logits) for pair in batches)
        if not sound or not (groups["spikes"] or "logits" in arrays):
            have = ", ".join(sorted(arrays)) or "no arrays"
            need = "spikes/<layer>, logits (B, C), meta"
            raise DataError("not a trace", where=str(path), need=need, have=have, remedy=remedy)
        return cls(logits=torch.from_numpy(logits), meta=meta, **groups)


def _check_counts(array: np.ndarray, where: str, remedy: str) -> None:
    """Spikes are counted: every number of a report is computed from them."""
    if array.dtype.kind not in "iufb":
        raise DataError("spikes are numbers", where=where, have=array.dtype, remedy=remedy)
    if array.size and not (np.all(array >= 0) and np.all(array == np.rint(array))):
        have = f"{array.min():g}..{array.max():g}"
        raise DataError("spikes are counts", where=where, need="whole numbers from 0", have=have, remedy=remedy)


def concatenate(traces: Iterable[Trace]) -> Trace:
    """Join traces of consecutive sample chunks along the batch axis. Meta is taken from the first, counts add up."""
    chunks = list(traces)
    first = chunks[0]

    def join(group: str) -> dict[str, Tensor]:
        return {node: torch.cat([getattr(c, group)[node] for c in chunks], 1) for node in getattr(first, group)}

    meta = dict(first.meta)
    if order := total_event_order(chunk.meta for chunk in chunks):
        meta[EVENT_ORDER] = order
    return Trace(
        logits=torch.cat([c.logits for c in chunks]),
        spikes=join("spikes"),
        u=join("u"),
        v=join("v"),
        meta=meta,
    )


def total_event_order(metas: Iterable[dict[str, Any]]) -> dict[str, list[int]]:
    """The entries `EVENT_ORDER` of several traces of one model, added up; empty where there is none."""
    total: dict[str, list[int]] = {}
    for meta in metas:
        for layer, counts in meta.get(EVENT_ORDER, {}).items():
            total[layer] = [a + b for a, b in zip(total.get(layer, [0, 0]), counts, strict=True)]
    return total
