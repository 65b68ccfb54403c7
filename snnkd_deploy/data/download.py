"""Fetch one file: mirrors, resume, md5, atomic rename.

A file under its final name is always whole and checked; an interrupted transfer stays beside it as `.part`
and is resumed, so stopping at any moment costs nothing but the time since.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from snnkd_deploy.errors import DataError, Problem

Progress = Callable[[str, int, "int | None"], None]
CHUNK = 1 << 18
TIMEOUT_S = 30.0
ATTEMPTS = 3


@dataclass(frozen=True)
class Remote:
    """A file of the original distribution: where it is kept below the data folder, who serves it, its md5."""

    path: str
    urls: tuple[str, ...]
    md5: str


def md5_of(path: Path) -> str:
    """md5 of a file, hexadecimal. It guards against damage, which is what the publishers give it for."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def show_progress(name: str, done: int, total: int | None) -> None:
    """A line on stderr that counts megabytes; silent where stderr is not a terminal, except at the end."""
    finished = total is not None and done >= total
    if not sys.stderr.isatty() and not finished:
        return
    of = f" of {total / 1e6:.1f}" if total else ""
    end = "\n" if finished else ""
    lead = "\r" if sys.stderr.isatty() else ""
    print(f"{lead}downloading {name}: {done / 1e6:.1f}{of} MB", end=end, file=sys.stderr, flush=True)


def fetch(remote: Remote, folder: Path, progress: Progress = show_progress) -> Path:
    """Make sure that `folder / remote.path` exists and return it. An existing file is left as it is.

    `DataError` lists what every mirror answered; a partial file is kept for the next try unless its md5 is wrong.
    """
    target = folder / remote.path
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target.parent / ".download.lock"):
            if target.is_file():  # another process finished it while we waited
                return target
            return _fetch_any(remote, target, progress)
    except OSError as error:
        raise DataError(
            f"cannot store the download: {error}",
            where=str(target),
            remedy="--data DIR with a folder you may write",
        ) from error


def _fetch_any(remote: Remote, target: Path, progress: Progress) -> Path:
    part = target.with_name(target.name + ".part")
    failures: list[Problem] = []
    for url in remote.urls:
        for _ in range(ATTEMPTS):
            try:
                resumed = _transfer(url, part, progress)
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                failures.append(Problem(f"{type(error).__name__}: {error}", where=url))
                if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500:
                    break  # the same question would get the same answer
                continue
            got = md5_of(part)
            if got == remote.md5:
                os.replace(part, target)
                return target
            part.unlink()
            failures.append(Problem("wrong md5", where=url, need=remote.md5, have=got))
            if not resumed:
                break  # a whole fresh transfer was wrong: this mirror has another file
    distinct = list(dict.fromkeys(failures))
    raise DataError(
        f"download of {target.name} failed",
        where=str(target.parent),
        remedy=f"run again (it resumes), or fetch {' or '.join(remote.urls)} by hand and put it there",
        also=distinct,
    )


def _transfer(url: str, part: Path, progress: Progress) -> bool:
    """Bring `part` up to full length; True if it continued an earlier transfer."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "snnkd_deploy"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing after what we have: whole, or not this file. The md5 decides.
            error.close()
            return True
        raise
    with response:
        expected = f"bytes {have}-"
        resumed = have > 0 and response.status == 206 and response.headers.get("Content-Range", "").startswith(expected)
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        with part.open("ab" if resumed else "wb") as out:
            while chunk := response.read(CHUNK):
                out.write(chunk)
                have += len(chunk)
                progress(part.name.removesuffix(".part"), have, total)
    if total is not None and have < total:
        raise ConnectionError(f"connection closed after {have} of {total} bytes")
    return resumed


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time (the ranks of a distributed run all ask for the data at once)."""
    try:
        import fcntl
    except ImportError:  # Windows: the atomic rename alone must do
        yield
        return
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # freed by the system if this process dies
        yield
