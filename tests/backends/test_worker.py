"""A worker may die, hang, freeze, lie or chatter: a clear error or a resumed run, and no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import fault_models
import pytest
import torch
from chip_models import Net

from snnkd_deploy.backends import reaper
from snnkd_deploy.backends.awake import AwakeClock
from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.registry import worker_commands
from snnkd_deploy.backends.stream import Retry, stream
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.backends.worker import LostWorkerError, WorkerBackend
from snnkd_deploy.errors import BackendError, RefusedError, UsageError

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes")
STUB = Path(__file__).with_name("stub_worker.py")
QUICK = Retry(attempts=3, pause_s=0.01)
SAMPLES, CHUNK = 12, 3


@pytest.fixture(scope="module")
def case():
    net, model = fault_models.mlp(Net, seed=3)
    inputs = make_inputs(fault_models.inputs_for(net, steps=5, samples=SAMPLES), model)
    return model, inputs, ExactBackend().run(model, inputs, Record())


@pytest.fixture
def stub(tmp_path, request):
    """A WorkerBackend on the stub; at the end of the test nothing of it may be left."""
    made: list[WorkerBackend] = []

    def make(fault: str, **options) -> WorkerBackend:
        command = [sys.executable, str(STUB), fault, str(tmp_path)]
        made.append(WorkerBackend("stub", command, **({"stall_s": 1.5, "silence_s": 20.0} | options)))
        return made[-1]

    yield make
    for backend in made:
        backend.close()
    assert processes(str(tmp_path)) == []


def processes(word: str) -> list[int]:
    """Processes with `word` in their command line, ended ones left out; a moment's grace for the kernel."""
    deadline = time.monotonic() + 5
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
                if entry.name.isdigit() and word in line and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
            except OSError:
                continue
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def assert_same(a, b):
    assert torch.equal(a.logits, b.logits) and a.logits.dtype == b.logits.dtype
    assert a.spikes.keys() == b.spikes.keys()
    for name in a.spikes:
        assert a.spikes[name].numpy().tobytes() == b.spikes[name].numpy().tobytes()


def runs(folder: Path) -> list[tuple[int, int]]:
    """(pid, samples) of every run that a stub began."""
    return [tuple(map(int, line.split())) for line in (folder / "ran").read_text().splitlines()]


# -- one run goes wrong, the stream goes on ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("die", "signal 9"),
        ("hang", "no progress"),
        pytest.param("garbage", "Segmentation fault", marks=pytest.mark.slow),
        pytest.param("exit", "the board caught fire", marks=pytest.mark.slow),
        pytest.param("checksum", "wrong checksum", marks=pytest.mark.slow),
        pytest.param("oversize", "over the limit", marks=pytest.mark.slow),
        pytest.param("nonsense", "'trace' says nothing sensible", marks=pytest.mark.slow),
        pytest.param("short", "something else than it was asked", marks=pytest.mark.slow),
        pytest.param("half", "the stream ended", marks=pytest.mark.slow),
        pytest.param("children", "signal 9", marks=pytest.mark.slow),
        pytest.param("error", "this sample is cursed", marks=pytest.mark.slow),
    ],
)
def test_a_failure_in_the_third_chunk_is_resumed(fault, said, stub, case, tmp_path, capsys):
    model, inputs, expected = case
    backend = stub(f"{fault}-3")
    trace = stream(backend, model, inputs, Record(), chunk=CHUNK, store=tmp_path / "chunks", retry=QUICK)
    assert_same(trace, expected)
    assert trace.meta["stream"]["restarts"] == 1 and trace.meta["stream"]["chunks"] == 4
    done = runs(tmp_path)
    assert [samples for _, samples in done] == [3] * 5  # four chunks, one of them twice: nothing is run again
    assert len({pid for pid, _ in done}) == (1 if fault in ("error", "short") else 2)
    assert said in trace.meta["stream"]["failures"][0]
    assert "trying again from sample 6" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_frozen_worker_is_noticed_by_its_silence(stub, case, tmp_path):
    model, inputs, expected = case
    backend = stub("freeze-2", stall_s=60.0, silence_s=2.5)
    assert_same(stream(backend, model, inputs, Record(), chunk=6, retry=QUICK), expected)
    assert len(runs(tmp_path)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"), [("die", "signal 9"), ("exit", "the board caught fire"), ("error", "this sample is cursed")]
)
def test_giving_up_keeps_what_is_finished(fault, said, stub, case, tmp_path):
    model, inputs, expected = case
    store = tmp_path / "chunks"
    head = stub("none")
    stream(head, model, inputs.chunk(0, 6), Record(), chunk=CHUNK, store=store)
    (tmp_path / "ran").unlink()
    with pytest.raises(BackendError, match=said) as caught:
        stream(stub(fault, stall_s=30), model, inputs, Record(), chunk=6, store=tmp_path / "other", retry=QUICK)
    assert "gave up after 3 attempts" in str(caught.value) and len(runs(tmp_path)) == 3
    kept = sorted(store.glob("*.npz"))
    assert len(kept) == 2
    # The key holds the command line: the same worker finds its chunks again.
    trace = stream(head, model, inputs, Record(), chunk=CHUNK, store=store)
    assert trace.meta["stream"]["resumed"] == 6
    assert_same(trace, expected)


def test_a_refusal_is_not_tried_again(stub, case, tmp_path):
    model, inputs, _ = case
    with pytest.raises(RefusedError, match="no such register") as caught:
        stream(stub("refuse"), model, inputs, Record(), chunk=CHUNK, retry=QUICK)
    assert len(runs(tmp_path)) == 1 and "gave up" not in str(caught.value)


@pytest.mark.slow
def test_kill_minus_nine_from_outside(stub, case, tmp_path):
    """The worker is killed while the stream runs, as by the kernel when memory ends."""
    model, inputs, expected = case
    backend = stub("none")
    backend.check(model)
    killed = []

    def progress(done, total):
        if done >= 6 and not killed:
            killed.append(backend._connection.process.pid)
            os.kill(killed[0], signal.SIGKILL)

    trace = stream(backend, model, inputs, Record(), chunk=CHUNK, retry=QUICK, progress=progress)
    assert killed and trace.meta["stream"]["restarts"] == 1
    assert_same(trace, expected)


# -- it cannot even start ----------------------------------------------------------------------------------


def test_a_wrong_version_is_named_and_not_tried_again(stub, case):
    model, inputs, _ = case
    with pytest.raises(BackendError, match="need protocol 1, have protocol 99") as caught:
        stub("version").run(model, inputs, Record())
    assert "same release" in str(caught.value)
    assert not stub("version").availability().usable


def test_a_command_that_is_no_worker(stub, case):
    state = stub("shell").availability()
    assert not state.usable and "command not found" in state.note
    with pytest.raises(LostWorkerError, match="cannot start the worker"):
        WorkerBackend("exact", "/nowhere/python").check(case[0])
    assert not WorkerBackend("exact", "/nowhere/python").availability().usable
    with pytest.raises(LostWorkerError, match="not been heard"):
        stub("mute", start_s=1.0).check(case[0])


def test_prints_and_banners_do_no_harm(stub, case):
    model, inputs, expected = case
    assert_same(stub("print").run(model, inputs, Record()), expected)
    assert_same(stub("banner").run(model, inputs, Record()), expected)


def test_an_oversize_request_is_refused_here(stub, case):
    model, inputs, _ = case
    with pytest.raises(BackendError, match="over the limit") as caught:
        stub("none", max_body=100_000).run(model, make_large(inputs), Record())
    assert "--chunk" in str(caught.value)


def make_large(inputs):
    return type(inputs)(inputs.x.repeat(1, 400, 1, 1, 1), inputs.steps)


# -- ends ----------------------------------------------------------------------------------------------------


def test_states_cross_the_wire_unchanged(case):
    model, inputs, _ = case
    record = Record(states=True, nodes=frozenset({"lif1"}))
    with WorkerBackend("exact") as backend:
        assert backend.availability().usable
        got = backend.run(model, inputs, record)
        pid = backend.hello["pid"]
    expected = ExactBackend().run(model, inputs, record)
    assert_same(got, expected)
    for group in ("u", "v"):
        a, b = getattr(got, group), getattr(expected, group)
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)
    assert reaper.session_members(pid) == {} and not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_no_orphan_when_the_client_dies(how, tmp_path):
    """The client is killed in the middle of a run: its worker ends by itself."""
    script = f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
        import fault_models
        from chip_models import Net
        from snnkd_deploy.backends.inputs import make_inputs
        from snnkd_deploy.backends.trace import Record
        from snnkd_deploy.backends.worker import WorkerBackend
        net, model = fault_models.mlp(Net, seed=3)
        backend = WorkerBackend("stub", [sys.executable, {str(STUB)!r}, "hang", {str(tmp_path)!r}])
        backend.check(model)
        print("ready", flush=True)
        backend.run(model, make_inputs(fault_models.inputs_for(net, 4, 2), model), Record())
    """
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert client.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 10
        while not (tmp_path / "ran").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(runs(tmp_path)) == 1
        client.send_signal(how)
        client.communicate(timeout=60)
    finally:
        client.kill()
    assert processes(str(STUB)) == []


@pytest.mark.slow
def test_ctrl_c_ends_the_worker(stub, case, tmp_path):
    model, inputs, expected = case
    backend = stub("hang-1", stall_s=60)
    backend.check(model)
    main = threading.main_thread().ident
    threading.Timer(0.5, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        backend.run(model, inputs, Record())
    assert processes(str(tmp_path)) == []
    assert_same(backend.run(model, inputs, Record()), expected)  # and a new one starts


def test_a_pause_of_our_own_is_not_held_against_the_worker():
    """Ctrl-Z and `fg`: of the time between two ticks a watchdog counts a moment only."""
    clock = AwakeClock(longest_s=0.1)
    time.sleep(0.5)
    assert clock.tick() == 0.1
    time.sleep(0.02)
    assert 0.119 < clock.tick() <= 0.2


def test_worker_option():
    assert worker_commands(["python3.10"], ["lava"]) == {"lava": "python3.10"}
    assert worker_commands(["ssh b env A=1 w"], ["lava", "onnx"]) == dict.fromkeys(("lava", "onnx"), "ssh b env A=1 w")
    assert worker_commands(["lava=py", "other"], ["lava", "onnx"]) == {"lava": "py", "onnx": "other"}
    with pytest.raises(UsageError, match="no backend 'float'"):
        worker_commands(["float=py"], ["lava"])
    with pytest.raises(UsageError, match="did you mean lava"):
        worker_commands(["lva=py"], ["lava"])
    for unset in ("", "lava=", " "):
        with pytest.raises(UsageError, match="empty"):
            worker_commands([unset], ["lava"])
