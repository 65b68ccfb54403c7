"""The main job end to end: what the stages write, skipping, and the promise that nothing is lost on the way."""

import json

import pytest
import torch
from safetensors.torch import load_file

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.distill.student import evaluate_student
from snnkd_deploy.graph.nirfile import read_nir
from snnkd_deploy.pipeline import STAGES, Run
from snnkd_deploy.report import Report


def test_run_directory_holds_the_contract(tiny_run):
    for name in ("recipe.toml", "teacher", "student", "model.nir", "model.net", "traces", "report.json", "report.html"):
        assert (tiny_run.folder / name).exists(), name
    manifest = json.loads((tiny_run.folder / "manifest.json").read_text())
    assert list(manifest["stages"]) == list(STAGES)


def test_exact_backend_equals_the_training_forward_pass(tiny_run):
    """What you trained is what runs: every spike, and the integers of the readout."""
    student, model = tiny_run.load_student(), tiny_run.load_model()
    inputs = tiny_run.test_inputs(model)
    trace = ExactBackend().run(model, inputs, Record(readout=True))
    with torch.no_grad():
        out = student(tiny_run.data.test.x)
    for name, spikes in out.spikes.items():
        assert torch.equal(trace.spikes[name], spikes.to(torch.uint8)), name
        assert spikes.any(), f"{name} is silent: the comparison would mean nothing"
    assert torch.equal(trace.v["readout"][-1], (out.votes * 64).to(torch.int32))


def test_accuracies_agree_between_training_and_deployment(tiny_run):
    report = Report.from_json((tiny_run.folder / "report.json").read_text())
    found = evaluate_student(tiny_run.load_student(), tiny_run.data.test)
    assert report.accuracy.student == found["accuracy"] == report.accuracy.backends()["exact"]


def test_second_call_skips_everything(tiny_run, capsys):
    before = (tiny_run.folder / "model.nir").stat().st_mtime_ns
    Run.open(tiny_run.folder).run_stages()
    assert (tiny_run.folder / "model.nir").stat().st_mtime_ns == before
    assert capsys.readouterr().err.count("up to date") == len(STAGES)


def test_saved_trace_reads_back(tiny_run, tmp_path):
    trace = Trace.load(tiny_run.folder / "traces" / "exact.npz")
    trace.save(tmp_path / "copy.npz")
    again = Trace.load(tmp_path / "copy.npz")
    assert again.meta == trace.meta
    assert all(torch.equal(again.spikes[name], trace.spikes[name]) for name in trace.spikes)


def test_what_is_validated_and_shown_is_spread_over_the_test_split(tiny_run):
    """A folder's test split is sorted by class: its first samples would be one class."""
    test = tiny_run.data.test
    rows = test.spread(40)
    trace = Trace.load(tiny_run.folder / "traces" / "exact.npz")
    stored = load_file(tiny_run.folder / "student" / "test_predictions.safetensors")["predictions"]
    assert torch.equal(trace.predictions, stored[rows]) and not torch.equal(trace.predictions, stored[:40])
    found = json.loads((tiny_run.folder / "evaluation.json").read_text())
    for kind, shown in (("raster", found["raster"]["samples"]), ("maps", found["maps"])):
        assert [s["index"] for s in shown] == test.spread(len(shown)).tolist() and len(shown) > 1, kind
        for sample in shown:
            assert sample["label"] == tiny_run.data.classes[int(test.y[sample["index"]])]
            assert sample["predicted"] == tiny_run.data.classes[int(stored[sample["index"]])]


def test_model_file_carries_everything(tiny_run):
    model = read_nir(tiny_run.folder / "model.nir")
    assert model.profile.chip.id == "loihi2"
    assert model.profile.encoding.kind == "current"
    assert model.profile.provenance["student_sha256"]
    assert model.profile.steps == 3


class CutError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [10, 60, 110, 130])
def test_interrupted_training_ends_with_the_same_weights(tiny_run, tiny_recipe, tmp_path, monkeypatch, stop_at):
    """Cut in the teacher, the float phase (twice) or the chip phase, resumed: the same weights bit for bit."""
    from snnkd_deploy.distill import loop

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    original, calls = loop.Trainer._step, 0

    def cut(self, *args):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise CutError
        return original(self, *args)

    monkeypatch.setattr(loop.Trainer, "_step", cut)
    with pytest.raises(CutError):
        Run(tmp_path / "run", tiny_recipe).run_stages(("teacher", "distill"))
    monkeypatch.setattr(loop.Trainer, "_step", original)
    run = Run(tmp_path / "run", tiny_recipe)
    run.run_stages(("teacher", "distill"))
    expected = tiny_run.manifest.stage("distill")["facts"]["weights_sha256"]
    assert run.manifest.stage("distill")["facts"]["weights_sha256"] == expected


def test_a_loss_that_is_not_finite_stops_with_its_name(tiny_recipe, tmp_path, monkeypatch):
    from snnkd_deploy.distill.student import StudentTrainee
    from snnkd_deploy.errors import TrainingError

    original = StudentTrainee.loss_terms

    def poisoned(self, rows, info):
        terms = original(self, rows, info)
        return terms | {"ela": terms["ela"] * float("nan")} if info.step == 4 else terms

    monkeypatch.setattr(StudentTrainee, "loss_terms", poisoned)
    run = Run(tmp_path / "run", tiny_recipe)
    with pytest.raises(TrainingError, match=r"\(step 4\).*ela = nan") as caught:
        run.run_stages(("teacher", "distill"))
    assert "checkpoint.safetensors" in str(caught.value)
    assert (tmp_path / "run" / "student" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "run" / "student" / "weights.safetensors").exists()
