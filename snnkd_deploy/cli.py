"""The command `snnkd`: one verb, one function. Errors go to stderr as one message; exit codes: see `EXIT_CODES`."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from snnkd_deploy import __version__
from snnkd_deploy.errors import DataError, SnnkdError, UsageError
from snnkd_deploy.progress import set_quiet

EXIT_CODES = """exit codes:
  0    done; `compare`: equal
  1    failed: data, model, chip or backend; `run`, `demo`, `validate`: done, but a backend differs;
       `compare`: not equal
  2    wrong use: an unknown name, option or recipe key; `compare`: any error
  130  interrupted (Ctrl-C): finished work is kept"""

# Verbs import what they need when they run: `snnkd chips` must not wait for torch.
Result = dict[str, Any] | None
# Simulators that `convert --for` knows: graph/interop.py, which says of some why not.
INTEROP = ("norse", "snntorch", "spikingjelly", "sinabs", "rockpool")


_words: list[str] = []


class _Parser(argparse.ArgumentParser):
    """argparse with our error format and nearest-name suggestions."""

    def error(self, message: str) -> NoReturn:
        options = [option for action in self._actions for option in action.option_strings]
        verbs = [name for action in self._actions if isinstance(action.choices, dict) for name in action.choices]
        remedy = f"{self.prog} --help"
        if "invalid choice" in message and verbs:
            word = message.split("'")[1]
            message, known = f"unknown verb '{word}'", verbs
        else:
            # A misspelt option often surfaces as "required: --input": name the misspelling instead.
            known = options
            word = next((w for w in _words if w.startswith("--") and w.split("=")[0] not in options), "")
            if word and verbs == []:
                message = f"unknown option {word}"
        near = difflib.get_close_matches(word, known, n=1)
        if near and near[0] != word:
            remedy = f"did you mean {near[0]}? {remedy}"
        raise UsageError(message, remedy=remedy)


def _common() -> _Parser:
    common = _Parser(add_help=False)
    group = common.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    group.add_argument("--quiet", action="store_true", help="no progress output")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return common


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; also what the docs and the shell completion are made from."""
    parser = _Parser(
        prog="snnkd",
        description="From a trained ANN to a spiking network on a neuromorphic chip.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"snnkd_deploy {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    common = _common()

    def verb(name: str, function: Callable[[argparse.Namespace], Result], text: str, example: str) -> Any:
        sub = verbs.add_parser(
            name,
            parents=[common],
            help=text,
            description=text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(function=function, verb=name, exit_code=0)
        return sub

    p = verb(
        "demo", demo, "The whole pipeline on the embedded digits for Loihi 2, in minutes.", "snnkd demo --out runs/demo"
    )
    p.add_argument("--out", type=Path, default=Path("runs/demo"), help="run directory (default: %(default)s)")

    p = verb(
        "new",
        new,
        "A commented recipe for your data and chip, ready to run. Your data: a folder with one sub-folder of images a\n"
        "class, an .npz of images, series or events (README: Your data), or the name of a data set.",
        "snnkd new photos/ --chip loihi2 -o photos.toml && snnkd run photos.toml",
    )
    p.add_argument("source", metavar="DATA", help="a folder, a file, or a name such as fashion-mnist")
    p.add_argument("--chip", default="loihi2", help="see `snnkd chips` (default: %(default)s)")
    p.add_argument("--data", type=Path, help="folder that holds the named data sets")
    p.add_argument("-o", "--output", type=Path, default=Path("recipe.toml"), metavar="RECIPE.toml")
    p.add_argument("--force", action="store_true", help="replace an existing recipe")

    p = verb(
        "run",
        run,
        "The whole pipeline of a recipe. A second call resumes and skips what is up to date.",
        "snnkd run examples/fashion_mnist.toml student.width=0.75 --out runs/fashion",
    )
    p.add_argument("recipe", type=Path, metavar="RECIPE.toml")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="change a recipe key, e.g. seed=1")
    p.add_argument("--out", type=Path, help="run directory (default: runs/<recipe name>)")
    p.add_argument("--data", type=Path, help="folder that holds the data sets (default: $SNNKD_DATA, then a cache)")

    p = verb(
        "sweep",
        sweep,
        "A recipe at several numbers of steps and widths: accuracy against energy. Resumes like run.",
        "snnkd sweep examples/fashion_mnist.toml --steps 2,4,8 --width 0.5,1 --out runs/sweep",
    )
    p.add_argument("recipe", type=Path, metavar="RECIPE.toml")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="change a recipe key at every point")
    p.add_argument("--steps", metavar="T,T,...", help="timesteps")
    p.add_argument("--width", metavar="W,W,...", help="factors of the student's channels")
    p.add_argument("--out", type=Path, help="folder of the runs (default: runs/<recipe>-sweep)")
    p.add_argument("--data", type=Path, help="folder that holds the data sets (default: $SNNKD_DATA, then a cache)")

    for name in ("teacher", "distill", "export", "validate", "evaluate"):
        p = verb(name, one_stage, f"Stage '{name}' of a run directory.", f"snnkd {name} runs/demo")
        p.add_argument("folder", type=Path, metavar="DIR")
        p.add_argument("--data", type=Path, help="folder that holds the data sets")
        if name == "validate":
            _worker(p)

    p = verb(
        "report",
        report,
        "Stage 'report' of a run directory; with --compare, several runs side by side.",
        "snnkd report runs/demo\n  snnkd report --compare runs/a runs/b -o compare.html",
    )
    p.add_argument("folder", type=Path, metavar="DIR", nargs="?")
    p.add_argument("--data", type=Path, help="folder that holds the data sets")
    p.add_argument("--compare", type=Path, nargs="+", metavar="RUN", help="run directories to put side by side")
    p.add_argument("-o", "--output", type=Path, default=Path("compare.html"), metavar="PAGE.html")

    p = verb(
        "simulate",
        simulate,
        "Run a model (.nir or .net) on a backend and write the trace.",
        "snnkd simulate runs/demo/model.nir --backend exact --input X.npz -o TRACE.npz --state",
    )
    p.add_argument("model", type=Path, metavar="MODEL")
    p.add_argument("--backend", help="see `snnkd backends` (default: exact, or float where no chip's grid is carried)")
    p.add_argument("--input", type=Path, required=True, metavar="X.npz", help="x (T, B, ...) and optional T, y")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="TRACE.npz")
    p.add_argument("--state", action="store_true", help="record u and v after each step as well")
    p.add_argument("--chunk", type=int, metavar="N", help="samples at once (default: what the backend prefers)")
    _worker(p)
    _foreign(p)

    p = verb(
        "compare",
        compare,
        "Two traces, or one model on several backends: agreement per layer and the first divergence.\n"
        "Exit code 0: equal, 1: not equal, 2: an error.",
        "snnkd compare MODEL.nir --backends exact,lava --input X.npz",
    )
    p.add_argument("a", type=Path, metavar="A", nargs="?", help="a trace, or a model with --backends")
    p.add_argument("b", type=Path, metavar="B", nargs="?", help="the other trace")
    p.add_argument("--backends", help="comma-separated; the first is the reference")
    p.add_argument("--matrix", action="store_true", help="all usable backends x models of every kind, built here")
    p.add_argument("--samples", type=int, default=1000, metavar="N", help="with --matrix (default: %(default)s)")
    p.add_argument("--slow-samples", type=int, default=200, metavar="N", help="the same for lava and netx")
    p.add_argument("--input", type=Path, metavar="X.npz")
    p.add_argument("--model", type=Path, metavar="MODEL", help="with two traces and --input: name the causes as well")
    p.add_argument("--reproducer", type=Path, metavar="DIR", help="write a minimal .nir and .npz that still diverge")
    _worker(p)
    _foreign(p)

    p = verb(
        "lower",
        lower,
        "A foreign NIR graph onto a chip's grid, with a report of every rounding.",
        "snnkd lower foreign.nir --chip loihi2 --dt 1e-4 --reset zero -o model.nir",
    )
    p.add_argument("model", type=Path, metavar="IN.nir")
    p.add_argument("--chip", required=True)
    p.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.nir")
    p.add_argument("--calibrate", type=Path, metavar="X.npz", help="inputs whose currents set the scales")
    p.add_argument("--data", type=Path, metavar="X.npz", help="inputs to measure on (default: those of --calibrate)")
    _foreign(p)

    p = verb(
        "convert",
        convert,
        "Between .nir, .net and .onnx, by suffix; with --for, a plain NIR for another simulator's importer.",
        "snnkd convert model.nir model.net\n  snnkd convert model.nir plain.nir --for norse",
    )
    p.add_argument("source", type=Path, metavar="IN")
    p.add_argument("target", type=Path, metavar="OUT")
    p.add_argument("--for", dest="reader", metavar="TOOL", choices=INTEROP, help=f"one of {', '.join(INTEROP)}")
    _foreign(p)

    p = verb(
        "show",
        show,
        "Draw a model: layers, shapes, integers, thresholds, decays, edges.",
        "snnkd show model.nir --svg model.svg",
    )
    p.add_argument("model", type=Path, metavar="MODEL")
    p.add_argument("--svg", type=Path, metavar="FILE", help="write the drawing as SVG")
    _foreign(p)

    p = verb("fit", fit, "Does it fit, what is used, what is violated, what to try.", "snnkd fit model.nir --chip all")
    p.add_argument("model", type=Path, metavar="MODEL")
    p.add_argument("--chip", required=True, help="a chip, a chip file, or 'all'")
    _foreign(p)

    p = verb(
        "energy",
        energy,
        "Operations, latency and energy of a recorded trace.",
        "snnkd energy model.nir --chip loihi1 --trace TRACE.npz",
    )
    p.add_argument("model", type=Path, metavar="MODEL")
    p.add_argument("--chip", required=True, help="a chip, a chip file, or 'all'")
    p.add_argument("--trace", type=Path, required=True, metavar="T.npz")
    p.add_argument("--input", type=Path, metavar="X.npz", help="the input events, where the encoding has any")
    p.add_argument("--balance", action="store_true", help="cut the layers of the slowest cores finer: shorter steps")
    _foreign(p)

    p = verb("chips", chips, "The chips that are known, or every number of one with its source.", "snnkd chips loihi2")
    p.add_argument("name", nargs="?", metavar="C", help="a chip or a chip file")
    p.add_argument("--schema", action="store_true", help="the JSON Schema of chip files")
    verb("backends", backends, "What can run a model here, and how to get the rest.", "snnkd backends")
    p = verb(
        "completion",
        completion,
        "A script that makes the Tab key complete verbs, options, chips and backends.",
        "snnkd completion bash >> ~/.bashrc\n  snnkd completion zsh >> ~/.zshrc\n"
        "  snnkd completion fish > ~/.config/fish/completions/snnkd.fish",
    )
    p.add_argument("shell", choices=("bash", "zsh", "fish"))
    verb("doctor", doctor, "What is usable on this machine and what to do about the rest.", "snnkd doctor")
    return parser


def _foreign(parser: argparse.ArgumentParser) -> None:
    from snnkd_deploy.verbs.options import add_model_options

    add_model_options(parser)


def _worker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--worker",
        action="append",
        default=[],
        metavar="[BACKEND=]CMD",
        help='run the backend in another interpreter or on another machine: "python3.10", "ssh board snnkd-python"',
    )


# -- verbs ----------------------------------------------------------------------------------------------


def demo(args: argparse.Namespace) -> Result:
    from snnkd_deploy.demo import demo_recipe
    from snnkd_deploy.pipeline import Run

    return _finish(args, Run(args.out, demo_recipe(), command=_command(), skip_missing_backends=True))


def new(args: argparse.Namespace) -> Result:
    from snnkd_deploy.starter import start

    _check_output(args.output, Path(args.source))
    made = start(args.source, args.chip, args.output, root=args.data, force=args.force)
    for line in made.seen:
        _show(line)
    place = "" if args.data is None else f" --data {args.data}"
    _show(f"wrote {args.output}; next: snnkd run {args.output}{place}")
    return {"recipe": str(args.output), "seen": list(made.seen), "content": made.recipe.dump()}


def run(args: argparse.Namespace) -> Result:
    from snnkd_deploy.distill.parallel import joined, own_folder
    from snnkd_deploy.pipeline import Run
    from snnkd_deploy.recipe import load_recipe

    recipe = load_recipe(args.recipe, args.overrides)
    out = args.out or Path("runs") / recipe.name
    with joined() as group, own_folder(out, group) as folder:
        pipeline = Run(folder, recipe, data_root=args.data, command=_command())
        if group.leads:
            return _finish(args, pipeline)
        pipeline.run_stages()  # its part of the training; the leader does the rest
    return None


def sweep(args: argparse.Namespace) -> Result:
    from snnkd_deploy.verbs.sweep import sweep as run_sweep

    return run_sweep(args, _show, _command())


def _finish(args: argparse.Namespace, pipeline: Any) -> Result:
    from snnkd_deploy.pipeline import load_report
    from snnkd_deploy.report import render_table

    pipeline.run_stages()
    _agreement(args, pipeline.manifest.stage("validate")["facts"])
    found = load_report(pipeline.folder)
    _show(render_table(found))
    _show(f"report: {(pipeline.folder / 'report.html').resolve()}")
    return json.loads(found.to_json())


def _agreement(args: argparse.Namespace, validation: dict[str, Any]) -> None:
    """Exit code 1 where a backend that the recipe names does not agree with the exact one."""
    differ = [
        n for n, entry in validation["backends"].items() if not entry.get("parity", {"identical": True})["identical"]
    ]
    if differ:
        args.exit_code = 1
        print(f"{', '.join(differ)}: not every spike is that of the exact simulator", file=sys.stderr)


def one_stage(args: argparse.Namespace) -> Result:
    from snnkd_deploy.pipeline import Run

    workers = getattr(args, "worker", [])
    facts = Run.open(args.folder, data_root=args.data, workers=workers).stage(args.verb)
    if args.verb == "validate":
        _agreement(args, facts)
    _show(f"{args.verb}: done")
    return {"stage": args.verb, "facts": facts}


def report(args: argparse.Namespace) -> Result:
    if not args.compare:
        if args.folder is None:
            raise UsageError("give a run directory, or --compare with several", remedy="snnkd report --help")
        return one_stage(args)
    from snnkd_deploy.pipeline import load_report
    from snnkd_deploy.report import comparison_table, write_comparison

    _check_output(args.output)
    folders = [*([args.folder] if args.folder else []), *args.compare]
    reports = {str(folder): load_report(folder) for folder in folders}
    page = write_comparison(reports, args.output)
    _show(comparison_table(reports))
    _show(f"comparison: {page.resolve()}")
    return {"runs": {name: json.loads(r.to_json()) for name, r in reports.items()}, "page": str(page)}


def simulate(args: argparse.Namespace) -> Result:
    from snnkd_deploy import api
    from snnkd_deploy.backends.inputs import load_inputs
    from snnkd_deploy.backends.registry import worker_commands
    from snnkd_deploy.backends.stream import forget
    from snnkd_deploy.progress import since_last, task
    from snnkd_deploy.verbs.options import model_from

    _check_output(args.output, args.model, args.input)
    model = model_from(args.model, args, args.input)
    backend = args.backend or ("exact" if model.on_chip_grid else "float")
    inputs, labels = load_inputs(args.input, model)
    worker = worker_commands(args.worker, [backend]).get(backend)
    chunks = args.output.with_name(args.output.name + ".chunks")
    with task(backend, inputs.samples) as advance:
        options = {"worker": worker, "store": chunks, "chunk": args.chunk, "progress": since_last(advance)}
        trace = api.run(model, inputs, backend=backend, states=args.state, **options)
    if inputs.x.shape[0] == inputs.steps:
        trace.meta["input_spikes"] = float((inputs.x != 0).sum())
    trace.save(args.output)
    forget(chunks)
    rates = {name: float(s.double().mean()) for name, s in trace.spikes.items()}
    found: dict[str, Any] = {"trace": str(args.output), "backend": backend, "rates": rates, **trace.meta}
    rate = trace.meta["stream"]["samples_per_s"]
    speed = "" if rate is None else f", {rate:.4g} samples/s"
    _show(f"{backend}: {inputs.samples} samples x {inputs.steps} steps{speed} -> {args.output}")
    for name, rate in rates.items():
        _show(f"  {name:<16} rate {100 * rate:.2f} %")
    if labels is not None:
        found["accuracy"] = float((trace.predictions == labels).double().mean())
        _show(f"accuracy {100 * found['accuracy']:.2f} %")
    return found


def compare(args: argparse.Namespace) -> Result:
    from snnkd_deploy import api
    from snnkd_deploy.backends.inputs import load_inputs
    from snnkd_deploy.backends.registry import worker_commands
    from snnkd_deploy.backends.trace import Trace
    from snnkd_deploy.progress import since_last, task
    from snnkd_deploy.verbs.options import model_from

    if args.backends and args.b is not None:
        raise UsageError("two traces, or one model with --backends, not both", remedy="snnkd compare --help")
    if args.matrix:
        return _matrix(args)
    if args.a is None:
        raise UsageError("give two traces, or a model with --backends a,b --input X.npz", remedy="or --matrix alone")
    if args.reproducer is not None:
        _check_output(args.reproducer / "model.nir")
    model_path = args.a if args.backends else args.model
    workers: dict[str, str] = {}
    model, inputs = None, None
    if model_path is not None and args.input is not None:
        model = model_from(model_path, args, args.input)
        inputs, _ = load_inputs(args.input, model)
    if args.backends:
        names = list(dict.fromkeys(name.strip() for name in args.backends.split(",") if name.strip()))
        if len(names) < 2 or model is None or inputs is None:
            what = "comparing backends needs at least two different ones and --input X.npz"
            raise UsageError(what, remedy="--backends exact,lava; `snnkd backends` lists them")
        workers = worker_commands(args.worker, names[1:])
        traces = {}
        for name in names:
            with task(name, inputs.samples) as advance:
                worker = workers.get(name)
                traces[name] = api.run(model, inputs, backend=name, worker=worker, progress=since_last(advance))
        reference = names[0]
    elif args.b is not None:
        if args.reproducer is not None and model is None:
            raise UsageError(
                "a reproducer of two traces needs --model MODEL and --input X.npz", remedy="snnkd compare --help"
            )
        traces = {"": Trace.load(args.a), str(args.b): Trace.load(args.b)}
        if model is not None:
            for path, trace in zip((args.a, args.b), traces.values(), strict=True):
                _check_trace_of(model, trace, path)
        reference = ""
    else:
        raise UsageError("give two traces, or a model with --backends a,b --input X.npz", remedy="snnkd compare --help")
    found: dict[str, Any] = {}
    for name, trace in traces.items():
        if name == reference:
            continue
        report = api.compare(traces[reference], trace, order=None if model is None else model.spiking)
        _show(f"{name}: {report.mismatches} of {report.spikes_compared:,} spikes differ over {report.samples} samples")
        for layer in report.layers:
            _show(f"  {layer.layer:<16} {layer.mismatches} of {layer.compared:,}")
        for note in report.notes:
            _show(f"  {note}")
        found[name] = report.to_dict()
        if report.first_divergence is None:
            continue
        if model is None or inputs is None or not model.on_chip_grid:
            _show(f"  first divergence: {report.first_divergence}")
            _show("  for its causes give the model (on a chip's grid) and the input: --model MODEL --input X.npz")
            continue
        diagnosis = api.diagnose(model, inputs, traces[reference], trace)
        assert diagnosis is not None
        _show(diagnosis.render())
        found[name] |= {"first_divergence": diagnosis.divergence.to_dict(), "diagnosis": diagnosis.to_dict()}
        if args.reproducer is not None:
            pair = (reference, name) if args.backends else None
            small = api.reproduce(
                model, inputs, traces[reference], diagnosis.divergence, backends=pair, workers=workers
            )
            paths = small.write(args.reproducer / name if len(traces) > 2 else args.reproducer)
            _show(f"reproducer{'' if small.confirmed else ' (not run again)'}: {paths[0]} {paths[1]}")
            found[name]["reproducer"] = {"files": [str(p) for p in paths], "confirmed": small.confirmed}
    identical = all(r["identical"] for r in found.values())
    args.exit_code = 0 if identical else 1
    return {"identical": identical, "comparisons": found}


def _matrix(args: argparse.Namespace) -> Result:
    from rich.table import Table

    from snnkd_deploy.backends.registry import backend_names, worker_commands
    from snnkd_deploy.chips import load_chip
    from snnkd_deploy.evaluate.matrix import parity_matrix
    from snnkd_deploy.evaluate.parity_models import parity_cases
    from snnkd_deploy.progress import say

    if args.samples < 1 or args.slow_samples < 1:
        raise UsageError("a matrix needs at least one sample", where="--samples", remedy="--samples 1 --slow-samples 1")
    names = [name for name in (args.backends or "").split(",") if name] or None
    found = parity_matrix(
        parity_cases(load_chip("loihi2")),
        samples=args.samples,
        slow_samples=args.slow_samples,
        backends=names,
        workers=worker_commands(args.worker, names or backend_names()),
        progress=say,
    )
    table = Table("model", *found.backends, title="spikes that differ from exact (real_units: from float)")
    for model in found.models:
        own = {cell.backend: str(cell) for cell in found.cells if cell.model == model}
        table.add_row(model, *(own.get(name, "reference") for name in found.backends))
    _show(table)
    for note in found.notes():
        _show(note)
    args.exit_code = 0 if found.good else 1
    return found.to_dict()


def lower(args: argparse.Namespace) -> Result:
    from snnkd_deploy import api
    from snnkd_deploy.backends.calibrate import lower_measured
    from snnkd_deploy.graph.load import check_kind, save_model
    from snnkd_deploy.verbs.options import model_from

    _check_output(args.output, args.model, args.calibrate, args.data)
    check_kind(args.output)
    foreign = model_from(args.model, args)
    chip = api.load_chip(args.chip)
    model, report, deviation = lower_measured(foreign, chip, calibrate_with=args.calibrate, data=args.data)
    save_model(model, args.output)
    _show(report.render())
    if deviation is not None:
        _show(deviation.render())
    found = {"output": str(args.output), "model": api.describe(model), "lowering": report.to_dict()}
    return found | {"deviation": None if deviation is None else vars(deviation)}


def convert(args: argparse.Namespace) -> Result:
    from snnkd_deploy.graph.load import check_kind
    from snnkd_deploy.verbs.convert import convert as run_convert

    _check_output(args.target, args.source)
    check_kind(args.target)
    return run_convert(args, _show)


def show(args: argparse.Namespace) -> Result:
    from snnkd_deploy.verbs.show import show_model

    if args.svg is not None:
        _check_output(args.svg, args.model)
    return show_model(args, _show)


def fit(args: argparse.Namespace) -> Result:
    from snnkd_deploy import api
    from snnkd_deploy.report.fit import fit_table
    from snnkd_deploy.verbs.options import model_from

    model = model_from(args.model, args)
    found = {}
    for name in _chip_names(args.chip):
        found[name] = api.fit(model, api.load_chip(name)).to_dict()
    _show(fit_table(found))
    return {"model": str(args.model), "fit": found}


def energy(args: argparse.Namespace) -> Result:
    from snnkd_deploy import api
    from snnkd_deploy.backends.inputs import load_inputs
    from snnkd_deploy.backends.trace import Trace
    from snnkd_deploy.evaluate import balance
    from snnkd_deploy.report.cost import cost_table
    from snnkd_deploy.verbs.options import model_from

    model = model_from(args.model, args)
    chips = [api.load_chip(name) for name in _chip_names(args.chip)]
    trace = Trace.load(args.trace)
    _check_trace_of(model, trace, args.trace)
    inputs = load_inputs(args.input, model)[0] if args.input is not None else None
    counted = api.count_ops(model, trace, inputs)
    found: dict[str, Result] = {}
    for chip in chips:
        mapping = balance(model, chip, counted) if args.balance else api.fit(model, chip)
        counts = counted if mapping.placement is None else mapping.placement.route(counted)
        latency = api.estimate_latency(counts, chip, fit=mapping)
        estimate = api.estimate_energy(counts, chip, fit=mapping, latency=latency)
        entry = {
            "chip": chip.id,
            **counts.to_dict(),
            "fit": mapping.to_dict(),
            "latency_s": latency.to_dict(),
            "energy_j": estimate.to_dict(),
        }
        _show(cost_table(entry))
        found[chip.id] = entry
    return {"chips": found} if args.chip == "all" else found[chips[0].id]


def _chip_names(chip: str) -> list[str]:
    from snnkd_deploy.chips import list_chips

    return list_chips() if chip == "all" else [chip]


def _check_trace_of(model: Any, trace: Any, path: Path) -> None:
    """A trace says which model it is of; counting another one's spikes would give numbers of nothing."""
    of = trace.meta.get("model")
    if of is not None and of != model.sha256:
        raise DataError(
            "the trace is of another model",
            where=str(path),
            need=f"{model.sha256[:12]} ({model.path or 'the model'})",
            have=f"{str(of)[:12]}",
            remedy="snnkd simulate MODEL --input X.npz -o TRACE.npz with this model",
        )
    for name, spikes in trace.spikes.items():
        need = model.shapes.get(name)
        if need is not None and tuple(spikes.shape[2:]) != tuple(need):
            have = tuple(spikes.shape[2:])
            raise DataError("a layer of another size", where=f"{path} [spikes/{name}]", need=tuple(need), have=have)


def _check_output(path: Path, *sources: Path | None) -> None:
    """A file can be written there, and is none of those that the work reads: said before the work, not after it."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if path.is_dir():
        raise UsageError("the output is a folder, a file is needed", where=str(path), remedy=f"{path / 'NAME'}")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError("cannot write there", where=str(path), remedy="a folder of your own")
    if any(source is not None and source.exists() and path.exists() and path.samefile(source) for source in sources):
        what = "the output would replace the file that it is made from"
        raise UsageError(what, where=str(path), remedy="another name")


def chips(args: argparse.Namespace) -> Result:
    from snnkd_deploy.verbs.chips import chips as show_chips

    return show_chips(args, _show)


def backends(args: argparse.Namespace) -> Result:
    from rich.markup import escape
    from rich.table import Table

    from snnkd_deploy.backends.registry import backend_names, get_backend

    table = Table("backend", "usable", "version", "how to get it")
    found = {}
    for name in backend_names():
        state = get_backend(name).availability()
        install = "" if state.usable else escape(state.install)  # "[onnx]" is an extra, not a style
        table.add_row(name, "yes" if state.usable else "no", state.version, install)
        found[name] = vars(state)
    _show(table)
    return {"backends": found}


def completion(args: argparse.Namespace) -> Result:
    from snnkd_deploy.backends.registry import backend_names
    from snnkd_deploy.chips import list_chips
    from snnkd_deploy.data import DATASETS
    from snnkd_deploy.verbs.completion import completion as script

    chips = list_chips()
    names = {"--chip": [*chips, "all"], "name": chips, "--backend": backend_names(), "source": list(DATASETS)}
    text = script(verbs_of(build_parser()), args.shell, names)
    _show(text)
    return {"shell": args.shell, "script": text}


def doctor(args: argparse.Namespace) -> Result:
    from snnkd_deploy.doctor import examine

    found = examine()
    _show(found.render())
    return found.to_dict()


# -- frame ----------------------------------------------------------------------------------------------

_as_json = False


def _show(item: Any) -> None:
    """Something for people, on stdout; silent under --json."""
    if _as_json:
        return
    if isinstance(item, str):
        print(item)
        return
    from rich.console import Console

    # Without a terminal rich would fold tables at 80 columns.
    Console(width=None if sys.stdout.isatty() else 140).print(item)


def _command() -> str:
    return shlex.join(["snnkd", *sys.argv[1:]])


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each verb."""
    return next(a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def _parse(words: list[str]) -> argparse.Namespace | None:
    """The words as a namespace, options and overrides in any order; None where there is no verb."""
    parser = build_parser()
    verbs = verbs_of(parser)
    if words and words[0] in verbs:
        # argparse takes positionals in one piece only, unless asked verb by verb.
        return verbs[words[0]].parse_intermixed_args(words[1:])
    args = parser.parse_args(words)
    if args.verb is not None:
        raise UsageError(f"the verb comes first: snnkd {args.verb} ...", remedy="snnkd --help")
    parser.print_help()
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code (`EXIT_CODES`)."""
    global _as_json
    words = list(sys.argv[1:] if argv is None else argv)
    _words[:] = words
    failure = 2 if words[:1] == ["compare"] else 1
    try:
        args = _parse(words)
        if args is None:
            return 2
        _as_json = args.json
        set_quiet(args.quiet or args.json)
        if args.verb in ("demo", "run", "sweep", "teacher", "distill"):
            from snnkd_deploy.memory import keep_big_blocks

            keep_big_blocks()
        result = args.function(args)
        if args.json and result is not None:
            print(json.dumps(result, indent=1, default=str))
        return int(args.exit_code)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept; the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `snnkd chips | head`: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in words:
            raise
        message = _message(error)
        print(f"error: {message}", file=sys.stderr)
        return max(failure, error.exit_code if isinstance(error, SnnkdError) else 1)


def _message(error: Exception) -> str:
    """What to tell of an error: a typed one speaks for itself, anything else is a fault of this program."""
    if isinstance(error, SnnkdError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}\n  try: another place, or its permissions and free space"
    # torch has no class of its own for a CPU without memory.
    if isinstance(error, MemoryError) or "Memory" in type(error).__name__ or "can't allocate memory" in str(error):
        return "out of memory\n  try: fewer samples or timesteps at once, a smaller batch or width"
    what = f"a fault of this program: {type(error).__name__}: {error}"
    return f"{what}\n  try: the same command with --debug, and report what it prints"


if __name__ == "__main__":
    sys.exit(main())
