"""On the original data sets, where SNNKD_DATA has them: what their publishers say of them must hold."""

from pathlib import Path

import pytest
import torch

from snnkd_deploy.data import Dataset, EventStore, build_augment, load_dataset
from snnkd_deploy.errors import DataError


def load(name: str, root: Path, **kwargs: object) -> Dataset:
    try:
        return load_dataset(name, root=root, download=False, **kwargs)  # type: ignore[arg-type]
    except DataError as error:
        if "was not found" in str(error):
            pytest.skip(f"SNNKD_DATA has no {name}")
        raise


# sha256 of the contents, by which a run manifest identifies a set: it must not drift between versions.
SHA256 = {
    "digits": "db11f62b4eacee415ab286bfa0f67bd7669fadf0300d994cfbe24b473bf3196b",
    "mnist": "3aa8b0308beb0a653e9703db10168cd0febe0fcb8f57538bd5e523d731f85698",
    "fashion-mnist": "2c800334a43aa521213363c0997745e0c37c2fb67bdafa6c915728bbadb8b38f",
    "cifar10": "c3e5c6d82dd212ac0f55d760fc8f1bc3d9b78c055fdb5dcde1b110f428c890bb",
}


def test_digits_hash() -> None:
    assert load_dataset("digits").sha256 == SHA256["digits"]


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("mnist", [0.1307], [0.3081]),
        ("fashion-mnist", [0.2860], [0.3530]),
        pytest.param("cifar10", [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616], marks=pytest.mark.slow),
    ],
)
def test_images_have_the_published_statistics(real_data: Path, name: str, mean: list[float], std: list[float]) -> None:
    data = load(name, real_data, validation=0)
    n = 50_000 if name == "cifar10" else 60_000
    assert (len(data.train), len(data.val), len(data.test)) == (n, 0, 10_000)
    assert data.sha256 == SHA256[name]
    assert isinstance(data.train.x, torch.Tensor)
    for c, (m, s) in enumerate(zip(mean, std, strict=True)):
        counts = torch.bincount(data.train.x[:, c].flatten().int(), minlength=256).double()
        value = torch.arange(256).double() / 255
        got = float((counts * value).sum() / counts.sum())
        spread = float((counts * (value - got) ** 2).sum() / counts.sum()) ** 0.5
        assert got == pytest.approx(m, abs=1e-4) and spread == pytest.approx(s, abs=2e-4)
    per_class = data.test.y.bincount().tolist()
    assert per_class == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009] if name == "mnist" else [1000] * 10


def test_mnist_in_place_of_fashion_is_refused(real_data: Path) -> None:
    folder = real_data / "MNIST" / "raw"
    if not folder.is_dir():
        pytest.skip("SNNKD_DATA has no MNIST/raw")
    with pytest.raises(DataError, match="files of mnist, not of fashion-mnist"):
        load_dataset("fashion-mnist", root=folder)


def test_augmented_mnist_stays_in_range(real_data: Path) -> None:
    data = load("mnist", real_data, options={"limit_train": 300, "limit_test": 10}, validation=0)
    augment = build_augment(["shift:2", "cutout:6", "autoaugment"])
    assert isinstance(data.train.x, torch.Tensor)
    out = augment(data.train.x, torch.Generator().manual_seed(0))
    assert out.shape == data.train.x.shape and not torch.equal(out, data.train.x)


def test_nmnist_is_mnist_seen_by_a_moving_camera(real_data: Path) -> None:
    data = load("nmnist", real_data, validation=0, options={"cap": 255})
    if "subset" not in data.source:
        pytest.skip("the whole N-MNIST is here; this test knows the counts of the subset")
    assert data.train.y.bincount().tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
    assert data.test.y.bincount().tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    assert isinstance(data.train.x, EventStore)
    assert data.train.x.t_us.numel() == 4_133_231
    rows = torch.arange(200)
    frames = data.train.frames(rows, 10)
    assert frames.shape == (10, 200, 2, 34, 34)
    outside, capped = data.train.x.lost(rows, 10)
    assert (outside, int(frames.long().sum()) + capped) == (0, int(data.train.x.count[rows].sum()))
    # The first 200 recordings are of the first 200 MNIST images: their labels agree, and the summed events of a
    # recording correlate with its own digit more than with others.
    mnist = load("mnist", real_data, validation=0)
    assert isinstance(mnist.train.x, torch.Tensor)
    assert torch.equal(mnist.train.y[:200], data.train.y[:200])
    seen = frames.double().sum((0, 2))[:, 3:31, 3:31].flatten(1)
    drawn = torch.nn.functional.avg_pool2d(mnist.train.x[:200].double(), 3, 1, 1).flatten(1)
    both = torch.cat([seen, drawn])
    correlation = torch.corrcoef(both)[:200, 200:]
    assert float((correlation.argmax(1) == rows).double().mean()) > 0.5


def test_speech_features_split_by_speaker(real_data: Path) -> None:
    file = "SpeechCommandsV2_test_logmel/kws12_logmel40_u8.npz"
    if not (real_data / file).is_file():
        pytest.skip(f"SNNKD_DATA has no {file}")
    options = {"file": file, "group": "file", "group_until": "_nohash_"}
    data = load_dataset("series-npz", root=real_data, options=options)
    assert data.shape == (98, 40) and data.classes[:4] == ("_silence_", "_unknown_", "yes", "no")
    total = sum((split.y.bincount(minlength=12) for split in (data.train, data.val, data.test)), torch.zeros(12))
    assert total.tolist() == [408, 408, 419, 405, 425, 406, 412, 396, 396, 402, 411, 402]
    assert 978 <= len(data.test) < 1100
