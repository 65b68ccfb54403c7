"""Students that fire in every layer, in chip mode: what lowering and backends are held to."""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd_deploy.chips import load_chip
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.zoo import build_student


def active_student(plan: StudentPlan, samples: int = 24, chip: str = "loihi2", seed: int = 0) -> tuple[Student, Tensor]:
    """The student of a plan and its input: pixels (B, ...) for `current`, else (T, B, ...)."""
    torch.manual_seed(seed)
    student = build_student(plan)
    if plan.encoding == "events" and plan.levels == 1:
        x = (torch.rand(plan.steps, samples, *plan.input_shape) < 0.3).float()
    else:
        lead = (samples,) if plan.encoding == "current" else (plan.steps, samples)
        x = torch.randint(0, plan.levels + 1, (*lead, *plan.input_shape))
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the running statistics are those of the last batch
            module.bias.data.fill_(0.3)  # an untrained deep student would otherwise fall silent
    student.train()
    with torch.no_grad():
        student(x)
    student.eval()
    student.to_chip(load_chip(chip))
    return student, x
