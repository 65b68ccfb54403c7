"""Events and time series through the whole pipeline: what you trained is what runs, whatever the encoding."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import RecipeError
from snnkd_deploy.pipeline import Run
from snnkd_deploy.recipe import make_recipe


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Recordings of two classes: events move right, or down. Sparse, 2 x 10 x 10."""
    rng = np.random.default_rng(0)
    parts, labels, ptr = [], [], [0]
    for i in range(90):
        t = np.sort(rng.integers(0, 10_000, 60))
        along, across = t * 10 // 10_000, rng.integers(3, 7, 60)
        x, y = (along, across) if i % 2 else (across, along)
        parts.append(np.stack([x, y, rng.integers(0, 2, 60), t]))
        labels.append(i % 2)
        ptr.append(ptr[-1] + 60)
    x, y, p, t = np.concatenate(parts, 1)
    path = tmp_path_factory.mktemp("events") / "events.npz"
    np.savez(path, x=x, y=y, p=p, t=t, ptr=np.array(ptr), label=np.array(labels), shape=np.array([2, 10, 10]))
    return path


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Series of two classes: the values rise, or fall. (N, 5, 6) bytes."""
    rng = np.random.default_rng(1)
    slope = np.linspace(40, 200, 5)[None, :, None]
    y = np.arange(90) % 2
    X = np.where(y[:, None, None] == 1, slope, slope[:, ::-1]) + rng.normal(0, 20, (90, 5, 6))
    path = tmp_path_factory.mktemp("series") / "series.npz"
    np.savez(path, X=X.clip(0, 255).astype(np.uint8), y=y)
    return path


def recipe(data, student, method=("seal",), **more):
    return make_recipe(
        {
            "method": list(method),
            "data": data,
            "teacher": {"width": 0.1, "epochs": 2, "batch": 16, **more.pop("teacher", {})},
            "student": {"threshold": 0.5, **student},
            "train": {"epochs": 4, "chip_epochs": 1, "batch": 8, "lr": 1e-2, "chip_lr": 2e-3, **more.pop("train", {})},
            "validate": {"backends": ["exact"], "samples": 20},
            **more,
        }
    )


def finish(recipe_, folder, **options):
    run = Run(folder, recipe_, **options)
    run.run_stages()
    return run


def assert_exact(run):
    """The exporter's integers are those of training: spikes, votes, accuracy."""
    model, student, feed = run.load_model(), run.load_student(), run.feed(run.data)
    test = run.data.test
    rows = torch.arange(len(test))
    trace = ExactBackend().run(model, run.test_inputs(model), Record(readout=True))
    with torch.no_grad():
        out = student(feed.student(feed.raw(test, rows), test.index[rows]))
    for name, spikes in out.spikes.items():
        assert torch.equal(trace.spikes[name], spikes.to(torch.uint8)), name
        assert spikes.any(), f"{name} is silent: nothing was compared"
    assert torch.equal(trace.v["readout"][-1], (out.votes * 64).to(torch.int32))
    report = json.loads((run.folder / "report.json").read_text())
    assert report["accuracy"]["student"] == report["accuracy"]["exact"]
    return report


CONV = {"net": "conv", "width": 0.5, "steps": 4, "options": {"channels": [8, 16], "strides": [1, 2]}}


def test_event_recordings_with_maps_and_augmentation(events, tmp_path):
    data = {"name": "events-npz", "options": {"file": str(events)}}
    student = {**CONV, "encoding": "events"}
    run = finish(
        recipe(data, student, ("seal", "ckd"), train={"augment": ["shift:1"]}, teacher={"augment": ["flip"]}),
        tmp_path / "run",
    )
    report = assert_exact(run)
    assert report["encoding"]["kind"] == "events"
    assert report["maps"] and report["baseline_ann"]["macs"] > 0
    assert report["totals"]["sop_event"] > 0


def test_the_teacher_sees_the_mean_over_the_frames(events, tmp_path):
    data = {"name": "events-npz", "options": {"file": str(events)}}
    run = Run(tmp_path / "run", recipe(data, {**CONV, "encoding": "events"}))
    feed, split = run.feed(run.data), run.data.train
    rows = torch.tensor([3, 1])
    frames = split.frames(rows, 4)  # (T, B, P, H, W)
    assert torch.equal(feed.teacher(feed.raw(split, rows)), frames.float().mean(0))
    assert torch.equal(feed.student(feed.raw(split, rows), split.index[rows]), frames)


def test_counts_need_graded_spikes(events, tmp_path):
    data = {"name": "events-npz", "options": {"file": str(events), "cap": 3}}
    with pytest.raises(RecipeError, match="hears at most 1 event of an input in one step") as caught:
        Run(tmp_path / "run", recipe(data, {**CONV, "encoding": "events"})).data  # noqa: B018
    assert "graded" in str(caught.value)
    run = finish(recipe(data, {**CONV, "encoding": "graded"}), tmp_path / "graded")
    assert_exact(run)
    assert run.load_model().synapse("conv0").message_bits == 2


@pytest.mark.parametrize(
    ("net", "encoding", "more"),
    [("rnn", "graded", {"current_leak": 0.5}), ("mlp", "graded", {}), ("rnn", "rate", {})],
)
def test_time_series(series, tmp_path, net, encoding, more):
    data = {"name": "series-npz", "options": {"file": str(series)}}
    student = {"net": net, "steps": 5, "encoding": encoding, "options": {"hidden": [20, 16]}, **more}
    run = finish(recipe(data, student), tmp_path / "run")
    report = assert_exact(run)
    model = run.load_model()
    if encoding == "graded":
        assert model.profile.encoding.bits == 8 and model.synapse("fc0").message_bits == 8
        assert model.synapse("fc0").weight_exp < 0
    assert report["fit"]["fits"]


@pytest.mark.parametrize("encoding", ["graded", "rate", "latency"])
def test_images_through_every_encoder(tmp_path, encoding):
    data = {"name": "digits", "options": {"limit_train": 300, "limit_test": 60}}
    assert_exact(finish(recipe(data, {**CONV, "encoding": encoding}), tmp_path / "run"))


@pytest.mark.parametrize(
    ("student", "chip", "expected"),
    [
        ({"net": "rnn", "steps": 5, "encoding": "current"}, "loihi2", "'current' does not fit series-npz"),
        ({"net": "rnn", "steps": 4, "encoding": "graded"}, "loihi2", "student.steps = 5"),
        ({"net": "rnn", "steps": 5, "encoding": "graded"}, "loihi1", 'student.encoding = "rate"'),
        ({"net": "conv", "steps": 5, "encoding": "graded"}, "loihi2", "a convolution needs"),
    ],
)
def test_what_cannot_work_is_refused_before_training(series, tmp_path, student, chip, expected):
    data = {"name": "series-npz", "options": {"file": str(series)}}
    with pytest.raises(RecipeError) as caught:
        Run(tmp_path / "run", recipe(data, student, chip=chip)).data  # noqa: B018
    assert expected in str(caught.value)


@pytest.mark.slow
def test_real_event_recordings(tmp_path):
    root = os.environ.get("SNNKD_DATA", "")
    if not root or not list(Path(root).glob("*NMNIST*")) + list(Path(root).glob("*/*nmnist*")):
        pytest.skip("no N-MNIST recordings under $SNNKD_DATA")
    data = {"name": "nmnist", "options": {"limit_train": 300, "limit_test": 60, "downsample": 2}}
    report = assert_exact(finish(recipe(data, {**CONV, "encoding": "events"}), tmp_path / "run"))
    assert report["dataset"]["name"] == "nmnist"
