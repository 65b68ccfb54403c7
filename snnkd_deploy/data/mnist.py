"""MNIST (LeCun, Cortes & Burges) and Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): four IDX files each."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.download import Remote
from snnkd_deploy.data.idx import read_idx
from snnkd_deploy.data.locate import Layout
from snnkd_deploy.data.request import Request, obtain
from snnkd_deploy.errors import DataError

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_MD5 = {
    "mnist": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion-mnist": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
_MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}
_FOLDER = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
# md5 of the test labels (the bytes after the header). Both sets use the same file names, so a wrong folder would
# otherwise train the wrong task without a word.
_TEST_LABELS_MD5 = {
    "mnist": "073c3904dfbd3e141ff8aa01cfde6b15",
    "fashion-mnist": "8dea97a4e78c1bd1b5a6e8efbb870b6e",
}
_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}


def _read(request: Request, name: str) -> Source:
    folder = _FOLDER[name]
    layout = Layout(
        (f"{folder}/raw", folder, f"{name}/raw", name, "raw", ""),
        tuple((f"{file}.gz", file, file.replace("-idx", ".idx")) for file in _FILES),
    )
    remotes = tuple(
        Remote(f"{folder}/raw/{file}.gz", tuple(f"{mirror}{file}.gz" for mirror in _MIRRORS[name]), md5)
        for file, md5 in zip(_FILES, _MD5[name], strict=True)
    )
    _, files = obtain(request, (layout,), remotes)
    train, test = _pool(files[0], files[1]), _pool(files[2], files[3])
    _refuse_twin(name, test, files[3])
    return Source("image", train, test, _CLASSES[name], 255, str(files[0].parent))


def _pool(images: Path, labels: Path) -> Pool:
    x, y = read_idx(images, 3), read_idx(labels, 1)
    if x.shape[0] != y.shape[0]:
        raise DataError(
            "image and label files do not belong together",
            where=f"{images.name}, {labels.name}",
            need=f"{x.shape[0]} labels",
            have=f"{y.shape[0]} labels",
        )
    if tuple(x.shape[1:]) != (28, 28):
        raise DataError("images of another size", where=str(images), need="28x28", have="x".join(map(str, x.shape[1:])))
    if y.numel() and int(y.max()) > 9:
        raise DataError("labels out of range", where=str(labels), need="0..9", have=f"0..{int(y.max())}")
    return Pool(x.unsqueeze(1), y.to(torch.int64))


def _refuse_twin(name: str, test: Pool, path: Path) -> None:
    got = hashlib.md5(test.y.to(torch.uint8).numpy().tobytes(), usedforsecurity=False).hexdigest()
    for other, md5 in _TEST_LABELS_MD5.items():
        if other != name and md5 == got:
            raise DataError(
                f"these are the files of {other}, not of {name} (both use the same names)",
                where=str(path.parent),
                remedy=f"--data DIR with {name} in DIR/{_FOLDER[name]}/raw, or the data set {other}",
            )


def read_mnist(request: Request) -> Source:
    """MNIST: 60,000 + 10,000 digits, uint8 (N, 1, 28, 28)."""
    return _read(request, "mnist")


def read_fashion_mnist(request: Request) -> Source:
    """Fashion-MNIST: 60,000 + 10,000 garments, uint8 (N, 1, 28, 28)."""
    return _read(request, "fashion-mnist")
