"""Every operation against Pillow, pixel for pixel: the arithmetic that the published policies were found with."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from snnkd_deploy.data import autoaugment_ops as ops
from snnkd_deploy.data.autoaugment import POLICY, apply_policy, autoaugment_cifar10, magnitudes

Image = pytest.importorskip("PIL.Image")
from PIL import ImageEnhance, ImageOps  # noqa: E402

AFFINE, NEAREST = Image.Transform.AFFINE, Image.Resampling.NEAREST


def affine(*matrix: float) -> Callable[..., object]:
    return lambda im: im.transform(im.size, AFFINE, matrix, NEAREST)


# Operation -> the same in Pillow, for one magnitude.
PILLOW: dict[str, Callable[..., object]] = {
    "shear_x": lambda im, m: affine(1, m, 0, 0, 1, 0)(im),
    "shear_y": lambda im, m: affine(1, 0, 0, m, 1, 0)(im),
    "translate_x": lambda im, m: affine(1, 0, -int(m), 0, 1, 0)(im),
    "translate_y": lambda im, m: affine(1, 0, 0, 0, 1, -int(m))(im),
    "rotate": lambda im, m: im.rotate(m, NEAREST),
    "brightness": lambda im, m: ImageEnhance.Brightness(im).enhance(1 + m),
    "color": lambda im, m: ImageEnhance.Color(im).enhance(1 + m),
    "contrast": lambda im, m: ImageEnhance.Contrast(im).enhance(1 + m),
    "sharpness": lambda im, m: ImageEnhance.Sharpness(im).enhance(1 + m),
    "posterize": lambda im, m: ImageOps.posterize(im, int(m)),
    "solarize": lambda im, m: ImageOps.solarize(im, m),
    "auto_contrast": lambda im, m: ImageOps.autocontrast(im),
    "equalize": lambda im, m: ImageOps.equalize(im),
    "invert": lambda im, m: ImageOps.invert(im),
}


def pictures(c: int, side: int) -> torch.Tensor:
    """Noise, few levels, gradients, constants, and smooth blobs: what histograms and blends find difficult."""
    g = torch.Generator().manual_seed(side)
    noise = torch.randint(0, 256, (6, c, side, side), generator=g, dtype=torch.uint8)
    narrow = torch.randint(90, 97, (4, c, side, side), generator=g, dtype=torch.uint8)
    ramp = torch.arange(side * side).view(1, 1, side, side).expand(1, c, side, side) * 255 // (side * side)
    flat = torch.full((2, c, side, side), 77, dtype=torch.uint8)
    sparse = (torch.rand((3, c, side, side), generator=g) < 0.05).to(torch.uint8) * 255
    blobs = torch.nn.functional.interpolate(noise.float(), scale_factor=0.25, mode="area")
    smooth = torch.nn.functional.interpolate(blobs, size=(side, side), mode="bilinear").to(torch.uint8)
    return torch.cat([noise, narrow, ramp.to(torch.uint8), flat, sparse, smooth])


def to_pillow(x: torch.Tensor) -> object:
    array = x.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def from_pillow(im: object) -> torch.Tensor:
    array = np.asarray(im)
    return torch.from_numpy(array.copy()).view(*array.shape[:2], -1).permute(2, 0, 1)


@pytest.mark.parametrize("side", [32, 28, 17])
@pytest.mark.parametrize("c", [3, 1])
@pytest.mark.parametrize("name", PILLOW)
def test_operation_equals_pillow(name: str, c: int, side: int) -> None:
    x = pictures(c, side)
    table = magnitudes(side, side)
    sizes = table[name][1] if name in table else torch.linspace(0, 0.3, 10).double()  # shear_x: not in this policy
    if name in ("posterize", "solarize", "auto_contrast", "equalize", "invert"):
        every = sizes.unique()
    else:
        every = torch.cat([sizes, -sizes])
    for m in every.tolist():
        got = getattr(ops, name)(x, torch.full((len(x),), m, dtype=torch.float64))
        want = torch.stack([from_pillow(PILLOW[name](to_pillow(image), m)) for image in x])
        assert torch.equal(got, want), (name, m)


def test_magnitudes_are_per_image() -> None:
    x = pictures(3, 32)[:10]
    m = torch.linspace(-30, 30, 10).double()
    together = ops.rotate(x, m)
    for i in range(10):
        assert torch.equal(together[i : i + 1], ops.rotate(x[i : i + 1], m[i : i + 1]))


def test_policy_applies_the_drawn_steps_with_pillows_result() -> None:
    x = pictures(3, 32)
    x = x.repeat(math.ceil(50 / len(x)), 1, 1, 1)[:50]
    choice = torch.arange(50) % 25
    chance = torch.rand((50, 2), generator=torch.Generator().manual_seed(0))
    sign = torch.arange(100).view(50, 2) % 2
    got = apply_policy(x, choice, chance, sign)
    table = magnitudes(32, 32)
    for b in range(50):
        image = to_pillow(x[b])
        for i, (name, probability, size) in enumerate(POLICY[int(choice[b])]):
            if float(chance[b, i]) <= probability:
                _, sizes, signed = table[name]
                m = float(sizes[size])
                image = PILLOW[name](image, -m if signed and sign[b, i] == 0 else m)
        assert torch.equal(got[b], from_pillow(image)), b


def test_the_policy_is_the_published_one_in_number_and_range() -> None:
    assert len(POLICY) == 25
    assert {name for pair in POLICY for name, _, _ in pair} == set(magnitudes(32, 32))
    assert magnitudes(32, 32)["posterize"][1].tolist() == [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]
    assert float(magnitudes(32, 32)["translate_y"][1][9]) == pytest.approx(150 / 331 * 32)


def test_most_images_change() -> None:
    x = pictures(3, 32)[6:10].repeat(100, 1, 1, 1)  # few levels, so that stretching them shows
    out = autoaugment_cifar10(x, torch.Generator().manual_seed(0))
    changed = (out != x).flatten(1).any(1).double().mean()
    assert 0.6 < float(changed) < 0.95
