import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from snnkd_deploy.data import load_dataset
from snnkd_deploy.data.event_pools import Recording
from snnkd_deploy.data.nmnist import decode_bin
from snnkd_deploy.errors import DataError, UsageError


def encode(e: Recording) -> bytes:
    t = e.t_us
    columns = [e.x, e.y, (e.p << 7) | ((t >> 16) & 127), (t >> 8) & 255, t & 255]
    return np.stack(columns, 1).astype(np.uint8).tobytes()


def recording(seed: int, n: int = 40) -> Recording:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 310_000, n))
    return Recording(rng.integers(0, 34, n), rng.integers(0, 34, n), rng.integers(0, 2, n), t)


def members() -> dict[str, bytes]:
    """Like the original: MNIST's numbering across the digit folders."""
    names = {}
    for part, n in (("Train", 30), ("Test", 10)):
        for i in range(n):
            digit = (7 * i) % 10
            names[f"{part}/{digit}/{i + 1:05d}.bin"] = encode(recording(i + 1000 * (part == "Test")))
    return names


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    for name, raw in members().items():
        path = tmp_path / "NMNIST" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return tmp_path


def test_bin_files_round_trip() -> None:
    e = recording(3, 500)
    back = decode_bin(encode(e), "here")
    for name in Recording._fields:
        assert np.array_equal(getattr(back, name), getattr(e, name))
    with pytest.raises(DataError, match="five bytes"):
        decode_bin(encode(e)[:-2], "here")


def test_clock_overflow_marks_shift_what_follows_and_vanish() -> None:
    e = Recording(*(np.array(v) for v in ([1, 0, 2], [3, 240, 4], [1, 0, 0], [10, 0, 20])))
    back = decode_bin(encode(e), "here")
    assert back.y.tolist() == [3, 4] and back.t_us.tolist() == [10, 20 + 8192]


def test_folders_in_the_order_of_mnist(originals: Path) -> None:
    data = load_dataset("nmnist", root=originals, validation=0, options={"cap": 255})
    assert (data.shape, len(data.train), len(data.test)) == ((2, 34, 34), 30, 10)
    assert data.train.y.tolist() == [(7 * i) % 10 for i in range(30)]
    frames = data.train.frames(torch.tensor([4]), 1)[0, 0]
    e = recording(4)
    want = np.zeros((2, 34, 34), np.uint8)
    np.add.at(want, (e.p, e.y, e.x), 1)
    assert np.array_equal(frames.numpy(), want)


def test_zips_need_no_extraction(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("zips")
    for part in ("Train", "Test"):
        with zipfile.ZipFile(root / f"{part}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, raw in reversed(list(members().items())):
                if name.startswith(part):
                    archive.writestr(name, raw)
    a, b = load_dataset("nmnist", root=originals), load_dataset("nmnist", root=root)
    assert a.sha256 == b.sha256
    assert {p.name for p in root.iterdir()} == {"Train.zip", "Test.zip"}
    (root / "Test.zip").write_bytes((root / "Test.zip").read_bytes()[:-50])
    with pytest.raises(DataError, match="damaged archive"):
        load_dataset("nmnist", root=root)


def test_steps_while_reading(originals: Path) -> None:
    with pytest.raises(UsageError, match="needs option window_us"):
        load_dataset("nmnist", root=originals, options={"steps": 4})
    options = {"window_us": 310_000, "cap": 3, "downsample": 2}
    dense = load_dataset("nmnist", root=originals, options=options | {"steps": 4})
    kept = load_dataset("nmnist", root=originals, options=options)
    rows = torch.arange(len(kept.train))
    assert dense.shape == (2, 17, 17)
    assert torch.equal(dense.train.frames(rows, 4), kept.train.frames(rows, 4))


def test_empty_folders_and_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Train\.zip"):
        load_dataset("nmnist", root=tmp_path, download=False)
    (tmp_path / "Train").mkdir()
    (tmp_path / "Test").mkdir()
    with pytest.raises(DataError, match="no recordings"):
        load_dataset("nmnist", root=tmp_path)
