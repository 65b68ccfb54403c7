import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch

from snnkd_deploy.data import load_dataset, mnist
from snnkd_deploy.data.idx import read_idx
from snnkd_deploy.errors import DataError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: torch.Tensor) -> bytes:
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.numpy().tobytes()


def write(folder: Path, *, packed: bool = True, n_train: int = 40, n_test: int = 20) -> dict[str, torch.Tensor]:
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    arrays = {}
    for images, labels, n in ((FILES[0], FILES[1], n_train), (FILES[2], FILES[3], n_test)):
        arrays[images] = torch.randint(0, 256, (n, 28, 28), generator=generator, dtype=torch.uint8)
        arrays[labels] = (torch.arange(n) % 10).to(torch.uint8)
    for name, array in arrays.items():
        raw = idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(raw) if packed else raw)
    return arrays


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("sub", ["MNIST/raw", "MNIST", "raw", ""])
def test_reads_every_layout(tmp_path: Path, packed: bool, sub: str) -> None:
    arrays = write(tmp_path / sub, packed=packed)
    data = load_dataset("mnist", root=tmp_path, validation=0)
    assert data.shape == (1, 28, 28) and data.levels == 255
    assert torch.equal(data.train.x[:, 0], arrays[FILES[0]])
    assert torch.equal(data.test.x[:, 0], arrays[FILES[2]])
    assert torch.equal(data.test.y, arrays[FILES[3]].long())
    assert data.source == str(tmp_path / sub)


def test_packing_does_not_change_the_content_hash(tmp_path: Path) -> None:
    write(tmp_path / "a", packed=True)
    write(tmp_path / "b", packed=False)
    a, b = (load_dataset("mnist", root=tmp_path / name) for name in "ab")
    assert a.sha256 == b.sha256


def test_the_environment_variable_and_the_cache_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "cache" / "snnkd_deploy" / "MNIST" / "raw")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "cache" in load_dataset("mnist").source
    write(tmp_path / "mine" / "MNIST" / "raw")
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "mine"))
    assert "mine" in load_dataset("mnist").source


def test_an_explicit_folder_is_searched_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine" / "MNIST" / "raw")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataError, match="not found"):
        load_dataset("mnist", root=tmp_path / "empty", download=False)


def test_a_missing_file_is_named_on_its_own(tmp_path: Path) -> None:
    write(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        load_dataset("mnist", root=tmp_path, download=False)
    missing = [str(problem) for problem in caught.value.problems if "is missing" in str(problem)]
    assert missing and all("t10k-labels" in text and "train-images" not in text for text in missing)


def test_fashion_in_place_of_mnist_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = write(tmp_path)
    digest = hashlib.md5(arrays[FILES[3]].numpy().tobytes()).hexdigest()
    monkeypatch.setitem(mnist._TEST_LABELS_MD5, "fashion-mnist", digest)
    with pytest.raises(DataError, match="files of fashion-mnist, not of mnist"):
        load_dataset("mnist", root=tmp_path)
    assert len(load_dataset("fashion-mnist", root=tmp_path).test) == 20


def _break(tmp_path: Path, name: str, raw: bytes) -> None:
    write(tmp_path, packed=False)
    (tmp_path / name).write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (FILES[0], lambda raw: b"\x01" + raw[1:], "wrong magic"),
        (FILES[0], lambda raw: raw[:2] + b"\x0d" + raw[3:], "something else"),
        (FILES[1], lambda raw: raw[:3] + b"\x03" + raw[4:], "something else"),
        (FILES[0], lambda raw: raw[:-1], "truncated file"),
        (FILES[0], lambda raw: raw[:9], "truncated header"),
        (FILES[0], lambda raw: raw[:2], "wrong magic"),
        (FILES[0], lambda raw: b"", "wrong magic"),
        (FILES[0], lambda raw: raw + b"\0", "longer than its header"),
        (FILES[1], lambda raw: idx(torch.zeros(39, dtype=torch.uint8)), "do not belong together"),
        (FILES[3], lambda raw: idx(torch.full((20,), 10, dtype=torch.uint8)), "labels out of range"),
        (FILES[2], lambda raw: idx(torch.zeros(20, 27, 28, dtype=torch.uint8)), "another size"),
    ],
)
def test_damage_is_one_clear_error(tmp_path: Path, name: str, change, message: str) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path, packed=False)
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("mnist", root=tmp_path)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "not gz"])
def test_damaged_gz(tmp_path: Path, damage: str) -> None:
    raw = bytearray(gzip.compress(idx(torch.arange(200, dtype=torch.uint8))))
    if damage == "flip":
        raw[-6] ^= 0xFF  # the checksum
    path = tmp_path / "labels.gz"
    path.write_bytes(bytes(raw[:-20]) if damage == "cut" else b"plain text" if damage == "not gz" else bytes(raw))
    with pytest.raises(DataError, match="damaged"):
        read_idx(path, 1)
