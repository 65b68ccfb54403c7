"""NLD of CKDSNN: distillation of the teacher's logits into a student whose logits are disturbed by noise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from snnkd_deploy.distill.losses.common import (
    check_choice,
    check_shapes,
    full_precision,
    kl_divergence,
    kl_from_log_probs,
    standard_normal,
)
from snnkd_deploy.distill.losses.samd import CONVENTIONS


def _spread(logits: Tensor, squared: bool) -> Tensor:
    """s = std over classes (ddof 1), or s^2, per sample: (B, K) -> (B, 1). 0 for one class or equal logits.

    Finite for any finite logits, and with a finite gradient (0) where s = 0.
    """
    if logits.shape[-1] == 1:
        return torch.zeros_like(logits)
    largest = torch.finfo(logits.dtype).max * 1e-6  # leaves room for the noise
    scale = logits.detach().abs().amax(-1, keepdim=True).clamp(min=1.0)
    if squared:
        scale = scale.clamp(max=math.sqrt(largest))
    variance = (logits / scale).var(-1, keepdim=True)
    if squared:
        return (scale * variance * scale).clamp(max=largest)
    spreads = variance > 0
    return scale * torch.where(spreads, torch.where(spreads, variance, 1.0).sqrt(), 0.0)


@full_precision
def nld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    noise: Tensor | None = None,
    noise_weight: float = 0.1,
    temperature: float = 2.0,
    convention: str = "paper",
    *,
    detach_noise: bool | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """tau^2 (1/B) sum_b KL(softmax_tau(sg[u]) || p), p the student's distribution disturbed by noise.

    student_logits (B, K): zbar, the logits averaged over time; teacher_logits (B, K) -> scalar.
    noise: the standard-normal draw xi (B, K); None draws it, from `generator` if one is given.
    With m and s the mean and the standard deviation (ddof 1) of z over the classes, w = `noise_weight`:

        paper, rec:  eps = m + xi s,     p = softmax_tau(z + w eps)
        code:        eps = m + xi s^2,   p = (1 - w) softmax_tau(z) + w softmax_tau(eps)

    `detach_noise` stops the gradient through eps; None: stopped, except for `code`, as its authors do.
    `rec` is `paper` with the noise detached. With `code`, s^2 makes unnormalised logits explode.
    Source: CKDSNN, eqs 5-7, and its code.
    """
    check_choice("NLD convention", convention, CONVENTIONS)
    z, u = student_logits, teacher_logits.detach()
    check_shapes(student_logits=(z, "BK"), teacher_logits=(u, "BK"))
    if noise is None:
        noise = standard_normal(z, generator)
    check_shapes(student_logits=(z, "BK"), noise=(noise, "BK"))
    if detach_noise is None:
        detach_noise = convention != "code"
    # m shifts all classes equally and cancels in either softmax: left out.
    disturbance = noise.to(z.dtype) * _spread(z.detach() if detach_noise else z, squared=convention == "code")
    if convention != "code":
        return temperature**2 * kl_divergence(u, z + noise_weight * disturbance, temperature).mean()
    log_p = F.log_softmax(z / temperature, dim=-1)
    if noise_weight > 0:
        # The mixture of probabilities in the log domain, so that a tiny probability is not log(0).
        log_noise = F.log_softmax(disturbance / temperature, dim=-1) + math.log(noise_weight)
        log_p = torch.logaddexp(log_p + math.log1p(-noise_weight), log_noise)
    log_q = F.log_softmax(u / temperature, dim=-1)
    return temperature**2 * kl_from_log_probs(log_q, log_p).mean()
