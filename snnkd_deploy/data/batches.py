"""The order of samples in an epoch, and the generator of a batch, from (seed, epoch, batch) alone.

Nothing here remembers where it is: training resumes at any (epoch, batch) bit for bit by asking again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd_deploy.data.stateless import hash64, permutation
from snnkd_deploy.errors import UsageError

# Keep the streams for order and augmentation apart when both are given the run's one seed.
_ORDER, _AUGMENT = 1, 2


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """A permutation of 0..n-1, int64 (n,), on the CPU. Another epoch or seed gives another permutation."""
    if n < 0 or epoch < 0:
        raise UsageError("epoch_order needs n >= 0 and epoch >= 0", have=f"n={n}, epoch={epoch}")
    return permutation(n, seed, _ORDER, epoch)


def batch_generator(seed: int, epoch: int, batch: int) -> torch.Generator:
    """A CPU generator for the augmentation of one batch, seeded from (seed, epoch, batch)."""
    generator = torch.Generator()
    generator.manual_seed(int(hash64(seed, _AUGMENT, epoch, batch)) & ((1 << 63) - 1))
    return generator
