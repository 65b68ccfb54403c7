"""The maps of synapses, however they lie in memory, against float64."""

import pytest
import torch
from active import active_student
from torch.nn import functional as F

from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.synapse import Synapse
from snnkd_deploy.nets.zoo import build_student


def gradients(call, weight, x):
    weight, x = weight.clone().requires_grad_(), x.clone().requires_grad_()
    out = call(x, weight)
    pull = torch.arange(float(out.numel())).reshape(out.shape).to(out) % 7 - 3
    return out.detach(), *torch.autograd.grad((out * pull).sum(), (weight, x))


@pytest.mark.parametrize("into", [1, 3, 4, 16])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_convolution_and_its_gradients(into, kernel, stride):
    """Also the strided 1x1 on few channels, where oneDNN's own path writes past its workspace."""
    torch.manual_seed(0)
    synapse = Synapse("s", into, 8, kernel=kernel, stride=stride, padding=kernel // 2, batch_norm=False)
    x = torch.randn(8, into, 32, 32).to(memory_format=torch.channels_last)
    found = gradients(synapse.apply_weight, synapse.weight.detach(), x)
    expected = gradients(
        lambda y, w: F.conv2d(y, w, None, stride, kernel // 2), synapse.weight.detach().double(), x.double()
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-3)
    assert found[0].stride(1) == 1, "maps come channels last"


def test_linear_on_maps_in_either_order():
    torch.manual_seed(0)
    synapse = Synapse("s", 6 * 5 * 4, 7, batch_norm=False)
    maps = torch.randn(3, 6, 5, 4)
    plain = gradients(synapse.apply_weight, synapse.weight.detach(), maps)
    last = gradients(synapse.apply_weight, synapse.weight.detach(), maps.to(memory_format=torch.channels_last))
    for a, b in zip(last, plain, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(plain[0], maps.flatten(1) @ synapse.weight.detach().T)


@pytest.mark.parametrize("mode", ["float", "chip"])
def test_shortcuts_add_what_their_convolution_would(mode):
    plan = StudentPlan("resnet20", (3, 8, 8), 4, 255, 2, width=0.25)
    student, x = active_student(plan, samples=5)
    if mode == "float":
        student = build_student(plan)
        for module in student.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.data.fill_(0.3)
    with torch.no_grad():
        found = student(x).spikes
        for synapse in student.modules():
            if isinstance(synapse, Synapse) and synapse.shortcut:
                synapse.shortcut = False
        expected = student(x).spikes
    for name, spikes in expected.items():
        assert torch.equal(found[name], spikes), name
    assert any(0.01 < float(spikes.mean()) < 0.99 for spikes in expected.values())


def test_a_narrow_resnet_trains():
    """Its strided shortcuts have fewer channels than a vector register has places."""
    student = build_student(StudentPlan("resnet20", (3, 32, 32), 4, 255, 2, width=0.25))
    for _ in range(2):
        student(torch.randint(0, 256, (4, 3, 32, 32))).logits.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.requires_grad)
