"""Train a teacher, and ask one for logits and features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkd_deploy.data import Dataset, Split, batch_generator
from snnkd_deploy.data.augment import Augment
from snnkd_deploy.distill.loop import BatchInfo, Trainee
from snnkd_deploy.nets.teachers import Teacher
from snnkd_deploy.progress import task

# Teacher features of a whole training set are kept in memory below this size.
_CACHE_BYTES = 2 * 1024**3
_EVAL_BATCH = 500


class TeacherTrainee(Trainee):
    """Plain cross-entropy on the training split."""

    def __init__(self, module: nn.Module, data: Dataset, augment: Augment | None, seed: int) -> None:
        self.module, self.data, self.augment, self.seed = module, data, augment, seed
        self.samples = len(data.train)

    def loss_terms(self, rows: Tensor, info: BatchInfo) -> dict[str, Tensor]:
        x = images(self.data.train, rows)
        if self.augment is not None:
            x = self.augment(x, batch_generator(self.seed, info.epoch, info.batch))
        return {"ce": F.cross_entropy(self.module(x), self.data.train.y[rows])}

    def validate(self) -> dict[str, float]:
        return {"accuracy": accuracy(self.module, self.data.val)}


def images(split: Split, rows: Tensor) -> Tensor:
    """Pixels (B, C, H, W) uint8 of these rows."""
    assert isinstance(split.x, Tensor)
    return split.x[rows]


@torch.no_grad()
def accuracy(teacher: nn.Module, split: Split) -> float:
    """Top-1 fraction on a split."""
    teacher.eval()
    correct = 0
    for start in range(0, len(split), _EVAL_BATCH):
        rows = torch.arange(start, min(start + _EVAL_BATCH, len(split)))
        correct += int((teacher(images(split, rows)).argmax(1) == split.y[rows]).sum())
    return correct / max(1, len(split))


class TeacherView:
    """A frozen teacher as the losses see it. Answers for unaugmented training rows are computed once and kept."""

    def __init__(self, teacher: Teacher, needs_features: bool) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.needs_features = needs_features
        self._logits: Tensor | None = None
        self._features: Tensor | None = None

    @property
    def classifier(self) -> nn.Linear:
        return self.teacher.classifier

    @property
    def feature_channels(self) -> int:
        return self.classifier.in_features

    @torch.no_grad()
    def prepare(self, split: Split) -> None:
        """Precompute the answers for a split whose images are always the same (no augmentation)."""
        probe = self.teacher.features(images(split, torch.arange(1)))
        if self.needs_features and probe.numel() * len(split) * 2 > _CACHE_BYTES:
            return
        logits, features = [], []
        with task("teacher answers", len(split)) as advance:
            for start in range(0, len(split), _EVAL_BATCH):
                rows = torch.arange(start, min(start + _EVAL_BATCH, len(split)))
                maps = self.teacher.features(images(split, rows))
                logits.append(self.teacher.head(maps))
                if self.needs_features:
                    features.append(maps.to(torch.float16))
                advance(len(rows), "")
        self._logits = torch.cat(logits)
        self._features = torch.cat(features) if features else None

    @torch.no_grad()
    def answer(self, rows: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, C) and features (B, D, H, W) or None for these training rows, seen as pixels x."""
        if self._logits is not None:
            features = None if self._features is None else self._features[rows].to(torch.float32)
            return self._logits[rows], features
        features = self.teacher.features(x)
        return self.teacher.head(features), features if self.needs_features else None
