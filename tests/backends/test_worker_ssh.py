"""The worker behind a real ssh: a private sshd on the loopback, keys that live for one test run."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import fault_models
import pytest
import torch
from chip_models import Net

from snnkd_deploy.backends import reaper
from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.stream import Retry, stream
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.backends.worker import WorkerBackend

STUB = Path(__file__).with_name("stub_worker.py")
SBIN = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
PROGRAMS = {name: shutil.which(name, path=SBIN) for name in ("sshd", "ssh", "ssh-keygen")}
LACKING = [name for name, path in PROGRAMS.items() if path is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes"),
    pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)} (openssh-server, openssh-client)"),
]
SAMPLES, CHUNK = 12, 3


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """(sshd's pid, the words of an ssh command to it). Skips where this user may not run an sshd."""
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o700)
    for key in ("host", "own"):
        made = [PROGRAMS["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = [f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder / 'host'}", "PidFile none"]
    lines += [f"AuthorizedKeysFile {folder / 'own.pub'}", "StrictModes no", "UsePAM no", "PasswordAuthentication no"]
    (folder / "conf").write_text("\n".join(lines) + "\n")
    ssh = [PROGRAMS["ssh"], "-F", "none", "-i", str(folder / "own"), "-p", str(port)]
    for option in ("BatchMode=yes", "StrictHostKeyChecking=no", f"UserKnownHostsFile={folder / 'known'}"):
        ssh += ["-o", option]
    ssh += [f"{getpass.getuser()}@127.0.0.1"]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([PROGRAMS["sshd"], "-D", "-e", "-f", str(folder / "conf")], stderr=log)
    try:
        for _ in range(40):
            if subprocess.run([*ssh, "true"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
                break
            if server.poll() is not None:
                break
            time.sleep(0.25)
        else:
            server.kill()
            server.wait(10)
        if server.poll() is not None:
            pytest.skip(f"no sshd for this user: {(folder / 'log').read_text()[-300:]}")
        yield server.pid, ssh
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def case():
    net, model = fault_models.mlp(Net, seed=3)
    inputs = make_inputs(fault_models.inputs_for(net, steps=5, samples=SAMPLES), model)
    return model, inputs, ExactBackend().run(model, inputs, Record(states=True))


def parent(pid: int) -> int:
    return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def serving(pid: int, sshd: int) -> int:
    """The process of `sshd` that holds the connection of the remote process `pid`: sshd's own child."""
    while parent(pid) != sshd:
        pid = parent(pid)
    return pid


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


def assert_same(a, b):
    assert torch.equal(a.logits, b.logits)
    for group in ("spikes", "u", "v"):
        x, y = getattr(a, group), getattr(b, group)
        assert x.keys() == y.keys() and all(x[n].numpy().tobytes() == y[n].numpy().tobytes() for n in x)


def test_the_same_bytes_over_ssh_and_nothing_left(board, case):
    sshd, ssh = board
    model, inputs, expected = case
    with WorkerBackend("exact", [*ssh, sys.executable, "-m", "snnkd_deploy.backends.worker"]) as backend:
        assert_same(backend.run(model, inputs, Record(states=True)), expected)
        remote, local = int(backend.hello["pid"]), backend._connection.process.pid
        connection = serving(remote, sshd)
        assert remote != local
    assert gone(remote) and gone(local) and gone(connection)
    assert reaper.session_members(local) == {}


def test_a_cut_connection_is_resumed(board, case, tmp_path):
    """The server's side of the connection is killed while the third chunk runs."""
    sshd, ssh = board
    model, inputs, expected = case
    command = shlex.join([sys.executable, str(STUB), "hang-3", str(tmp_path)])
    backend = WorkerBackend("stub", [*ssh, command])
    cut: list[int] = []

    def cut_it():
        while not (tmp_path / "once").exists():
            time.sleep(0.05)
        cut.extend((int(backend.hello["pid"]), backend._connection.process.pid))
        os.kill(serving(cut[0], sshd), signal.SIGKILL)

    knife = threading.Thread(target=cut_it, daemon=True)
    knife.start()
    with backend:
        store, quick = tmp_path / "chunks", Retry(pause_s=0.01)
        trace = stream(backend, model, inputs, Record(states=True), chunk=CHUNK, store=store, retry=quick)
        second = int(backend.hello["pid"])
    assert_same(trace, expected)
    knife.join(10)
    told = trace.meta["stream"]
    assert told["restarts"] == 1 and told["chunks"] == 4
    assert "ended with code 255" in told["failures"][0]  # ssh's own: the connection was lost
    done = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert [int(samples) for _, samples in done] == [3] * 5  # four chunks, the third one twice
    assert len(cut) == 2 and second != cut[0]
    assert all(gone(pid) for pid in (*cut, second))
