"""How samples are cut into chunks, and how many threads run them, changes nothing in the trace."""

import numpy as np
import pytest
import torch
from active import active_student

import snnkd_deploy.backends.exact as exact
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips import load_chip
from snnkd_deploy.graph.model import Model
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.zoo import build_student


def model() -> Model:
    torch.manual_seed(0)
    student = build_student(StudentPlan("conv", (1, 8, 8), 10, 16, 4))
    for module in student.modules():  # normalisation that has seen data: every layer fires
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0
            module.bias.data.fill_(0.2)
    with torch.no_grad():
        student(torch.randint(0, 17, (64, 1, 8, 8)))
    student.eval()
    student.to_chip(load_chip("loihi2"))
    return lower_student(student)


@pytest.mark.parametrize("record", [Record(), Record(states=True, readout=True)])
def test_chunks_and_threads_leave_the_trace_as_it_is(monkeypatch: pytest.MonkeyPatch, record: Record) -> None:
    lowered = model()
    images = np.random.default_rng(0).integers(0, 17, (1, 37, 1, 8, 8))
    inputs = make_inputs(images, lowered, 4)
    whole = exact.ExactBackend().run(lowered, inputs, record)
    assert all(int(s.sum()) > 0 for s in whole.spikes.values())
    monkeypatch.setattr(exact, "_CACHED_NEURONS", 1)
    monkeypatch.setattr(exact, "_FEWEST_SAMPLES", 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        cut = exact.ExactBackend().run(lowered, inputs, record)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert torch.equal(cut.logits, whole.logits)
    for group in ("spikes", "u", "v"):
        for name, tensor in getattr(whole, group).items():
            assert torch.equal(getattr(cut, group)[name], tensor), (group, name)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3])
def test_few_events_give_the_sums_of_many(rate: float) -> None:
    """Below and above the share at which a dense layer changes over to sparse products."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (30, 400), generator=generator).float()
    x = (torch.rand(50, 400, generator=generator) < rate).float() * 3
    assert torch.equal(exact.EventDriven(weight)(x), x @ weight.T)


def test_a_sparse_input_leaves_the_trace_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    student, x = active_student(StudentPlan("mlp", (1, 16, 16), 10, 1, 4, encoding="events"))
    lowered = lower_student(student)
    x = x * (torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.1)  # 3 % of all inputs are left
    inputs = make_inputs(x.numpy(), lowered, 4)
    dense = exact.ExactBackend().run(lowered, inputs, Record())
    calls = []
    monkeypatch.setattr(exact, "_SPARSE_WEIGHTS", 1)
    monkeypatch.setattr(torch.Tensor, "to_sparse_csr", lambda t, f=torch.Tensor.to_sparse_csr: calls.append(1) or f(t))
    sparse = exact.ExactBackend().run(lowered, inputs, Record())
    assert calls
    assert torch.equal(sparse.logits, dense.logits)
    for name, spikes in dense.spikes.items():
        assert torch.equal(sparse.spikes[name], spikes)
