"""Hardware in the loop: a board whose thresholds are off, and a student that learns around them."""

from __future__ import annotations

import copy

import pytest
import torch

from snnkd_deploy.arithmetic.cuba import INPUT_SHIFT, CubaNeuron
from snnkd_deploy.backends.engine import Operator, run_graph
from snnkd_deploy.backends.exact import ExactBackend, build_operators, logits_of
from snnkd_deploy.backends.in_the_loop import backend_accuracy, batch_inputs, fine_tune
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.chips import load_chip
from snnkd_deploy.data import load_dataset
from snnkd_deploy.distill.feed import plain_feed
from snnkd_deploy.distill.loop import Phase, Plan, Trainer
from snnkd_deploy.distill.losses import build_method
from snnkd_deploy.distill.student import StudentTrainee, evaluate_student
from snnkd_deploy.errors import BackendError
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.zoo import build_student

torch.set_num_threads(1)


class OffThresholds(Operator):
    """A population whose every neuron has a threshold of its own, as analog parts or dying cells have."""

    def __init__(self, model, name, factor):
        p = model.neuron(name)
        self.p = CubaNeuron(Du=p.Du, Dv=p.Dv, vth=p.vth, bias=torch.from_numpy(model.bias_int(name)).double())
        self.threshold = factor * (p.vth << INPUT_SHIFT)

    def __call__(self, x):
        u = v = torch.zeros_like(x[0], dtype=torch.float64)
        spikes = []
        for arriving in x.double():
            u = self.p.current(u, arriving)
            v = self.p.membrane(v, u)
            fired = v > self.threshold
            v = v.masked_fill(fired, 0.0)
            spikes.append(fired)
        return torch.stack(spikes).float()


class Mismatched(ExactBackend):
    """`exact` with thresholds between `low` and `high` times their value, drawn once for each neuron."""

    name = "board"

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high, self.runs = low, high, 0

    def run(self, model, inputs, record):
        self.runs += 1
        operators = build_operators(model, inputs, torch.device("cpu"))
        for i, name in enumerate(model.spiking):
            draw = torch.rand(model.shapes[name], generator=torch.Generator().manual_seed(i), dtype=torch.float64)
            operators[name] = OffThresholds(model, name, self.low + (self.high - self.low) * draw)
        outputs = run_graph(model, operators, inputs.x.float(), inputs.steps, False)
        spikes = {n: outputs[n].to(torch.uint8) for n in model.spiking if record.spikes}
        return Trace(logits_of(model, outputs, inputs.steps), spikes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small student of the digits, trained in float and in integers for a few seconds."""
    data = load_dataset("digits", split_seed=0)
    shape = tuple(data.train.x.shape[1:])
    torch.manual_seed(0)
    options = {"hidden": (64, 48)}
    plan = StudentPlan("mlp", shape, len(data.classes), data.levels, steps=4, options=options)
    student = build_student(plan)
    feed = plain_feed("current", data.train, 4, data.levels)
    trainee = StudentTrainee(student, data, feed, build_method(["ce"]), None, load_chip("loihi2"), augment=None, seed=0)
    phases = (Phase("float", 4, 6e-3), Phase("chip", 1, 1e-3))
    result = Trainer(trainee, Plan(phases, batch=64), tmp_path_factory.mktemp("t"), "k", "student").run()
    student.load_state_dict(result.tensors)
    return student, data, feed, result.structure


def test_measured_spikes_take_the_place_of_our_own(trained):
    """Equal spikes change nothing, gradients included; other spikes are what the next layer hears."""
    student, data, feed, _ = trained
    rows = torch.arange(16)
    x = feed.student(feed.raw(data.train, rows), data.train.index[rows])
    model = lower_student(student)
    spikes = ExactBackend().run(model, batch_inputs(student, model, x), Record()).spikes
    student.zero_grad()
    own = student(x)
    own.logits.square().mean().backward()
    gradients = [p.grad.clone() for p in student.parameters() if p.grad is not None]
    student.zero_grad()
    measured = student(x, measured=spikes)
    assert torch.equal(measured.logits, own.logits)
    measured.logits.square().mean().backward()
    found = [p.grad for p in student.parameters() if p.grad is not None]
    for a, b in zip(gradients, found, strict=True):
        torch.testing.assert_close(a, b)
    student.zero_grad()
    silent = student(x, measured={"lif1": torch.zeros_like(spikes["lif1"])})
    assert not silent.logits.any() and torch.equal(silent.spikes["lif0"], own.spikes["lif0"])


def test_accuracy_comes_back_on_a_board_with_other_thresholds(trained):
    student, data, feed, _ = trained
    board = Mismatched(0.4, 6.0)
    exact = backend_accuracy(student, ExactBackend(), data.test, feed)
    assert exact == evaluate_student(student, data.test, feed)["accuracy"]
    blind = copy.deepcopy(student)
    found = fine_tune(student, board, data, epochs=6, lr=1e-3, feed=feed)
    assert found.before < exact - 0.1
    assert found.after > found.before + 0.7 * (exact - found.before)
    assert found.after == backend_accuracy(student, board, data.test, feed)
    assert len(found.history) == 6
    # As many epochs without the board in the loop do not help on it.
    fine_tune(blind, ExactBackend(), data, epochs=6, lr=1e-3, feed=feed)
    without = backend_accuracy(blind, board, data.test, feed)
    print(
        f"exact {exact:.4f}; on the board {found.before:.4f}, after {found.after:.4f}, trained without it {without:.4f}"
    )
    assert without < found.after - 0.5 * (exact - found.before)


def test_a_float_student_and_a_refusing_backend(trained):
    _, data, feed, _ = trained
    plan = StudentPlan(
        "mlp", tuple(data.train.x.shape[1:]), 10, data.levels, steps=4, leak=0.7, options={"hidden": (8,)}
    )
    student = build_student(plan)
    with pytest.raises(BackendError, match="float mode"):
        fine_tune(student, ExactBackend(), data, epochs=1, feed=feed)

    class Refuses(ExactBackend):
        def check(self, model):
            from snnkd_deploy.errors import Problem

            return [Problem("too hot today")]

    student.to_chip(load_chip("loihi2"))
    with pytest.raises(BackendError, match="too hot"):
        fine_tune(student, Refuses(), data, epochs=1, feed=feed)
