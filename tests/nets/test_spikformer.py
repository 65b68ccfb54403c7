"""Spikformer in float: the published size, spikes where it says spikes, trainable by the losses."""

import pytest
import torch

from snnkd_deploy.distill import DistillBatch, build_method, total_loss
from snnkd_deploy.errors import RecipeError
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.spikformer import Spikformer
from snnkd_deploy.nets.zoo import build_student


def test_the_published_size():
    model = Spikformer(StudentPlan("spikformer", (3, 32, 32), 10, 255, 4))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(9.32e6, rel=0.005)


def test_it_trains_with_our_losses():
    torch.manual_seed(0)
    model = Spikformer(StudentPlan("spikformer", (1, 8, 8), 5, 16, 2, width=0.1))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.bias.data.fill_(0.5)
    out = model(torch.randint(0, 17, (6, 1, 8, 8)))
    assert out.logits.shape == (2, 6, 5) and out.features.shape == (2, 6, 32, 2, 2)
    assert all(set(s.unique().tolist()) <= {0.0, 1.0} for s in out.spikes.values())
    assert out.spikes["block0.attention"].shape == (2, 6, 4, 32)
    batch = DistillBatch(
        student_logits=out.logits,
        labels=torch.randint(0, 5, (6,)),
        teacher_logits=torch.randn(6, 5),
        student_features=out.features,
        teacher_features=torch.rand(6, 7, 2, 2),
        classifier_weight=torch.randn(5, 7),
    )
    total_loss(build_method(["seal", "ckd"])(batch)).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None]
    assert silent == []
    assert model.blocks[3].query.linear.weight.grad.abs().sum() > 0


def test_attention_is_q_kt_v():
    torch.manual_seed(0)
    q, k, v = (torch.rand(2, 3, 4, 5, 6) for _ in range(3))
    torch.testing.assert_close(q @ (k.transpose(-2, -1) @ v), (q @ k.transpose(-2, -1)) @ v)


def test_it_is_not_a_student_to_deploy():
    with pytest.raises(RecipeError, match="attention"):
        build_student(StudentPlan("spikformer", (3, 32, 32), 10, 255, 4))
