"""The promises about devices: the same spikes and the same augmented images on CPU and CUDA."""

import pytest
import torch

from snnkd_deploy.data import AUGMENTATIONS, batch_generator, build_augment, latency, rate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def images(n: int = 512) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations(name: str) -> None:
    augment = build_augment([name])
    here = augment(images(), batch_generator(0, 1, 2))
    there = augment(images().cuda(), batch_generator(0, 1, 2))
    assert there.is_cuda and torch.equal(here, there.cpu())


def test_encoders() -> None:
    x, indices = images(16), torch.arange(100, 116)
    assert torch.equal(
        rate(x, 6, levels=255, seed=3, indices=indices), rate(x.cuda(), 6, levels=255, seed=3, indices=indices).cpu()
    )
    assert torch.equal(latency(x, 6, levels=255), latency(x.cuda(), 6, levels=255).cpu())
