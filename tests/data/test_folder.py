from pathlib import Path

import numpy as np
import pytest
import torch

from snnkd_deploy.data import load_dataset
from snnkd_deploy.errors import DataError, UsageError

image = pytest.importorskip("PIL.Image")


def save(path: Path, value: int | tuple[int, int, int], size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    pixels[:] = value
    pixels[0, 1] = (10, 20, 30)
    image.fromarray(pixels).save(path)


def make(root: Path, names: tuple[str, ...] = ("cat", "ant"), n: int = 5) -> None:
    for c, name in enumerate(names):
        for i in range(n):
            save(root / name / f"{i}.png", 50 * c + i)


def test_train_and_test_folders(tmp_path: Path) -> None:
    make(tmp_path / "train")
    make(tmp_path / "test", n=2)
    data = load_dataset("folder", root=tmp_path, validation=0)
    assert data.classes == ("ant", "cat")  # alphabetical
    assert data.shape == (3, 6, 5) and data.train.x.dtype == torch.uint8
    assert (len(data.train), len(data.test)) == (10, 4)
    assert data.train.x[:5, 0, 1, 1].tolist() == [50, 51, 52, 53, 54]
    assert data.train.x[0, :, 0, 1].tolist() == [10, 20, 30]
    assert data.train.y.tolist() == [0] * 5 + [1] * 5


def test_one_folder_is_split_by_seed(tmp_path: Path) -> None:
    make(tmp_path, n=10)
    data = load_dataset("folder", root=tmp_path, options={"test_percent": 30}, validation=0)
    assert (len(data.train), len(data.test)) == (14, 6)
    assert data.test.y.bincount().tolist() == [3, 3]
    other = load_dataset("folder", root=tmp_path, options={"test_percent": 30}, validation=0, split_seed=1)
    assert data.test.index.tolist() != other.test.index.tolist()


def test_grayscale_size_and_path(tmp_path: Path) -> None:
    make(tmp_path / "deep" / "set")
    save(tmp_path / "deep" / "set" / "ant" / "z.png", 7, size=(12, 12))
    options = {"path": "deep/set", "grayscale": True, "size": [4, 3]}
    data = load_dataset("folder", root=tmp_path, options=options)
    assert data.shape == (1, 4, 3)
    assert load_dataset("folder", root=tmp_path, options=options | {"size": 8}).shape == (1, 8, 8)
    absolute = load_dataset("folder", options=options | {"path": str(tmp_path / "deep" / "set")})
    assert absolute.sha256 == data.sha256


def test_images_of_several_sizes_need_an_option(tmp_path: Path) -> None:
    make(tmp_path)
    save(tmp_path / "cat" / "odd.png", 1, size=(7, 5))
    with pytest.raises(DataError, match="differ in size") as caught:
        load_dataset("folder", root=tmp_path)
    assert "odd.png" in str(caught.value) and "option size" in str(caught.value)


def test_a_validation_folder_is_not_ignored(tmp_path: Path) -> None:
    make(tmp_path / "train")
    make(tmp_path / "val", n=3)
    with pytest.raises(UsageError, match="test_folder=val"):
        load_dataset("folder", root=tmp_path)
    assert len(load_dataset("folder", root=tmp_path, options={"test_folder": "val"}).test) == 6


def test_broken_contents(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / "cat" / "2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"not a readable image.*|2\.png"):
        load_dataset("folder", root=tmp_path / "a")
    make(tmp_path / "b")
    (tmp_path / "b" / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        load_dataset("folder", root=tmp_path / "b")
    make(tmp_path / "c" / "train")
    make(tmp_path / "c" / "test", names=("cat", "ant", "bee"))
    with pytest.raises(DataError, match="'bee' is not in train"):
        load_dataset("folder", root=tmp_path / "c")
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match="one sub-folder for each class"):
        load_dataset("folder", root=tmp_path / "d")
    with pytest.raises(DataError, match="not found"):
        load_dataset("folder", root=tmp_path, options={"path": "nowhere"})
    with pytest.raises(UsageError, match="--data DIR"):
        load_dataset("folder")


def test_truncated_image(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="not a readable image"):
        load_dataset("folder", root=tmp_path)
