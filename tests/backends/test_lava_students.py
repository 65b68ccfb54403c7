"""Whole students of the zoo, lowered, on real Lava: convolutions, residual blocks, global pooling."""

from __future__ import annotations

import pytest
import torch

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.lava import LavaBackend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips import load_chip
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.zoo import build_student

_STATE = LavaBackend().availability()
pytestmark = [
    pytest.mark.skipif(not _STATE.usable, reason=f"lava: {_STATE.note} ({_STATE.install})"),
    pytest.mark.slow,
]


@pytest.mark.parametrize(("net", "width"), [("conv", 0.5), ("vgg", 0.1), ("resnet20", 0.25)])
@pytest.mark.parametrize("encoding", ["current", "events"])
def test_lowered_student(net, width, encoding):
    torch.manual_seed(0)
    student = build_student(StudentPlan(net, (3, 12, 12), 5, 255, 3, encoding=encoding, width=width))
    if encoding == "events":
        x = (torch.rand(3, 4, 3, 12, 12) < 0.3).float()
    else:
        x = torch.randint(0, 256, (1, 4, 3, 12, 12)).float()
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0  # statistics of this batch, and a bias that keeps deep layers firing
            module.bias.data.fill_(0.3)
    with torch.no_grad():
        student.train()(x if encoding == "events" else x[0])
    student.eval().to_chip(load_chip("loihi2"))
    model = lower_student(student)
    inputs = make_inputs(x.numpy(), model)
    want = ExactBackend().run(model, inputs, Record())
    got = LavaBackend().run(model, inputs, Record())
    assert all(spikes.any() for spikes in want.spikes.values())
    assert want.spikes.keys() == got.spikes.keys()
    assert [n for n in want.spikes if not torch.equal(want.spikes[n], got.spikes[n])] == []
    assert torch.equal(want.logits, got.logits)
