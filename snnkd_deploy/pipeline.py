"""A run directory: teacher, distil, export, validate, evaluate, report; each stage once, resumed when cut.

A stage's key is a hash over everything that it depends on (its part of the recipe, the samples, the outputs
of the stages before it, the chip file). What is up to date is skipped.
"""

from __future__ import annotations

import errno
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.registry import closing_backend, usable_backend, worker_commands
from snnkd_deploy.backends.stream import forget, stream
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.chips import ChipSpec, load_chip
from snnkd_deploy.data import Dataset, load_dataset
from snnkd_deploy.data.augment import build_augment
from snnkd_deploy.distill.checkpoint import load_tensors, save_tensors, tensors_hash
from snnkd_deploy.distill.feed import LIMITS_READ, Feed
from snnkd_deploy.distill.loop import Phase, Plan, Trainer
from snnkd_deploy.distill.losses import build_method
from snnkd_deploy.distill.parallel import current_group, pick_device
from snnkd_deploy.distill.student import CHIP_PHASE, StudentTrainee, evaluate_student
from snnkd_deploy.distill.teacher import TeacherTrainee, TeacherView, accuracy
from snnkd_deploy.errors import BackendError, DataError, GraphError, UsageError
from snnkd_deploy.evaluate.parity import compare_traces
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.netfile import write_net
from snnkd_deploy.graph.nirfile import read_nir, write_nir
from snnkd_deploy.lower import lower_student
from snnkd_deploy.manifest import Manifest, digest, file_digest, versions, write_text
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.neurons import compile_neurons
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.teachers import Teacher, TeacherPlan, build_teacher
from snnkd_deploy.nets.zoo import build_student
from snnkd_deploy.preflight import check_networks, check_recipe, doubts, feed_of, student_plan, teacher_plan
from snnkd_deploy.progress import say, since_last, task
from snnkd_deploy.recipe import Recipe, load_recipe, recipe_toml
from snnkd_deploy.report import Report, write_report
from snnkd_deploy.runlock import locked

STAGES = ("teacher", "distill", "export", "validate", "evaluate", "report")
# What several processes (torchrun) do together; the rest is for the one that leads.
TRAINED = ("teacher", "distill")
# Neuron updates of a whole training above which half a minute of compilation pays.
_FUSE_ABOVE = 5e9
# Bump when a stage's code changes what it writes, so that old run directories do it again.
_STAGE_VERSION = {"teacher": 1, "distill": 3, "export": 2, "validate": 2, "evaluate": 2, "report": 1}


class Run:
    """One run directory with its recipe. Stages are methods; `run_stages` calls them in order."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        *,
        data_root: Path | None = None,
        command: str = "",
        skip_missing_backends: bool = False,
        workers: Sequence[str] = (),
    ) -> None:
        others = [name for name in recipe.validate_.backends if name != "exact"]
        self.workers = {**recipe.validate_.workers, **worker_commands(workers, others)}
        self.folder, self.recipe, self.data_root, self.command = folder, recipe, data_root, command
        self.skip_missing_backends = skip_missing_backends
        self.chip: ChipSpec = load_chip(recipe.chip)
        self.group = current_group()
        # Nothing is written before everything is known to be sound.
        # A worker is asked when it is its turn: a board may be slow to answer.
        local = [name for name in recipe.validate_.backends if name not in self.workers]
        self.missing = check_recipe(recipe, self.chip, local, skip_missing_backends=skip_missing_backends)
        for name, reason in self.missing.items():
            say(f"{name} is skipped: {reason}", style="yellow")
        self.data: Dataset = load_dataset(
            recipe.data.name,
            root=data_root,
            split_seed=recipe.seed,
            validation=recipe.data.validation,
            options=recipe.data.options,
        )
        check_networks(recipe, self.data, self.chip)
        self.manifest = Manifest(folder)

    @classmethod
    def open(cls, folder: Path, **options: Any) -> Run:
        """A run directory that exists already."""
        if not (folder / "recipe.toml").is_file():
            raise UsageError(
                "not a run directory (no recipe.toml)",
                where=str(folder),
                remedy=f"snnkd run RECIPE.toml --out {folder}",
            )
        earlier = Manifest(folder).data
        options.setdefault("skip_missing_backends", earlier.get("skip_missing_backends", False))
        if options.get("data_root") is None and earlier.get("data_root"):
            options["data_root"] = Path(earlier["data_root"])
        return cls(folder, load_recipe(folder / "recipe.toml"), **options)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Alone in the folder, with its manifest as it is now and this run's recipe in it."""
        try:
            with locked(self.folder) as entered:
                if entered:
                    self._enter()
                yield
        except OSError as error:
            if error.filename is None or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):  # no wrong use
                raise
            what = f"cannot write to the run directory: {error.strerror}"
            raise UsageError(what, where=str(error.filename), remedy="another --out, or its permissions") from error

    def _enter(self) -> None:
        self.manifest = Manifest(self.folder)
        data = self.manifest.data
        data["skip_missing_backends"] = self.skip_missing_backends
        data["data_root"] = None if self.data_root is None else str(self.data_root.expanduser().absolute())
        data["command"] = self.command or data.get("command", "")
        data["versions"] = versions()
        text, path = recipe_toml(self.recipe), self.folder / "recipe.toml"
        if not path.is_file() or path.read_text("utf-8") != text:
            write_text(path, text)
        for doubt in doubts(self.data):
            say(f"warning: {doubt}", style="yellow")

    def feed(self, data: Dataset) -> Feed:
        """How samples become inputs of student and teacher."""
        return feed_of(self.recipe, data)

    def teacher_plan(self, data: Dataset) -> TeacherPlan:
        return teacher_plan(self.recipe, data)

    def plan(self, data: Dataset) -> StudentPlan:
        return student_plan(self.recipe, data, self.chip)

    # -- stages ---------------------------------------------------------------------------------------

    def key(self, stage: str) -> str:
        """Hash over everything the stage depends on."""
        # Files count by their content, wherever they lie.
        r, before = self.recipe.public(), {s: self.manifest.stage(s).get("outputs", {}) for s in STAGES}
        data = {k: v for k, v in self.data.manifest().items() if k != "source"} | {"options": r["data"]["options"]}
        arithmetic = _trained_for(self.chip)
        parts: dict[str, Any] = {
            "teacher": {
                "data": data,
                "teacher": r["teacher"],
                "seed": r["seed"],
                **self._teacher_key(),
            },
            "distill": {
                "data": data,
                "teacher": before["teacher"],
                "recipe": [r[k] for k in ("method", "loss", "student", "seed")],
                "train": {k: v for k, v in r["train"].items() if k != "device"},
                "files": self._file_digests(self.recipe.student.net),
                "chip": arithmetic,
            },
            "export": {"student": before["distill"], "dt_s": r["dt_s"], "chip": arithmetic},
            "validate": {
                "model": before["export"],
                "student": before["distill"],
                "recipe": r["validate"],
                "missing": sorted(self.missing),
            },
            "evaluate": {
                "model": before["export"],
                "teacher": before["teacher"],
                "validate": before["validate"],
                "chips": _priced_by(self.chip),
            },
            "report": {"evaluate": before["evaluate"], "validate": before["validate"], "name": r["name"]},
        }
        return digest({"version": _STAGE_VERSION[stage], "parts": parts[stage]})

    def _teacher_key(self) -> dict[str, Any]:
        """What else a teacher depends on: its files, and the frames over which it sees the mean."""
        t, s = self.recipe.teacher, self.recipe.student
        steps = s.steps if self.data.kind == "events" else None
        return {"files": self._file_digests(t.net, t.weights), "frames": steps, "mixed": self.recipe.train.mixed}

    def _file_digests(self, *names: str) -> list[str]:
        files = [Path(name.rpartition(":")[0] if ".py:" in name else name) for name in names if name]
        return [file_digest(file) for file in files if file.is_file()]

    def stage(self, name: str) -> dict[str, Any]:
        """Do one stage, on the outputs of those before it as they wrote them; returns its facts.

        Raises UsageError where an earlier stage has not run or its inputs changed since, DataError where what it
        wrote was changed or lost.
        """
        with self._held():
            for earlier in STAGES[: STAGES.index(name)]:
                self._check_done(earlier, name)
            return self._do(name)

    def _check_done(self, earlier: str, name: str) -> None:
        entry, remedy = self.manifest.stage(earlier), f"snnkd {earlier} {self.folder}"
        what = "has not run" if not entry else "ran with another recipe, data or chip file"
        if not entry or entry["key"] != self.key(earlier):
            raise UsageError(f"stage '{name}' needs '{earlier}', which {what}", where=str(self.folder), remedy=remedy)
        damaged = self.manifest.damaged(earlier)
        if damaged:
            raise DataError(
                f"{', '.join(damaged)}: not as stage '{earlier}' wrote it", where=str(self.folder), remedy=remedy
            )

    def run_stages(self, stages: tuple[str, ...] = STAGES) -> None:
        with self._held():
            for name in stages:
                if self.group.leads or name in TRAINED:
                    self._do(name)

    def _do(self, name: str) -> dict[str, Any]:
        """A stage, unless it is up to date."""
        key = self.key(name)
        if self.manifest.up_to_date(name, key):
            say(f"{name}: up to date")
            return self.manifest.stage(name)["facts"]
        say(name, style="bold")
        started = time.monotonic()
        try:
            outputs, facts = getattr(self, f"_{name}")(key)
        except BaseException:
            self.manifest.interrupted(name, key, time.monotonic() - started)
            raise
        self.manifest.finish(name, key, outputs, time.monotonic() - started, facts)
        return facts

    def _teacher(self, key: str) -> tuple[list[Path], dict[str, Any]]:
        t, folder = self.recipe.teacher, self.folder / "teacher"
        torch.manual_seed(self.recipe.seed)
        module, feed = build_teacher(self.teacher_plan(self.data)), self.feed(self.data)
        device, mixed = self._device()
        history: list[dict[str, Any]] = []
        best: dict[str, Any] = {}
        if (t.weights and not t.finetune) or not list(module.parameters()):
            say(f"teacher: {t.net} is used as it is")
            module.to(device)
        else:
            augment = build_augment(list(t.augment), levels=self.data.levels) if t.augment else None
            plan = Plan((Phase("float", t.epochs, t.lr),), t.batch, t.optimizer, t.weight_decay, seed=self.recipe.seed)
            trainee = TeacherTrainee(module, self.data, feed, augment, self.recipe.seed, device=device, mixed=mixed)
            result = Trainer(trainee, plan, folder, key, "teacher").run()
            module.load_state_dict(result.tensors)
            history, best = result.history, result.best
        test = accuracy(module, self.data.test, feed, device)
        say(f"teacher: test accuracy {100 * test:.2f} %")
        weights, info = folder / "weights.safetensors", folder / "teacher.json"
        save_tensors(weights, module.state_dict(), {"net": t.net, "width": t.width})
        parameters = sum(p.numel() for p in module.parameters())
        facts = {"accuracy": test, "parameters": parameters, "threads": torch.get_num_threads()}
        write_text(info, json.dumps({**facts, "history": history, "best": best}, indent=1))
        _forget(folder)
        return [weights, info], facts

    def load_teacher(self) -> Teacher:
        # The run directory holds the weights: the file they came from is not needed again.
        module = build_teacher(replace(self.teacher_plan(self.data), weights=""))
        module.load_state_dict(load_tensors(self.folder / "teacher" / "weights.safetensors")[0])
        return module.eval()

    def _distill(self, key: str) -> tuple[list[Path], dict[str, Any]]:
        r, folder = self.recipe, self.folder / "student"
        torch.manual_seed(r.seed + 1)
        student, feed = build_student(self.plan(self.data)), self.feed(self.data)
        device, mixed = self._device()
        features = student.feature_population
        teacher = self.load_teacher()
        loss = build_method(
            list(r.method),
            r.loss,
            student_channels=None if features is None else features.shape[0],
            teacher_channels=teacher.classifier.in_features if teacher.gives_features else None,
        )
        view: TeacherView | None = None
        if loss.needs_teacher:
            view = TeacherView(self.load_teacher(), loss.needs_teacher_features, feed, device)
            if not r.train.augment:
                view.prepare(self.data.train)
        fused = self._fuse_neurons(student, device)
        trainee = StudentTrainee(
            student,
            self.data,
            feed,
            loss,
            view,
            self.chip,
            augment=build_augment(list(r.train.augment), levels=self.data.levels) if r.train.augment else None,
            seed=r.seed,
            device=device,
            mixed=mixed,
            rate_target=r.train.rate_target,
            rate_weight=r.train.rate_weight,
        )
        float_file = folder / "float.safetensors"
        trainee.on_chip_entry = lambda s: save_tensors(float_file, s.state_dict(), {"mode": "float"})
        plan = Plan(
            (
                Phase("float", r.train.epochs, r.train.lr, r.train.lr * 0.1),
                Phase(CHIP_PHASE, r.train.chip_epochs, r.train.chip_lr),
            ),
            r.train.batch,
            r.train.optimizer,
            r.train.weight_decay,
            r.train.momentum,
            r.train.grad_clip,
            r.seed,
            r.train.ema,
        )
        result = Trainer(trainee, plan, folder, key, "student").run()
        compile_neurons(False)
        # On the CPU from here on: there the integers are exact by construction.
        student.cpu().load_state_dict(result.tensors)
        found = evaluate_student(student, self.data.test, feed)
        floating = self._load_float_student()
        float_accuracy = evaluate_student(floating, self.data.test, feed)["accuracy"]
        say(f"student: test accuracy {100 * float_accuracy:.2f} % in float, {100 * found['accuracy']:.2f} % chip-exact")
        weights, info = folder / "weights.safetensors", folder / "student.json"
        save_tensors(weights, student.state_dict(), {"structure": result.structure})
        predictions = folder / "test_predictions.safetensors"
        save_tensors(predictions, {"predictions": found["predictions"]}, {})
        facts = {
            "accuracy": found["accuracy"],
            "accuracy_float": float_accuracy,
            "rate": found["rate"],
            "parameters": sum(p.numel() for p in student.parameters()),
            "weights_sha256": tensors_hash(result.tensors),
            "threads": torch.get_num_threads(),
        }
        details = {
            **facts,
            "plan": asdict(self.plan(self.data)),
            "structure": result.structure,
            "loss": loss.settings(),
            "fused_neurons": fused,
            "history": result.history,
            "best": result.best,
        }
        write_text(info, json.dumps(details, indent=1))
        _forget(folder)
        return [weights, info, predictions, float_file], facts

    def _fuse_neurons(self, student: Student, device: torch.device) -> bool:
        """Compile the neurons where the work ahead pays for it. Depends on the recipe only, so a resumed run agrees."""
        t = self.recipe.train
        values = sum(math.prod(population.shape) for population in student.hidden) * student.steps
        if values * len(self.data.train) * (t.epochs + t.chip_epochs) < _FUSE_ABOVE:
            return False
        say("compiling the neuron kernels (once per machine)")
        problem = compile_neurons(True, device.type)
        if problem:
            say(f"neurons run uncompiled, about 2x slower: {problem}", style="yellow")
        return not problem

    def _device(self) -> tuple[torch.device, bool]:
        """Where to train, and whether in mixed precision (which a CPU would not gain from)."""
        device = pick_device(self.recipe.train.device)
        return device, self.recipe.train.mixed and device.type == "cuda"

    def load_student(self) -> Student:
        """The chip-mode student of this run."""
        student = build_student(self.plan(self.data))
        tensors, meta = load_tensors(self.folder / "student" / "weights.safetensors")
        student.resume_chip(self.chip, meta["structure"]["shifts"])
        student.load_state_dict(tensors)
        return student.eval()

    def _load_float_student(self) -> Student:
        student = build_student(self.plan(self.data))
        student.load_state_dict(load_tensors(self.folder / "student" / "float.safetensors")[0])
        return student.eval()

    def _export(self, key: str) -> tuple[list[Path], dict[str, Any]]:
        provenance = {
            "recipe": self.recipe.public(),
            "data_sha256": self.data.sha256,
            "student_sha256": self.manifest.stage("distill")["facts"]["weights_sha256"],
            "versions": versions(),
        }
        model = lower_student(
            self.load_student(), dt_s=self.recipe.dt_s, classes=tuple(self.data.classes), provenance=provenance
        )
        path = self.folder / "model.nir"
        write_nir(model, path)
        if read_nir(path).sha256 != model.sha256:
            raise DataError("the written model does not read back equal", where=str(path))
        outputs = [path, *self._export_others(model)]
        say(f"export: {', '.join(p.name for p in outputs)}")
        return outputs, {"model_sha256": model.sha256}

    def _export_others(self, model: Model) -> list[Path]:
        """Further file formats of the same model."""
        path = self.folder / "model.net"
        try:
            write_net(model, path)
        except GraphError as error:  # branches and loops: the .nir file holds them
            path.unlink(missing_ok=True)
            say(f"no model.net: {error.problems[0]}")
            return []
        return [path]

    def load_model(self) -> Model:
        return read_nir(self.folder / "model.nir")

    def test_inputs(self, model: Model, rows: Tensor | None = None) -> Inputs:
        """The samples at `rows` (int64 positions in the test split; None: all of it) in the model's encoding."""
        feed, test = self.feed(self.data), self.data.test
        rows = torch.arange(len(test)) if rows is None else rows
        x = feed.student(feed.raw(test, rows), test.index[rows])
        if feed.encoding == "current":
            return make_inputs(x[None], model, feed.steps)
        return make_inputs(x, model)

    def _validate(self, key: str) -> tuple[list[Path], dict[str, Any]]:
        model, wanted = self.load_model(), self.recipe.validate_
        rows = self.data.test.spread(wanted.samples)
        samples, inputs, labels = len(rows), self.test_inputs(model, rows), self.data.test.y[rows]
        stored = load_tensors(self.folder / "student" / "test_predictions.safetensors")[0]["predictions"]
        predictions = stored[rows]
        outputs: list[Path] = []
        facts: dict[str, Any] = {"samples": samples, "backends": {}, "missing": self.missing}
        reference: Trace | None = None
        for name in ("exact", *(b for b in wanted.backends if b != "exact" and b not in self.missing)):
            started = time.monotonic()
            say(f"{name}: {samples} samples x {inputs.steps} steps")
            chunks = self.folder / "traces" / f"{name}.chunks"
            with task(name, samples) as advance, closing_backend(usable_backend(name, self.workers.get(name))) as used:
                trace = stream(used, model, inputs, Record(), store=chunks, progress=since_last(advance))
            trace.meta |= {"model": model.sha256, "samples": samples}
            path = self.folder / "traces" / f"{name}.npz"
            trace.save(path)
            forget(chunks)
            outputs.append(path)
            entry: dict[str, Any] = {
                "accuracy": float((trace.predictions == labels).double().mean()),
                "seconds": round(time.monotonic() - started, 2),
                "stream": trace.meta["stream"],
            }
            if reference is None:
                reference = trace
                # Training's own predictions are held to the same standard as any backend.
                entry["student_accuracy"] = float((predictions == labels).double().mean())
                entry["student_predictions_differ"] = int((predictions != trace.predictions).sum())
            else:
                parity = compare_traces(reference, trace, model.spiking)
                entry["parity"] = parity.to_dict()
                say(
                    f"{name}: {parity.mismatches} of {parity.spikes_compared:,} spikes differ"
                    + (f"; first: {parity.first_divergence}" if parity.first_divergence else "")
                )
            facts["backends"][name] = entry
        path = self.folder / "validation.json"
        write_text(path, json.dumps(facts, indent=1))
        differ = facts["backends"]["exact"]["student_predictions_differ"]
        if differ:
            raise BackendError(
                "the exported model does not answer as training did: this must not happen",
                where=str(path),
                need=f"0 of {samples} predictions differ",
                have=f"{differ}",
                remedy="do not deploy it; please report this with the run directory",
            )
        return [*outputs, path], facts

    def _evaluate(self, key: str) -> tuple[list[Path], dict[str, Any]]:
        from snnkd_deploy.assess import assess

        found = assess(self)
        path = self.folder / "evaluation.json"
        write_text(path, json.dumps(found, indent=1))
        return [path], {"accuracy_exact": found["accuracy"]["exact"]}

    def _report(self, key: str) -> tuple[list[Path], dict[str, Any]]:
        from snnkd_deploy.assess import compose_report
        from snnkd_deploy.graph.drawing import render_svg

        report = compose_report(self, json.loads((self.folder / "evaluation.json").read_text("utf-8")))
        drawing = render_svg(self.load_model(), standalone=False)
        json_path, html_path = write_report(report, self.folder, drawing)
        say(f"report: {html_path}")
        return [Path(json_path), Path(html_path)], {}


def load_report(folder: Path) -> Report:
    """The report of a finished run. Raises UsageError where there is none, DataError for a damaged one."""
    path = folder / "report.json"
    if not path.is_file():
        raise UsageError("no report.json in the run directory", where=str(folder), remedy=f"snnkd report {folder}")
    try:
        return Report.from_json(path.read_text("utf-8"))
    except ValueError as error:
        remedy = f"snnkd report {folder}"
        raise DataError("damaged, or a report of another release", where=str(path), remedy=remedy) from error


def _trained_for(chip: ChipSpec) -> dict[str, Any]:
    """What of a chip file training and lowering read: a new price retrains nothing."""
    table = chip.model_dump(mode="json", include={"id", "neuron", "parameters", "operations"})
    return table | {"limits": {name: chip.limit(name) for name in LIMITS_READ}}


def _priced_by(chip: ChipSpec) -> list[str]:
    """The contents of the chip file, and of those whose prices are shown beside its own."""
    found = [chip.sha256]
    while chip.energy.proxy and len(found) < 8:
        chip = load_chip(chip.energy.proxy)
        found.append(chip.sha256)
    return found


def _forget(folder: Path) -> None:
    """Checkpoints are for interrupted training; a finished stage keeps its weights only."""
    for name in ("checkpoint.safetensors", "best.safetensors"):
        (folder / name).unlink(missing_ok=True)
