"""One process at a time in a run directory: a lock that the kernel takes back, however its holder ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snnkd_deploy.errors import UsageError

# Folders that this process holds: a stage is done inside of a run.
_held: set[Path] = set()


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold `folder` (created if need be) for as long as the block runs; True where it was not held already.

    Raises UsageError with the id of the process that holds it, OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / ".lock"
    if path in _held:
        yield False
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = os.read(handle, 100).decode("ascii", "replace").strip() or "unknown"
            raise UsageError(
                f"another process is working in this run directory: {holder}",
                where=str(folder),
                remedy="wait until it has ended, or another --out",
            ) from error
        os.ftruncate(handle, 0)
        os.write(handle, f"pid {os.getpid()} on {os.uname().nodename}\n".encode("ascii", "replace"))
        _held.add(path)
        try:
            yield True
        finally:
            _held.discard(path)
    finally:
        os.close(handle)  # gives the lock back; the file stays, because deleting it would race
