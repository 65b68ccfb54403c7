"""A run directory: teacher, distil, export, validate, evaluate, report; each stage once, resumed when cut.

A stage's key is a hash over everything that it depends on (its part of the recipe, the samples, the outputs
of the stages before it, the chip file). What is up to date is skipped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.registry import closing_backend, usable_backend, worker_commands
from snnkd_deploy.backends.stream import forget, stream
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.chips import ChipSpec, load_chip
from snnkd_deploy.data import Dataset, load_dataset
from snnkd_deploy.data.augment import build_augment
from snnkd_deploy.distill.checkpoint import load_tensors, save_tensors, tensors_hash
from snnkd_deploy.distill.feed import Feed, check_feed, step_shape, teacher_shape
from snnkd_deploy.distill.loop import Phase, Plan, Trainer
from snnkd_deploy.distill.losses import build_method
from snnkd_deploy.distill.parallel import current_group, pick_device
from snnkd_deploy.distill.student import CHIP_PHASE, StudentTrainee, evaluate_student
from snnkd_deploy.distill.teacher import TeacherTrainee, TeacherView, accuracy
from snnkd_deploy.errors import DataError, GraphError, Problem, RecipeError, SnnkdError, UsageError
from snnkd_deploy.evaluate.parity import compare_traces
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.netfile import write_net
from snnkd_deploy.graph.nirfile import read_nir, write_nir
from snnkd_deploy.lower import lower_student
from snnkd_deploy.manifest import Manifest, digest, file_digest, versions, write_text
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.neurons import compile_neurons
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.surrogate import get_surrogate
from snnkd_deploy.nets.teachers import Teacher, TeacherPlan, build_teacher
from snnkd_deploy.nets.zoo import FLOAT_ONLY, build_student
from snnkd_deploy.progress import say, since_last, task
from snnkd_deploy.recipe import Recipe, load_recipe, recipe_toml
from snnkd_deploy.report import Report, write_report

STAGES = ("teacher", "distill", "export", "validate", "evaluate", "report")
# What several processes (torchrun) do together; the rest is for the one that leads.
TRAINED = ("teacher", "distill")
# Neuron updates of a whole training above which half a minute of compilation pays.
_FUSE_ABOVE = 5e9
# Bump when a stage's code changes what it writes, so that old run directories do it again.
_STAGE_VERSION = {"teacher": 1, "distill": 1, "export": 1, "validate": 1, "evaluate": 1, "report": 1}


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
        self.missing: dict[str, str] = {}
        self._check_early()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "recipe.toml", recipe_toml(recipe))
        except OSError as error:
            raise UsageError(f"cannot write to the run directory: {error}", where=str(folder)) from error
        self.manifest = Manifest(folder)
        self.manifest.data["skip_missing_backends"] = skip_missing_backends
        self.manifest.data["command"] = command or self.manifest.data.get("command", "")
        self.manifest.data["versions"] = versions()

    @classmethod
    def open(cls, folder: Path, **options: Any) -> Run:
        """A run directory that exists already."""
        if not (folder / "recipe.toml").is_file():
            raise UsageError(
                "not a run directory (no recipe.toml)",
                where=str(folder),
                remedy=f"snnkd run RECIPE.toml --out {folder}",
            )
        lenient = Manifest(folder).data.get("skip_missing_backends", False)
        return cls(folder, load_recipe(folder / "recipe.toml"), skip_missing_backends=lenient, **options)

    # -- before any work ------------------------------------------------------------------------------

    def _check_early(self) -> None:
        """Everything that can be known to fail later fails now, all of it at once."""
        recipe = self.recipe
        problems: list[Problem] = []

        def attempt(check: Callable[[], object]) -> None:
            try:
                check()
            except SnnkdError as error:
                problems.extend(error.problems)

        if recipe.student.pool == "max":
            reason = self.chip.operations.refused.get("max_pool", "students here have no max pooling")
            problems.append(
                Problem(
                    f"{self.chip.id} cannot run max pooling: {reason}",
                    "student.pool",
                    remedy='student.pool = "stride"',
                )
            )
        for operation in FLOAT_ONLY.get(recipe.student.net, ()):
            if operation in self.chip.operations.refused:
                reason = self.chip.operations.refused[operation]
                what = f"{self.chip.id} cannot run student '{recipe.student.net}': {reason}"
                problems.append(Problem(what, "student.net", remedy='student.net = "resnet18"'))
        attempt(lambda: pick_device(recipe.train.device))
        attempt(lambda: build_method(list(recipe.method), recipe.loss))
        attempt(lambda: get_surrogate(recipe.student.surrogate))
        attempt(lambda: build_augment(list(recipe.train.augment)))
        attempt(lambda: build_augment(list(recipe.teacher.augment)))
        for name in recipe.validate_.backends:
            if name in self.workers:
                continue  # asked when it is its turn: a board may be slow to answer
            if self.skip_missing_backends:
                try:
                    usable_backend(name)
                except UsageError as error:
                    problems.extend(error.problems)
                except SnnkdError as error:
                    self.missing[name] = str(error.problems[0].what)
                    say(f"[yellow]{error}")
            else:
                attempt(partial(usable_backend, name))
        if problems:
            raise RecipeError.from_problems(problems)

    @cached_property
    def data(self) -> Dataset:
        data = load_dataset(
            self.recipe.data.name,
            root=self.data_root,
            split_seed=self.recipe.seed,
            validation=self.recipe.data.validation,
            options=self.recipe.data.options,
        )
        self._check_networks(data)
        return data

    def _check_networks(self, data: Dataset) -> None:
        """Networks that cannot be built, fed or compared are refused before the teacher trains."""
        r = self.recipe
        problems = check_feed(
            r.student.encoding, r.student.steps, (*r.train.augment, *r.teacher.augment), data, self.chip
        )
        if problems:
            raise RecipeError.from_problems(problems)
        student, teacher = build_student(self.plan(data)), build_teacher(self.teacher_plan(data))
        loss = build_method(list(r.method), r.loss)
        method = " + ".join(r.method)
        if loss.needs_student_features and student.feature_population is None:
            problems.append(
                Problem(
                    f"method {method} compares feature maps, student '{r.student.net}' has none",
                    "method",
                    remedy='a convolutional student, or method = "seal" / "kd"',
                )
            )
        if not teacher.gives_features and (loss.needs_teacher_features or "classifier_weight" in loss.needs):
            problems.append(
                Problem(
                    f"method {method} needs the teacher's feature maps, and '{r.teacher.net}' gives logits only: "
                    "it does not end in global average pooling and one linear layer",
                    "method",
                    remedy='method = "seal", "kd" or "ckd_nld", or a convolutional teacher with such an end',
                )
            )
        if not list(teacher.parameters()) and r.teacher.finetune:
            what = f"'{r.teacher.net}' has no parameters that could be trained"
            problems.append(Problem(what, "teacher.finetune", remedy="teacher.finetune = false"))
        if problems:
            raise RecipeError.from_problems(problems)

    def feed(self, data: Dataset) -> Feed:
        """How samples become inputs of student and teacher."""
        s = self.recipe.student
        return Feed(s.encoding, data.kind, s.steps, data.levels, self.recipe.seed)

    def teacher_plan(self, data: Dataset) -> TeacherPlan:
        t = self.recipe.teacher
        return TeacherPlan(
            net=t.net,
            input_shape=teacher_shape(data),
            classes=len(data.classes),
            levels=data.levels,
            width=t.width,
            weights=t.weights,
            mean=t.mean,
            std=t.std,
            options=dict(t.options),
        )

    def plan(self, data: Dataset) -> StudentPlan:
        s, feed = self.recipe.student, self.feed(data)
        return StudentPlan(
            net=s.net,
            input_shape=step_shape(data),
            classes=len(data.classes),
            levels=feed.student_levels,
            steps=s.steps,
            encoding=feed.on_chip,
            width=s.width,
            leak=s.leak,
            current_leak=s.current_leak,
            threshold=s.threshold,
            fires=self.chip.neuron.fires,
            surrogate=s.surrogate,
            options=dict(s.options),
        )

    # -- stages ---------------------------------------------------------------------------------------

    def key(self, stage: str) -> str:
        """Hash over everything the stage depends on."""
        r, before = self.recipe.dump(), {s: self.manifest.stage(s).get("outputs", {}) for s in STAGES}
        parts: dict[str, Any] = {
            "teacher": {
                "data": self.data.manifest(),
                "teacher": r["teacher"],
                "seed": r["seed"],
                **self._teacher_key(),
            },
            "distill": {
                "data": self.data.manifest(),
                "teacher": before["teacher"],
                "recipe": [r[k] for k in ("method", "loss", "student", "seed")],
                "train": {k: v for k, v in r["train"].items() if k != "device"},
                "files": self._file_digests(self.recipe.student.net),
                "chip": self.chip.sha256,
            },
            "export": {"student": before["distill"], "dt_s": r["dt_s"], "chip": self.chip.sha256},
            "validate": {"model": before["export"], "recipe": r["validate"], "missing": sorted(self.missing)},
            "evaluate": {"model": before["export"], "teacher": before["teacher"], "validate": before["validate"]},
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
        """Do a stage unless it is up to date; returns its facts."""
        for needed in STAGES[: STAGES.index(name)]:
            if not self.manifest.stage(needed):
                raise UsageError(
                    f"stage '{name}' needs '{needed}', which has not run",
                    where=str(self.folder),
                    remedy=f"snnkd {needed} {self.folder}",
                )
        key = self.key(name)
        if self.manifest.up_to_date(name, key):
            say(f"{name}: up to date")
            return self.manifest.stage(name)["facts"]
        say(f"[bold]{name}")
        started = time.monotonic()
        try:
            outputs, facts = getattr(self, f"_{name}")(key)
        except BaseException:
            self.manifest.interrupted(name, key, time.monotonic() - started)
            raise
        self.manifest.finish(name, key, outputs, time.monotonic() - started, facts)
        return facts

    def run_stages(self, stages: tuple[str, ...] = STAGES) -> None:
        for name in stages:
            if self.group.leads or name in TRAINED:
                self.stage(name)

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
        facts = {"accuracy": test, "parameters": sum(p.numel() for p in module.parameters())}
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
        fused = self._fuse_neurons(student)
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

    def _fuse_neurons(self, student: Student) -> bool:
        """Compile the neurons where the work ahead pays for it. Depends on the recipe only, so a resumed run agrees."""
        t = self.recipe.train
        values = sum(math.prod(population.shape) for population in student.hidden) * student.steps
        if values * len(self.data.train) * (t.epochs + t.chip_epochs) < _FUSE_ABOVE:
            return False
        say("compiling the neuron kernels (once per machine)")
        problem = compile_neurons(True)
        if problem:
            say(f"[yellow]neurons run uncompiled, about 2x slower: {problem}")
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
            "recipe": self.recipe.dump(),
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

    def test_inputs(self, model: Model, start: int = 0, stop: int | None = None) -> Inputs:
        """Samples start..stop of the test split in the model's encoding."""
        rows = torch.arange(start, min(len(self.data.test), stop if stop is not None else len(self.data.test)))
        feed, test = self.feed(self.data), self.data.test
        x = feed.student(feed.raw(test, rows), test.index[rows])
        if feed.encoding == "current":
            return make_inputs(x[None], model, feed.steps)
        return make_inputs(x, model)

    def _validate(self, key: str) -> tuple[list[Path], dict[str, Any]]:
        model, wanted = self.load_model(), self.recipe.validate_
        samples = min(wanted.samples, len(self.data.test))
        inputs = self.test_inputs(model, 0, samples)
        labels = self.data.test.y[:samples]
        predictions = load_tensors(self.folder / "student" / "test_predictions.safetensors")[0]["predictions"]
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
                entry["student_accuracy"] = float((predictions[:samples] == labels).double().mean())
                entry["student_predictions_differ"] = int((predictions[:samples] != trace.predictions).sum())
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
        return [*outputs, path], facts

    def _evaluate(self, key: str) -> tuple[list[Path], dict[str, Any]]:
        from snnkd_deploy.assess import assess

        found = assess(self)
        path = self.folder / "evaluation.json"
        write_text(path, json.dumps(found, indent=1))
        return [path], {"accuracy_exact": found["accuracy"]["exact"]}

    def _report(self, key: str) -> tuple[list[Path], dict[str, Any]]:
        from snnkd_deploy.assess import compose_report

        report = compose_report(self, json.loads((self.folder / "evaluation.json").read_text("utf-8")))
        json_path, html_path = write_report(report, self.folder)
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
        raise DataError(f"not a report of this release: {error}", where=str(path)) from error


def _forget(folder: Path) -> None:
    """Checkpoints are for interrupted training; a finished stage keeps its weights only."""
    for name in ("checkpoint.safetensors", "best.safetensors"):
        (folder / name).unlink(missing_ok=True)
