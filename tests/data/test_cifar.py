import contextlib
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from snnkd_deploy.data import cifar, load_dataset
from snnkd_deploy.data.cifar_names import CIFAR10_CLASSES, CIFAR100_CLASSES, CIFAR100_SUPERCLASSES
from snnkd_deploy.data.pickle_subset import read_batch
from snnkd_deploy.errors import DataError

N = 9  # a 3 x 3 mosaic
TEN = replace(cifar.CIFAR10, records=dict.fromkeys(cifar.CIFAR10.batches, N))
HUNDRED = replace(cifar.CIFAR100, records=dict.fromkeys(cifar.CIFAR100.batches, N))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "CIFAR10", TEN)
    monkeypatch.setattr(cifar, "CIFAR100", HUNDRED)


def contents(spec: cifar.CifarSpec) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Batch -> (labels (N, label_bytes), pixels (N, 3072))."""
    rng = np.random.default_rng(0)
    high = [10] if spec.label_bytes == 1 else [20, 100]
    return {
        name: (
            np.stack([rng.integers(0, h, N) for h in high], 1).astype(np.uint8),
            rng.integers(0, 256, (N, 3072)).astype(np.uint8),
        )
        for name in spec.batches
    }


def binary_batch(labels: np.ndarray, pixels: np.ndarray) -> bytes:
    return np.concatenate([labels, pixels], 1).tobytes()


def _text(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def _integers(values: np.ndarray) -> bytes:
    return b"](" + b"".join(b"K" + bytes([int(v)]) for v in values) + b"e"


def array_pickle(pixels: np.ndarray, dtype: bytes = b"u1") -> bytes:
    """The instructions with which Python 2 wrote a numpy array."""
    return b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01",
            b"M" + struct.pack("<H", pixels.shape[0]) + b"M" + struct.pack("<H", pixels.shape[1]) + b"\x86",
            b"cnumpy\ndtype\n"
            + _text(dtype)
            + b"K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T" + struct.pack("<I", pixels.size) + pixels.tobytes() + b"tb",
        ]
    )


def python_batch(spec: cifar.CifarSpec, labels: np.ndarray, pixels: np.ndarray) -> bytes:
    """One batch as cPickle of Python 2, protocol 2, wrote it, memo instructions included."""
    parts = [b"\x80\x02}q\x01(", _text(b"batch_label"), b"q\x02", _text(b"a batch"), b"q\x03"]
    for i, key in enumerate(spec.label_keys):
        parts += [_text(key.encode()), _integers(labels[:, i])]
    return b"".join([*parts, _text(b"data"), array_pickle(pixels), b"u."])


def tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))


def write(root: Path, form: str, spec: cifar.CifarSpec) -> None:
    data = contents(spec)
    ten = spec.label_bytes == 1
    if form.startswith("binary"):
        members = {f"{name}.bin": binary_batch(*batch) for name, batch in data.items()}
        folder = "cifar-10-batches-bin" if ten else "cifar-100-binary"
    else:
        members = {name: python_batch(spec, *batch) for name, batch in data.items()}
        folder = "cifar-10-batches-py" if ten else "cifar-100-python"
    if form.endswith("tar"):
        kind = form.split()[0]
        members = {f"{folder}/{name}": raw for name, raw in members.items()} | {f"{folder}/readme.html": b"hello"}
        tar(root / f"{spec.stem}-{kind}.tar.gz", members)
        return
    (root / folder).mkdir(parents=True)
    for name, raw in members.items():
        (root / folder / name).write_bytes(raw)


FORMS = ["binary", "binary tar", "python", "python tar"]


@pytest.mark.parametrize("form", FORMS)
def test_cifar10_in_every_form(tmp_path: Path, form: str) -> None:
    write(tmp_path, form, TEN)
    data = load_dataset("cifar10", root=tmp_path, validation=0)
    expected = contents(TEN)
    pixels = np.concatenate([expected[name][1] for name in TEN.train])
    labels = np.concatenate([expected[name][0][:, 0] for name in TEN.train])
    assert data.shape == (3, 32, 32) and data.classes == CIFAR10_CLASSES
    assert np.array_equal(data.train.x.numpy().reshape(-1, 3072), pixels)
    assert data.train.y.tolist() == labels.tolist()
    assert np.array_equal(data.test.x.numpy().reshape(-1, 3072), expected["test_batch"][1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("coarse", [False, True])
def test_cifar100_in_every_form(tmp_path: Path, form: str, coarse: bool) -> None:
    write(tmp_path, form, HUNDRED)
    data = load_dataset("cifar100", root=tmp_path, validation=0, options={"coarse": coarse})
    labels, pixels = contents(HUNDRED)["train"]
    assert len(data.classes) == (20 if coarse else 100)
    assert data.train.y.tolist() == labels[:, 0 if coarse else 1].tolist()
    assert np.array_equal(data.train.x.numpy().reshape(-1, 3072), pixels)


def test_the_form_does_not_change_the_content_hash(tmp_path: Path) -> None:
    digests = set()
    for form in FORMS:
        (tmp_path / form).mkdir()
        write(tmp_path / form, form, TEN)
        digests.add(load_dataset("cifar10", root=tmp_path / form).sha256)
    assert len(digests) == 1


def test_lossless_mosaics(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    data = contents(TEN)
    for name, (_, pixels) in data.items():
        tiles = pixels.reshape(3, 3, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(96, 96, 3)
        image.fromarray(tiles).save(tmp_path / f"{name}.webp", lossless=True)
    train = np.concatenate([data[name][0][:, 0] for name in TEN.train])
    np.savez(tmp_path / "index.npz", train_labels=train, test_labels=data["test_batch"][0][:, 0])
    write(tmp_path / "other", "binary", TEN)
    a = load_dataset("cifar10", root=tmp_path / "other")
    (tmp_path / "mosaics").mkdir()
    for path in [*tmp_path.glob("*.webp"), tmp_path / "index.npz"]:
        path.rename(tmp_path / "mosaics" / path.name)
    assert load_dataset("cifar10", root=tmp_path / "mosaics").sha256 == a.sha256
    np.savez(tmp_path / "mosaics" / "index.npz", train_labels=train[:-1], test_labels=train[:N])
    with pytest.raises(DataError, match="train_labels of another length"):
        load_dataset("cifar10", root=tmp_path / "mosaics")


def test_class_names_are_complete_and_sorted() -> None:
    assert len(CIFAR100_CLASSES) == 100 and list(CIFAR100_CLASSES) == sorted(CIFAR100_CLASSES)
    assert len(CIFAR100_SUPERCLASSES) == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-1], "truncated"),
        (lambda raw: raw[:-3073], "truncated"),
        (lambda raw: raw + b"x", "longer"),
        (lambda raw: b"\x0a" + raw[1:], "labels out of range"),
    ],
)
def test_damaged_binary_batches(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    write(tmp_path, "binary", TEN)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        load_dataset("cifar10", root=tmp_path)


def test_damaged_archives(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    write(tmp_path, "binary tar", TEN)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged archive"):
        load_dataset("cifar10", root=tmp_path)
    path.write_bytes(b"not an archive")
    with pytest.raises(DataError, match="damaged archive"):
        load_dataset("cifar10", root=tmp_path)
    tar(path, {"cifar-10-batches-bin/data_batch_1.bin": b""})
    with pytest.raises(DataError, match="lacks data_batch_2"):
        load_dataset("cifar10", root=tmp_path)


def test_nothing_is_extracted_from_an_archive(tmp_path: Path) -> None:
    data = contents(TEN)
    root = tmp_path / "root"
    root.mkdir()
    members = {f"../{name}.bin": binary_batch(*batch) for name, batch in data.items()}
    tar(root / "cifar-10-binary.tar.gz", members)
    load_dataset("cifar10", root=root)
    assert {p.name for p in tmp_path.rglob("*")} == {"root", "cifar-10-binary.tar.gz"}


def test_python_batches_with_wrong_counts(tmp_path: Path) -> None:
    write(tmp_path, "python", TEN)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    labels, pixels = contents(TEN)["data_batch_2"]
    path.write_bytes(python_batch(TEN, labels[:-1], pixels))
    with pytest.raises(DataError, match="labels do not belong"):
        load_dataset("cifar10", root=tmp_path)
    path.write_bytes(python_batch(TEN, labels, pixels[:-1]))
    with pytest.raises(DataError, match="no pixel array"):
        load_dataset("cifar10", root=tmp_path)


class Attack:
    """Writes a file when a pickle that holds it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.path, "attacked"))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "victim"
    raw = pickle.dumps({"data": Attack(victim)}, protocol=protocol)
    with pytest.raises(DataError):
        read_batch(raw, "here")
    assert not victim.exists()
    pickle.loads(raw)  # the attack itself works, so that the lines above mean something
    assert victim.exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02}(U\x01acos\nsystem\nU\x04true\x85Ru.",
        b"\x80\x02}(U\x01acnumpy\nload\nU\x04file\x85Ru.",
        b"\x80\x02}(U\x01acnumpy\ndtype\nU\x01O\x85Ru.",
        b"\x80\x02}(U\x01aU\x01b\x85Ru.",
        b"\x80\x02}(U\x01aNNbu.",
    ],
)
def test_other_names_and_types_are_refused(raw: bytes) -> None:
    with pytest.raises(DataError):
        read_batch(raw, "here")


def test_any_truncation_of_a_batch_is_an_error() -> None:
    labels, pixels = contents(TEN)["test_batch"]
    raw = python_batch(TEN, labels, pixels[:, :16].copy())
    assert isinstance(read_batch(raw, "here")["data"], np.ndarray)
    for stop in range(len(raw)):
        with pytest.raises(DataError):
            read_batch(raw[:stop], "here")


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_a_damaged_byte_never_escapes_as_another_error() -> None:
    labels, pixels = contents(TEN)["test_batch"]
    raw = bytearray(python_batch(TEN, labels, pixels[:, :4].copy()))
    generator = torch.Generator().manual_seed(0)
    for _ in range(3000):
        damaged = bytearray(raw)
        for _ in range(2):
            position = int(torch.randint(0, len(raw), (1,), generator=generator))
            damaged[position] = int(torch.randint(0, 256, (1,), generator=generator))
        with contextlib.suppress(DataError):
            read_batch(bytes(damaged), "here")
