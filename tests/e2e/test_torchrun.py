"""Two processes on one training give what one gives, and only one of them writes."""

import json
import os
import subprocess
import sys

import pytest
import torch

from snnkd_deploy.distill.checkpoint import load_tensors
from snnkd_deploy.recipe import make_recipe, recipe_toml

RECIPE = {
    "name": "pair",
    "method": ["seal", "kd"],
    "data": {"name": "digits", "options": {"limit_train": 110, "limit_test": 40}},
    "teacher": {"width": 0.1, "epochs": 1, "batch": 25, "optimizer": "sgd", "lr": 0.05, "augment": ["shift:1"]},
    "student": {"width": 0.3, "steps": 2, "threshold": 0.5},
    # 99 training samples in batches of 25: shards of 13 and 12, so that weights of shards matter.
    "train": {"epochs": 1, "chip_epochs": 1, "batch": 25, "optimizer": "sgd", "lr": 0.02, "chip_lr": 0.002},
    "validate": {"backends": ["exact"], "samples": 10},
}


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    recipe = tmp_path / "pair.toml"
    recipe.write_text(recipe_toml(make_recipe(RECIPE)))
    words = ["-m", "snnkd_deploy.cli", "run", str(recipe), "train.device=cpu", "--json", "--out"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    out = {}
    for name, command in (("one", [sys.executable]), ("two", runner)):
        done = subprocess.run(
            [*command, *words, str(tmp_path / name)], capture_output=True, text=True, env=env, timeout=500, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        out[name] = json.loads(done.stdout)  # one JSON object: the other process is silent
        assert (tmp_path / name / "report.html").exists()
    for part in ("teacher/weights", "student/float"):
        one, two = (load_tensors(tmp_path / n / f"{part}.safetensors")[0] for n in ("one", "two"))
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=1e-3, atol=1e-4)
    histories = [json.loads((tmp_path / n / "student" / "student.json").read_text())["history"] for n in ("one", "two")]
    for a, b in zip(*histories, strict=True):
        assert a["terms"] == pytest.approx(b["terms"], rel=1e-2)
