"""SAMD of CKDSNN: the student's spike activation map learns the teacher's class activation map.

Three conventions, because the paper and its code differ; what happens outside `samd_loss` is done by `CKD`.

|              | paper (eqs 2-4)            | code                          | rec (default)               |
| class        | label                      | teacher's prediction          | label                       |
| student map  | sum over t, c              | sum over t, c                 | mean over t, c              |
| teacher map  | ReLU(W G) / (H W)          | ReLU(W G)                     | ReLU(W G)                   |
| scaling      | none                       | min-max over the batch, 1e-3  | min-max per sample, 1e-8    |
| probability  | softmax(M / 2)             | softmax(M / 2) + 1e-10        | softmax(M / 2)              |
| factor       | tau^2 = 4                  | 1                             | tau^2 = 4                   |
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from snnkd_deploy.distill.losses.common import (
    check_choice,
    check_shapes,
    full_precision,
    kl_divergence,
    kl_from_log_probs,
)

CONVENTIONS = ("paper", "code", "rec")


@full_precision
def spike_activation_map(student_features: Tensor, *, reduction: str = "mean") -> Tensor:
    """A^st: the student's features (T, B, C, H, W) reduced over time and channels -> (B, H, W).

    "mean" is the `rec` convention (and the paper's prose), "sum" the paper's formula and its code.
    """
    check_choice("reduction", reduction, ("mean", "sum"))
    check_shapes(student_features=(student_features, "TBCHW"))
    return student_features.mean((0, 2)) if reduction == "mean" else student_features.sum((0, 2))


@full_precision
def class_activation_map(teacher_features: Tensor, classifier_weight: Tensor, classes: Tensor) -> Tensor:
    """A^te = ReLU(sum_d W[k_b, d] G[b, d]): features (B, D, H, W), weight (K, D), classes (B,) -> (B, H, W).

    For a teacher that ends in global average pooling and one linear layer this is H W times Grad-CAM.
    """
    check_shapes(
        teacher_features=(teacher_features, "BDHW"),
        classifier_weight=(classifier_weight, "KD"),
        classes=(classes, "B"),
    )
    dtype = torch.promote_types(classifier_weight.dtype, teacher_features.dtype)
    rows = classifier_weight[classes.long()].to(dtype)
    return F.relu(torch.einsum("bd,bdhw->bhw", rows, teacher_features.to(dtype)))


@full_precision
def scale_map(activation_map: Tensor, convention: str = "rec") -> Tensor:
    """M from the raw map A, (B, H, W) -> (B, H, W), values in [0, 1] except for `paper`, which keeps A.

    `code`: (A - min) / (max(A - min) + 1e-3) over the WHOLE batch, so a sample's value depends on its
    companions. `rec`: per sample with 1e-8; a constant map (e.g. an all-silent layer) gives 0 with zero
    gradient. The gradient flows through min and max, shared evenly by ties.
    """
    check_choice("SAMD convention", convention, CONVENTIONS)
    check_shapes(activation_map=(activation_map, "BHW"))
    if convention == "paper":
        return activation_map
    dims = (0, 1, 2) if convention == "code" else (1, 2)
    shifted = activation_map - activation_map.amin(dims, keepdim=True)
    span = shifted.amax(dims, keepdim=True)
    if convention == "code":
        return shifted / (span + 1e-3)
    # dM/dA is 1/eps on a constant map: that would blow up the step. A span at rounding level counts as
    # constant too, it carries no information.
    rounding = 4 * torch.finfo(activation_map.dtype).eps
    varies = span.detach() > rounding * activation_map.detach().abs().amax(dims, keepdim=True)
    return torch.where(varies, shifted / (span + 1e-8), 0.0)


@full_precision
def samd_loss(sam: Tensor, cam: Tensor, temperature: float = 2.0, convention: str = "rec") -> Tensor:
    """tau^2 (1/B) sum_b KL(softmax_pix(M^te / tau) || softmax_pix(M^st / tau)), M = `scale_map`(A).

    sam, cam (B, H, W): the student's and the teacher's map BEFORE scaling -> scalar. `paper` takes both as
    they are, so its caller passes the summed student map and the Grad-CAM (`class_activation_map` / (H W)).
    `code` has no factor tau^2 and adds 1e-10 to both probabilities. The teacher's map carries no gradient.
    Source: CKDSNN, SAMD.
    """
    check_shapes(sam=(sam, "BHW"), cam=(cam, "BHW"))
    student = scale_map(sam, convention).flatten(1)
    teacher = scale_map(cam.detach(), convention).flatten(1)
    if convention == "code":
        p_student = F.softmax(student / temperature, dim=-1) + 1e-10
        p_teacher = F.softmax(teacher / temperature, dim=-1) + 1e-10
        return kl_from_log_probs(p_teacher.log(), p_student.log()).mean()
    return temperature**2 * kl_divergence(teacher, student, temperature).mean()


@full_precision
def match_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps or feature stacks (B, ..., H, W) brought to one size: the larger is average-pooled down.

    Each axis takes the smaller of the two sizes (adaptive average pooling).
    """
    size = (min(first.shape[-2], second.shape[-2]), min(first.shape[-1], second.shape[-1]))
    pooled = [x if x.shape[-2:] == size else F.adaptive_avg_pool2d(x, size) for x in (first, second)]
    return pooled[0], pooled[1]
