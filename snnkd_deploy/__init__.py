"""snnkd_deploy: from a trained ANN to a spiking network on a neuromorphic chip. What you trained is what runs."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_API = (
    "compare",
    "count_ops",
    "diagnose",
    "estimate_energy",
    "estimate_latency",
    "fit",
    "load_chip",
    "load_model",
    "lower",
    "make_inputs",
    "run",
    "save_model",
    "ChipSpec",
    "Divergence",
    "EnergyEstimate",
    "FitReport",
    "IntGrid",
    "LatencyEstimate",
    "Model",
    "NeuronSpec",
    "OpCounts",
    "ParityReport",
    "Quantity",
    "Record",
    "SnnkdError",
    "Trace",
)
__all__ = [*_API, "distill", "__version__"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: only those who use it wait for it.
    if name in _API:
        return getattr(importlib.import_module("snnkd_deploy.api"), name)
    if name == "distill":
        return importlib.import_module("snnkd_deploy.distill")
    raise AttributeError(f"module 'snnkd_deploy' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_API, "distill"])
