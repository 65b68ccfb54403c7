"""Learned decays: the same neuron as the fixed one, a gradient that is right, and integers that are the chip's."""

import pytest
import torch
from active import active_student

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips import load_chip
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan, neuron_of
from snnkd_deploy.nets.learned_leak import learned_lif_over_time
from snnkd_deploy.nets.neurons import Lif, lif_over_time
from snnkd_deploy.nets.surrogate import sigmoid4
from snnkd_deploy.nets.zoo import build_student

NEURONS = {
    "loihi": Lif(0.6, 1.0, sigmoid4, leak_u=0.4),
    "soft": Lif(0.6, 1.0, sigmoid4, fires=">=", reset_kind="subtract"),
    "many": Lif(0.6, 0.7, sigmoid4, fires=">=", reset_kind="subtract", max_spikes=0, floored=True),
    "filtered": Lif(0.75, 1.0, sigmoid4, 0.5, ">=", "subtract", 31, filtered=True),
}


@pytest.mark.parametrize("name", NEURONS)
def test_equals_the_fixed_neuron_forward_and_backward(name):
    lif = NEURONS[name]
    torch.manual_seed(1)
    a = torch.randn(6, 3, 5, dtype=torch.float64).mul(1.5).requires_grad_()
    b = a.detach().clone().requires_grad_()
    keep = torch.tensor(lif.leak_v, dtype=torch.float64)
    weights = torch.randn(6, 3, 5, dtype=torch.float64)
    first, second = lif_over_time(a, lif), learned_lif_over_time(b, lif, keep, 6)
    assert torch.equal(first, second) and first.any()
    (first * weights).sum().backward()
    (second * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12)


def test_the_gradient_of_the_decay_by_hand():
    """Nothing fires and the surrogate is 1, so the reset passes 1 - v: with v1 = 1, v2 = 2.5 and keep = 1/2,

    dv2/dkeep = v1 + keep * 0 = 1 ;  dv3/dkeep = v2 + keep (1 - v2) dv2/dkeep = 2.5 - 0.75
    """
    lif = Lif(0.5, 10.0, lambda x: torch.ones_like(x))
    x = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64).view(3, 1, 1)
    keep = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    learned_lif_over_time(x, lif, keep, 3)[2].sum().backward()
    assert float(keep.grad) == pytest.approx(1.75)


@pytest.mark.parametrize("chip", ["loihi2", "generic_int8", "spinnaker2"])
def test_learned_decays_end_up_on_the_chips_grid(chip):
    plan = StudentPlan(
        "mlp",
        (2, 6, 6),
        4,
        1,
        5,
        encoding="events",
        options={"hidden": [16, 12]},
        learn_leak=True,
        **neuron_of(load_chip(chip)),
    )
    student = build_student(plan)
    x = (torch.rand(5, 8, 2, 6, 6) < 0.3).float()
    optimizer = torch.optim.Adam(student.parameters(), 0.3)
    before = float(torch.sigmoid(student.hidden[0].raw_leak.detach()))
    for _ in range(3):
        optimizer.zero_grad()
        student(x).logits[:, :, 0].sum().neg().backward()
        optimizer.step()
    assert abs(float(torch.sigmoid(student.hidden[0].raw_leak.detach())) - before) > 0.01

    student, x = active_student(plan, samples=6, chip=chip)
    for number, population in enumerate(student.hidden):
        population.raw_leak.data.fill_(-0.9 + 2.5 * number)
    assert not student.hidden[0].raw_leak.requires_grad
    model = lower_student(student)
    trace = ExactBackend().run(model, make_inputs(x.numpy(), model, 5), Record())
    with torch.no_grad():
        out = student(x)
    for name, spikes in out.spikes.items():
        assert torch.equal(trace.spikes[name].to(spikes.dtype), spikes) and spikes.any()
    kept = [population.lif_now().leak_v for population in student.hidden]
    assert kept[0] != kept[1] and all(k != 0.5 for k in kept[1:])
