"""A student epoch of a recipe, everything in it, against the floor of its convolutions.

    python bench/epoch.py [RECIPE.toml] [--data DIR] [--samples 12800] [--repeats 3]

Ours: the recipe's student, losses, teacher answers, optimizer, validation and checkpoints, as `snnkd run` trains it
(the teacher is untrained, which costs the same). Floor: the student's layers with ReLU in place of its neurons,
cross-entropy and the same optimizer, without a teacher, a validation or a checkpoint. Epochs take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F
from training_step import floor_net

from snnkd_deploy.chips import load_chip
from snnkd_deploy.data import load_dataset
from snnkd_deploy.distill.loop import Phase, Plan, Trainer
from snnkd_deploy.distill.losses import build_method
from snnkd_deploy.distill.student import StudentTrainee
from snnkd_deploy.distill.teacher import TeacherView
from snnkd_deploy.memory import keep_big_blocks
from snnkd_deploy.nets.neurons import compile_neurons
from snnkd_deploy.nets.teachers import build_teacher
from snnkd_deploy.nets.zoo import build_student
from snnkd_deploy.preflight import feed_of, student_plan, teacher_plan
from snnkd_deploy.recipe import load_recipe

RECIPE = Path(__file__).parents[1] / "examples" / "fashion_mnist.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path, nargs="?", default=RECIPE)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--samples", type=int, default=12800)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    keep_big_blocks()
    recipe = load_recipe(args.recipe)
    chip = load_chip(recipe.chip)
    data = load_dataset(recipe.data.name, root=args.data, validation=recipe.data.validation)
    data = replace(data, train=data.train.take(torch.arange(min(args.samples, len(data.train)))))
    torch.manual_seed(0)
    plan, feed, t = student_plan(recipe, data, chip), feed_of(recipe, data), recipe.train
    problem = compile_neurons(True)
    print(f"{args.recipe.name}: {len(data.train)} images, batch {t.batch}; neurons {problem or 'fused'}", flush=True)
    teacher = build_teacher(teacher_plan(recipe, data))
    view = TeacherView(teacher, True, feed)
    view.prepare(data.train)

    def ours() -> float:
        student = build_student(plan)
        features = student.feature_population
        loss = build_method(
            list(recipe.method),
            recipe.loss,
            student_channels=None if features is None else features.shape[0],
            teacher_channels=teacher.classifier.in_features if teacher.gives_features else None,
        )
        trainee = StudentTrainee(student, data, feed, loss, view, chip, augment=None, seed=0)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(trainee, Plan((Phase("float", 1, t.lr),), t.batch), Path(folder), "bench", "student")
            start = time.perf_counter()
            trainer.run()
            return time.perf_counter() - start

    def floor() -> float:
        net = floor_net(plan)
        optimizer = torch.optim.AdamW(net.parameters(), lr=t.lr)
        start = time.perf_counter()
        for rows in torch.randperm(len(data.train)).split(t.batch):
            x = feed.student(feed.raw(data.train, rows), data.train.index[rows])
            logits = net(x).unflatten(0, (plan.steps, -1)).mean(0)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits, data.train.y[rows]).backward()
            optimizer.step()
        return time.perf_counter() - start

    ours()  # compiles the neurons
    rounds = [(ours(), floor()) for _ in range(args.repeats)]
    ratios = sorted(a / b for a, b in rounds)
    ratio = statistics.median(ratios)
    seconds = [statistics.median(column) for column in zip(*rounds, strict=True)]
    print(
        f"student epoch {seconds[0]:.1f} s, floor {seconds[1]:.1f} s: {ratio:.2f} x ({ratios[0]:.2f}..{ratios[-1]:.2f})"
    )
    if args.json:
        args.json.write_text(json.dumps({"rounds": rounds, "ratio": ratio}, indent=1))


if __name__ == "__main__":
    main()
