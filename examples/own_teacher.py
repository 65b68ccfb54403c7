"""Your own teacher: any nn.Module that maps images (B, C, H, W), normalised as the recipe says, to logits (B, K).

snnkd run examples/own_teacher.toml

Methods that compare feature maps (ckd, ckd_samd) need global average pooling and one linear layer at the end, as here.
"""

from torch import Tensor, nn


class Dilated(nn.Module):
    """Three convolutions, the last two dilated, a mean over the picture, a linear classifier."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=2, dilation=2, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=2, dilation=2, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(2 * channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.body(images).mean((2, 3)))


def dilated(channels: int = 32, classes: int = 10) -> nn.Module:
    """What `teacher.net = "own_teacher.py:dilated"` calls, with `teacher.options` as keywords."""
    return Dilated(channels, classes)
