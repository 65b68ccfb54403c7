"""`snnkd sweep`: one recipe at several numbers of steps and widths, and the Pareto plot of accuracy against energy."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from snnkd_deploy.errors import UsageError
from snnkd_deploy.manifest import Manifest
from snnkd_deploy.pipeline import Run, load_report
from snnkd_deploy.progress import say
from snnkd_deploy.recipe import load_recipe
from snnkd_deploy.report import comparison_table, write_comparison
from snnkd_deploy.runlock import locked

N = TypeVar("N", int, float)


@dataclass(frozen=True)
class Point:
    """One network of a sweep: its run directory is `name` inside the sweep's."""

    name: str
    overrides: tuple[str, ...]


def points(steps: Sequence[int], widths: Sequence[float]) -> list[Point]:
    """Every combination; an empty list leaves the recipe's own value."""
    found = []
    for t, w in product(steps or (None,), widths or (None,)):
        named = {"steps": t, "width": w}
        given = {key: value for key, value in named.items() if value is not None}
        name = "_".join(f"{key}{value:g}" for key, value in given.items())
        found.append(Point(name, tuple(f"student.{key}={value}" for key, value in given.items())))
    return found


def sweep(args: argparse.Namespace, show: Callable[[Any], None], command: str) -> dict[str, Any]:
    """Each point is a run of its own, resumed and skipped like any other; the teacher is trained once."""
    wanted = points(_numbers(args.steps, int, "--steps"), _numbers(args.width, float, "--width"))
    if len(wanted) < 2:
        raise UsageError("a sweep needs at least two points", have=len(wanted), remedy="--steps 2,4,8 --width 0.5,1")
    out = args.out or Path("runs") / f"{args.recipe.stem}-sweep"
    # All of them are looked at before the first is trained.
    runs = {
        point.name: Run(
            out / point.name,
            load_recipe(args.recipe, [*args.overrides, *point.overrides, f"name={point.name}"]),
            data_root=args.data,
            command=command,
        )
        for point in wanted
    }
    done: list[Run] = []
    for name, run in runs.items():
        say(name, style="bold")
        _take_teacher(run, done)
        run.run_stages()
        done.append(run)
    reports = {name: load_report(run.folder) for name, run in runs.items()}
    page = write_comparison(reports, out / "sweep.html")
    show(comparison_table(reports))
    show(f"accuracy against energy: {page.resolve()}")
    return {"runs": {name: json.loads(report.to_json()) for name, report in reports.items()}, "page": str(page)}


def _take_teacher(run: Run, done: Sequence[Run]) -> None:
    """Copy the teacher of an earlier point that depends on the same things."""
    key = run.key("teacher")
    source = next((d for d in done if d.manifest.up_to_date("teacher", key)), None)
    if source is None or run.manifest.up_to_date("teacher", key):
        return
    with locked(run.folder):
        shutil.copytree(source.folder / "teacher", run.folder / "teacher", dirs_exist_ok=True)
        manifest = Manifest(run.folder)
        manifest.data["stages"]["teacher"] = source.manifest.stage("teacher")
        manifest.save()


def _numbers(text: str | None, kind: Callable[[str], N], option: str) -> list[N]:
    try:
        found = [kind(part) for part in (text or "").split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(f"{option} takes numbers with commas between them", have=text, remedy="2,4,8") from error
    return list(dict.fromkeys(found))
