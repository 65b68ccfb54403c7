import pytest
import torch

from snnkd_deploy.data import AUGMENTATIONS, build_augment
from snnkd_deploy.data.augment import cutout, erase, flip, random_crop, shift
from snnkd_deploy.errors import UsageError


def images(n: int = 64, c: int = 3, side: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 256, (n, c, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_all_keep_shape_and_type_repeat_under_a_seed_and_leave_the_input_alone(name: str) -> None:
    x = images()
    before = x.clone()
    augment = build_augment([name])
    a, b, c = augment(x, generator(1)), augment(x, generator(1)), augment(x, generator(2))
    assert a.shape == x.shape and a.dtype == torch.uint8
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(x, before)
    assert augment(x[:0], generator()).shape == (0, 3, 12, 12)


def test_crop_cuts_every_window_of_the_padded_image() -> None:
    x = images(400)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    out = random_crop(x, generator(), 2)
    seen = set()
    for b in range(len(x)):
        matches = [
            (r, c) for r in range(5) for c in range(5) if torch.equal(out[b], padded[b, :, r : r + 12, c : c + 12])
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 25


def test_shift_is_a_crop_of_few_pixels() -> None:
    x = images()
    assert torch.equal(shift(x, generator(), 1), random_crop(x, generator(), 1))
    assert torch.equal(build_augment(["shift:0"])(x, generator()), x)


def test_flip_mirrors_about_half() -> None:
    x = images(1000)
    out = flip(x, generator())
    mirrored = torch.tensor([torch.equal(o, i.flip(-1)) for o, i in zip(out, x, strict=True)])
    same = torch.tensor([torch.equal(o, i) for o, i in zip(out, x, strict=True)])
    assert bool((mirrored ^ same).all())
    assert 430 < int(mirrored.sum()) < 570


def test_cutout_covers_one_square_with_the_mean_colour() -> None:
    x = images(300, side=16)
    out = cutout(x, generator(), 6)
    mean = torch.floor(x.double().mean((2, 3)) + 0.5)
    sizes = set()
    for b in range(len(x)):
        hole = (out[b] == mean[b].view(3, 1, 1)).all(0) & (out[b] != x[b]).any(0)
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert int(rows[-1] - rows[0]) < 6 and int(columns[-1] - columns[0]) < 6
        outside = ~torch.zeros_like(hole)
        outside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
        assert torch.equal(out[b][:, outside], x[b][:, outside])
        sizes.add((int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1))
    assert (6, 6) in sizes and (3, 3) in sizes  # whole, and cut off at a corner


def test_erase_takes_its_share_of_images_and_area() -> None:
    x = torch.full((2000, 1, 32, 32), 200, dtype=torch.uint8)
    out = erase(x, generator(), 50, levels=100)
    changed = (out != x).flatten(1)
    assert 900 < int(changed.any(1).sum()) < 1100
    assert int(out[out != 200].max()) == 100 and int(out[out != 200].min()) == 0
    area = changed.sum(1)[changed.any(1)].double() / 1024
    assert float(area.min()) > 0.015 and float(area.max()) < 0.36
    assert abs(float(area.mean()) - 0.175) < 0.02
    assert torch.equal(erase(x, generator(), 0), x)


def test_chains_apply_in_order_with_their_sizes() -> None:
    x = images()
    chained = build_augment(["crop:3", "flip", "cutout:5"])(x, generator(9))
    g = generator(9)
    assert torch.equal(chained, cutout(flip(random_crop(x, g, 3), g), g, 5))
    assert torch.equal(build_augment([])(x, generator()), x)


def test_wrong_names_and_inputs() -> None:
    with pytest.raises(UsageError, match="did you mean 'cutout'"):
        build_augment(["cutuot"])
    for name in ("flip:3", "crop:x", "crop:-1", "crop:"):
        with pytest.raises(UsageError, match="not understood"):
            build_augment([name])
    with pytest.raises(UsageError, match="levels 16"):
        build_augment(["autoaugment"], levels=16)
    with pytest.raises(UsageError, match="uint8"):
        build_augment(["flip"])(images().float(), generator())
    with pytest.raises(UsageError, match="1 or 3 channels"):
        build_augment(["autoaugment"])(images(c=2), generator())


def test_few_levels_stay_few() -> None:
    x = images() % 17
    augment = build_augment(["crop:2", "flip", "shift:1", "cutout:4", "erase:100"], levels=16)
    assert int(augment(x, generator()).max()) <= 16
