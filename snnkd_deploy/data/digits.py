"""The 8x8 digits that scikit-learn carries (Alpaydin & Kaynak 1998, UCI): no network, no files."""

from __future__ import annotations

import torch

from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.request import Request


def read_digits(request: Request) -> Source:
    """1,797 images, uint8 (N, 1, 8, 8) with values 0..16. There is no official test part: 360 are set aside by
    seed, stratified, so accuracies compare only under the same seed."""
    import sklearn  # a second to import, so on use
    from sklearn.datasets import load_digits

    images, target = load_digits(return_X_y=True)
    x = torch.from_numpy(images).to(torch.uint8).reshape(-1, 1, 8, 8)
    pool = Pool(x, torch.from_numpy(target).to(torch.int64))
    found = f"scikit-learn {sklearn.__version__} load_digits"
    return Source("image", pool, None, tuple("0123456789"), 16, found, test_fraction=0.2)
