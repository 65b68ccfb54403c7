"""The camera formats, by files written here from the formats' own descriptions."""

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from snnkd_deploy.data import load_dataset
from snnkd_deploy.data.aedat import read_aedat2_dvs128, read_aedat31
from snnkd_deploy.data.cifar_names import CIFAR10_CLASSES
from snnkd_deploy.data.event_pools import Recording
from snnkd_deploy.errors import DataError

HEADER31 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 0: DVS128\r\n#!END-HEADER\r\n"
HEADER2 = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"


def recording(seed: int, n: int = 60, until: int = 9000) -> Recording:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, until, n))
    return Recording(rng.integers(0, 128, n), rng.integers(0, 128, n), rng.integers(0, 2, n), t)


def packet(e: Recording, part: slice, overflow: int = 0, kind: int = 1, invalid: int = 0) -> bytes:
    x, y, p, t = (np.asarray(v)[part] for v in e)
    mark = np.ones(len(x), dtype=np.int64)
    mark[:invalid] = 0
    word = (x << 17) | (y << 2) | (p << 1) | mark
    body = np.stack([word, t], 1).astype("<u4").tobytes()
    return struct.pack("<HHIIIIII", kind, 0, 8, 4, overflow, len(x), len(x), len(x) - invalid) + body


def aedat31(e: Recording) -> bytes:
    return HEADER31 + packet(e, slice(0, 25)) + packet(e, slice(0, 5), kind=0) + packet(e, slice(25, None))


def aedat2(e: Recording) -> bytes:
    word = (e.y << 8) | (e.x << 1) | e.p
    return HEADER2 + np.stack([word, e.t_us], 1).astype(">u4").tobytes()


def equal(a: Recording, b: Recording) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in Recording._fields)


def test_aedat31_round_trip_skips_packets_of_other_kinds() -> None:
    e = recording(0)
    assert equal(read_aedat31(aedat31(e), "here"), e)


def test_aedat31_time_overflow_and_invalid_events() -> None:
    e = recording(1)
    raw = HEADER31 + packet(e, slice(None), overflow=2)
    assert np.array_equal(read_aedat31(raw, "here").t_us, e.t_us + (2 << 31))
    raw = HEADER31 + packet(e, slice(None), invalid=7)
    assert np.array_equal(read_aedat31(raw, "here").x, e.x[7:])


def test_aedat31_damage() -> None:
    raw = aedat31(recording(0))
    for stop in (len(raw) - 1, len(raw) - 300, len(HEADER31) + 10, 20):
        with pytest.raises(DataError, match="truncated"):
            read_aedat31(raw[:stop], "here")
    with pytest.raises(DataError, match=r"not an AEDAT 3\.1"):
        read_aedat31(b"#!AER-DAT2.0\r\n", "here")
    assert len(read_aedat31(HEADER31, "here").x) == 0


def test_aedat2_round_trip_and_external_events() -> None:
    e = recording(2)
    assert equal(read_aedat2_dvs128(aedat2(e), "here"), e)
    extra = np.array([[0x8000, 5]], dtype=">u4").tobytes()
    assert equal(read_aedat2_dvs128(aedat2(e) + extra, "here"), e)
    with pytest.raises(DataError, match="eight bytes"):
        read_aedat2_dvs128(aedat2(e)[:-3], "here")
    with pytest.raises(DataError, match=r"not an AEDAT 2\.0"):
        read_aedat2_dvs128(HEADER31 + b"\0" * 8, "here")


def gesture_times(seed: int) -> np.ndarray:
    """The recording's times, its last event exactly at the end of the last gesture."""
    return np.append(recording(seed).t_us[:-1], 9000)


def gesture_folder(root: Path) -> None:
    folder = root / "DvsGesture"
    folder.mkdir(parents=True)
    for part, users in (("train", (1, 2)), ("test", (24,))):
        names = [f"user{u:02d}_led.aedat" for u in users]
        (folder / f"trials_to_{part}.txt").write_text("\n".join(names) + "\n\n")
        for u, name in zip(users, names, strict=True):
            (folder / name).write_bytes(aedat31(recording(u)._replace(t_us=gesture_times(u))))
            table = "class,startTime_usec,endTime_usec\n3,1000,4000\n11,4000,9000\n"
            (folder / f"user{u:02d}_led_labels.csv").write_text(table)


def test_dvs_gesture(tmp_path: Path) -> None:
    gesture_folder(tmp_path)
    data = load_dataset("dvs-gesture", root=tmp_path, validation=0, options={"window_us": 6000, "cap": 255})
    assert (data.shape, len(data.classes)) == ((2, 128, 128), 11)
    assert data.train.y.tolist() == [2, 10, 2, 10] and data.test.y.tolist() == [2, 10]
    e = recording(2)._replace(t_us=gesture_times(2))
    inside = (e.t_us >= 4000) & (e.t_us < 9000)
    assert (e.t_us[~inside] == 9000).any()  # the end belongs to the next gesture
    want = np.zeros((6, 2, 128, 128), np.uint8)
    np.add.at(want, ((e.t_us[inside] - 4000) // 1000, e.p[inside], e.y[inside], e.x[inside]), 1)
    assert np.array_equal(data.train.frames(torch.tensor([3]), 6)[:, 0].numpy(), want)
    assert load_dataset("dvs-gesture", root=tmp_path).train.x.window_us is None  # each its own duration


def test_dvs_gesture_damage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"DvsGesture\.tar\.gz"):
        load_dataset("dvs-gesture", root=tmp_path)
    gesture_folder(tmp_path)
    table = tmp_path / "DvsGesture" / "user01_led_labels.csv"
    for text, message in (("a,b\n1,2\n", "not a table"), ("class,startTime_usec,endTime_usec\n12,0,5\n", "impossible")):
        table.write_text(text)
        with pytest.raises(DataError, match=message):
            load_dataset("dvs-gesture", root=tmp_path)
    (tmp_path / "DvsGesture" / "trials_to_train.txt").write_text("user09_led.aedat\n")
    with pytest.raises(DataError, match="not there"):
        load_dataset("dvs-gesture", root=tmp_path)


def test_cifar10_dvs(tmp_path: Path) -> None:
    for label, name in enumerate(CIFAR10_CLASSES):
        folder = tmp_path / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for i in (10, 9):
            e = recording(100 * label + i)
            (folder / f"cifar10_{name}_{i}.aedat").write_bytes(aedat2(e._replace(t_us=e.t_us + 70_000)))
    options = {"window_us": 9000, "cap": 255}
    data = load_dataset("cifar10-dvs", root=tmp_path, validation=0, options=options)
    assert (len(data.train), len(data.test)) == (18, 2)
    whole = torch.cat([data.train.index, data.test.index])
    assert torch.equal(whole.sort().values, torch.arange(20))
    first = int(data.train.index[0])
    e = recording(100 * (first // 2) + (9, 10)[first % 2])
    want = np.zeros((3, 2, 128, 128), np.uint8)
    np.add.at(want, ((e.t_us - e.t_us.min()) // 3000, 1 - e.p, 127 - e.x, 127 - e.y), 1)
    assert np.array_equal(data.train.frames(torch.tensor([0]), 3)[:, 0].numpy(), want)
    dense = load_dataset("cifar10-dvs", root=tmp_path, validation=0, options=options | {"steps": 3, "downsample": 4})
    assert isinstance(dense.train.x, torch.Tensor) and dense.train.x.shape == (18, 3, 2, 32, 32)


def shd_file(path: Path, n: int, *, names: bool = True) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(n)
    rows = []
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (n,), dtype=h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (n,), dtype=h5py.vlen_dtype(np.uint16))
        for i in range(n):
            k = int(rng.integers(5, 30))
            times[i] = np.sort(rng.random(k)).astype(np.float16)
            units[i] = rng.integers(0, 700, k).astype(np.uint16)
            rows.append((np.asarray(times[i]).astype(np.float64), np.asarray(units[i])))
        file["labels"] = (np.arange(n) % 20).astype(np.uint16)
        if names:
            file["extra/keys"] = np.array([f"word {i}".encode() for i in range(20)])
    return rows


def test_shd(tmp_path: Path) -> None:
    rows = shd_file(tmp_path / "shd_train.h5", 40)
    shd_file(tmp_path / "shd_test.h5", 20)
    data = load_dataset("shd", root=tmp_path, validation=0, options={"window_us": 1_000_001, "cap": 255})
    assert (data.shape, len(data.train), len(data.test)) == ((1, 1, 700), 40, 20)
    assert data.classes[3] == "word 3"
    times, units = rows[5]
    want = np.zeros((10, 700), np.uint8)
    np.add.at(want, (np.rint(times * 1e6).astype(int) * 10 // 1_000_001, units), 1)
    assert np.array_equal(data.train.frames(torch.tensor([5]), 10)[:, 0, 0, 0].numpy(), want)


def test_shd_zip_and_damage(tmp_path: Path) -> None:
    import zipfile

    (tmp_path / "a").mkdir()
    for name, n in (("shd_train.h5", 20), ("shd_test.h5", 20)):
        shd_file(tmp_path / name, n, names=False)
        with zipfile.ZipFile(tmp_path / "a" / f"{name}.zip", "w") as archive:
            archive.write(tmp_path / name, name)
    plain, packed = load_dataset("shd", root=tmp_path), load_dataset("shd", root=tmp_path / "a")
    assert plain.sha256 == packed.sha256 and plain.classes == tuple(map(str, range(20)))
    (tmp_path / "shd_test.h5").write_bytes(b"no h5")
    with pytest.raises(DataError, match="damaged"):
        load_dataset("shd", root=tmp_path)
