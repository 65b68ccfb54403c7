"""Properties that hold for any input: what a mistake in an axis, a mean or a stop-gradient would break."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnkd_deploy.distill import losses as L

CASES = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(2, 6), st.floats(0.1, 8.0), st.integers(0, 2**31))
QUICK = settings(max_examples=40, deadline=None)


def draw(case: tuple[int, int, int, float, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    steps, batch, classes, scale, seed = case
    g = torch.Generator().manual_seed(seed)
    z, u, xi = (
        torch.randn(*shape, generator=g, dtype=torch.float64)
        for shape in ((steps, batch, classes), (batch, classes), (batch, classes))
    )
    return scale * z, scale * u, torch.randint(classes, (batch,), generator=g), xi


def all_losses(z: Tensor, u: Tensor, y: Tensor, xi: Tensor) -> dict[str, Tensor]:
    zbar = z.mean(0)
    return {
        "ela": L.ela_loss(z, u, y),
        "sta": L.sta_loss(z),
        "kd": L.logit_kd_loss(z, u),
        "twkl": L.twkl_loss(z, u),
        "twsd": L.twsd_loss(z, y),
        "tks": L.tks_loss(z, y),
        "tet": L.tet_loss(z, y),
        "ce": L.ce_mean_loss(z, y),
        "ce_per_step": L.ce_per_step_loss(z, y),
        "kdsnn": L.kdsnn_logit_loss(z, u),
        "bkdsnn": L.bkdsnn_logit_loss(z, u, y),
        "nld": L.nld_loss(zbar, u, xi),
        "nld_code": L.nld_loss(zbar, u, xi, convention="code"),
    }


@QUICK
@given(CASES)
def test_losses_are_not_negative_and_a_batch_is_the_mean_of_its_samples(case) -> None:
    """The second half is what makes a loss safe under data parallelism (S2W and `code` SAMD are not)."""
    z, u, y, xi = draw(case)
    whole = all_losses(z, u, y, xi)
    singles = [all_losses(z[:, [b]], u[[b]], y[[b]], xi[[b]]) for b in range(z.shape[1])]
    for name, value in whole.items():
        assert value >= -1e-12, name
        mean = torch.stack([single[name] for single in singles]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-9, atol=1e-12, msg=name)


@QUICK
@given(CASES)
def test_the_order_of_classes_and_steps_does_not_matter(case) -> None:
    z, u, y, xi = draw(case)
    g = torch.Generator().manual_seed(case[-1])
    classes, steps = torch.randperm(z.shape[2], generator=g), torch.randperm(z.shape[0], generator=g)
    inverse = torch.argsort(classes)
    before = all_losses(z, u, y, xi)
    after = all_losses(z[steps][..., classes], u[:, classes], inverse[y], xi[:, classes])
    for name in before:
        torch.testing.assert_close(before[name], after[name], rtol=1e-9, atol=1e-12, msg=name)
    torch.testing.assert_close(L.strong_weak_loss(z), L.strong_weak_loss(z[steps][..., classes]))


@QUICK
@given(CASES)
def test_sta_weights_are_a_mild_distribution_over_the_other_steps(case) -> None:
    z = draw(case)[0]
    steps = z.shape[0]
    if steps == 1:
        return
    mix = L.mix_timesteps(z)
    torch.testing.assert_close(mix.weights.sum(1), torch.ones(steps, z.shape[1], dtype=z.dtype))
    others = mix.weights[~torch.eye(steps, dtype=torch.bool)]
    lowest = math.exp(-1) / (math.exp(-1) + (steps - 2) * math.exp(1))
    assert others.min() >= lowest - 1e-6 and not mix.targets.requires_grad


@QUICK
@given(CASES)
def test_gradients_stop_at_the_teacher(case) -> None:
    z, u, y, xi = draw(case)
    z.requires_grad_()
    u.requires_grad_()
    for name, value in all_losses(z, u, y, xi).items():
        (grad,) = torch.autograd.grad(value, u, allow_unused=True)
        assert grad is None or (grad == 0).all(), name


@QUICK
@given(st.integers(0, 2**31), st.floats(0.01, 100.0), st.floats(-10.0, 10.0))
def test_rec_samd_ignores_the_maps_scale_and_offset(seed: int, gain: float, offset: float) -> None:
    g = torch.Generator().manual_seed(seed)
    sam, cam = torch.rand(2, 3, 4, 4, generator=g, dtype=torch.float64)
    plain = L.samd_loss(sam, cam)
    torch.testing.assert_close(plain, L.samd_loss(gain * sam + offset, cam), rtol=1e-4, atol=1e-7)
    assert plain >= 0
    singles = torch.stack([L.samd_loss(sam[[b]], cam[[b]]) for b in range(3)])
    torch.testing.assert_close(plain, singles.mean())
    assert L.samd_loss(cam, cam) == 0


def test_class_activation_map_is_pixel_count_times_grad_cam() -> None:
    g = torch.Generator().manual_seed(0)
    features = torch.randn(3, 4, 2, 5, generator=g, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4, generator=g, dtype=torch.float64)
    classes = torch.tensor([5, 0, 2])
    logits = features.mean((2, 3)) @ weight.T
    (grads,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), features)
    alpha = grads.mean((2, 3), keepdim=True)
    grad_cam = torch.relu((alpha * features).sum(1))
    torch.testing.assert_close(L.class_activation_map(features, weight, classes), 10 * grad_cam)


@pytest.mark.parametrize("convention", ["paper", "code", "rec"])
def test_gradcheck_of_maps_and_noise(convention: str) -> None:
    g = torch.Generator().manual_seed(2)
    sam, cam = torch.rand(2, 2, 3, 3, generator=g, dtype=torch.float64)
    sam.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: L.samd_loss(x, cam, convention=convention), sam)
    z, u, xi = torch.randn(3, 2, 4, generator=g, dtype=torch.float64)
    z = z.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: L.nld_loss(x, u, xi, convention=convention, detach_noise=False), z)


def test_gradcheck_of_tks_with_its_target_attached() -> None:
    g = torch.Generator().manual_seed(3)
    z = torch.randn(3, 2, 4, generator=g, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: L.tks_loss(x, torch.tensor([0, 1])), z)
    detached = torch.autograd.grad(L.tks_loss(z, torch.tensor([0, 1]), detach_target=True), z)[0]
    attached = torch.autograd.grad(L.tks_loss(z, torch.tensor([0, 1])), z)[0]
    assert not torch.allclose(detached, attached)
