"""`snnkd new`: a recipe for a user's data and chip that runs as it stands, every key with its meaning."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnkd_deploy.backends.registry import backend_names, get_backend
from snnkd_deploy.chips import ChipSpec, list_chips, load_chip
from snnkd_deploy.data import AUGMENTATIONS, DATASETS, Dataset, load_dataset
from snnkd_deploy.data.inspect import Found, inspect
from snnkd_deploy.distill.feed import Feed, check_feed, encodings_for, series_steps
from snnkd_deploy.distill.losses import METHODS
from snnkd_deploy.errors import SnnkdError, UsageError
from snnkd_deploy.manifest import write_text
from snnkd_deploy.nets.builder import neuron_of
from snnkd_deploy.nets.surrogate import SURROGATES
from snnkd_deploy.nets.teachers import TEACHERS
from snnkd_deploy.nets.zoo import STUDENTS
from snnkd_deploy.preflight import check_networks, check_recipe
from snnkd_deploy.recipe import Recipe, make_recipe, toml_value

# Samples that a training sees, all epochs together: minutes on two cores for small images.
_BUDGET = 150_000
# Frames of this side at most: larger sensors are binned.
_LARGEST_SENSOR = 40
# Students to try in turn where the usual one is too large for the chip.
_SMALLER: dict[str, tuple[dict[str, Any], ...]] = {
    "conv": tuple({"width": width} for width in (0.75, 0.5, 0.25, 0.125)),
    "mlp": tuple({"width": width} for width in (0.5, 0.25, 0.125, 0.0625)),
    "rnn": tuple({"options": {"hidden": hidden}} for hidden in ((128,), (64,), (32,))),
}


@dataclass(frozen=True)
class Started:
    """A recipe that was written: where, what it holds, and what was seen of the data."""

    path: Path
    recipe: Recipe
    seen: tuple[str, ...]


def start(source: str, chip: str, output: Path, *, root: Path | None = None, force: bool = False) -> Started:
    """Look at the data, choose, check that it runs, write. Raises SnnkdError; an existing file is kept."""
    if output.exists() and not force:
        raise UsageError("there is a file of this name", where=str(output), remedy="--force, or another -o")
    spec, found = load_chip(chip), inspect(source)
    table = {"name": _name(source), "chip": chip, "data": {"name": found.name, "options": dict(found.options)}}
    data = _load(found, root)
    if data is not None and data.kind == "events" and max(data.shape[-2:]) > _LARGEST_SENSOR:
        table["data"]["options"]["downsample"] = -(-max(data.shape[-2:]) // _LARGEST_SENSOR)  # type: ignore[index]
        data = _load(Found(found.name, table["data"]["options"]), root)  # type: ignore[index]
    seen = [f"{found.name}: {found.why}"] + ([found.other] if found.other else [])
    heard = spec.limit("input_channels")
    if data is not None and data.kind == "series" and heard is not None and data.shape[1] > heard:
        seen.append(f"{spec.id} hears {heard:g} channels: means of neighbouring ones of the {data.shape[1]}")
        table["data"]["options"]["channels"] = int(heard)  # type: ignore[index]
        data = _load(Found(found.name, table["data"]["options"]), root)  # type: ignore[index]
    if data is None:
        seen.append("its files are not here yet: `snnkd run` looks in --data and downloads them where it may")
    else:
        parts = f"{len(data.train)} to train, {len(data.val)} to validate, {len(data.test)} to test"
        seen.append(f"samples {tuple(data.shape)} of {len(data.classes)} classes: {parts}")
    _choose(table, DATASETS[found.name].kind, data, spec)
    recipe = _fitting(table, data, spec, output)
    write_text(output, recipe_text(recipe, output, seen))
    return Started(output, recipe, tuple(seen))


def _name(source: str) -> str:
    stem = Path(source).resolve().stem if os.path.exists(source) else source
    return "".join(c if c.isalnum() else "_" for c in stem).strip("_") or "mine"


def _load(found: Found, root: Path | None) -> Dataset | None:
    """The data; None for a set of others that is not here: looking must not download gigabytes."""
    own = bool(found.options)
    try:
        return load_dataset(found.name, root=None if own else root, download=False, options=found.options)
    except SnnkdError:
        if own or root is not None:
            raise
        return None


def _choose(table: dict[str, Any], kind: Any, data: Dataset | None, chip: ChipSpec) -> None:
    """Student, encoding, timesteps, epochs and method that suit the data and the chip."""
    n = len(data.train) if data is not None else 50_000
    epochs = max(5, min(40, round(_BUDGET / n)))
    batch = 128 if n >= 4000 else 64 if n >= 1000 else 32 if n >= 200 else 8
    student: dict[str, Any] = {"net": "conv" if chip.lacks("conv2d") is None else "mlp", "steps": 4}
    if kind == "events":
        student["steps"] = 8
        if data is not None and min(data.shape[-2:]) < 4:
            student["net"] = "mlp"
    if kind == "series":
        own = data and series_steps(data)
        student |= {"net": "rnn" if chip.lacks("recurrent") is None else "mlp", "steps": own or 50, **_decays(chip)}
    student["encoding"] = _encoding(kind, student["steps"], data, chip)
    if kind == "series" and student["encoding"] == "counts" and chip.neuron.max_input > 1:
        student["counts"] = min(chip.neuron.max_input, 255)  # more events tell more levels apart
    # SeAl-KD asks every step for the answer: right for an image that is held, not for the first steps of a series.
    table["method"] = ["seal", "ckd"] if student["net"] == "conv" else ["kd"] if kind == "series" else ["seal"]
    table["teacher"] = {"net": "cnn", "width": 0.5, "epochs": max(5, epochs // 2), "batch": batch}
    table["student"] = student
    grad_clip = 1.0 if kind == "series" else 0.0
    table["train"] = {
        "epochs": epochs,
        "chip_epochs": max(2, epochs // 3),
        "batch": batch,
        "grad_clip": grad_clip,
    }
    lava = chip.id.startswith("loihi") and get_backend("lava").availability().usable and kind != "series"
    samples = min(200, len(data.test)) if data is not None else 200
    table["validate"] = {"backends": ["exact", "lava"] if lava else ["exact"], "samples": samples}


def _decays(chip: ChipSpec) -> dict[str, float]:
    """Slow decays for a time series, as far as the chip's neuron has any; the rest is left to the chip."""
    found = {}
    for key, kept in (("leak", 0.9), ("current_leak", 0.5)):
        try:
            neuron_of(chip, **{key: kept})
        except SnnkdError:
            continue
        found[key] = kept
    return found


def _fitting(table: dict[str, Any], data: Dataset | None, chip: ChipSpec, output: Path) -> Recipe:
    """The recipe with the largest student of its kind that the chip holds; the smallest one's error where none does."""
    recipe = make_recipe(table, where=str(output))
    check_recipe(recipe, chip, recipe.validate_.backends)
    if data is None:
        return recipe
    smaller = _SMALLER.get(recipe.student.net, ())
    for i, change in enumerate(({}, *smaller)):
        recipe = make_recipe({**table, "student": {**table["student"], **change}}, where=str(output))
        try:
            check_networks(recipe, data, chip)
            break
        except SnnkdError:
            if i == len(smaller):
                raise
    return recipe


def _encoding(kind: Any, steps: int, data: Dataset | None, chip: ChipSpec) -> str:
    """The first encoding of this kind of data that the chip takes."""
    fitting = encodings_for(kind)
    if data is None:
        return fitting[0]
    problems = {name: check_feed(Feed(name, kind, steps, data.levels), (), data, chip) for name in fitting}
    usable = [name for name in fitting if not problems[name]]
    if not usable:
        raise UsageError.from_problems([p for found in problems.values() for p in found])
    return usable[0]


# -- the text -----------------------------------------------------------------------------------------------


def _listed(names: Any) -> str:
    return ", ".join(names)


def _comments() -> dict[str, str]:
    """What each key means, with its alternatives from the registries."""
    return {
        "name": "of the run and its folder, runs/<name>",
        "chip": f"{_listed(list_chips())}, or your own .toml file (hardware/README.md)",
        "method": f"one or several of: {_listed(METHODS)}",
        "loss": "options of a method, e.g. [loss.seal] alpha = 0.6 (docs/methods.md)",
        "seed": "of every choice; equal seeds give equal weights on the same machine",
        "dt_s": "seconds of a timestep, written into the model file",
        "data.name": f"{_listed(DATASETS)}",
        "data.validation": "share of the training samples on which the best epoch is picked",
        "data.options": "limit_train, limit_test (numbers of samples), and those of the data set",
        "teacher.net": f"{_listed(TEACHERS)}, torchvision:NAME, timm:NAME, file.py:factory, file.onnx",
        "teacher.weights": "a local file (.safetensors or state_dict); such a teacher is not trained",
        "teacher.finetune": "train it further, starting from these weights",
        "teacher.mean": "per channel, of pixels 0..1, for networks of others",
        "teacher.std": "as mean",
        "teacher.options": "keywords of file.py:factory or of the library's model",
        "teacher.width": "scales the channels; 1.0 is 32, 64, 128 for cnn",
        "teacher.epochs": "passes over the training samples",
        "teacher.batch": "samples a step",
        "teacher.lr": "falls along a cosine to 0",
        "teacher.weight_decay": "on weights only",
        "teacher.optimizer": "adamw, sgd",
        "teacher.augment": f'of: {_listed(AUGMENTATIONS)}; e.g. ["shift:2", "flip"]',
        "student.net": f"{_listed(STUDENTS)}, or file.py:function (examples/own_student.py)",
        "student.width": "scales the channels; cores and energy follow",
        "student.steps": "timesteps T of one inference; a time series brings its own",
        "student.encoding": "images: current, graded, counts, rate, latency; events: events, graded; series: as images",
        "student.counts": "largest number of events of a pixel in one step, with encoding counts",
        "student.leak": 'share of the membrane that stays from step to step; "chip": what suits the chip',
        "student.learn_leak": "train one membrane decay a layer, starting from leak; rounded to the chip's grid",
        "student.current_leak": "share of the synaptic current that stays",
        "student.threshold": "lower it if layers stay silent",
        "student.surrogate": f"{_listed(SURROGATES)}: the derivative that stands in for the spike's",
        "student.pool": "stride; max is refused by the chips",
        "student.options": "conv: channels, strides; mlp, rnn: hidden; vgg: channels, global_pool",
        "train.epochs": "in float",
        "train.chip_epochs": "after them, in the chip's integers",
        "train.batch": "samples a step",
        "train.lr": "of the float phase",
        "train.chip_lr": "of the chip phase",
        "train.optimizer": "adamw, sgd",
        "train.weight_decay": "on weights only",
        "train.momentum": "of sgd",
        "train.grad_clip": "largest norm of the gradients; 0 for none",
        "train.ema": "decay of a moving average of the weights, which is then deployed; 0 for none",
        "train.mixed": "bfloat16 in the float phase, on a GPU",
        "train.device": "auto, cpu, cuda, cuda:1",
        "train.augment": f"of: {_listed(AUGMENTATIONS)}",
        "train.rate_target": "firing rate above which layers are pulled down ...",
        "train.rate_weight": "... with this weight: fewer spikes, less energy; 0 for none",
        "validate.backends": f"must agree spike for spike; of: {_listed(backend_names())} (snnkd backends)",
        "validate.samples": "of the test split, for that comparison; accuracies are over all of it",
        "validate.workers": 'backend = "command": run it in another interpreter or machine',
    }


def recipe_text(recipe: Recipe, path: Path, seen: list[str]) -> str:
    """The recipe as TOML with a comment on every key; files below the recipe's folder are named relatively."""
    table, comments = recipe.dump(), _comments()
    folder = path.absolute().parent
    lines = [f"# {line}" for line in seen] + [f"#   snnkd run {path}", ""]

    def value(item: Any) -> str:
        if isinstance(item, str) and os.path.isabs(item) and Path(item).is_relative_to(folder):
            item = Path(item).relative_to(folder).as_posix()
        return toml_value(item)

    def write(section: dict[str, Any], prefix: str) -> None:
        for key, item in section.items():
            if not isinstance(item, dict):
                lines.append(f"{f'{key} = {value(item)}':<34}# {comments[prefix + key]}")
        for key, item in section.items():
            if not isinstance(item, dict):
                continue
            name = prefix + key
            free = comments.get(name)  # a table whose keys are the user's
            lines.extend(["", f"[{name}]" if free is None else f"{f'[{name}]':<34}# {free}"])
            if free is None:
                write(item, name + ".")
            else:
                lines.extend(f"{k} = {value(v)}" for k, v in item.items())

    write(table, "")
    return "\n".join(lines) + "\n"
