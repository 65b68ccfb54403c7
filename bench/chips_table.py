"""Every chip's student on the digits of scikit-learn: float, quantised afterwards, trained for the chip. docs/chips.md.

python bench/chips_table.py                                  # about 20 minutes on two cores
python bench/chips_table.py --chips loihi2 speck2f --epochs 3 1 --doc /tmp/chips.md

For each chip two students start from the same weights and see the same samples in the same order, with the same
teacher and losses: one is trained in float all the time, one in float and then in the chip's integers. The first is
then quantised without further training. Needs no download.
"""

from __future__ import annotations

import argparse
import copy
import shlex
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

    def row(self, chip_name: str) -> list[str]:
        chip = load_chip(chip_name)
        floating, feed = self.train(chip_name, "float")
        found = [evaluate_student(floating, self.data.test, feed)["accuracy"]]
        floating.to_chip(chip)
        found.append(evaluate_student(floating, self.data.test, feed)["accuracy"])
        trained, _ = self.train(chip_name, CHIP_PHASE)
        found.append(evaluate_student(trained, self.data.test, feed)["accuracy"])
        problems = check_fit(trained, chip)
        fits = "yes" if not problems else f"no: {problems[0].what}"
        setting = SETTINGS.get(chip_name, CURRENT)
        how = f"{setting.net}, {setting.encoding}, T = {setting.steps}"
        points = [f"{100 * x:.1f}" for x in found]
        return [chip.name, how, *points, f"{100 * (found[2] - found[0]):+.1f}", fits]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", nargs="*", default=list_chips(), choices=list_chips())
    parser.add_argument("--epochs", nargs=2, type=int, default=(20, 10), metavar=("FLOAT", "LAST"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--doc", type=Path, default=Path("docs/chips.md"))
    args = parser.parse_args()
    started, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.seed, tuple(args.epochs), Path(folder))
        for name in args.chips:
            rows.append(bench.row(name))
            say(f"[bold]{' | '.join(rows[-1])}")
    command = shlex.join(["python", "bench/chips_table.py", *sys.argv[1:]])
    first, last = args.epochs
    train, test = len(bench.data.train), len(bench.data.test)
    minutes = (time.monotonic() - started) / 60
    head = ["chip", "student", "float", "quantised after", "trained for the chip", "against float", "fits one chip"]
    lines = [
        "# The same digits on every chip",
        "",
        f"    {command}",
        "",
        f"Accuracy in % on {test} test samples (one sample is {100 / test:.2f} points), {train:,} to train on, teacher "
        f"{100 * bench.teacher_accuracy:.1f} %, method {METHOD}, one seed, {minutes:.0f} min. float: {first + last} "
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
