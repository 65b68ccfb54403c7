"""Every chip's student on the digits of scikit-learn: float, quantised afterwards, trained for the chip. docs/chips.md.

python bench/chips_table.py                                  # about 20 minutes on two busy cores
python bench/chips_table.py --chips loihi2 speck2f --epochs 3 1 --doc /tmp/chips.md

For each chip two students start from the same weights and see the same samples in the same order, with the same
teacher and losses: one is trained in float all the time, one in float and then in the chip's integers. The first is
then quantised without further training. Needs no download.
"""

from __future__ import annotations

import argparse
import copy
import shlex
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from snnkd_deploy.chips import list_chips, load_chip
from snnkd_deploy.data import load_dataset
from snnkd_deploy.distill.feed import Feed, teacher_shape
from snnkd_deploy.distill.loop import Phase, Plan, Trainer
from snnkd_deploy.distill.losses import build_method
from snnkd_deploy.distill.student import CHIP_PHASE, StudentTrainee, evaluate_student
from snnkd_deploy.distill.teacher import TeacherTrainee, TeacherView, accuracy
from snnkd_deploy.evaluate import check_fit
from snnkd_deploy.manifest import write_text
from snnkd_deploy.nets.builder import StudentPlan, neuron_of
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.teachers import TeacherPlan, build_teacher
from snnkd_deploy.nets.zoo import build_student
from snnkd_deploy.progress import say

METHOD, COUNTS, BATCH = "seal", 4, 64


@dataclass(frozen=True)
class Setting:
    """How digits reach a chip: the first encoding that it takes, with the steps that this needs."""

    encoding: Any
    steps: int
    net: str = "conv"

    def options(self) -> dict[str, Any]:
        return {"hidden": (128, 128)} if self.net == "mlp" else {}


CURRENT = Setting("current", 4)
SETTINGS = {
    "speck2f": Setting("counts", 4),
    "xylo_a2": Setting("counts", 12, "mlp"),
    "xylo_a3": Setting("counts", 12, "mlp"),
    "truenorth": Setting("rate", 16, "mlp"),
}


class Bench:
    """The data and the teacher that all chips share."""

    def __init__(self, seed: int, epochs: tuple[int, int], folder: Path) -> None:
        self.seed, self.epochs, self.folder = seed, epochs, folder
        self.data = load_dataset("digits", root=None, split_seed=seed, validation=0.1, options={})
        torch.manual_seed(seed)
        plan = TeacherPlan("cnn", teacher_shape(self.data), 10, self.data.levels, 0.5)
        self.teacher = build_teacher(plan)
        feed = Feed("current", "image", 4, self.data.levels, seed)
        trainee = TeacherTrainee(self.teacher, self.data, feed, None, seed)
        phases = (Phase("float", 20, 2e-3),)
        result = Trainer(trainee, Plan(phases, BATCH, seed=seed), folder / "teacher", "teacher", "teacher").run()
        self.teacher.load_state_dict(result.tensors)
        self.teacher_accuracy = accuracy(self.teacher, self.data.test, feed)

    def student(self, chip_name: str) -> tuple[Student, Feed]:
        chip, setting = load_chip(chip_name), SETTINGS.get(chip_name, CURRENT)
        feed = Feed(setting.encoding, "image", setting.steps, self.data.levels, self.seed, COUNTS)
        torch.manual_seed(self.seed)
        plan = StudentPlan(
            setting.net,
            tuple(self.data.shape),
            10,
            feed.student_levels,
            setting.steps,
            encoding=feed.on_chip,
            width=0.5,
            options=setting.options(),
            **neuron_of(chip),
        )
        return build_student(plan), feed

    def train(self, chip_name: str, last: str) -> tuple[Student, Feed]:
        """A student after all epochs, the last ones in the phase `last`."""
        student, feed = self.student(chip_name)
        loss = build_method([METHOD], {})
        view = TeacherView(copy.deepcopy(self.teacher), False, feed, torch.device("cpu"))
        trainee = StudentTrainee(
            student, self.data, feed, loss, view, load_chip(chip_name), augment=None, seed=self.seed
        )
        first, second = self.epochs
        phases = (Phase("float", first, 2e-3, 2e-4), Phase(last, second, 5e-4))
        folder = self.folder / f"{chip_name}-{last}"
        result = Trainer(trainee, Plan(phases, BATCH, seed=self.seed), folder, f"{chip_name}-{last}", "student").run()
        student.load_state_dict(result.tensors)
        return student.eval(), feed

    def accuracies(self, chip_name: str) -> tuple[list[float], str]:
        """Float, quantised after, trained for the chip, in %; and whether one chip holds it."""
        chip = load_chip(chip_name)
        floating, feed = self.train(chip_name, "float")
        found = [evaluate_student(floating, self.data.test, feed)["accuracy"]]
        floating.to_chip(chip)
        found.append(evaluate_student(floating, self.data.test, feed)["accuracy"])
        trained, _ = self.train(chip_name, CHIP_PHASE)
        found.append(evaluate_student(trained, self.data.test, feed)["accuracy"])
        problems = check_fit(trained, chip)
        fits = "yes" if not problems else f"no: {problems[0].what}"
        return [100 * x for x in found], fits


def row(benches: list[Bench], chip_name: str) -> list[str]:
    setting = SETTINGS.get(chip_name, CURRENT)
    found = [bench.accuracies(chip_name) for bench in benches]
    columns = [[a[k] for a, _ in found] for k in range(3)]
    differences = [chip - floating for floating, chip in zip(columns[0], columns[2], strict=True)]
    how = f"{setting.net}, {setting.encoding}, T = {setting.steps}"
    return [load_chip(chip_name).name, how, *map(cell, columns), cell(differences, sign="+"), found[0][1]]


def cell(values: list[float], sign: str = "") -> str:
    mean = format(statistics.mean(values), f"{sign}.1f")
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", nargs="*", default=list_chips(), choices=list_chips())
    parser.add_argument("--epochs", nargs=2, type=int, default=(20, 10), metavar=("FLOAT", "LAST"))
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--doc", type=Path, default=Path("docs/chips.md"))
    args = parser.parse_args()
    started, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        benches = [Bench(seed, tuple(args.epochs), Path(folder) / str(seed)) for seed in range(args.seeds)]
        for name in args.chips:
            rows.append(row(benches, name))
            say(f"[bold]{' | '.join(rows[-1])}")
    command = shlex.join(["python", "bench/chips_table.py", *sys.argv[1:]])
    first, last = args.epochs
    train, test = len(benches[0].data.train), len(benches[0].data.test)
    teacher = statistics.mean(bench.teacher_accuracy for bench in benches)
    minutes = (time.monotonic() - started) / 60
    head = ["chip", "student", "float", "quantised after", "trained for the chip", "against float", "fits one chip"]
    lines = [
        "# The same digits on every chip",
        "",
        f"    {command}",
        "",
        f"Accuracy in % on {test} test samples (one sample is {100 / test:.2f} points), {train:,} to train on, teacher "
        f"{100 * teacher:.1f} %, method {METHOD}, {args.seeds} seeds (± is their standard deviation), {minutes:.0f} "
        f"minutes. float: {first + last} "
        "epochs in float. quantised after: that student on the chip's grid, not trained further. trained for the chip: "
        f"{first} epochs in float, {last} in the chip's integers. Equal weights at the "
        "start, equal order of samples.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "The float students differ from chip to chip because their neurons do: a chip without decay trains neurons",
        "without decay, one that counts spikes trains neurons that count.",
        "",
    ]
    write_text(args.doc, "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
