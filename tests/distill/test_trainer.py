"""The training loop on a toy: moving averages, their checkpoints, and what several processes would share."""

import pytest
import torch
from torch import nn

from snnkd_deploy.distill import loop
from snnkd_deploy.distill.loop import BatchInfo, Phase, Plan, Trainee, Trainer
from snnkd_deploy.distill.parallel import Group, pick_device
from snnkd_deploy.errors import UsageError


class Toy(Trainee):
    """Regression of a line; `validate` notes the weights that it sees."""

    samples = 40

    def __init__(self):
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.x = torch.randn(40, 3)
        self.seen = []

    def loss_terms(self, rows, info):
        return {"mse": (self.module(self.x[rows]) - self.x[rows].sum(1, keepdim=True)).square().mean()}

    def validate(self):
        self.seen.append(self.module[0].weight.detach().clone())
        self.module.eval()
        with torch.no_grad():
            error = (self.module(self.x) - self.x.sum(1, keepdim=True)).square().mean()
        return {"accuracy": float(1 / (1 + error))}


def plan(ema):
    return Plan((Phase("a", 2, 0.05), Phase("b", 2, 0.05)), batch=8, optimizer="sgd", seed=1, ema=ema)


def test_averages_are_validated_and_deployed(tmp_path):
    toy = Toy()
    trainer = Trainer(toy, plan(0.9), tmp_path, "f", "toy")
    live = []
    step = trainer._step
    weights = lambda: toy.module[0].weight.detach().clone()  # noqa: E731
    trainer._step = lambda *a: (step(*a), live.append(weights()))[0]
    result = trainer.run()
    # Recomputed from the weights after each step: 5 batches an epoch, phases of 2 epochs.
    expected = []
    for phase in range(2):
        average = None
        for n, weight in enumerate(live[10 * phase : 10 * phase + 10], start=1):
            decay = min(0.9, n / (n + 9.0))
            average = weight if average is None else decay * average + (1 - decay) * weight
            if n % 5 == 0:
                expected.append(average)
    for got, want in zip(toy.seen, expected, strict=True):
        torch.testing.assert_close(got, want)
    assert any(torch.equal(result.tensors["0.weight"], seen) for seen in toy.seen[2:])
    assert not torch.equal(live[-1], toy.seen[-1])


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("stop_at", [3, 9, 12, 17])
def test_resumed_equals_uninterrupted(tmp_path, monkeypatch, ema, stop_at):
    whole = Trainer(Toy(), plan(ema), tmp_path / "a", "f", "toy").run()
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)

    class CutError(Exception):
        pass

    toy = Toy()
    original, calls = toy.loss_terms, 0

    def cut(rows, info):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise CutError
        return original(rows, info)

    toy.loss_terms = cut
    with pytest.raises(CutError):
        Trainer(toy, plan(ema), tmp_path / "b", "f", "toy").run()
    again = Trainer(Toy(), plan(ema), tmp_path / "b", "f", "toy").run()
    assert all(torch.equal(again.tensors[k], whole.tensors[k]) for k in whole.tensors)


def test_shards_cover_a_batch_once():
    rows = torch.arange(7)
    parts = [Group(rank, 3).shard(rows) for rank in range(3)]
    assert sorted(torch.cat(parts).tolist()) == list(range(7))
    assert torch.equal(BatchInfo(0, 0, 0, 0.0, 1, 3).mine(rows), parts[1])


def test_devices():
    assert pick_device("cpu").type == "cpu"
    for name in ("cuda:99", "tpu", "mps"):
        with pytest.raises(UsageError):
            pick_device(name)
