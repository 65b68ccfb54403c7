"""Losses where the formulas divide by zero, tie, overflow or have nothing to do; and wrong calls."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from snnkd_deploy.distill import losses as L
from snnkd_deploy.distill.losses.common import first_argmax
from snnkd_deploy.errors import UsageError


def random_case(
    steps: int = 3, batch: int = 4, classes: int = 5, scale: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    z = scale * torch.randn(steps, batch, classes, generator=g, dtype=torch.float64)
    u = scale * torch.randn(batch, classes, generator=g, dtype=torch.float64)
    return z, u, torch.randint(classes, (batch,), generator=g)


def grad_of(loss: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(loss, x)[0]


def test_argmax_takes_the_first_index_on_ties() -> None:
    for classes in (2, 7, 10, 100, 1000):
        for dtype in (torch.float32, torch.float64):
            x = torch.zeros(64, classes, dtype=dtype)
            assert (first_argmax(x) == 0).all()
            x[:, classes // 2 :] = 1.0
            assert (first_argmax(x) == classes // 2).all()
            assert (first_argmax(x.T, dim=0) == classes // 2).all()


def test_ela_tie_is_decided_by_the_first_index() -> None:
    z = torch.tensor([[[2.0, 2.0, 0.0]]])
    u = torch.tensor([[1.0, 3.0, 0.0]])
    assert not L.equalise_errors(z, u, torch.tensor([0])).erroneous.any()
    tied = L.equalise_errors(z, u, torch.tensor([1]))
    assert tied.erroneous.all()
    assert torch.equal(tied.student, z)
    assert torch.equal(tied.teacher, torch.tensor([[[1.0, 1.0, 0.0]]]))


def test_ela_without_errors_is_uniform_per_step_kd() -> None:
    z, u, y = random_case()
    z = z.scatter_add(-1, y.expand(3, 4)[..., None], torch.full((3, 4, 1), 20.0, dtype=z.dtype))
    assert not L.equalise_errors(z, u, y).erroneous.any()
    torch.testing.assert_close(L.ela_loss(z, u, y), L.twkl_loss(z, u))


def test_ela_with_all_wrong_gives_the_wrong_winner_no_gradient() -> None:
    z, u, y = random_case()
    w = (y + 1) % 5
    z = z.scatter_add(-1, w.expand(3, 4)[..., None], torch.full((3, 4, 1), 20.0, dtype=z.dtype))
    z.requires_grad_()
    u.requires_grad_()
    equalised = L.equalise_errors(z, u, y)
    assert equalised.erroneous.all() and not equalised.teacher.requires_grad
    grad = grad_of(L.ela_loss(z, u, y), z)
    g = (torch.softmax(equalised.student / 3, -1) - torch.softmax(equalised.teacher / 3, -1)) * 3 / 12
    at_w, at_y = w.expand(3, 4)[..., None], y.expand(3, 4)[..., None]
    assert (grad.gather(-1, at_w) == 0).all()
    torch.testing.assert_close(grad.gather(-1, at_y), g.gather(-1, at_y) + g.gather(-1, at_w))


@pytest.mark.parametrize("loss", [L.sta_loss, L.strong_weak_loss])
@pytest.mark.parametrize("value", [1.0, 1e30, math.inf])
def test_one_timestep_has_nothing_to_align(loss, value: float) -> None:
    z = torch.full((1, 2, 3), value, requires_grad=True)
    out = loss(z)
    assert out.item() == 0.0 and out.requires_grad
    out.backward()
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_seal_logs_once_that_sta_vanishes(caplog) -> None:
    z, u, y = random_case(steps=1)
    module = L.SeAlKD()
    for _ in range(3):
        module(L.DistillBatch(z, y, teacher_logits=u))
    assert caplog.text.count("single timestep") == 1


def test_sta_of_two_steps_is_mutual_learning() -> None:
    z, _, _ = random_case(steps=2)
    mix = L.mix_timesteps(z)
    torch.testing.assert_close(mix.targets, z.flip(0))
    assert (mix.weights.diagonal(dim1=0, dim2=1) == 0).all()


def test_sta_of_equal_steps_and_of_silence_is_zero() -> None:
    z = random_case(steps=1)[0].expand(4, -1, -1)
    torch.testing.assert_close(L.sta_loss(z), torch.zeros((), dtype=z.dtype))
    silent = torch.zeros(4, 2, 3, requires_grad=True)
    loss = L.sta_loss(silent)
    assert loss.item() == 0 and torch.equal(grad_of(loss, silent), torch.zeros(4, 2, 3))


def features_batch(z: Tensor, u: Tensor, y: Tensor, size: int = 4, teacher_size: int = 4) -> L.DistillBatch:
    g = torch.Generator().manual_seed(1)
    steps, batch, classes = z.shape
    return L.DistillBatch(
        z,
        y,
        teacher_logits=u,
        student_features=(torch.rand(steps, batch, 6, size, size, generator=g) < 0.3).to(z.dtype),
        teacher_features=torch.randn(batch, 7, teacher_size, teacher_size, generator=g).to(z.dtype),
        classifier_weight=torch.randn(classes, 7, generator=g).to(z.dtype),
        progress=0.5,
        noise_seed=3,
    )


def make(name: str, dtype: torch.dtype = torch.float64, **options: object) -> L.DistillLoss:
    return L.build_method([name], {name: options}, student_channels=6, teacher_channels=7).to(dtype)


@pytest.mark.parametrize("name", L.METHODS)
@pytest.mark.parametrize(
    "steps, batch, classes, scale",
    [(1, 1, 1, 1.0), (3, 1, 4, 1.0), (1, 3, 4, 1.0), (3, 2, 1, 1.0), (3, 2, 4, 0.0), (3, 4, 5, 1e4)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_method_is_finite_in_corner_cases(
    name: str, steps: int, batch: int, classes: int, scale: float, dtype: torch.dtype
) -> None:
    z, u, y = random_case(steps, batch, classes, scale)
    z = z.to(dtype).requires_grad_()
    terms = make(name, dtype)(features_batch(z, u.to(dtype), y))
    for term_name, term in terms.items():
        assert term.shape == () and term.dtype == dtype and term.isfinite(), term_name
    assert grad_of(L.total_loss(terms), z).isfinite().all()


@pytest.mark.parametrize("scale", [1e10, 1e30, 1e37])
@pytest.mark.parametrize("name", sorted(set(L.METHODS) - {"tet"}))  # TET's square overflows to inf, rightly
def test_huge_logits_never_give_nan(name: str, scale: float) -> None:
    z, u, y = random_case(scale=1.0)
    z, u = (scale * z).float().requires_grad_(), (scale * u).float()
    terms = make(name, torch.float32)(features_batch(z, u, y))
    for term_name, term in terms.items():
        assert not term.isnan(), term_name
    assert not grad_of(L.total_loss(terms), z).isnan().any()


@pytest.mark.parametrize("convention", ["paper", "code", "rec"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e30])
def test_nld_of_equal_or_huge_logits_is_finite_with_the_noise_attached(convention: str, scale: float) -> None:
    z = torch.full((2, 4), scale)
    z[1] *= torch.tensor([1.0, -1.0, 0.5, 0.0])
    z.requires_grad_()
    xi = torch.tensor([[0.0, 1.0, -1.0, 3.0]] * 2)
    loss = L.nld_loss(z, torch.randn(2, 4), xi, convention=convention, detach_noise=False)
    assert not loss.isnan() and not grad_of(loss, z).isnan().any()


@pytest.mark.parametrize("convention", ["paper", "code", "rec"])
def test_nld_without_noise_weight_is_plain_kd(convention: str) -> None:
    z, u, _ = random_case(steps=1)
    noisy = L.nld_loss(z[0], u, noise_weight=0.0, convention=convention)
    torch.testing.assert_close(noisy, L.logit_kd_loss(z, u, 2.0))


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_map_gives_zero_and_no_gradient_in_rec(value: float, dtype: torch.dtype) -> None:
    sam = torch.full((2, 3, 3), value, dtype=dtype)
    sam[1, 0, 0] += 1  # the other sample still learns
    sam.requires_grad_()
    cam = torch.rand(2, 3, 3, dtype=dtype)
    assert (L.scale_map(sam)[0] == 0).all()
    loss = L.samd_loss(sam, cam)
    grad = grad_of(loss, sam)
    assert loss > 0 and (grad[0] == 0).all() and (grad[1] != 0).any() and grad.isfinite().all()


def test_rounding_noise_in_a_constant_map_counts_as_constant() -> None:
    sam = torch.full((1, 2, 2), 1 / 3)
    sam[0, 0, 0] = torch.nextafter(sam[0, 0, 0], torch.tensor(1.0))
    assert sam.amax() > sam.amin()
    sam.requires_grad_()
    assert torch.equal(grad_of(L.samd_loss(sam, torch.rand(1, 2, 2)), sam), torch.zeros(1, 2, 2))


def test_single_pixel_maps_are_always_equal() -> None:
    for convention in ("paper", "code", "rec"):
        assert L.samd_loss(torch.ones(2, 1, 1), torch.rand(2, 1, 1), convention=convention) == 0


def test_samd_ties_share_the_gradient_of_min_and_max() -> None:
    sam = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    cam = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    grad = grad_of(L.samd_loss(sam, cam), sam)
    assert grad[0, 0, 0] == grad[0, 0, 1] and grad[0, 1, 0] == grad[0, 1, 1]


@pytest.mark.parametrize("sizes", [(4, 8), (8, 4), (4, 6), (3, 5)])
def test_ckd_pools_the_larger_map(sizes: tuple[int, int]) -> None:
    z, u, y = random_case()
    batch = features_batch(z, u, y, size=sizes[0], teacher_size=sizes[1])
    got = L.CKD(nld=False)(batch)["samd"]
    sam = L.spike_activation_map(batch.require("student_features"))
    cam = L.class_activation_map(batch.require("teacher_features"), batch.require("classifier_weight"), y)
    size = min(sizes)
    pool = torch.nn.functional.adaptive_avg_pool2d
    torch.testing.assert_close(got, L.samd_loss(pool(sam, size), pool(cam, size)))


def test_perfect_teacher_does_not_divide_by_zero() -> None:
    z, _, y = random_case()
    u = 1e3 * torch.nn.functional.one_hot(y, 5).double()
    assert L.bkdsnn_logit_loss(z, u, y).isfinite()
    assert L.bkdsnn_logit_loss(u.expand(3, 4, 5), u, y).isfinite()


def test_wrong_shapes_and_dtypes_are_refused_with_the_argument_named() -> None:
    z, u, y = random_case()
    with pytest.raises(UsageError, match="teacher_logits: wrong number of dimensions") as caught:
        L.ela_loss(z, u.expand(3, 4, 5), y[:2])
    assert "labels: sizes differ" in str(caught.value)
    with pytest.raises(UsageError, match="student_logits"):
        L.sta_loss(z[0])
    with pytest.raises(UsageError, match="floating-point"):
        L.sta_loss(z.long())
    with pytest.raises(UsageError, match="integer class indices"):
        L.ce_mean_loss(z, y.double())
    with pytest.raises(UsageError, match="is empty"):
        L.twkl_loss(z[:, :0], u[:0])
    with pytest.raises(UsageError, match="noise"):
        L.nld_loss(z[0], u, torch.zeros(5))
    with pytest.raises(UsageError, match="did you mean 'paper'"):
        L.nld_loss(z[0], u, convention="papper")
    with pytest.raises(UsageError, match="one of: paper, code, rec"):
        L.samd_loss(torch.ones(1, 2, 2), torch.ones(1, 2, 2), convention="x")
    with pytest.raises(UsageError, match="reduction"):
        L.spike_activation_map(torch.ones(1, 1, 1, 2, 2), reduction="max")
