from pathlib import Path

import numpy as np
import pytest
import torch

from snnkd_deploy.data import EventStore, load_dataset
from snnkd_deploy.errors import DataError, UsageError


def events(n: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    count = rng.integers(3, 9, n)
    total = int(count.sum())
    ptr = np.concatenate([[0], np.cumsum(count)])
    t = np.concatenate([np.sort(rng.integers(0, 1000, c)) for c in count])
    return {
        "x": rng.integers(0, 8, total).astype(np.uint8),
        "y": rng.integers(0, 6, total).astype(np.uint8),
        "p": rng.integers(0, 2, total).astype(np.uint8),
        "t": t.astype(np.int64),
        "ptr": ptr,
        "label": np.arange(n) % 4,
        "shape": np.array([2, 6, 8]),
    }


def load(path: Path, **options: object):  # type: ignore[no-untyped-def]
    return load_dataset("events-npz", root=path, validation=0, options=options)


def all_frames(data, T: int = 5) -> torch.Tensor:  # type: ignore[no-untyped-def]
    return torch.cat([s.frames(torch.arange(len(s)), T) for s in (data.train, data.test)], 1)


def test_sparse_events(tmp_path: Path) -> None:
    arrays = events()
    np.savez(tmp_path / "mine.npz", **arrays)
    data = load(tmp_path / "mine.npz", cap=255)
    assert (data.kind, data.shape, data.levels, data.classes) == ("events", (2, 6, 8), 255, ("0", "1", "2", "3"))
    assert (len(data.train), len(data.test)) == (16, 4)
    assert isinstance(data.train.x, EventStore)
    assert data.train.x.window_us == int(arrays["t"].max()) + 1
    # Every event arrives in exactly one bin: recount them from the arrays.
    for split in (data.train, data.test):
        frames = split.frames(torch.arange(len(split)), 5)
        for b, i in enumerate(split.index.tolist()):
            part = slice(arrays["ptr"][i], arrays["ptr"][i + 1])
            want = np.zeros((5, 2, 6, 8), np.uint8)
            step = arrays["t"][part] * 5 // data.train.x.window_us
            np.add.at(want, (step, arrays["p"][part], arrays["y"][part], arrays["x"][part]), 1)
            assert np.array_equal(frames[:, b].numpy(), want)
            assert split.y[b] == arrays["label"][i]


def test_equivalent_encodings_load_alike(tmp_path: Path) -> None:
    arrays = events()
    np.savez(tmp_path / "a.npz", **arrays)
    starts = np.zeros(len(arrays["t"]), dtype=bool)
    starts[arrays["ptr"][:-1]] = True
    delta = np.where(starts, arrays["t"], np.diff(arrays["t"], prepend=0))
    other = {k: v for k, v in arrays.items() if k != "t"} | {"dt_us": delta.astype(np.uint16)}
    np.savez_compressed(tmp_path / "b.npz", **(other | {"p": np.packbits(arrays["p"])}))
    np.savez(tmp_path / "c.npz", **(arrays | {"p": arrays["p"].astype(np.int8) * 2 - 1}))
    digests = {load(tmp_path / f"{name}.npz").sha256 for name in "abc"}
    assert len(digests) == 1


def test_test_parts(tmp_path: Path) -> None:
    train, test = events(), events(8, seed=1)
    np.savez(tmp_path / "train.npz", **train)
    np.savez(tmp_path / "test.npz", **test)
    a = load(tmp_path)
    prefixed = {f"{part}_{k}": v for part, arrays in (("train", train), ("test", test)) for k, v in arrays.items()}
    (tmp_path / "one").mkdir()
    np.savez(tmp_path / "one" / "both.npz", **prefixed)
    b = load(tmp_path / "one")
    c = load(tmp_path, file="train.npz", test_file="test.npz")
    assert (len(a.train), len(a.test)) == (20, 8)
    assert a.sha256 == b.sha256 == c.sha256
    assert torch.equal(all_frames(a), all_frames(b))


def test_steps_bin_at_load(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **events())
    kept, dense = load(tmp_path), load(tmp_path, steps=5)
    assert isinstance(dense.train.x, torch.Tensor) and dense.train.x.shape == (16, 5, 2, 6, 8)
    assert torch.equal(all_frames(kept), all_frames(dense))
    assert dense.shape == kept.shape
    with pytest.raises(UsageError, match="fixed length"):
        dense.train.frames(torch.tensor([0]), 6)


def test_window_options(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **events())
    short = load(tmp_path, window_us=100, cap=255)
    outside, _ = short.train.x.lost(torch.arange(16), 5)
    assert outside > 0
    assert load(tmp_path, window_us="sample").train.x.window_us is None
    for wrong in (0, -5, 1.5, "all", True):
        with pytest.raises(UsageError, match="window_us"):
            load(tmp_path, window_us=wrong)


def test_sensor_shape(tmp_path: Path) -> None:
    arrays = events()
    del arrays["shape"]
    np.savez(tmp_path / "mine.npz", **arrays)
    assert load(tmp_path).shape == (2, 6, 8)  # the smallest that holds them
    assert load(tmp_path, shape=[2, 10, 12]).shape == (2, 10, 12)
    with pytest.raises(DataError, match="y out of range"):
        load(tmp_path, shape=[2, 3, 12])
    with pytest.raises(UsageError, match="shape"):
        load(tmp_path, shape=[3, 12])


def test_dense_frames(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 4, (10, 3, 2, 4, 5)).astype(np.int64)
    np.savez(tmp_path / "mine.npz", x=x, y=np.arange(10) % 2)
    data = load(tmp_path)
    assert data.shape == (2, 4, 5) and data.levels == 3
    rows = torch.tensor([2, 0])
    got = data.train.frames(rows, 3)
    assert got.shape == (3, 2, 2, 4, 5)
    assert np.array_equal(got.numpy(), x[data.train.index[rows].numpy()].swapaxes(0, 1).astype(np.uint8))
    with pytest.raises(UsageError, match="binned already"):
        load(tmp_path, cap=2)
    np.savez(tmp_path / "mine.npz", x=x.astype(np.float32), y=np.arange(10) % 2)
    with pytest.raises(DataError, match="not an integer array"):
        load(tmp_path)
    np.savez(tmp_path / "mine.npz", x=x * 100, y=np.arange(10) % 2)
    with pytest.raises(DataError, match="out of range"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "lacks x"),
        ({"t": None}, "lacks t"),
        ({"label": None}, "no labels"),
        ({"ptr": np.array([0, 3])}, "ptr must rise"),
        ({"ptr": np.array([], dtype=np.int64)}, "ptr must rise"),
        ({"y": np.zeros(3, np.uint8)}, "do not belong together"),
        ({"t": np.zeros(4, np.float64)}, "not an integer array"),
        ({"label": np.arange(3)}, "differ in number"),
        ({"label": np.arange(20) - 1}, "labels out of range"),
        ({"class_names": np.array(["a", "b"])}, "fewer class names"),
    ],
)
def test_broken_arrays(tmp_path: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    arrays = events() | change
    np.savez(tmp_path / "mine.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, **events())
    whole = path.read_bytes()
    for raw in (whole[:200], b"", b"no zip", whole[:-30]):
        path.write_bytes(raw)
        with pytest.raises(DataError, match="damaged"):
            load(path)
    np.savez(path, **(events() | {"p": np.array([{"a": 1}], dtype=object)}))
    with pytest.raises(DataError, match="Python objects in it"):
        load(path)
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(DataError, match="single array"):
        load(tmp_path / "single.npy")


def test_which_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data FILE"):
        load_dataset("events-npz")
    with pytest.raises(DataError, match=r"which \.npz"):
        load(tmp_path)
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, **events())
    with pytest.raises(DataError, match=r"a\.npz, b\.npz"):
        load(tmp_path)
    assert len(load(tmp_path, file="b.npz").train) == 16
    with pytest.raises(DataError, match="not found"):
        load(tmp_path, file="c.npz")


def series(n: int = 30) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "X": rng.integers(0, 256, (n, 7, 3)).astype(np.uint8),
        "y": np.arange(n) % 3,
        "class_names": np.array([b"yes", b"no", b"up"]),
        "clip": np.array([f"s{i // 3}_nohash_{i % 3}.wav".encode() for i in range(n)]),
    }


def test_series(tmp_path: Path) -> None:
    arrays = series()
    np.savez(tmp_path / "kws.npz", **arrays)
    data = load_dataset("series-npz", root=tmp_path, validation=0)
    assert (data.kind, data.shape, data.levels, data.classes) == ("series", (7, 3), 255, ("yes", "no", "up"))
    assert np.array_equal(data.train.x.numpy(), arrays["X"][data.train.index.numpy()])
    frames = data.train.frames(torch.tensor([4, 1]), 7)
    assert frames.shape == (7, 2, 3)
    assert torch.equal(frames[:, 0], data.train.x[4])


def test_series_with_fewer_channels(tmp_path: Path) -> None:
    arrays = series()
    np.savez(tmp_path / "kws.npz", **arrays)
    whole = load_dataset("series-npz", root=tmp_path, validation=0)
    two = load_dataset("series-npz", root=tmp_path, validation=0, options={"channels": 2})
    assert two.shape == (7, 2) and two.sha256 != whole.sha256
    x = torch.as_tensor(whole.train.x).double()
    expected = torch.stack([x[:, :, 0], x[:, :, 1:].mean(2).round()], 2)  # three features in two groups: 1 and 2
    assert torch.equal(torch.as_tensor(two.train.x).double(), expected)
    for wrong in (-1, 4):
        with pytest.raises(UsageError, match="channels"):
            load_dataset("series-npz", root=tmp_path, options={"channels": wrong})


def test_series_keep_speakers_on_one_side(tmp_path: Path) -> None:
    np.savez(tmp_path / "kws.npz", **series())
    options = {"group": "clip", "group_until": "_nohash_"}
    data = load_dataset("series-npz", root=tmp_path, options=options, validation=0.2)
    speakers = [set((split.index // 3).tolist()) for split in (data.train, data.val, data.test)]
    assert all(speakers) and not (speakers[0] & speakers[1] or speakers[0] & speakers[2] or speakers[1] & speakers[2])
    assert sum(len(s) for s in (data.train, data.val, data.test)) == 30
    with pytest.raises(UsageError, match="needs option group"):
        load_dataset("series-npz", root=tmp_path, options={"group_until": "_"})
    with pytest.raises(DataError, match="no array 'speaker'"):
        load_dataset("series-npz", root=tmp_path, options={"group": "speaker"})


def test_series_of_floats_are_refused_with_advice(tmp_path: Path) -> None:
    np.savez(tmp_path / "kws.npz", X=np.zeros((4, 2, 2)), y=np.arange(4) % 2)
    with pytest.raises(DataError, match="quantise"):
        load_dataset("series-npz", root=tmp_path)


@pytest.mark.parametrize("shape", [(30, 5, 6), (30, 3, 5, 6), (30, 5, 6, 3)])
def test_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 9, shape).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(30) % 3)
    data = load_dataset("images-npz", root=tmp_path / "x.npz", options={"test_percent": 20})
    assert data.kind == "image" and data.levels == 8 and data.shape == ((3, 5, 6) if len(shape) == 4 else (1, 5, 6))
    row = int(data.train.index[0])
    expected = x[row][None] if x.ndim == 3 else x[row] if shape[1] == 3 else x[row].transpose(2, 0, 1)
    assert np.array_equal(data.train.x[0].numpy(), expected)


def test_images_of_floats_are_refused_with_advice(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((9, 4, 4)), y=np.arange(9) % 3)
    with pytest.raises(DataError, match="quantise"):
        load_dataset("images-npz", root=tmp_path / "x.npz")
