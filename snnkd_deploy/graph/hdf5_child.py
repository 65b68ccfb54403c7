"""Read a whole HDF5 file into flat numpy arrays. Runs as a script too: `python -P hdf5_child.py FILE SECONDS`.

The HDF5 library crashes or hangs on some damaged files, so a file that nobody vouches for is read in a process
of its own. Nothing but h5py and numpy is imported here: that process must start quickly.
"""

from __future__ import annotations

import io
import json
import os
import sys

import h5py
import numpy as np

# No filter of HDF5 packs better than deflate's 1032:1, so a file that declares more is damaged.
_LARGEST_RATIO = 1032
_DEEPEST = 16
_MOST_ITEMS = 100_000


def collect(path: str) -> dict[str, np.ndarray]:
    """Path inside the file -> values; text as unicode arrays; a group is its path with a slash behind.

    Raises ValueError for what no model file holds, and whatever h5py runs into.
    """
    flat: dict[str, np.ndarray] = {}
    with h5py.File(path, "r") as file:
        _walk(file, "", os.path.getsize(path), flat, 0)
    return flat


def _walk(group: h5py.Group, prefix: str, file_bytes: int, flat: dict[str, np.ndarray], depth: int) -> None:
    if depth > _DEEPEST or len(flat) > _MOST_ITEMS:
        raise ValueError(f"groups without end at {prefix}")
    flat[prefix + "/"] = np.zeros(0)
    for key in group:
        name = f"{prefix}/{key}"
        if isinstance(group.get(key, getlink=True), h5py.ExternalLink):
            raise ValueError(f"{name} points into another file")
        item = group[key]
        if isinstance(item, h5py.Group):
            _walk(item, name, file_bytes, flat, depth + 1)
        elif isinstance(item, h5py.Dataset):
            if item.shape is None or item.dtype.kind not in "iufbSO" or item.nbytes > file_bytes * _LARGEST_RATIO:
                raise ValueError(f"{name} cannot hold {item.shape} values of type {item.dtype}")
            flat[name] = _plain(item[()], name)


def _plain(value: object, name: str) -> np.ndarray:
    """Numbers as they are, text of any kind as a unicode array."""
    array = np.asarray(value)
    if array.dtype.kind not in "OS":
        return array
    texts = []
    for item in array.ravel():
        if not isinstance(item, bytes | str):
            raise ValueError(f"{name} holds neither numbers nor text")
        texts.append(item.decode("utf-8") if isinstance(item, bytes) else item)
    return np.array(texts, dtype=np.str_).reshape(array.shape)


def pack(flat: dict[str, np.ndarray]) -> bytes:
    """As `.npz`, with the names apart (they need not be legal file names)."""
    buffer = io.BytesIO()
    names = np.frombuffer(json.dumps(list(flat)).encode("utf-8"), dtype=np.uint8)
    np.savez(buffer, names=names, **{str(i): array for i, array in enumerate(flat.values())})  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        names = json.loads(file["names"].tobytes().decode("utf-8"))
        return {name: file[str(i)] for i, name in enumerate(names)}


def limit_cpu(seconds: int) -> None:
    """End this process once it has computed for so long: a reader that hangs computes, one that waits does not."""
    try:
        import resource
    except ImportError:  # Windows: the caller's clock is all there is
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or hard > seconds:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


if __name__ == "__main__":
    limit_cpu(int(sys.argv[2]))
    try:
        content = pack(collect(sys.argv[1]))
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}")
        sys.exit(3)
    sys.stdout.buffer.write(content)
