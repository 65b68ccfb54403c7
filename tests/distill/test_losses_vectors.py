"""Every case of `distillation_vectors.npz` that concerns a loss (its `lif` case belongs to the neuron tests).

Provenance of the file: written by hand-derived numpy code with closed-form gradients, independent of this
package and of torch's autograd, from the equations of SeAl-KD (arXiv 2605.14252), CKDSNN and the baselines'
papers; where a runnable author form exists the values agree with it to float64 rounding. Keys are
`<case>/<name>`, inputs start with `in_`; plain arrays, no pickled objects.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from snnkd_deploy.distill import losses as L
from snnkd_deploy.distill.losses.common import kl_divergence
from snnkd_deploy.distill.losses.nld import _spread
from snnkd_deploy.distill.losses.temporal import find_strong_weak, tks_target, twsd_target

VECTORS = np.load(Path(__file__).with_name("distillation_vectors.npz"), allow_pickle=False)
SEAL_CASES = ("sealA", "seal_T2", "seal_T1")
DTYPES = (torch.float64, torch.float32)
CKD = "ckd_spikes"


def vec(case: str, name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    tensor = torch.from_numpy(VECTORS[f"{case}/{name}"])
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def close(got: Tensor, case: str, name: str) -> None:
    """1e-9 in float64; in float32 1e-5 of the array's largest value."""
    want = torch.from_numpy(np.asarray(VECTORS[f"{case}/{name}"]))
    assert got.shape == want.shape
    if got.dtype == torch.float64:
        torch.testing.assert_close(got, want.double(), rtol=1e-9, atol=1e-9)
    else:
        assert got.dtype == torch.float32
        error = (got.double() - want.double()).abs().max()
        assert error <= 1e-5 * want.abs().max(), f"{case}/{name}: {error:.3g}"


def value_and_grad(loss: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = loss(x)
    assert value.shape == ()
    (grad,) = torch.autograd.grad(value, x)
    return value.detach(), grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SEAL_CASES)
def test_seal_losses_and_gradients(case: str, dtype: torch.dtype) -> None:
    z, u, y = vec(case, "in_student_logits", dtype), vec(case, "in_teacher_logits", dtype), vec(case, "in_labels")
    ce, ce_grad = value_and_grad(lambda x: L.ce_per_step_loss(x, y), z)
    close(ce, case, "hard_ce")
    close(ce_grad, case, "hard_ce_grad")
    ela, ela_grad = value_and_grad(lambda x: L.ela_loss(x, u, y), z)
    close(ela, case, "ela_loss")
    close(ela_grad, case, "ela_grad")
    sta, sta_grad = value_and_grad(L.sta_loss, z)
    close(sta, case, "sta_loss")
    close(sta_grad, case, "sta_grad")
    module = L.SeAlKD()
    total, total_grad = value_and_grad(lambda x: L.total_loss(module(L.DistillBatch(x, y, teacher_logits=u))), z)
    close(total, case, "total_a0.6_b0.15")
    close(total_grad, case, "total_a0.6_b0.15_grad")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SEAL_CASES)
def test_ela_intermediates(case: str, dtype: torch.dtype) -> None:
    z, u, y = vec(case, "in_student_logits", dtype), vec(case, "in_teacher_logits", dtype), vec(case, "in_labels")
    equalised = L.equalise_errors(z, u, y)
    assert torch.equal(equalised.erroneous, vec(case, "ela_mask").bool())
    close(equalised.student, case, "ela_s_aligned")
    close(equalised.teacher, case, "ela_t_aligned")
    per_step = 9 * kl_divergence(equalised.teacher, equalised.student, 3.0).mean(1)
    close(per_step, case, "ela_loss_per_t")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ("sealA", "seal_T2"))
def test_sta_intermediates(case: str, dtype: torch.dtype) -> None:
    mix = L.mix_timesteps(vec(case, "in_student_logits", dtype))
    close(mix.confidence, case, "sta_conf")
    close(mix.similarity, case, "sta_sim")
    close(mix.weights, case, "sta_weights")
    close(mix.targets, case, "sta_target")


def ckd_maps(dtype: torch.dtype, classes: str, reduction: str) -> tuple[Tensor, Tensor]:
    features = vec(CKD, "in_F_student_BTCHW", dtype).transpose(0, 1)
    g, w = vec(CKD, "in_F_teacher_BDHW", dtype), vec(CKD, "in_W_teacher_KD", dtype)
    return (
        L.spike_activation_map(features, reduction=reduction),
        L.class_activation_map(g, w, vec(CKD, classes)),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_samd_code(dtype: torch.dtype) -> None:
    sam, cam = ckd_maps(dtype, "teacher_pred", "sum")
    close(sam, CKD, "samd_code_sam_raw")
    close(cam, CKD, "samd_code_cam_raw")
    close(L.scale_map(sam, "code"), CKD, "samd_code_sam")
    close(L.scale_map(cam, "code"), CKD, "samd_code_cam")
    for scaled, name in ((L.scale_map(sam, "code"), "P_s"), (L.scale_map(cam, "code"), "P_t")):
        p = torch.softmax(scaled.flatten(1) / 2, -1).view_as(scaled) + 1e-10
        close(p, CKD, f"samd_code_{name}")
    loss, grad = value_and_grad(lambda x: L.samd_loss(x, cam, convention="code"), sam)
    close(loss, CKD, "samd_code_loss")
    close(grad, CKD, "samd_code_grad_sam_raw")

    def from_features(f: Tensor) -> Tensor:
        raw = L.spike_activation_map(f.transpose(0, 1), reduction="sum")
        return L.samd_loss(raw, cam, convention="code")

    close(value_and_grad(from_features, vec(CKD, "in_F_student_BTCHW", dtype))[1], CKD, "samd_code_grad_F")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name, classes, reduction",
    [
        ("gt_sum", "in_labels", "sum"),
        ("pred_sum", "teacher_pred", "sum"),
        ("gt_mean", "in_labels", "mean"),
    ],
)
def test_samd_paper(dtype: torch.dtype, name: str, classes: str, reduction: str) -> None:
    sam, cam = ckd_maps(dtype, classes, reduction)
    grad_cam = cam / 16  # 4 x 4 pixels
    close(sam, CKD, f"samd_paper_{name}_M_s")
    close(grad_cam, CKD, f"samd_paper_{name}_M_t")
    loss, grad = value_and_grad(lambda x: L.samd_loss(x, grad_cam, convention="paper"), sam)
    close(loss, CKD, f"samd_paper_{name}_loss")
    close(grad, CKD, f"samd_paper_{name}_grad_M_s")


@pytest.mark.parametrize("dtype", DTYPES)
def test_samd_rec(dtype: torch.dtype) -> None:
    sam, cam = ckd_maps(dtype, "in_labels", "mean")
    close(L.scale_map(sam), CKD, "samd_rec_gt_M_s")
    close(L.scale_map(cam), CKD, "samd_rec_gt_M_t")
    close(L.samd_loss(sam, cam), CKD, "samd_rec_gt_loss")


@pytest.mark.parametrize("dtype", DTYPES)
def test_nld(dtype: torch.dtype) -> None:
    z, u, xi = (vec(CKD, n, dtype) for n in ("in_student_logits_mean", "teacher_logits", "in_xi"))
    # The module leaves the noise's mean out (it cancels); the vectors keep it.
    mean = z.mean(-1, keepdim=True)
    close(mean + xi * _spread(z, squared=True), CKD, "nld_code_noise")
    close(mean + xi * _spread(z, squared=False), CKD, "nld_paper_noise")
    for convention, detach, loss_name, grad_name in (
        ("code", None, "nld_code_loss", "nld_code_grad"),
        ("code", False, "nld_code_loss", "nld_code_grad"),
        ("code", True, "nld_code_loss", "nld_code_grad_noise_detached"),
        ("paper", None, "nld_paper_loss", "nld_paper_grad_noise_detached"),
        ("paper", True, "nld_paper_loss", "nld_paper_grad_noise_detached"),
        ("paper", False, "nld_paper_loss", "nld_paper_grad_noise_attached"),
        ("rec", None, "nld_paper_loss", "nld_paper_grad_noise_detached"),
    ):
        loss, grad = value_and_grad(
            lambda x, c=convention, d=detach: L.nld_loss(x, u, xi, convention=c, detach_noise=d), z
        )
        close(loss, CKD, loss_name)
        close(grad, CKD, grad_name)
    assert torch.equal(L.nld_loss(z, u, xi), L.nld_loss(z, u, xi, 0.1, 2.0, "paper"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("convention, expected", [("code", "total_code"), ("paper", "total_paper_gt_sum")])
def test_ckd_total(dtype: torch.dtype, convention: str, expected: str, monkeypatch) -> None:
    """The module end to end; only the noise draw is replaced by the vectors' own."""
    xi = vec(CKD, "in_xi", dtype)
    monkeypatch.setattr("snnkd_deploy.distill.losses.nld.standard_normal", lambda like, generator: xi)
    batch = L.DistillBatch(
        # any logits over time whose mean is zbar
        student_logits=vec(CKD, "in_student_logits_mean", dtype) + torch.tensor([-1.0, 1.0])[:, None, None],
        labels=vec(CKD, "in_labels"),
        teacher_logits=vec(CKD, "teacher_logits", dtype),
        student_features=vec(CKD, "in_F_student_BTCHW", dtype).transpose(0, 1),
        teacher_features=vec(CKD, "in_F_teacher_BDHW", dtype),
        classifier_weight=vec(CKD, "in_W_teacher_KD", dtype),
    )
    terms = L.CKD(samd_convention=convention, nld_convention=convention)(batch)
    close(terms["ce"], CKD, "ce")
    close(L.total_loss(terms), CKD, expected)
    close(L.CKD()(batch)["samd"], CKD, "samd_rec_gt_loss")


@pytest.mark.parametrize("dtype", DTYPES)
def test_baselines(dtype: torch.dtype) -> None:
    case = "base"
    z, u, y = vec(case, "in_student_logits", dtype), vec(case, "in_teacher_logits", dtype), vec(case, "in_labels")
    kd, kd_grad = value_and_grad(lambda x: L.logit_kd_loss(x, u, 4.0), z)
    close(kd, case, "kdsnn_tau4_loss")
    close(kd_grad, case, "kdsnn_tau4_grad")
    close(value_and_grad(lambda x: L.kdsnn_logit_loss(x, u, 4.0), z)[1], case, "kdsnn_tau4_grad")
    twkl, twkl_grad = value_and_grad(lambda x: L.twkl_loss(x, u), z)
    close(twkl, case, "twkl_tau3_loss")
    close(twkl_grad, case, "twkl_tau3_grad")
    close(twsd_target(z, y), case, "twsd_tau3_target")
    twsd, twsd_grad = value_and_grad(lambda x: L.twsd_loss(x, y), z)
    close(twsd, case, "twsd_tau3_loss")
    close(twsd_grad, case, "twsd_tau3_grad")
    close(L.tet_loss(z, y), case, "tet_lam0.05_loss")
    close(L.label_smoothing_loss(z, y), case, "labelsmooth0.1_loss")
    close(torch.softmax(tks_target(z, y) / 3, -1), case, "tks_tau3_target")
    close(L.tks_loss(z, y), case, "tks_tau3_loss")
    steps = find_strong_weak(z)
    assert steps.strong == vec(case, "s2w_tau2_strong") and steps.weak == vec(case, "s2w_tau2_weak")
    close(L.strong_weak_loss(z), case, "s2w_tau2_kl_no_tau2")
    student, teacher = vec(case, "in_F_student", dtype), vec(case, "in_F_teacher", dtype)
    blurred = L.bkdsnn_feature_loss(student, teacher, torch.nn.Identity(), vec(case, "in_blur_mask", dtype))
    close(7e-5 * blurred, case, "bkd_identityG_loss")
