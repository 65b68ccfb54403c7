"""Reports to test with. Every number here is synthetic: made up to look like a run, measured by nobody."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from snnkd_deploy.report import Report, render_comparison
from snnkd_deploy.report.page import render_page

STEPS, SAMPLES, LAVA_SAMPLES = 6, 360, 300
CLASSES = [str(i) for i in range(10)]
LAYERS = [  # name, shape, rate, fan-out, parameters
    ("lif1", (16, 8, 8), 0.142, 144, 160),
    ("lif2", (32, 4, 4), 0.097, 288, 4640),
    ("lif3", (64, 2, 2), 0.118, 128, 18496),
    ("lif4", (128,), 0.081, 10, 32896),
]
SUMMED = ("neurons", "spikes_per_sample", "sop_event", "sop_nonzero", "sop_dense")
SUMMED += ("updates_active", "updates_idle", "parameters")
LOIHI1 = "Davies et al. 2018, IEEE Micro 38(1), Table 2 (simulated, 0.75 V); SANA-FE 2.2.9 silicon fits"
LITERATURE = "Horowitz 2014, 45 nm CMOS arithmetic: int8 MAC 0.23 pJ, FP32 MAC 4.6 pJ"


def full_document() -> dict[str, Any]:
    """A run like the digits demo on Loihi 2, with every optional part."""
    rng = np.random.default_rng(0)
    layers = [_layer(*layer) for layer in LAYERS]
    host = {"name": "conv1", "op": "conv2d", "shape": [16, 8, 8], "place": "host", "neurons": 0, "macs_analog": 7744.0}
    host |= {"macs_framework": 9216.0, "parameters": 160}
    total = {
        key: sum(layer[key] for layer in layers)
        for key in (
            "neurons",
            "spikes_per_sample",
            "sop_event",
            "sop_nonzero",
            "sop_dense",
            "updates_active",
            "updates_idle",
            "parameters",
        )
    }
    total["parameters"] += 160
    total |= {"rate": total["spikes_per_sample"] / (total["neurons"] * STEPS), "macs_analog": 7744.0}
    total |= {"messages": total["spikes_per_sample"] * 1.4, "hops_ew": total["spikes_per_sample"] * 2.1}
    terms = _loihi1_terms(total)
    low, mid, high = (sum(term[k] for term in terms) for k in ("low", "mid", "high"))
    steps = total["neurons"] * STEPS
    return {
        "schema": "snnkd_deploy.report/1",
        "name": "digits",
        "chip": "loihi2",
        "model_hash": "9f2c51a7d0e84b63" * 4,
        "dataset": {
            "name": "digits",
            "split": "test",
            "samples": SAMPLES,
            "classes": CLASSES,
            "source": "scikit-learn's 8x8 handwritten digits",
        },
        "accuracy": {
            "teacher": 354 / 360,
            "student_float": 352 / 360,
            "student": 351 / 360,
            "exact": 351 / 360,
            "lava": 293 / 300,
        },
        "accuracy_detail": {"lava": {"samples": LAVA_SAMPLES, "student_same_samples": 293 / 300}},
        "parity": {
            "lava": {
                "samples": LAVA_SAMPLES,
                "spikes_compared": int(steps * LAVA_SAMPLES),
                "mismatches": 0,
                "first_divergence": None,
                "layers": [
                    {"layer": n, "spikes_compared": int(np.prod(s)) * STEPS * LAVA_SAMPLES, "mismatches": 0}
                    for n, s, *_ in LAYERS
                ],
            }
        },
        "layers": [host, *layers],
        "totals": total,
        "fit": {
            "fits": True,
            "cores": 7,
            "chips": 1,
            "cores_available": 128,
            "utilisation": {"neurons": 0.125, "synaptic memory": 0.713},
            "violations": [],
            "unknown_limits": ["in_axons_per_core", "out_axons_per_core"],
            "note": "Greedy mapping; Lava's own compiler may use more cores.",
        },
        "latency_s": {
            "low": 31e-6,
            "mid": 61e-6,
            "high": 1.1e-3,
            "excludes": ["host convolution", "host I/O"],
            "kind": "derived",
            "source": "Loihi 1 step times as a lower limit; 153 µs per step measured for PilotNet on Loihi 2",
            "note": "Compute-bound lower limit; I/O is not modelled.",
        },
        "energy_j": {
            "low": None,
            "mid": None,
            "high": None,
            "terms": [],
            "scope": "all_in_bound_only",
            "unpriced": [
                {
                    "name": "synaptic operations",
                    "count": total["sop_event"],
                    "reason": "Intel has published no per-op energy",
                },
                {"name": "neuron updates", "count": steps, "reason": "no published value found"},
                {"name": "spike messages", "count": total["messages"], "reason": "no published value found"},
                {"name": "host I/O", "reason": "depends on the board"},
            ],
            "proxy": {
                "chip": "loihi1",
                "label": "Loihi 1 prices for the same operations",
                "low": low,
                "mid": mid,
                "high": high,
                "terms": terms,
                "unpriced": ["host I/O"],
                "scope": "per_term",
                "note": "A different chip on an older process: an order of magnitude, not a prediction for Loihi 2.",
            },
            "bound": {
                "label": "All-in bound",
                "low": steps * 431e-12 * 0.5,
                "mid": steps * 431e-12,
                "high": steps * 431e-12 * 2,
                "kind": "derived",
                "source": "lava-dl PilotNet-LIF notebook, saved outputs: 1.094 mJ / (158,509 neurons x 16 steps)",
                "note": "431 pJ per neuron and step; contains synapses, routing and I/O of that one system.",
            },
        },
        "baseline_ann": {
            "name": "teacher CNN",
            "macs": 1_204_224.0,
            "macs_framework": 1_376_256.0,
            "precision": "int8",
            "energy_j": {
                "low": 1_204_224 * 0.23e-12,
                "mid": 1_204_224 * 0.23e-12,
                "high": 1_204_224 * 4.6e-12,
                "terms": [
                    {
                        "name": "multiply-accumulates",
                        "low": 1_204_224 * 0.23e-12,
                        "mid": 1_204_224 * 0.23e-12,
                        "high": 1_204_224 * 4.6e-12,
                        "count": 1_204_224.0,
                        "count_unit": "MAC",
                        "price": "0.23 pJ (int8) to 4.6 pJ (FP32)",
                        "kind": "simulated",
                        "source": LITERATURE,
                    }
                ],
                "unpriced": ["memory", "control", "leakage"],
                "scope": "arithmetic_only",
                "note": "45 nm literature arithmetic only: not a chip, and not to be ranked against one.",
            },
        },
        "provenance": {
            "command": "snnkd demo --out runs/demo",
            "versions": {
                "snnkd_deploy": "0.1.0",
                "python": "3.11.9",
                "torch": "2.13.0",
                "lava_nc": "0.10.0",
                "numpy": "2.1.3",
            },
            "seeds": {"data": 0, "teacher": 1, "student": 2},
            "hashes": {"recipe.toml": "51c0" * 16, "model.nir": "9f2c" * 16, "teacher": "77ab" * 16},
            "hardware_file": "hardware/loihi2.toml",
            "created": "2025-06-01T12:00:00Z",
            "machine": "x86_64, 2 cores",
            "recipe": 'name = "digits"\nchip = "loihi2"\n\n[student]\nmethod = ["seal", "ckd"]\nsteps = 6\n',
        },
        "chip_info": {"name": "Intel Loihi 2", "process": "Intel 4", "about": "static 232-282 mW between two runs"},
        "networks": {
            "teacher": {"name": "CNN-4", "parameters": 214_890, "about": "3 convolutions, FP32"},
            "student": {"name": "SCNN-4", "parameters": 57_482, "about": "4 spiking layers, 8-bit weights"},
        },
        "method": {"names": ["seal", "ckd"], "title": "SeAl-KD + CKDSNN", "options": {"seal": {"alpha": 1.0}}},
        "encoding": {"kind": "current", "steps": STEPS, "dt_s": 1e-3, "levels": 16, "about": "first layer on the host"},
        "accuracy_per_step": {
            "cumulative": [0.8806, 0.9361, 0.9583, 0.9667, 0.9722, 351 / 360],
            "single": [0.8806, 0.9139, 0.9250, 0.9333, 0.9361, 0.9389],
        },
        "curves": [_curve("teacher", 12, ["ce"], rng), _curve("student", 30, ["ce", "ela", "sta", "samd", "nld"], rng)],
        "confusion": {"classes": CLASSES, "counts": _confusion(rng), "subject": "lava"},
        "raster": {"steps": STEPS, "samples": [_raster_sample(i, rng) for i in range(3)], "source": "lava"},
        "maps": [_maps(i, rng) for i in range(3)],
        "cores": {"items": _cores(), "cores_per_chip": 128, "columns": 16},
        "pareto": {
            "cost_name": "Synaptic operations per inference",
            "cost_unit": "SOP",
            "points": [
                {"label": "width 0.5", "accuracy": 0.9444, "cost": 61e3},
                {"label": "width 0.75", "accuracy": 0.9639, "cost": 108e3},
                {"label": "width 1", "accuracy": 0.975, "cost": total["sop_event"], "this_run": True},
                {"label": "width 1, no distillation", "accuracy": 0.9528, "cost": 193e3},
                {"label": "width 2", "accuracy": 0.9778, "cost": 611e3},
            ],
        },
        "stages": [
            {"name": "teacher", "seconds": 14.2},
            {"name": "distill", "seconds": 96.8},
            {"name": "export", "seconds": 0.6},
            {"name": "validate", "seconds": 71.3},
            {"name": "evaluate", "seconds": 9.9, "cached": True},
        ],
        "warnings": [
            "2 limits of loihi2 are unknown (in_axons_per_core, out_axons_per_core): the fit check did not use them.",
            "The first layer runs on the host: its 7,744 multiply-accumulates are not in the chip's energy.",
        ],
    }


def minimal_document() -> dict[str, Any]:
    """The contract's keys and nothing else: a foreign model that was only simulated."""
    return {
        "chip": "loihi2",
        "model_hash": "00" * 32,
        "dataset": {"name": "x.npz", "split": "all", "samples": 0},
        "accuracy": {"teacher": None, "student_float": None, "student": None},
        "parity": {},
        "layers": [],
        "totals": {},
        "fit": {},
        "latency_s": {},
        "energy_j": {},
        "baseline_ann": {},
        "provenance": {"command": "snnkd report DIR"},
    }


def priced_document() -> dict[str, Any]:
    """The same run on a chip with per-operation prices, with mismatches and a limit exceeded."""
    document = full_document()
    proxy = document["energy_j"]["proxy"]
    document |= {"chip": "loihi1", "chip_info": {"name": "Intel Loihi (1st gen)", "process": "14 nm FinFET"}}
    document["energy_j"] = {key: proxy[key] for key in ("low", "mid", "high", "terms", "unpriced", "scope")}
    document["parity"]["lava"] |= {
        "mismatches": 17,
        "first_divergence": {
            "layer": "lif2",
            "step": 3,
            "sample": 41,
            "neuron": [5, 1, 2],
            "expected": 1,
            "got": 0,
            "causes": ["threshold off by one", "decay rounds to minus infinity"],
        },
    }
    document["parity"]["lava"]["layers"][1]["mismatches"] = 17
    document["fit"] = {
        "fits": False,
        "utilisation": {"synaptic memory": 1.11, "neurons": 0.5},
        "cores_available": 128,
        "violations": [
            {
                "what": "synaptic memory of one core is exceeded",
                "where": "lif3",
                "need": "142 KiB",
                "have": "128 KiB",
                "remedy": "--student.width 0.75",
            }
        ],
    }
    return document


def _layer(name: str, shape: tuple[int, ...], rate: float, fan: int, parameters: int) -> dict[str, Any]:
    neurons = int(np.prod(shape))
    spikes = neurons * STEPS * rate
    return {
        "name": name,
        "op": "lif",
        "shape": list(shape),
        "neurons": neurons,
        "rate": rate,
        "spikes_per_sample": spikes,
        "sop_event": spikes * fan * 0.86,
        "sop_nonzero": spikes * fan * 0.79,
        "sop_dense": neurons * STEPS * fan * 0.86,
        "macs_analog": 0.0,
        "updates_active": neurons * STEPS * 0.62,
        "updates_idle": neurons * STEPS * 0.38,
        "macs_framework": float(neurons * fan),
        "parameters": parameters,
    }


def _loihi1_terms(total: dict[str, float]) -> list[dict[str, Any]]:
    def term(name: str, count: float, unit: str, low: float, mid: float, high: float, **more: Any) -> dict[str, Any]:
        energy = {k: count * price * 1e-12 for k, price in (("low", low), ("mid", mid), ("high", high))}
        price = f"{low:g} to {high:g} pJ" if low != high else f"{mid:g} pJ"
        return dict(name=name, count=count, count_unit=unit, price=price, source=LOIHI1, **energy) | more

    return [
        term("synaptic operations", total["sop_event"], "SOP", 23.6, 24.0, 35.5, kind="simulated"),
        term("neuron updates, active", total["updates_active"], "updates", 72.8, 81, 81, kind="simulated"),
        term("neuron updates, idle", total["updates_idle"], "updates", 51.2, 52, 52, kind="simulated"),
        term("spike messages", total["messages"], "messages", 1.7, 111, 111, kind="measured"),
        {
            "name": "static power, used cores",
            "group": "static",
            "low": 0.3e-6,
            "mid": 0.7e-6,
            "high": 6.3e-6,
            "price": "104.4 mW per chip",
            "kind": "measured",
            "source": "Frady et al. 2020: 3.34 W / 32 chips",
        },
        {
            "name": "host convolution",
            "group": "host",
            "low": 7744 * 0.23e-12,
            "mid": 7744 * 0.23e-12,
            "high": 7744 * 4.6e-12,
            "count": 7744.0,
            "count_unit": "MAC",
            "price": "0.23 to 4.6 pJ",
            "kind": "simulated",
            "source": LITERATURE,
        },
    ]


def _curve(stage: str, epochs: int, terms: list[str], rng: np.random.Generator) -> dict[str, Any]:
    t = np.arange(epochs)
    losses = {
        name: (scale * np.exp(-t / (epochs / 4)) + 0.03 * scale + rng.random(epochs) * 0.02 * scale).tolist()
        for name, scale in zip(terms, (2.3, 1.1, 0.4, 0.09, 0.6), strict=False)
    }
    rise = 1 - np.exp(-(t + 1) / (epochs / 6))
    spiking = stage == "student"
    return {
        "stage": stage,
        "epochs": (t + 1).tolist(),
        "losses": losses,
        "train_accuracy": np.clip(0.985 * rise + rng.normal(0, 0.004, epochs), 0, 1).tolist(),
        "val_accuracy": np.clip(0.972 * rise + rng.normal(0, 0.006, epochs), 0, 1).tolist(),
        "firing_rate": (0.05 + 0.07 * rise + rng.normal(0, 0.002, epochs)).tolist() if spiking else [],
        "picked_epoch": epochs - 3,
    }


def _confusion(rng: np.random.Generator) -> list[list[int]]:
    counts = np.diag(rng.integers(33, 38, 10))
    for true, predicted in ((1, 8), (8, 1), (8, 1), (3, 9), (9, 3), (4, 7), (5, 9), (7, 4)):
        counts[true, predicted] += 1
    return counts.tolist()


def _raster_sample(index: int, rng: np.random.Generator) -> dict[str, Any]:
    layers = []
    for name, shape, rate, *_ in LAYERS:
        total = int(np.prod(shape))
        shown = min(total, 100)
        fired = rng.random((shown, STEPS)) < rate * rng.gamma(1.0, 1.0, (shown, 1))
        times = [np.flatnonzero(row).tolist() for row in fired]
        neurons = (np.arange(shown) * total // shown).tolist()
        layers.append({"name": name, "neurons_total": total, "neurons": neurons, "times": times})
    return {"index": index * 7, "label": CLASSES[index], "predicted": CLASSES[index], "layers": layers}


def _maps(index: int, rng: np.random.Generator) -> dict[str, Any]:
    y, x = np.mgrid[0:8, 0:8]
    bump = np.exp(-((x - 3 - index) ** 2 + (y - 4) ** 2) / 6)
    image = np.clip(bump * 1.2 + rng.random((8, 8)) * 0.2, 0, 1)
    sam = np.clip(bump + rng.random((8, 8)) * 0.25, 0, 1)
    label = CLASSES[index]
    return {
        "image": image.tolist(),
        "cam": bump.tolist(),
        "sam": sam.tolist(),
        "index": index,
        "label": label,
        "predicted": label,
    }


def _cores() -> list[dict[str, Any]]:
    holds = ["lif1", "lif1", "lif1", "lif1", "lif2", "lif3", "lif4"]
    use = [0.41, 0.41, 0.41, 0.41, 0.62, 0.71, 0.68]
    return [
        {"core": i, "layers": [layer], "neurons": 256, "utilisation": {"synaptic memory": u, "neurons": 0.125}}
        for i, (layer, u) in enumerate(zip(holds, use, strict=True))
    ]


@pytest.fixture
def full() -> Report:
    return Report.model_validate(full_document())


@pytest.fixture
def minimal() -> Report:
    return Report.model_validate(minimal_document())


@pytest.fixture
def priced() -> Report:
    return Report.model_validate(priced_document())


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    """The three reports as pages, and two of them side by side. Drawing takes seconds, so it is done once."""
    documents = {"full": full_document(), "minimal": minimal_document(), "priced": priced_document()}
    reports = {name: Report.model_validate(document) for name, document in documents.items()}
    found = {name: render_page(report) for name, report in reports.items()}
    return found | {"comparison": render_comparison({"full": reports["full"], "a second run": reports["priced"]})}


@pytest.fixture
def edited() -> Callable[..., Report]:
    """The full report with some top-level keys replaced."""

    def make(**changes: Any) -> Report:
        return Report.model_validate(copy.deepcopy(full_document()) | changes)

    return make
