"""A user's own student and teacher through the pipeline, named by file and function."""

from pathlib import Path

import pytest
import torch

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import SnnkdError
from snnkd_deploy.pipeline import Run
from snnkd_deploy.recipe import load_recipe, make_recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_student.py"
TEACHER = """
from torch import nn

def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
"""


def recipe(**more):
    return {
        "method": ["seal"],
        "data": {"name": "digits", "options": {"limit_train": 300, "limit_test": 60}},
        "teacher": {"width": 0.1, "epochs": 1, "batch": 32},
        "student": {"net": f"{EXAMPLE}:two_paths", "width": 0.5, "steps": 3, "threshold": 0.5},
        "train": {"epochs": 2, "chip_epochs": 1, "batch": 32, "ema": 0.9},
        "validate": {"backends": ["exact"], "samples": 20},
    } | more


def test_own_networks_run_as_trained(tmp_path):
    (tmp_path / "mine.py").write_text(TEACHER)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    teacher = {"net": f"{tmp_path}/mine.py:flat", "weights": f"{tmp_path}/weights.pt"}
    run = Run(tmp_path / "run", make_recipe(recipe(teacher=teacher)))
    run.run_stages()
    # The weights are used as they are, not trained.
    found = run.load_teacher().network.state_dict()
    assert all(torch.equal(found[k], v) for k, v in network.state_dict().items())
    model, student = run.load_model(), run.load_student()
    assert model.spiking == ["lif0", "merged", "lif_head"]
    trace = ExactBackend().run(model, run.test_inputs(model), Record(readout=True))
    with torch.no_grad():
        out = student(run.data.test.x)
    assert all(torch.equal(trace.spikes[n], s.to(torch.uint8)) and s.any() for n, s in out.spikes.items())
    assert torch.equal(trace.v["readout"][-1], (out.votes * 64).to(torch.int32))


def test_methods_that_need_maps_say_so_before_training(tmp_path):
    (tmp_path / "mine.py").write_text(TEACHER)
    teacher = {"net": f"{tmp_path}/mine.py:flat"}
    with pytest.raises(SnnkdError, match="gives logits only") as caught:
        Run(tmp_path / "run", make_recipe(recipe(teacher=teacher, method=["ckd"]))).data  # noqa: B018
    assert 'method = "seal"' in str(caught.value)


def test_spikformer_is_refused_with_the_chips_reason(tmp_path):
    with pytest.raises(SnnkdError, match="multiplies spikes with spikes"):
        Run(tmp_path / "run", make_recipe(recipe(student={"net": "spikformer"})))


def test_files_beside_the_recipe_are_found(tmp_path):
    (tmp_path / "mine.py").write_text(TEACHER)
    (tmp_path / "r.toml").write_text('[teacher]\nnet = "mine.py:flat"\n[student]\nnet = "other.py:f"\n')
    found = load_recipe(tmp_path / "r.toml")
    assert found.teacher.net == f"{tmp_path / 'mine.py'}:flat"
    assert found.student.net == "other.py:f"  # nowhere: the error will name it as it was written


@pytest.mark.parametrize("path", sorted(EXAMPLE.parent.glob("*.toml")), ids=lambda p: p.stem)
def test_example_recipes_are_valid(path):
    assert load_recipe(path).name == path.stem
