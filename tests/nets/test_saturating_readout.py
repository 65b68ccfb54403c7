"""A user's chip that integrates, with a current of few bits: what training computes is what `exact` computes."""

import pytest
import torch

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import EVENT_ORDER, Record
from snnkd_deploy.chips import load_chip
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import TrainingError
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan, neuron_of
from snnkd_deploy.nets.zoo import build_student


def copied(name, neuron, threshold=None, supported=()):
    """A copy of a chip file with other values of [neuron]."""
    table = load_chip(name).model_dump()
    table["neuron"] |= neuron
    table["parameters"]["threshold"] |= {} if threshold is None else {"hi": threshold}
    table["operations"]["supported"] += tuple(supported)
    return ChipSpec.model_validate(table)


def student_on(chip, levels, *, shape=(2, 8, 8), steps=8, gain=2.0):
    torch.manual_seed(1)
    options = {"hidden": [24, 16]}
    student = build_student(
        StudentPlan("mlp", shape, 4, levels, steps, encoding="events", options=options, **neuron_of(chip))
    )
    x = torch.randint(0, levels + 1, (steps, 4, *shape))
    student.train()
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.bias.fill_(0.5)
                module.momentum = 1.0
        student(x)
    student.eval()
    student.to_chip(chip)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * gain * parameter.abs().mean())
    return student, x


def test_the_readout_adds_events_in_the_chips_order():
    bits, shift = 10, 2
    neuron = {"u_bits": bits, "v_bits": bits, "input_shift": shift, "max_input": 0}
    chip = copied("generic_int8", neuron, (2 ** (bits - 1) - 1) >> shift, ["cuba_lif"])
    student, x = student_on(chip, 9, gain=5.0)
    with torch.no_grad():
        votes = student(x).votes
    model = lower_student(student)
    trace = ExactBackend().run(model, make_inputs(x.numpy(), model, student.steps), Record(states=True))
    assert trace.meta[EVENT_ORDER]["readout"][1] > 0, "no order ever decided: nothing is shown"
    assert torch.equal(trace.v["readout"][-1].to(votes.dtype) / model.bias_unit, votes)


def test_membranes_wider_than_float32():
    """A membrane of 32 bits, of which the lowest are lost in float32."""
    chip = copied("generic_int8", {"v_bits": 32, "max_input": 0, "input_shift": 0})
    student, _ = student_on(chip, 9, gain=0.0)
    population = next(iter(student))
    drive = torch.tensor([2.0**25 + 1, -(2.0**25)], dtype=torch.float64).reshape(2, 1, 1).expand(2, 1, 24)
    assert population._exact(drive).dtype == torch.float64
    assert population._sent(population._exact(drive)).dtype == torch.float32


def test_membranes_that_pile_up_are_refused():
    """Three spikes a step at most: what is above stays in a membrane of 16 bits, whose overflow nobody documents."""
    student, _ = student_on(copied("speck2f", {"max_spikes": 3}), 255, shape=(2, 16, 16), steps=64, gain=1.0)
    with pytest.raises(TrainingError, match="state register"):
        student.check_headroom()
