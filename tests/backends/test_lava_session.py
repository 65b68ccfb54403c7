"""Whatever happens to a Lava run, nothing of it is left: no process, no shared memory, no folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.lava import LavaBackend, session
from snnkd_deploy.backends.lava.build import Builder
from snnkd_deploy.backends.reaper import session_members
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import BackendError

_STATE = LavaBackend().availability()
pytestmark = [
    pytest.mark.skipif(not _STATE.usable, reason=f"lava: {_STATE.note} ({_STATE.install})"),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes"),
]


class Watched:
    """The session of a run, seen from outside: its members, and the shared memory they have mapped."""

    def __init__(self):
        self.leader = 0
        self.files: set[str] = set()
        self.over = False

    def begin(self, leader):
        self.leader = leader
        threading.Thread(target=self._keep_looking, daemon=True).start()

    def _keep_looking(self):
        while not self.over:
            self.look()
            time.sleep(0.03)

    def look(self):
        """Live members: pid -> whether it is a resource tracker."""
        members = session_members(self.leader)
        for pid in members:
            try:
                maps = Path(f"/proc/{pid}/maps").read_text()
            except OSError:
                continue
            self.files |= set(re.findall(r"/dev/shm/psm_\S+", maps))
        return members

    def assert_clean(self):
        self.over = True
        assert self.leader and self.files, "the run was never seen"
        assert session_members(self.leader) == {}
        assert [file for file in self.files if Path(file).exists()] == []


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """Follows the child's session, and gives the run an own folder for temporary files."""
    seen = Watched()

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            seen.begin(self.pid)

    monkeypatch.setattr(session.subprocess, "Popen", Popen)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield seen
    seen.over = True
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run(net_type):
    """Run a small net for `samples` samples of 8 steps."""
    net = net_type((10,), seed=1)
    net.lif("l1", net.dense("d1", "input", net.weights((8, 10))), vth=40)
    net.readout("r", net.dense("d2", "l1", net.weights((3, 8))))
    model = net.model("r")

    def go(samples=4, **options):
        inputs = make_inputs(net.spikes(8, samples), model)
        return LavaBackend(**options).run(model, inputs, Record())

    return go


def test_success_leaves_nothing_and_reports_progress(run, watched):
    calls = []

    run(samples=40, progress=lambda done, samples: calls.append((done, samples)))
    assert calls and calls == sorted(calls) and calls[-1][1] == 40
    watched.assert_clean()


def test_exception_in_a_process_reaches_the_user(run, watched, monkeypatch):
    """A source whose columns get the wrong width, as a defect would have it."""
    build = Builder.build

    def sabotage(self, record):
        plan = build(self, record)
        np.save(self.folder / "source0.npy", np.zeros((8, 4, 7), np.uint8))
        return plan

    monkeypatch.setattr(Builder, "build", sabotage)
    with pytest.raises(BackendError, match="Mismatch") as error:
        run()
    assert "AssertionError" in str(error.value) and "source.py" in str(error.value)
    watched.assert_clean()


def test_another_interpreter_runs_lava(run, watched, tmp_path_factory):
    """Lava may live in an environment of its own; only numpy and scipy are needed beside it."""
    python = tmp_path_factory.mktemp("env") / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    backend = LavaBackend(python=str(python))
    assert backend.availability().usable
    assert run(python=str(python)).meta["lava_nc"] == "0.10.0"
    watched.assert_clean()


def test_hardware_without_its_compiler_says_so(net_type):
    net = net_type((4,), seed=1)
    net.lif("l1", net.dense("d1", "input", net.weights((3, 4))))
    model = net.model("l1")
    with pytest.raises(BackendError, match=r"Loihi compiler .* not installed") as error:
        LavaBackend(hardware=True).run(model, make_inputs(net.spikes(2, 1), model), Record())
    assert "without hardware=True" in str(error.value)


def test_process_killed_from_outside_is_noticed(run, watched):
    def progress(done, samples):
        victims = [pid for pid, tracker in watched.look().items() if not tracker and pid != watched.leader]
        os.kill(max(victims), signal.SIGKILL)

    with pytest.raises(BackendError, match="died"):
        run(samples=20_000, progress=progress, stall_s=60)
    watched.assert_clean()


def test_time_limit(run, watched):
    with pytest.raises(BackendError, match="of 50000 samples done") as error:
        run(samples=50_000, timeout_s=8.0)
    assert "timeout_s" in str(error.value)
    if not watched.files:
        pytest.skip("a machine so busy that Lava did not start within the time limit")
    watched.assert_clean()


def test_interrupt(run, watched):
    def progress(done, samples):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(samples=20_000, progress=progress)
    watched.assert_clean()


@pytest.mark.slow
def test_child_dies_with_a_killed_caller(tmp_path):
    """SIGKILL leaves the caller no chance to clean up; the child notices that stdin has closed."""
    support = Path(__file__).parents[1] / "support"
    script = textwrap.dedent(
        f"""
        import sys; sys.path.insert(0, {str(support)!r})
        from chip_models import Net
        from snnkd_deploy.backends.inputs import make_inputs
        from snnkd_deploy.backends.lava import LavaBackend, session
        from snnkd_deploy.backends.trace import Record
        popen = session.subprocess.Popen
        class Popen(popen):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                print(self.pid, flush=True)
        session.subprocess.Popen = Popen
        net = Net((10,), seed=1)
        net.lif("l1", net.dense("d1", "input", net.weights((8, 10))), vth=40)
        model = net.model("l1")
        inputs = make_inputs(net.spikes(8, 50_000), model)
        LavaBackend(progress=lambda *_: print("going", flush=True)).run(model, inputs, Record())
        """
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    caller = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment, cwd=support.parents[1]
    )
    watched = Watched()
    try:
        watched.begin(int(caller.stdout.readline()))
        assert caller.stdout.readline() == "going\n"
        assert watched.look()
    finally:
        caller.kill()
        caller.wait()
    deadline = time.monotonic() + 20
    while session_members(watched.leader) and time.monotonic() < deadline:
        time.sleep(0.1)
    watched.assert_clean()
