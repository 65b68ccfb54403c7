"""AutoAugment with the policy found on CIFAR-10 (Cubuk et al., CVPR 2019), on batches of tensors.

Policy, magnitudes and operations are those of torchvision's `AutoAugment(AutoAugmentPolicy.CIFAR10)` on Pillow
images with its default settings; only the source of the draws differs.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from snnkd_deploy.data import autoaugment_ops as ops
from snnkd_deploy.errors import UsageError

Step = tuple[str, float, int]

# 25 pairs of (operation, probability, magnitude 0..9); one pair is drawn for each image.
POLICY: tuple[tuple[Step, Step], ...] = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("auto_contrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("auto_contrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("auto_contrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 0)),
)


def _linear(first: float, last: float) -> Tensor:
    # torchvision draws its magnitudes up in float32; so do we, for the same last digit.
    return torch.linspace(first, last, 10).double()


def magnitudes(H: int, W: int) -> dict[str, tuple[ops.Operation, Tensor, bool]]:
    """Name -> (operation, its ten magnitudes, whether a random sign applies) for images of H x W."""
    none = torch.zeros(10, dtype=torch.float64)
    bits = 8 - (torch.arange(10) / (9 / 4)).round().double()
    return {
        "shear_y": (ops.shear_y, _linear(0.0, 0.3), True),
        "translate_x": (ops.translate_x, _linear(0.0, 150.0 / 331.0 * W), True),
        "translate_y": (ops.translate_y, _linear(0.0, 150.0 / 331.0 * H), True),
        "rotate": (ops.rotate, _linear(0.0, 30.0), True),
        "brightness": (ops.brightness, _linear(0.0, 0.9), True),
        "color": (ops.color, _linear(0.0, 0.9), True),
        "contrast": (ops.contrast, _linear(0.0, 0.9), True),
        "sharpness": (ops.sharpness, _linear(0.0, 0.9), True),
        "posterize": (ops.posterize, bits, False),
        "solarize": (ops.solarize, _linear(255.0, 0.0), False),
        "auto_contrast": (ops.auto_contrast, none, False),
        "equalize": (ops.equalize, none, False),
        "invert": (ops.invert, none, False),
    }


def autoaugment_cifar10(x: Tensor, generator: Generator) -> Tensor:
    """A random sub-policy for every image of x uint8 (B, 1 or 3, H, W) with pixels 0..255."""
    B = x.shape[0]
    where = generator.device
    choice = torch.randint(len(POLICY), (B,), generator=generator, device=where).cpu()
    chance = torch.rand((B, 2), generator=generator, device=where).cpu()
    sign = torch.randint(2, (B, 2), generator=generator, device=where).cpu()
    return apply_policy(x, choice, chance, sign)


def apply_policy(x: Tensor, choice: Tensor, chance: Tensor, sign: Tensor) -> Tensor:
    """Sub-policy `choice` (B,) for each image; step i happens where `chance` (B, 2) is at most its
    probability, with magnitude negated where it takes a sign and `sign` (B, 2) is 0."""
    if x.shape[1] not in (1, 3):
        raise UsageError("autoaugment takes grey or colour images", need="1 or 3 channels", have=x.shape[1])
    table = magnitudes(*x.shape[-2:])
    x = x.clone()
    for i in range(2):
        steps = [POLICY[c][i] for c in choice.tolist()]
        happens = chance[:, i] <= torch.tensor([probability for _, probability, _ in steps])
        # All images that get the same operation go together.
        for name in dict.fromkeys(step[0] for step in steps):
            operation, sizes, signed = table[name]
            rows = torch.tensor([step[0] == name for step in steps]) & happens
            if not rows.any():
                continue
            m = sizes[torch.tensor([step[2] for step in steps])[rows]]
            if signed:
                m = torch.where(sign[rows, i] == 0, -m, m)
            rows = rows.to(x.device)
            x[rows] = operation(x[rows], m)
    return x
