"""The stages `evaluate` and `report` of a run: measure the deployed model, and put everything into one report."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any, Protocol

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.trace import Record, Trace, total_event_order
from snnkd_deploy.chips import ChipSpec
from snnkd_deploy.data import Dataset
from snnkd_deploy.distill.feed import Feed
from snnkd_deploy.distill.losses import class_activation_map, spike_activation_map
from snnkd_deploy.evaluate import OpCounter, ann_baseline, estimate_energy, estimate_latency, fit
from snnkd_deploy.evaluate.event_order import order_problems, order_sensitivity
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import SynapseParams
from snnkd_deploy.manifest import Manifest, versions
from snnkd_deploy.nets.teachers import Teacher
from snnkd_deploy.preflight import doubts
from snnkd_deploy.progress import task
from snnkd_deploy.recipe import Recipe, toml_text
from snnkd_deploy.report.schema import LayerInfo, Report, Totals

_CHUNK = 250
_RASTER_SAMPLES, _RASTER_NEURONS = 3, 80
_MAP_SAMPLES = 4
_ORDERS, _ORDER_SAMPLES = 5, 100
_TITLES = {"seal": "SeAl-KD", "ckd": "CKDSNN", "kd": "logit KD", "none": "no distillation"}


class Run(Protocol):
    """What these stages need of a run directory (`pipeline.Run` has it)."""

    folder: Path
    recipe: Recipe
    chip: ChipSpec
    manifest: Manifest

    @property
    def data(self) -> Dataset: ...

    def load_model(self) -> Model: ...

    def load_teacher(self) -> Teacher: ...

    def test_inputs(self, model: Model, rows: Tensor | None = None) -> Inputs: ...

    def feed(self, data: Dataset) -> Feed: ...


# -- evaluate --------------------------------------------------------------------------------------------


def assess(run: Run) -> dict[str, Any]:
    """Accuracy on the whole test split, operations, fit, latency, energy, and what the pictures show."""
    model, labels = run.load_model(), run.data.test.y
    counter, parts, metas = OpCounter(model), [], []
    backend, total = ExactBackend(), len(run.data.test)
    with task("exact, whole test split", total) as advance:
        for rows in torch.arange(total).split(_CHUNK):
            inputs = run.test_inputs(model, rows)
            trace = backend.run(model, inputs, Record(readout=True))
            counter.update(trace, inputs)
            parts.append(model_votes(model, trace))
            metas.append(trace.meta)
            advance(inputs.samples, "")
    votes = torch.cat(parts, 1)  # (T, N, C) integers, summed over the steps so far
    predictions = first_argmax(votes[-1])
    counts = counter.result()
    mapping = fit(model, run.chip)
    if mapping.placement is not None:
        counts = mapping.placement.route(counts)
    latency = estimate_latency(counts, run.chip, fit=mapping)
    energy = estimate_energy(counts, run.chip, fit=mapping, latency=latency)
    found: dict[str, Any] = {
        "accuracy": {"exact": _share(predictions == labels)},
        "accuracy_per_step": _per_step(votes, labels),
        "confusion": _confusion(predictions, labels, run.data.classes),
        "raster": _raster(run, model, predictions),
        "maps": [],
        **{key: value for key, value in counts.to_dict().items() if key in ("layers", "totals")},
        "count_notes": [*counts.notes, *_chip_notes(run, model, labels)],
        "event_order": total_event_order(metas),
        "fit": mapping.to_dict(),
        "cores": mapping.cores_to_list(),
        "latency_s": latency.to_dict(),
        "energy_j": energy.to_dict(),
        "baseline_ann": None,
    }
    teacher = run.load_teacher()
    if list(teacher.parameters()):
        found["baseline_ann"] = ann_baseline(teacher, teacher_images(run, torch.arange(1))).to_dict()
        found["baseline_ann"]["name"] = f"teacher ({run.recipe.teacher.net})"
    found["maps"] = _maps(run, model, teacher, predictions)
    return found


def _chip_notes(run: Run, model: Model, labels: Tensor) -> list[str]:
    """What agreement with a simulator says about the chip, and what is not modelled by timesteps."""
    notes = [f"{run.chip.id}: {run.chip.neuron.promise}"] if run.chip.neuron.promise else []
    if run.chip.cores.mapping == "speck":
        problems = order_problems(model)
        if problems:
            notes.append(f"no order sensitivity: {problems[0]}")
        else:
            rows = run.data.test.spread(_ORDER_SAMPLES)
            notes.append(str(order_sensitivity(model, run.test_inputs(model, rows), labels[rows], orders=_ORDERS)))
    return notes


def teacher_images(run: Run, rows: Tensor) -> Tensor:
    """The test samples at `rows` (B,) as the teacher sees them: (B, C, H, W)."""
    feed = run.feed(run.data)
    return feed.teacher(feed.raw(run.data.test, rows))


def model_votes(model: Model, trace: Trace) -> Tensor:
    """(T, N, C): what the integrating readout holds after each step, or the last layer's spikes so far."""
    if model.readout_name is not None:
        return trace.v[model.readout_name]
    return trace.spikes[model.voter_name].to(torch.int32).cumsum(0, dtype=torch.int32)


def first_argmax(votes: Tensor) -> Tensor:
    """argmax over the last axis; the lowest class wins a tie, as in every other place."""
    return torch.from_numpy(np.argmax(votes.numpy(), axis=-1))


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def _per_step(votes: Tensor, labels: Tensor) -> dict[str, list[float]]:
    single = torch.diff(votes, dim=0, prepend=torch.zeros_like(votes[:1]))
    return {
        "cumulative": [_share(first_argmax(v) == labels) for v in votes],
        "single": [_share(first_argmax(v) == labels) for v in single],
    }


def _confusion(predictions: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    n = len(classes)
    counts = torch.bincount(labels * n + predictions, minlength=n * n).reshape(n, n)
    return {"classes": list(classes), "counts": counts.tolist(), "subject": "exact"}


def _raster(run: Run, model: Model, predictions: Tensor) -> dict[str, Any]:
    labels, classes = run.data.test.y, run.data.classes
    rows = run.data.test.spread(_RASTER_SAMPLES)
    trace = ExactBackend().run(model, run.test_inputs(model, rows), Record())
    samples = []
    for column, index in enumerate(rows.tolist()):
        layers = []
        for name in model.spiking:
            spikes = trace.spikes[name][:, column].flatten(1)
            # Evenly spaced neurons: a fair sample, whatever the layer's size.
            shown = np.linspace(0, spikes.shape[1] - 1, min(_RASTER_NEURONS, spikes.shape[1])).astype(int)
            times = [torch.nonzero(spikes[:, n]).flatten().tolist() for n in shown]
            layers.append({"name": name, "neurons_total": spikes.shape[1], "neurons": shown.tolist(), "times": times})
        samples.append(
            {
                "index": index,
                "label": classes[int(labels[index])],
                "predicted": classes[int(predictions[index])],
                "layers": layers,
            }
        )
    steps = next(iter(trace.spikes.values())).shape[0] if trace.spikes else 0
    return {"steps": steps, "samples": samples, "source": "exact"}


def _maps(run: Run, model: Model, teacher: Teacher, predictions: Tensor) -> list[dict[str, Any]]:
    """The teacher's class activation map beside the student's spike activation map."""
    labels, classes = run.data.test.y, run.data.classes
    names = [n for n in model.spiking if len(model.shapes[n]) == 3]
    if not names or not teacher.gives_features:
        return []
    rows = run.data.test.spread(_MAP_SAMPLES)
    x = teacher_images(run, rows)
    trace = ExactBackend().run(model, run.test_inputs(model, rows), Record())
    with torch.no_grad():
        features = teacher.features(x)
        cam = class_activation_map(features, teacher.classifier.weight, labels[rows])
        sam = spike_activation_map(trace.spikes[names[-1]].to(torch.float32))
    size = tuple(x.shape[-2:])

    def grid(maps: Tensor) -> list[Any]:
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        scaled = (maps - low) / (high - low).clamp_min(1e-12)
        return _rounded(F.interpolate(scaled[:, None], size=size, mode="nearest")[:, 0])

    shown = x.to(torch.float32) / run.data.levels
    if shown.shape[1] != 3:  # no colours: polarities of events, say
        shown = shown.mean(1, keepdim=True)
    return [
        {
            "image": image[0] if len(image) == 1 else image,
            "cam": c,
            "sam": s,
            "index": i,
            "label": classes[int(labels[i])],
            "predicted": classes[int(predictions[i])],
        }
        for i, image, c, s in zip(rows.tolist(), _rounded(shown), grid(cam), grid(sam), strict=True)
    ]


def _rounded(values: Tensor) -> list[Any]:
    return (values.double() * 1000).round().div(1000).tolist()


# -- report ----------------------------------------------------------------------------------------------


def compose_report(run: Run, found: dict[str, Any]) -> Report:
    """`report.json` from what the stages left behind."""
    stages = run.manifest.data["stages"]
    teacher, student = stages["teacher"]["facts"], stages["distill"]["facts"]
    validation = stages["validate"]["facts"]
    model, recipe = run.load_model(), run.recipe
    threads = torch.get_num_threads()
    backends: dict[str, Any] = validation["backends"]
    same = backends["exact"]["student_accuracy"]
    details = {
        name: {"samples": validation["samples"], "student_same_samples": same} for name in backends if name != "exact"
    }
    parity = {name: entry["parity"] for name, entry in backends.items() if "parity" in entry}
    content = {
        "chip": run.chip.id,
        "model_hash": model.sha256,
        "dataset": {
            "name": run.data.name,
            "split": "test",
            "samples": len(run.data.test),
            "classes": list(run.data.classes),
            "source": _public(run.data.source),
        },
        "accuracy": {
            "teacher": teacher["accuracy"],
            "student_float": student["accuracy_float"],
            "student": student["accuracy"],
            "exact": found["accuracy"]["exact"],
            **{name: entry["accuracy"] for name, entry in backends.items() if name != "exact"},
            **dict.fromkeys(validation["missing"], None),
        },
        "parity": parity,
        "layers": [_layer(model, layer) for layer in found["layers"]],
        "totals": {key: found["totals"].get(key) for key in Totals.model_fields if key in found["totals"]},
        "fit": found["fit"],
        "latency_s": found["latency_s"],
        "energy_j": found["energy_j"],
        "baseline_ann": found["baseline_ann"] or {"macs": None},
        "provenance": {
            "command": run.manifest.data["command"] or f"snnkd run recipe.toml --out {run.folder.name}",
            "versions": versions(),
            "seeds": {"recipe": recipe.seed},
            "hashes": {
                "model": model.sha256,
                "student_weights": student["weights_sha256"],
                "data": run.data.sha256,
                "chip_file": run.chip.sha256,
            },
            "hardware_file": f"hardware/{Path(run.chip.path).name}",
            "created": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "machine": f"{platform.system()} {platform.machine()}, {threads} thread{'s' if threads > 1 else ''}",
            "recipe": toml_text(recipe.public()),
        },
        "name": recipe.name,
        "chip_info": {
            "name": run.chip.name,
            "process": run.chip.process,
            "about": run.chip.about,
            "max_spikes": run.chip.neuron.max_spikes,
        },
        "networks": {
            "teacher": {"name": recipe.teacher.net, "parameters": teacher["parameters"]},
            "student": {"name": recipe.student.net, "parameters": student["parameters"]},
        },
        "method": {
            "names": list(recipe.method),
            "title": " + ".join(_TITLES.get(name, name) for name in recipe.method),
            "options": json.loads((run.folder / "student" / "student.json").read_text("utf-8"))["loss"],
        },
        "encoding": {
            "kind": model.profile.encoding.kind,
            "steps": recipe.student.steps,
            "dt_s": recipe.dt_s,
            "levels": model.profile.encoding.levels,
            "about": _about_encoding(run, model),
        },
        "accuracy_detail": details,
        "accuracy_per_step": found["accuracy_per_step"],
        "curves": _curves(run),
        "confusion": found["confusion"],
        "raster": found["raster"],
        "maps": found["maps"],
        "cores": {"items": found["cores"], "cores_per_chip": found["fit"]["cores_available"]}
        if found["cores"]
        else None,
        "stages": [{"name": n, "seconds": stages[n]["seconds"]} for n in stages if n != "report"],
        "notes": list(found["count_notes"]),
        "warnings": _warnings(run, found, backends, validation),
    }
    return Report.model_validate(content)


_ENCODINGS = {
    "current": "the first convolution runs once per image on the host and is injected as bias current",
    "events": "binary spikes enter the chip",
    "graded": "integers enter the chip as the payload of graded spikes",
}


def _about_encoding(run: Run, model: Model) -> str:
    about, levels = _ENCODINGS.get(model.profile.encoding.kind, ""), model.profile.encoding.levels
    made = run.recipe.student.encoding
    if model.profile.encoding.kind == "events" and levels > 1:
        about = f"up to {levels} spikes of an input in a step enter the chip"
    return f"{about}, {made}-encoded on the host" if made in ("rate", "latency", "counts") else about


def _public(source: str) -> str:
    """A data source without the folders of this machine."""
    path = Path(source)
    return path.name if path.is_absolute() else source


def _layer(model: Model, layer: dict[str, Any]) -> dict[str, Any]:
    name = layer["name"]
    known = {key: value for key, value in layer.items() if key in LayerInfo.model_fields}
    ops = [_op(model, source) for source in model.weight_sources(name)]
    return known | {"op": " + ".join(ops), "shape": list(model.shapes[name])}


def _op(model: Model, name: str) -> str:
    node, params = model.nodes[name], model.profile.nodes[name]
    host = " on the host" if isinstance(params, SynapseParams) and params.place == "host" else ""
    if isinstance(node, nir.Conv2d):
        kernel = "x".join(str(n) for n in node.weight.shape[2:])
        stride = int(np.atleast_1d(node.stride)[0])
        return f"conv {kernel}{f' stride {stride}' if stride > 1 else ''}{host}"
    return f"linear{host}"


def _curves(run: Run) -> list[dict[str, Any]]:
    curves = []
    for stage, path in (("teacher", "teacher/teacher.json"), ("student", "student/student.json")):
        data = json.loads((run.folder / path).read_text("utf-8"))
        history = data["history"]
        for phase in dict.fromkeys(entry["phase"] for entry in history):
            part = [entry for entry in history if entry["phase"] == phase]
            terms = dict.fromkeys(name for entry in part for name in entry["terms"])
            best = data["best"].get("epoch") if part is not None else None
            epochs = [entry["epoch"] + 1 for entry in part]
            title = stage if stage == "teacher" else f"{stage} ({'float' if phase == 'float' else 'chip-exact'})"
            curve = {
                "stage": title,
                "epochs": epochs,
                "losses": {name: [entry["terms"].get(name) for entry in part] for name in terms},
                "val_accuracy": [entry["accuracy"] for entry in part],
                "picked_epoch": best + 1 if best is not None and best + 1 in epochs else None,
            }
            if all("rate" in entry for entry in part):
                curve["firing_rate"] = [entry["rate"] for entry in part]
            curves.append(curve)
    return curves


def _warnings(run: Run, found: dict[str, Any], backends: dict[str, Any], validation: dict[str, Any]) -> list[str]:
    warnings = [f"{name} did not run here: {reason}" for name, reason in validation["missing"].items()]
    warnings += doubts(run.data)
    for name, entry in backends.items():
        parity = entry.get("parity")
        if parity and not parity["identical"]:
            warnings.append(f"{name} differs from exact: {parity['mismatches']} spikes")
    layers = [layer for layer in found["layers"] if layer.get("spiking")]
    if layers and not any(layer["rate"] for layer in layers):
        warnings.append("the student never spikes: its answer does not depend on the input")
    else:
        warnings += [f"{layer['name']} is silent" for layer in layers if layer["rate"] < 1e-4]
    for layer, (_, changed) in found.get("event_order", {}).items():
        if changed:
            what = f"{layer}: a current clipped between events of one step and their order decided {changed:,} times"
            warnings.append(f"{what}; results are the chip's all the same, a smaller input_shift in its file avoids it")
    return warnings
