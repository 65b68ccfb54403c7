"""The Lava interpreter: `python child.py FOLDER lava` (or `netx`) runs the plan in FOLDER and exits.

It is started as the leader of its own session, so that everything Lava forks can be ended from outside.
Progress goes to `progress` (samples done), a failure to `error.json`; results are in the plan's files.
It runs on any Python that has numpy, scipy and lava-nc, and never imports torch.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
import types
from pathlib import Path

if __package__ in (None, ""):  # started by path: make the package importable without running its __init__s
    _HERE = Path(__file__).resolve().parent
    del sys.path[0]  # our own folder: its file names are not modules of their own
    for _depth, _name in enumerate(("snnkd_deploy", "snnkd_deploy.backends", "snnkd_deploy.backends.lava")):
        _package = types.ModuleType(_name)
        _package.__path__ = [str(_HERE.parents[1 - _depth] if _depth < 2 else _HERE)]
        sys.modules[_name] = _package

from snnkd_deploy.backends import reaper
from snnkd_deploy.backends.lava.plan import Plan
from snnkd_deploy.backends.lava.shim import import_lava

# A run() call costs well under a millisecond beyond its steps; a chunk is what progress is reported by.
_FIRST_CHUNK = 8
_CHUNK_S = 0.5
_MOST_STEPS = 512
_WATCH_S = 0.5


class LavaError(Exception):
    """A process of the graph failed. The text is its traceback."""


def run(folder: Path) -> None:
    """Run the plan and stop Lava. Raises whatever went wrong; then the session has to be killed."""
    import_lava()
    from lava.magma.core.process.process import AbstractProcess
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg

    from snnkd_deploy.backends.lava.network import assemble

    plan, arrays = Plan.load(folder)
    if plan.hardware:
        _need_hardware_compiler()
    processes: list[AbstractProcess] = assemble(plan, arrays, folder)
    config = (Loihi2HwCfg if plan.hardware else Loihi2SimCfg)(select_tag="fixed_pt")
    first = processes[0]
    first.create_runtime(run_cfg=config)
    _all_connected(processes)
    watch = Watch(first.runtime, folder)
    done, chunk = 0, _FIRST_CHUNK
    while done < plan.steps:
        start = time.monotonic()
        steps = min(chunk, plan.steps - done)
        try:
            first.run(condition=RunSteps(num_steps=steps))
        except RuntimeError as error:
            raise LavaError(_actor_errors(first.runtime) or str(error)) from error
        done += steps
        _write(folder / "progress", str(max(0, done - plan.max_depth) // plan.window))
        rate = steps / max(time.monotonic() - start, 1e-6)
        chunk = int(min(_MOST_STEPS, max(1, rate * _CHUNK_S), 4 * chunk))
    watch.over = True
    first.stop()


class Watch:
    """Reports a process that has died: Lava waits for ever where it does not hear of it.

    It does not hear of a kill (out of memory), nor of an exception while a neighbour waits for data.
    """

    def __init__(self, runtime, folder: Path) -> None:  # type: ignore[no-untyped-def]
        self.over = False
        self.runtime, self.folder = runtime, folder
        self.pids = [actor.pid for actor in runtime._messaging_infrastructure.actors]
        threading.Thread(target=self._look, daemon=True, name="watch").start()

    def _look(self) -> None:
        while not self.over:
            time.sleep(_WATCH_S)
            alive = reaper.session_members(os.getpid())
            if alive and any(pid not in alive for pid in self.pids):
                time.sleep(_WATCH_S)  # let the main thread report it, where it can
                if not self.over:
                    text = _actor_errors(self.runtime)
                    last = text.strip().rpartition("\n")[2]
                    what = last or "a Lava process died (killed from outside, or out of memory)"
                    fail(self.folder, what, text)


def _actor_errors(runtime) -> str:  # type: ignore[no-untyped-def]
    """Tracebacks of the ProcessModels, which Lava keeps to itself at its default log level."""
    texts = []
    for actor in runtime._messaging_infrastructure.actors:
        if actor.exception:
            texts.append(str(actor.exception[1]))
    return "\n".join(texts)


def _all_connected(processes) -> None:  # type: ignore[no-untyped-def]
    """Lava runs what is connected to the process it is asked to run, and silently leaves out the rest."""
    left = [p.name for p in processes if p.runtime is None]
    if left:
        raise LavaError(f"{len(left)} processes are not connected to the others: {left}")


def _need_hardware_compiler() -> None:
    from lava.utils.loihi import is_installed

    if not is_installed():
        raise LavaError("Lava's Loihi compiler (lava-loihi, for INRC members) is not installed")


def fail(folder: Path, what: str, details: str) -> None:
    """Write the error and leave at once: Lava's own stop() hangs after a failure."""
    _write(folder / "error.json", json.dumps({"what": what, "details": details}))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    os.replace(part, path)


def run_netx(folder: Path) -> None:
    """Run the `.net` file in `folder` as lava-dl builds it."""
    import_lava()
    from snnkd_deploy.backends.lava import netx_run

    netx_run.run(folder, lambda done: _write(folder / "progress", str(done)), lambda runtime: Watch(runtime, folder))


def main(folder: Path, mode: str) -> None:
    reaper.die_with_parent()
    try:
        (run_netx if mode == "netx" else run)(folder)
    except BaseException as error:
        details = str(error) if isinstance(error, LavaError) else traceback.format_exc()
        first, _, last = details.strip().rpartition("\n")
        fail(folder, last or type(error).__name__, details if first else "")
    loaded = {"torch": "torch" in sys.modules, "python": ".".join(map(str, sys.version_info[:3]))}
    _write(folder / "done.json", json.dumps(loaded))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
