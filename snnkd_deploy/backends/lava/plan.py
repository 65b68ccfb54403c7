"""What crosses from the caller to the Lava interpreter: plain values and numpy arrays, no pickle.

A plan is a folder: `plan.json` (the records below), `arrays.npz` (weights, biases), one `.npy` a source
(read) and one a recorder or probe (written). This file is imported on both sides and by any Python that
Lava runs on, so it needs numpy only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

NEVER_FIRES = 131072  # vth << 6 = 2^23, one above the largest v


@dataclass(frozen=True)
class SourcePlan:
    """Columns from `file`: (B, N) where constant, else (T, B, N). Logical step 0 leaves at step `shift`."""

    name: str
    file: str
    size: int
    shift: int
    constant: bool


@dataclass(frozen=True)
class PopulationPlan:
    """LIFReset of `size` neurons, or a stateless LIF where `relay`. Bias mantissas: arrays[bias]."""

    name: str
    size: int
    du: int
    dv: int
    vth: int
    depth: int
    bias: str = ""
    bias_exp: int = 0
    relay: bool = False


@dataclass(frozen=True)
class SynapsePlan:
    """One synapse process. `sources` (populations, sources or gates) are summed at its input.

    kind "sparse" and "delay": arrays[weights + ".data" / ".indices" / ".indptr"], and ".delays" on the
    same pattern. kind "conv": arrays[weights] in Lava's layout with `geometry`.
    """

    kind: str
    sources: tuple[str, ...]
    target: str
    weights: str
    shape: tuple[int, int]
    sign_mode: str
    weight_exp: int
    message_bits: int
    geometry: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GatePlan:
    """Drops spikes of `source` (at `depth`) from logical step arrays[limit] on."""

    name: str
    source: str
    depth: int
    limit: str


@dataclass(frozen=True)
class RecorderPlan:
    """Writes what arrives (from `source`, or from synapses that name it as target) to `file`."""

    name: str
    source: str
    size: int
    depth: int
    file: str


@dataclass(frozen=True)
class ProbePlan:
    """Writes `state` ("u" or "v") of a population to `file`."""

    population: str
    state: str
    size: int
    depth: int
    file: str


@dataclass(frozen=True)
class Plan:
    """A whole run. `window` steps a sample, `steps` in all; `wires` connect sources to a_in directly."""

    samples: int
    window: int
    steps: int
    sources: tuple[SourcePlan, ...]
    populations: tuple[PopulationPlan, ...]
    synapses: tuple[SynapsePlan, ...]
    gates: tuple[GatePlan, ...]
    wires: tuple[tuple[str, str], ...]
    recorders: tuple[RecorderPlan, ...]
    probes: tuple[ProbePlan, ...]
    hardware: bool = False

    @property
    def max_depth(self) -> int:
        return self.steps - self.samples * self.window

    def save(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
        (folder / "plan.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> tuple[Plan, dict[str, np.ndarray]]:
        raw = json.loads((folder / "plan.json").read_text())
        records = {
            "sources": SourcePlan,
            "populations": PopulationPlan,
            "gates": GatePlan,
            "recorders": RecorderPlan,
            "probes": ProbePlan,
        }
        for key, kind in records.items():
            raw[key] = tuple(kind(**entry) for entry in raw[key])
        raw["synapses"] = tuple(
            SynapsePlan(
                **{**entry, "sources": tuple(entry["sources"]), "shape": (entry["shape"][0], entry["shape"][1])}
            )
            for entry in raw["synapses"]
        )
        raw["wires"] = tuple((a, b) for a, b in raw["wires"])
        with np.load(folder / "arrays.npz", allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        return cls(**raw), arrays
