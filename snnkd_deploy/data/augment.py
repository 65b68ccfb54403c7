"""Augmentations of uint8 image batches, all their randomness from one explicit generator.

The draws are made on the generator's device and moved to the images: a CPU generator gives the same augmentation
on CPU and CUDA. Images stay integers in the range that they came in.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from snnkd_deploy.data.autoaugment import autoaugment_cifar10
from snnkd_deploy.errors import UsageError

Augment = Callable[[Tensor, Generator], Tensor]


def _draw(low: int, high: int, n: int, generator: Generator, device: torch.device) -> Tensor:
    """n integers in [low, high), int64."""
    return torch.randint(low, high, (n,), generator=generator, device=generator.device).to(device)


def random_crop(x: Tensor, generator: Generator, pad: int = 4) -> Tensor:
    """Pad every side with `pad` zeros, then cut a random window of the old size, for each image its own."""
    B, _, H, W = x.shape
    top = _draw(0, 2 * pad + 1, B, generator, x.device)
    left = _draw(0, 2 * pad + 1, B, generator, x.device)
    return _window(torch.nn.functional.pad(x, (pad, pad, pad, pad)), top, left, H, W)


def shift(x: Tensor, generator: Generator, pixels: int = 2) -> Tensor:
    """Move each image by up to `pixels` in both directions; what comes in is zero.

    The same operation as `random_crop`, named for small images whose content must stay inside.
    """
    return random_crop(x, generator, pixels)


def flip(x: Tensor, generator: Generator) -> Tensor:
    """Mirror left and right, each image with probability 1/2."""
    mirrored = _draw(0, 2, x.shape[0], generator, x.device).bool()
    return torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)


def cutout(x: Tensor, generator: Generator, size: int = 8) -> Tensor:
    """Cover one `size` x `size` square an image with the image's mean colour (DeVries & Taylor 2017).

    The centre may lie anywhere, so squares at the border are smaller, as in the paper. The paper fills with zero
    after normalisation, that is with the data's mean; pixel integers are not normalised, hence the mean here.
    """
    B, _, H, W = x.shape
    row = _draw(0, H, B, generator, x.device) - size // 2
    column = _draw(0, W, B, generator, x.device) - size // 2
    hole = _rectangles(row, column, torch.full_like(row, size), torch.full_like(row, size), H, W)
    return torch.where(hole, _mean_colour(x), x)


def erase(x: Tensor, generator: Generator, percent: int = 50, *, levels: int = 255) -> Tensor:
    """Random erasing (Zhong et al. 2020): with probability `percent`/100 fill a rectangle with random pixels.

    Area 2 to 33 % of the image, aspect ratio 0.3 to 3.3 (log-uniform), pixels uniform in 0..`levels`. A
    rectangle that would not fit is shortened to the image, where the paper draws again: one draw an image
    keeps the stream's length fixed.
    """
    B, C, H, W = x.shape

    def uniform() -> Tensor:
        return torch.rand(B, generator=generator, device=generator.device, dtype=torch.float64)

    chosen = _draw(0, 100, B, generator, x.device) < percent
    area = H * W * (0.02 + 0.31 * uniform())
    low, high = math.log(0.3), math.log(3.3)
    ratio = torch.exp(low + (high - low) * uniform())
    height = (area * ratio).sqrt().round().clamp(1, H).long()
    width = (area / ratio).sqrt().round().clamp(1, W).long()
    row = (uniform() * (H - height + 1)).long()
    column = (uniform() * (W - width + 1)).long()
    row, column, height, width = (v.to(x.device) for v in (row, column, height, width))
    hole = _rectangles(row, column, height, width, H, W)
    noise = torch.randint(0, levels + 1, (B, C, H, W), generator=generator, device=generator.device)
    return torch.where(hole & chosen.view(-1, 1, 1, 1), noise.to(device=x.device, dtype=torch.uint8), x)


# Name -> (operation, whether `name:number` sets its size).
AUGMENTATIONS: dict[str, tuple[Callable[..., Tensor], bool]] = {
    "crop": (random_crop, True),
    "shift": (shift, True),
    "flip": (flip, False),
    "cutout": (cutout, True),
    "erase": (erase, True),
    "autoaugment": (autoaugment_cifar10, False),
}


def build_augment(names: list[str], *, levels: int = 255) -> Augment:
    """One function that applies the named augmentations in order; no names: images as they are.

    A name may carry its size: "crop:4" (padding), "shift:2" (pixels), "cutout:16" (side), "erase:25" (percent of
    the images). `levels` is the data set's largest pixel value. The function takes uint8 (B, C, H, W) and a
    generator, and returns uint8 of that shape. `UsageError` for unknown names, and for autoaugment where pixels
    do not reach 255: its inversions and contrasts are defined on 0..255.
    """
    steps = [_parse(name, levels) for name in names]

    def augment(x: Tensor, generator: Generator) -> Tensor:
        if x.dtype != torch.uint8 or x.ndim != 4:
            have = f"{x.dtype} {tuple(x.shape)}"
            raise UsageError("augmentations take images", need="uint8 (B, C, H, W)", have=have)
        for operation in steps:
            x = operation(x, generator)
        return x

    return augment


def _parse(text: str, levels: int) -> Augment:
    name, colon, value = str(text).partition(":")
    if name not in AUGMENTATIONS:
        near = difflib.get_close_matches(name, AUGMENTATIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"unknown augmentation {name!r}{hint}", remedy="one of " + ", ".join(AUGMENTATIONS))
    operation, sized = AUGMENTATIONS[name]
    if colon and not (sized and value.isdecimal()):
        need = f"{name}:<whole number>" if sized else name
        raise UsageError(f"augmentation {text!r} is not understood", need=need, have=text)
    if name == "autoaugment" and levels != 255:
        raise UsageError("autoaugment needs pixels 0..255", need="levels 255", have=f"levels {levels}")
    arguments = (int(value),) if colon else ()
    fixed = {"levels": levels} if name == "erase" else {}

    def step(x: Tensor, generator: Generator) -> Tensor:
        return operation(x, generator, *arguments, **fixed)

    return step


def _window(x: Tensor, top: Tensor, left: Tensor, H: int, W: int) -> Tensor:
    """x[b, :, top[b]:top[b]+H, left[b]:left[b]+W] for every b."""
    B, C = x.shape[:2]
    rows = (top.view(B, 1) + torch.arange(H, device=x.device)).view(B, 1, H, 1)
    columns = (left.view(B, 1) + torch.arange(W, device=x.device)).view(B, 1, 1, W)
    image = torch.arange(B, device=x.device).view(B, 1, 1, 1)
    channel = torch.arange(C, device=x.device).view(1, C, 1, 1)
    return x[image, channel, rows, columns]


def _rectangles(row: Tensor, column: Tensor, height: Tensor, width: Tensor, H: int, W: int) -> Tensor:
    """bool (B, 1, H, W): true inside each image's rectangle."""
    r = torch.arange(H, device=row.device).view(1, 1, H, 1)
    c = torch.arange(W, device=row.device).view(1, 1, 1, W)
    row, column, height, width = (v.view(-1, 1, 1, 1) for v in (row, column, height, width))
    return (r >= row) & (r < row + height) & (c >= column) & (c < column + width)


def _mean_colour(x: Tensor) -> Tensor:
    """Mean of each channel of each image, rounded, uint8 (B, C, 1, 1)."""
    n = x.shape[2] * x.shape[3]
    total = x.to(torch.int64).sum(dim=(2, 3), keepdim=True)
    return ((2 * total + n) // (2 * n)).to(torch.uint8)
