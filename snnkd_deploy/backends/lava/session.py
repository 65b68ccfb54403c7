"""Run a plan in a child interpreter, and leave nothing behind whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snnkd_deploy.backends import reaper
from snnkd_deploy.backends.awake import AwakeClock
from snnkd_deploy.errors import BackendError

_POLL_S = 0.02
_LOG_LINES = 8


def run_session(
    folder: Path,
    *,
    samples: int,
    python: str = sys.executable,
    stall_s: float = 180.0,
    timeout_s: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    mode: str = "lava",
) -> dict[str, Any]:
    """Run the plan in `folder`; returns what the child says of itself. mode: whose plan it is, "lava" or "netx".

    `stall_s` limits the time without any progress (compiling and starting Lava included), `timeout_s` the
    whole run. `progress(done, samples)` is called as samples finish. Raises BackendError with the child's
    own error text; on any exception, Ctrl-C too, the whole session is killed first.
    """
    log = folder / "log.txt"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with open(log, "wb") as out:
        child = subprocess.Popen(
            [python, str(Path(__file__).with_name("child.py")), str(folder), mode],
            stdin=subprocess.PIPE,  # its closing tells the child that we are gone
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    try:
        _wait(child, folder, samples, stall_s, timeout_s, progress)
    finally:
        if child.poll() is None:
            child.kill()
        reaper.kill_session(child.pid)
        child.wait()
        if child.stdin is not None:
            child.stdin.close()
    if child.returncode != 0 or not (folder / "done.json").exists():
        raise BackendError(_failure(folder, child.returncode), where="lava", remedy=_remedy(folder))
    return json.loads((folder / "done.json").read_text())


def _wait(
    child: subprocess.Popen,
    folder: Path,
    samples: int,
    stall_s: float,
    timeout_s: float | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    clock = AwakeClock()
    begin = last = clock.now
    done, stamp = 0, 0
    while child.poll() is None:
        time.sleep(_POLL_S)
        now = clock.tick()
        try:
            state = (folder / "progress").stat().st_mtime_ns
            if state != stamp:
                stamp, last = state, now
                finished = int((folder / "progress").read_text())
                if progress is not None and finished != done:
                    progress(min(finished, samples), samples)
                done = finished
        except FileNotFoundError:
            pass
        if (folder / "error.json").exists():
            return
        limit = "stall_s" if now - last > stall_s else ""
        if timeout_s is not None and now - begin > timeout_s:
            limit = "timeout_s"
        if limit:
            raise BackendError(
                f"Lava did not finish: {done} of {samples} samples done",
                where="lava",
                need=f"{limit} > {stall_s if limit == 'stall_s' else timeout_s:g} s",
                have=f"{now - begin:.1f} s, the last {now - last:.1f} s without progress",
                remedy=f"run fewer samples, or give LavaBackend({limit}=...) more time",
            )


def _failure(folder: Path, code: int) -> str:
    """The child's own words: its error file, else the end of its log."""
    try:
        error = json.loads((folder / "error.json").read_text())
        return f"Lava failed: {error['what']}" + (f"\n{error['details'].rstrip()}" if error["details"] else "")
    except (OSError, ValueError):
        tail = (folder / "log.txt").read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
        return "\n".join([f"the Lava process ended with code {code} before it was done", *tail])


def _remedy(folder: Path) -> str:
    try:
        details = (folder / "error.json").read_text()
    except OSError:
        details = ""
    if "Loihi compiler" in details:
        return "run without hardware=True, or install lava-loihi on the machine that holds the board"
    if "ModuleNotFoundError" in details or "ImportError" in details:
        return "pip install scipy networkx asteval; pip install --no-deps --ignore-requires-python lava-nc==0.10.0"
    return "the same model on --backend exact; if that works, this is a defect: please report it"
