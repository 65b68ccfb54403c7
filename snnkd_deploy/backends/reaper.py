"""End a session of processes completely: every one but the resource tracker, which then frees shared memory.

Lava's own `stop()` hangs after an exception or Ctrl-C, and files in /dev/shm stay until reboot. Only the
resource tracker of Python's multiprocessing knows them; it removes them once its last client is gone, so
it is the one process that must not be killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

_PROC = Path("/proc")


def session_members(session: int) -> dict[int, bool]:
    """Live processes of a session: pid -> whether it is a resource tracker. Empty where /proc is missing."""
    members = {}
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if not entry.name.isdigit():
            continue
        try:
            # The fields after the command name, which may hold spaces: state, ppid, pgrp, session.
            state, _, _, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(owner) == session and state != "Z":
                members[int(entry.name)] = b"resource_tracker" in (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it ended while we looked
    return members


def kill_session(session: int, wait_s: float = 5.0, spare: int = 0) -> list[int]:
    """SIGKILL the members of `session`, wait for its trackers; returns the pids that are still alive.

    `spare` is a pid to leave alone (the caller, where it is a member itself).
    """
    deadline = time.monotonic() + wait_s
    if not _PROC.is_dir():  # macOS: no list of members, so the trackers cannot be spared
        _kill(os.killpg, session)
        return []
    while True:
        members = {pid: tracker for pid, tracker in session_members(session).items() if pid != spare}
        late = time.monotonic() > deadline
        if not members or (late and spare):
            return list(members)
        for pid, tracker in members.items():
            if late or not tracker:
                _kill(os.kill, pid)
        if late:
            time.sleep(0.05)
            return list(session_members(session))
        time.sleep(0.02)


def _kill(send: Callable[[int, int], None], target: int) -> None:
    """SIGKILL; a process that is gone already is what we wanted."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(target, signal.SIGKILL)


def die_with_parent() -> None:
    """In the session's leader: when stdin closes, which it does when the parent dies, end the session."""

    def wait() -> None:
        # Not through sys.stdin: its lock, held here at a fork, would hang every forked child for ever.
        while os.read(0, 1):
            pass
        kill_session(os.getpid(), spare=os.getpid())
        os._exit(3)

    threading.Thread(target=wait, daemon=True, name="die-with-parent").start()


def kill_descendants(wait_s: float = 5.0) -> list[int]:
    """SIGKILL what this process started and still runs in its session; returns the pids that are still alive.

    A child that leads a session of its own, as a Lava run does, ends itself when our end of its stdin closes.
    """
    own, session = os.getpid(), os.getsid(0)
    if session == own:
        return kill_session(session, wait_s, spare=own)
    deadline = time.monotonic() + wait_s
    while True:
        members = {pid: t for pid, t in session_members(session).items() if pid != own and _descends(pid, own)}
        late = time.monotonic() > deadline
        if not members or late:
            return list(members)
        for pid, tracker in members.items():
            if not tracker:
                _kill(os.kill, pid)
        time.sleep(0.02)


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        try:
            pid = int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
        if pid == ancestor:
            return True
    return False
