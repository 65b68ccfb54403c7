"""The image operations of AutoAugment on batches of uint8 tensors, equal to Pillow's pixel for pixel.

Each takes x uint8 (B, C, H, W), C 1 or 3, and a magnitude per image, float64 (B,) on the CPU (sines are computed
there, so that CUDA cannot round them otherwise), and returns a new uint8 tensor.
Published results were had with Pillow's integer and float32 arithmetic, so that is what is reproduced: fixed-point
nearest-neighbour sampling, truncating blends, its greyscale weights. What comes in from outside is black.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Operation = Callable[[Tensor, Tensor], Tensor]


def shear_x(x: Tensor, m: Tensor) -> Tensor:
    one, zero = torch.ones_like(m), torch.zeros_like(m)
    return _affine(x, (one, m, zero, zero, one, zero))


def shear_y(x: Tensor, m: Tensor) -> Tensor:
    one, zero = torch.ones_like(m), torch.zeros_like(m)
    return _affine(x, (one, zero, zero, m, one, zero))


def translate_x(x: Tensor, m: Tensor) -> Tensor:
    one, zero = torch.ones_like(m), torch.zeros_like(m)
    return _affine(x, (one, zero, -m.trunc(), zero, one, zero))


def translate_y(x: Tensor, m: Tensor) -> Tensor:
    one, zero = torch.ones_like(m), torch.zeros_like(m)
    return _affine(x, (one, zero, zero, zero, one, -m.trunc()))


def rotate(x: Tensor, m: Tensor) -> Tensor:
    """Counter-clockwise by m degrees about the centre."""
    H, W = x.shape[-2:]
    angle = torch.deg2rad(-m)
    cos, sin = (torch.round(v, decimals=15) for v in (torch.cos(angle), torch.sin(angle)))
    across = cos * (-W / 2) + sin * (-H / 2) + W / 2
    down = -sin * (-W / 2) + cos * (-H / 2) + H / 2
    return _affine(x, (cos, sin, across, -sin, cos, down))


def brightness(x: Tensor, m: Tensor) -> Tensor:
    return _blend(torch.zeros_like(x), x, 1.0 + m)


def color(x: Tensor, m: Tensor) -> Tensor:
    return _blend(_grey(x).expand_as(x), x, 1.0 + m)


def contrast(x: Tensor, m: Tensor) -> Tensor:
    grey = _grey(x).to(torch.int64)
    n = grey.shape[2] * grey.shape[3]
    mean = (2 * grey.sum(dim=(1, 2, 3), keepdim=True) + n) // (2 * n)
    return _blend(mean.to(torch.uint8).expand_as(x), x, 1.0 + m)


def sharpness(x: Tensor, m: Tensor) -> Tensor:
    H, W = x.shape[-2:]
    smooth = x.clone()
    if H > 2 and W > 2:  # the outermost pixels stay as they are
        v = x.to(torch.int64)
        total = sum(v[..., r : H - 2 + r, c : W - 2 + c] for r in range(3) for c in range(3))
        total = total + 4 * v[..., 1:-1, 1:-1]
        smooth[..., 1:-1, 1:-1] = ((2 * total + 13) // 26).to(torch.uint8)  # total / 13, never a tie
    return _blend(smooth, x, 1.0 + m)


def posterize(x: Tensor, m: Tensor) -> Tensor:
    """Keep the m highest bits."""
    mask = 256 - torch.bitwise_left_shift(torch.ones_like(m, dtype=torch.int64), 8 - m.long())
    return x & mask.to(device=x.device, dtype=torch.uint8).view(-1, 1, 1, 1)


def solarize(x: Tensor, m: Tensor) -> Tensor:
    """Invert the pixels of at least m."""
    return torch.where(x.double() < m.to(x.device).view(-1, 1, 1, 1), x, 255 - x)


def auto_contrast(x: Tensor, m: Tensor) -> Tensor:
    """Stretch every channel to 0..255."""
    low = x.amin(dim=(2, 3), keepdim=True).double()
    high = x.amax(dim=(2, 3), keepdim=True).double()
    # A true division: torch computes number / tensor as number * (1 / tensor), which is not the same.
    scale = torch.div(torch.full_like(high, 255.0), (high - low).clamp(min=1))
    stretched = (x.double() * scale + -low * scale).clamp(0, 255).to(torch.uint8)
    return torch.where(high > low, stretched, x)


def equalize(x: Tensor, m: Tensor) -> Tensor:
    """Equalise the histogram of every channel."""
    B, C, H, W = x.shape
    flat = x.reshape(B * C, H * W).long()
    histogram = torch.zeros((B * C, 256), dtype=torch.int64, device=x.device)
    histogram.scatter_add_(1, flat, torch.ones_like(flat))
    last = histogram.gather(1, flat.amax(dim=1, keepdim=True))
    step = (H * W - last) // 255
    before = histogram.cumsum(1) - histogram
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, table.gather(1, flat), flat).to(torch.uint8).view_as(x)


def invert(x: Tensor, m: Tensor) -> Tensor:
    return 255 - x


def _affine(x: Tensor, matrix: tuple[Tensor, ...]) -> Tensor:
    """Output pixel (column, row) from input (a0 c + a1 r + a2, a3 c + a4 r + a5), both at pixel centres.

    In 16.16 fixed point with nearest neighbours, as Pillow's affine_fixed.
    """
    a0, a1, a2, a3, a4, a5 = matrix
    a2, a5 = a2 + a0 * 0.5 + a1 * 0.5, a5 + a3 * 0.5 + a4 * 0.5
    f0, f1, f2, f3, f4, f5 = (
        torch.floor(v * 65536.0 + 0.5).long().view(-1, 1, 1).to(x.device) for v in (a0, a1, a2, a3, a4, a5)
    )
    B, C, H, W = x.shape
    row = torch.arange(H, device=x.device).view(1, H, 1)
    column = torch.arange(W, device=x.device).view(1, 1, W)
    from_column = (f2 + f1 * row + f0 * column) >> 16
    from_row = (f5 + f4 * row + f3 * column) >> 16
    inside = (from_column >= 0) & (from_column < W) & (from_row >= 0) & (from_row < H)
    place = (from_row.clamp(0, H - 1) * W + from_column.clamp(0, W - 1)).view(B, 1, H * W).expand(B, C, H * W)
    moved = x.reshape(B, C, H * W).gather(2, place).view(B, C, H, W)
    return moved * inside.unsqueeze(1)


def _blend(start: Tensor, end: Tensor, factor: Tensor) -> Tensor:
    """start + factor (end - start) in float32, clipped to a byte and truncated."""
    alpha = factor.to(device=end.device, dtype=torch.float32).view(-1, 1, 1, 1)
    mixed = start.float() + alpha * (end.float() - start.float())
    return mixed.clamp(0, 255).to(torch.uint8)


def _grey(x: Tensor) -> Tensor:
    """ITU-R 601 luma with Pillow's rounding, uint8 (B, 1, H, W)."""
    if x.shape[1] == 1:
        return x
    r, g, b = x.to(torch.int64).unbind(1)
    return ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16).to(torch.uint8).unsqueeze(1)
