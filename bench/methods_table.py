"""All distillation methods side by side on Fashion-MNIST, as chip-exact Loihi 2 students: docs/methods.md.

python bench/methods_table.py --data DIR                    # 3 seeds, about 25 minutes on two idle cores
python bench/methods_table.py --data DIR --samples 600 --epochs 1 --seeds 1 --out /tmp/smoke --doc /tmp/methods.md

Resumable: every (method, seed) is a run directory under --out, and what is finished is not done again. Within a
seed all methods share the teacher, the data split, the student's first weights and the order of samples, so
that differences between methods are taken seed by seed.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import shutil
import statistics
import sys
import time
from pathlib import Path

import torch

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.evaluate import OpCounter
from snnkd_deploy.manifest import write_text
from snnkd_deploy.pipeline import Run
from snnkd_deploy.progress import say
from snnkd_deploy.recipe import Recipe, make_recipe

# Row title, recipe methods. The first is what the differences are against.
METHODS: dict[str, tuple[str, list[str]]] = {
    "ce": ("cross-entropy of the mean (no teacher)", ["ce"]),
    "tet": ("TET (no teacher)", ["tet"]),
    "kd": ("uniform logit KD", ["kd"]),
    "kdsnn": ("KDSNN", ["kdsnn"]),
    "seal_ela": ("SeAl-KD, ELA only", ["seal_ela"]),
    "seal_sta": ("SeAl-KD, STA only (no teacher)", ["seal_sta"]),
    "seal": ("SeAl-KD", ["seal"]),
    "ckd_samd": ("CKDSNN, SAMD only", ["ckd_samd"]),
    "ckd_nld": ("CKDSNN, NLD only", ["ckd_nld"]),
    "ckd": ("CKDSNN", ["ckd"]),
    "seal_ckd": ("SeAl-KD + CKDSNN", ["seal", "ckd"]),
}
SOP_SAMPLES = 500  # test samples over which operations are counted


def recipe(args: argparse.Namespace, method: str, seed: int) -> Recipe:
    chip_epochs = max(1, round(args.epochs / 3))
    return make_recipe(
        {
            "name": f"{method}-{seed}",
            "method": METHODS[method][1],
            "seed": seed,
            "data": {
                "name": args.dataset,
                "validation": 0.1,
                "options": {"limit_train": args.samples, "limit_test": args.test},
            },
            "teacher": {"net": "cnn", "width": 0.5, "epochs": args.teacher_epochs, "batch": 64},
            # 14x14, 7x7, 7x7: the last maps are as large as the teacher's.
            "student": {"net": "conv", "steps": args.steps, "options": {"strides": [2, 2, 1]}},
            "train": {"epochs": max(1, args.epochs - chip_epochs), "chip_epochs": chip_epochs, "batch": 64},
            "validate": {"backends": ["exact"]},
        }
    )


def one(args: argparse.Namespace, method: str, seed: int) -> dict[str, float]:
    """Train one student unless it is there, and count its operations."""
    folder = args.out / f"{method}-{seed}"
    result = folder / "result.json"
    run = Run(folder, recipe(args, method, seed), data_root=args.data)
    key = run.key("teacher")
    if not run.manifest.up_to_date("teacher", key):
        donor = args.out / f"{next(iter(METHODS))}-{seed}"
        if donor != folder:  # the teacher of this seed is there already: the first method trained it
            shutil.copytree(donor / "teacher", folder / "teacher", dirs_exist_ok=True)
            run.manifest.data["stages"]["teacher"] = json.loads((donor / "manifest.json").read_text())["stages"][
                "teacher"
            ]
            run.manifest.save()
    run.run_stages(("teacher", "distill", "export"))
    stages = run.manifest.data["stages"]
    model_hash = stages["export"]["facts"]["model_sha256"]
    if result.is_file() and json.loads(result.read_text()).get("model") == model_hash:
        return json.loads(result.read_text())
    model = run.load_model()
    counter, backend = OpCounter(model), ExactBackend()
    inputs = run.test_inputs(model, torch.arange(len(run.data.test))[:SOP_SAMPLES])
    counter.update(backend.run(model, inputs, Record()), inputs)
    totals = counter.result().to_dict()["totals"]
    facts = stages["distill"]["facts"]
    found = {
        "model": model_hash,
        "accuracy": facts["accuracy"],
        "accuracy_float": facts["accuracy_float"],
        "rate": facts["rate"],
        "sop": totals["sop_event"],
        "teacher": stages["teacher"]["facts"]["accuracy"],
        "seconds": stages["distill"]["seconds"],
        "teacher_seconds": stages["teacher"]["seconds"],
    }
    write_text(result, json.dumps(found, indent=1))
    return found


def spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def cell(values: list[float], factor: float = 1.0, digits: int = 2) -> str:
    mean = f"{factor * statistics.mean(values):,.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {factor * spread(values):,.{digits}f}"


def against(rows: list[dict[str, float]], base: list[dict[str, float]]) -> tuple[float, float]:
    """Mean difference of accuracy in points, seed by seed, and its standard error."""
    differences = [100 * (a["accuracy"] - b["accuracy"]) for a, b in zip(rows, base, strict=True)]
    return statistics.mean(differences), spread(differences) / math.sqrt(len(differences))


def page(args: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> str:
    base = next(iter(found.values()))
    any_row = [row for rows in found.values() for row in rows]
    seeds = len(base)
    minutes = sum(row["seconds"] for row in any_row) / 60 + sum(row["teacher_seconds"] for row in base) / 60
    lines = [
        "# Distillation methods side by side",
        "",
        f"    {args.command}",
        "",
        f"{args.dataset}: {args.samples:,} training images (a tenth of them for validation), {args.test:,} test "
        f"images, {args.epochs} epochs of which the last {max(1, round(args.epochs / 3))} in Loihi 2's integers, "
        f"T = {args.steps}, {seeds} seed{'s' * (seeds > 1)}, {minutes:.0f} minutes on {torch.get_num_threads()} "
        "threads. Student: three convolutions (16, 32, 64 channels). Teacher: a CNN of 16, 32, 64 channels at "
        f"{cell([r['teacher'] for r in base], 100)} %. Every method has its default weights and temperatures; none "
        "was tuned for this table.",
        "",
        "Accuracy is that of the chip-exact student (the integers that Lava runs) on the test images; ± is the "
        "standard deviation over seeds. The last column is the difference to the first row, taken seed by seed, with "
        f"its standard error. SOPs: synaptic operations a sample, counted over {min(SOP_SAMPLES, args.test)} test "
        "images.",
        "",
        "| method | accuracy % | float % | firing rate % | kSOP / sample | against CE |",
        "|---|---|---|---|---|---|",
    ]
    for method, rows in found.items():
        difference, error = against(rows, base)
        beside = "" if rows is base else f"{difference:+.2f}" + ("" if seeds < 2 else f" ± {error:.2f}")
        values = [
            cell([r["accuracy"] for r in rows], 100),
            cell([r["accuracy_float"] for r in rows], 100),
            cell([r["rate"] for r in rows], 100, 1),
            cell([r["sop"] for r in rows], 1e-3, 1),
        ]
        lines.append(f"| {METHODS[method][0]} | {' | '.join(values)} | {beside} |")
    return "\n".join([*lines, "", *reading(found, base), ""])


def reading(found: dict[str, list[dict[str, float]]], base: list[dict[str, float]]) -> list[str]:
    """What the numbers say and what they do not, in words; helps and hurts alike."""
    if len(base) < 2:
        return ["One seed: no spread, so no method is called better or worse here."]
    groups: dict[str, list[str]] = {"better": [], "worse": [], "within the noise": []}
    for method, rows in found.items():
        if rows is base:
            continue
        difference, error = against(rows, base)
        clear = abs(difference) > 2 * error
        groups["within the noise" if not clear else "better" if difference > 0 else "worse"].append(METHODS[method][0])
    lines = ["Against cross-entropy alone, beyond two standard errors:"]
    lines += [""] + [f"- {name}: {'; '.join(titles) or 'none'}" for name, titles in groups.items()]
    return [
        *lines,
        "",
        f"{len(base)} seeds and a small budget: the order of methods within the noise means nothing, and longer "
        "training may change the rest.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds the data sets")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--samples", type=int, default=6000, help="training images (default: %(default)s)")
    parser.add_argument("--test", type=int, default=4000, help="test images (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=9, help="float and chip epochs together (default: %(default)s)")
    parser.add_argument("--teacher-epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--doc", type=Path, default=Path("docs/methods.md"))
    args = parser.parse_args()
    # The first method is what the others are held against, and it trains each seed's teacher.
    args.methods = [m for m in METHODS if m in args.methods or m == next(iter(METHODS))]
    words = [w for w in sys.argv[1:] if w != str(args.data)]
    args.command = shlex.join(
        ["python", "bench/methods_table.py", *(w if w != "--data" else "--data DIR" for w in words)]
    )
    args.command = args.command.replace("'--data DIR'", "--data DIR")
    found: dict[str, list[dict[str, float]]] = {method: [] for method in args.methods}
    total, done, started = args.seeds * len(args.methods), 0, time.monotonic()
    for seed in range(args.seeds):
        for method in args.methods:
            found[method].append(one(args, method, seed))
            done += 1
            left = (time.monotonic() - started) / done * (total - done)
            say(f"[bold]{done}/{total}: {method}, seed {seed}; about {left / 60:.0f} minutes to go")
    write_text(args.doc, page(args, found))
    print(page(args, found))


if __name__ == "__main__":
    main()
