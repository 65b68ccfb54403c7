"""HDF5 model files as nested dicts, safe against damaged ones.

Files that we write end in a checksum behind the HDF5 part, which HDF5 ignores. A file whose checksum holds is read
here; one without it (another tool's) is read by a child process, because the HDF5 library may crash or hang on a
damaged file; one whose checksum does not hold is refused.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import snnkd_deploy.graph.hdf5_child as child
from snnkd_deploy.errors import GraphError

Tree = dict[str, Any]

_REMEDY = "export it again, or copy it again from where it is whole"
_SEAL = b"\n#snnkd_deploy sha256 "
_SEAL_BYTES = len(_SEAL) + 64
# Reading computes for a second a gigabyte; what computes for a minute hangs. On a busy machine or a slow disk the
# clock runs on while nothing is computed, so the clock alone says little.
_PATIENCE_CPU_S = 60.0
_CLOCK_PER_CPU = 20


def sealed(content: bytes) -> bytes:
    """A finished file with its checksum behind it.

    Files are made in memory: HDF5 crashes, or raises what is no OSError, where a disk is full.
    """
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode("ascii")


def read_hdf5(path: Path) -> Tree:
    """The file as nested dicts: groups are dicts, text is str, all else numpy arrays or numpy numbers.

    Raises GraphError where the file is missing, damaged, or not HDF5.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise GraphError("no such file", where=str(path), remedy="a .nir, .net or .onnx file") from error
    except OSError as error:
        raise GraphError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="its permissions, or another copy"
        ) from error
    if not content.startswith(b"\x89HDF\r\n\x1a\n"):
        raise GraphError("not an HDF5 file", where=str(path), remedy="model files are .nir or .net")
    if _SEAL not in content[-_SEAL_BYTES:]:
        return _nest(_read_in_child(path))
    if content[-64:] != hashlib.sha256(content[:-_SEAL_BYTES]).hexdigest().encode("ascii"):
        raise GraphError(
            "the file is damaged: its checksum does not hold",
            where=str(path),
            remedy="write it again, or copy it again in binary mode",
        )
    try:
        return _nest(child.collect(str(path)))
    except Exception as error:
        raise GraphError(
            f"not a readable HDF5 file: {type(error).__name__}: {error}", where=str(path), remedy=_REMEDY
        ) from error


def _read_in_child(path: Path) -> dict[str, np.ndarray]:
    # -P keeps our folder, whose module names are common words, out of the child's search path.
    patience = int(_PATIENCE_CPU_S + path.stat().st_size / 1e7)
    command = [sys.executable, "-P", str(child.__file__), str(path.resolve()), str(patience)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=patience * _CLOCK_PER_CPU, check=False)
    except subprocess.TimeoutExpired as error:
        raise GraphError(
            f"HDF5 has not read it after {error.timeout:.0f} s: a damaged file, or a disk that does not answer",
            where=str(path),
            remedy=_REMEDY,
        ) from error
    if sys.platform != "win32" and done.returncode == -signal.SIGXCPU:
        raise GraphError(
            f"damaged: HDF5 reads it without end (stopped after {patience} s)", where=str(path), remedy=_REMEDY
        )
    if done.returncode == 3:
        what = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["?"]
        raise GraphError(f"not a readable HDF5 file: {what[0]}", where=str(path), remedy=_REMEDY)
    if done.returncode:
        raise GraphError(
            f"damaged: the HDF5 library crashed on it (exit {done.returncode})", where=str(path), remedy=_REMEDY
        )
    return child.unpack(done.stdout)


def _nest(flat: dict[str, np.ndarray]) -> Tree:
    root: Tree = {}
    for name, value in flat.items():
        at = root
        *parents, last = name.split("/")[1:]
        for parent in parents:
            at = at.setdefault(parent, {})
        if last:
            at[last] = str(value) if value.dtype.kind == "U" and value.ndim == 0 else value[()]
    return root
