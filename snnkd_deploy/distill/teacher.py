"""Train a teacher, and ask one for logits and features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkd_deploy.data import Dataset, Split, batch_generator
from snnkd_deploy.data.augment import Augment
from snnkd_deploy.distill.feed import Feed
from snnkd_deploy.distill.loop import BatchInfo, Trainee
from snnkd_deploy.nets.teachers import Teacher
from snnkd_deploy.progress import task

# Teacher features of a whole training set are kept in memory below this size.
_CACHE_BYTES = 2 * 1024**3
_EVAL_BATCH = 500


class TeacherTrainee(Trainee):
    """Plain cross-entropy on the training split."""

    def __init__(
        self,
        module: nn.Module,
        data: Dataset,
        feed: Feed,
        augment: Augment | None,
        seed: int,
        *,
        device: torch.device | None = None,
        mixed: bool = False,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.module, self.data, self.feed, self.augment, self.seed = module.to(self.device), data, feed, augment, seed
        self.mixed = mixed
        self.samples = len(data.train)

    def loss_terms(self, rows: Tensor, info: BatchInfo) -> dict[str, Tensor]:
        x = augmented(self.data.train, rows, self.feed, self.augment, self.seed, info)
        x = self.feed.teacher(info.mine(x)).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            logits = self.module(x)
        return {"ce": F.cross_entropy(logits.float(), self.data.train.y[info.mine(rows)].to(self.device))}

    def validate(self) -> dict[str, float]:
        return {"accuracy": accuracy(self.module, self.data.val, self.feed, self.device)}


def augmented(split: Split, rows: Tensor, feed: Feed, augment: Augment | None, seed: int, info: BatchInfo) -> Tensor:
    """Raw integers (B, ...) of a global batch, augmented as one however many processes share it."""
    raw = feed.raw(split, rows)
    if augment is None:
        return raw
    return augment(feed.augmentable(raw), batch_generator(seed, info.epoch, info.batch)).reshape(raw.shape)


@torch.no_grad()
def accuracy(teacher: nn.Module, split: Split, feed: Feed, device: torch.device | None = None) -> float:
    """Top-1 fraction on a split."""
    teacher.eval()
    correct = 0
    for start in range(0, len(split), _EVAL_BATCH):
        rows = torch.arange(start, min(start + _EVAL_BATCH, len(split)))
        logits = teacher(feed.teacher(feed.raw(split, rows)).to(device or torch.device("cpu")))
        correct += int((logits.argmax(1).cpu() == split.y[rows]).sum())
    return correct / max(1, len(split))


class TeacherView:
    """A frozen teacher as the losses see it. Answers for unaugmented training rows are computed once and kept."""

    def __init__(self, teacher: Teacher, needs_features: bool, feed: Feed, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.teacher = teacher.eval().requires_grad_(False).to(self.device)
        self.needs_features, self.feed = needs_features, feed
        self._logits: Tensor | None = None
        self._features: Tensor | None = None

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear layer behind global average pooling, where the teacher has one."""
        return self.teacher.classifier if self.teacher.gives_features else None

    @torch.no_grad()
    def prepare(self, split: Split) -> None:
        """Precompute the answers for a split whose images are always the same (no augmentation)."""
        _, probe = self._ask(self.feed.raw(split, torch.arange(1)))
        if probe is not None and probe.numel() * len(split) * 2 > _CACHE_BYTES:
            return
        logits, features = [], []
        with task("teacher answers", len(split)) as advance:
            for start in range(0, len(split), _EVAL_BATCH):
                rows = torch.arange(start, min(start + _EVAL_BATCH, len(split)))
                found, maps = self._ask(self.feed.raw(split, rows))
                logits.append(found.cpu())
                if maps is not None:
                    features.append(maps.to(torch.float16).cpu())
                advance(len(rows), "")
        self._logits = torch.cat(logits)
        self._features = torch.cat(features) if features else None

    def _ask(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.teacher.answer(self.feed.teacher(raw).to(self.device), self.needs_features)

    @torch.no_grad()
    def answer(self, rows: Tensor, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, C) and features (B, D, H, W) or None for these training rows, seen as raw integers."""
        if self._logits is not None:
            features = None if self._features is None else self._features[rows].to(self.device, torch.float32)
            return self._logits[rows].to(self.device), features
        return self._ask(raw)
