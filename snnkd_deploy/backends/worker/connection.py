"""The client's end of a worker: its process, the frames to and from it, and an end that leaves nothing behind."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from snnkd_deploy.backends import reaper
from snnkd_deploy.backends.awake import AwakeClock
from snnkd_deploy.backends.worker.wire import MAX_BODY, Message, WireError, pack, unpack
from snnkd_deploy.errors import BackendError, RefusedError

PING_S = 5.0
_POLL_S = 0.1
_PIECE = 2**20
_STDERR_LINES = 12
_FAREWELL_S = 5.0

T = TypeVar("T")


class LostWorkerError(BackendError):
    """The worker died, hung, or talks nonsense. Nothing that was received before is affected."""


class Connection:
    """A started worker. silence_s: nothing at all was heard for so long (it sends a beat every second).

    All limits count time in which this process was awake: a worker need not have done anything while we were stopped.
    """

    def __init__(self, command: Sequence[str], *, silence_s: float = 60.0, max_body: int = MAX_BODY) -> None:
        self.command, self.silence_s, self.max_body = list(command), silence_s, max_body
        self.inbox: queue.SimpleQueue[Message | WireError | None] = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self.log: collections.deque[str] = collections.deque(maxlen=_STDERR_LINES)
        self.clock = AwakeClock()
        self.busy_at = self.heard_at = self.clock.now
        self.inside_frame = False
        try:
            # A session of its own: Ctrl-C is ours to handle, and all that it starts can be ended with it.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise LostWorkerError(
                f"cannot start the worker: {error}",
                where=shlex.join(self.command),
                remedy='an interpreter with snnkd_deploy, or "ssh board snnkd-python"; run the command by hand',
            ) from error
        for work in (self._listen, self._write, self._keep_log):
            threading.Thread(target=work, daemon=True, name=f"worker {work.__name__}").start()

    def send(self, message: Message) -> None:
        """Queue a message. Raises BackendError where it is too large."""
        try:
            pieces = pack(message, self.max_body)
        except WireError as error:
            raise RefusedError(str(error), where="worker", remedy="fewer samples at once (--chunk)") from error
        self.busy_at = self.clock.now
        self.outbox.put(pieces)

    def receive(
        self, kinds: Sequence[str], limit_s: float, progress: Callable[[int, int], None] | None = None
    ) -> Message:
        """The next message of one of `kinds`. `limit_s`: give up after so long without progress.

        Raises LostWorkerError, after ending the worker, where it is dead, silent, stuck or not a worker at all.
        """
        self.busy_at = self.heard_at = self.clock.tick()  # nobody listened for its beats before
        while True:
            try:
                message = self.inbox.get(timeout=_POLL_S)
            except queue.Empty:
                self._judge(limit_s)
                continue
            if message is None or isinstance(message, WireError):
                self._lose(self._ending() if message is None else str(message))
            if message.kind in kinds:
                return message
            if message.kind == "progress":
                self.busy_at = self.clock.tick()
                done, total = self.understood(message, _progress)
                if progress is not None:
                    progress(done, total)
            elif message.kind == "beat":
                self._judge(limit_s)
            else:
                self._lose(f"the worker answered '{message.kind}' where {' or '.join(kinds)} was expected")

    def understood(self, message: Message, read: Callable[[Message], T]) -> T:
        """What `read` makes of a message. Raises LostWorkerError where that lacks what its kind has to say."""
        try:
            return read(message)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._lose(f"the worker's message '{message.kind}' says nothing sensible: {error!r}")

    def close(self) -> None:
        """Say goodbye, wait a moment, then end what is left. Harmless when called again."""
        if self.process.poll() is None:
            self.outbox.put(pack(Message("bye")))
            self.outbox.put(None)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_FAREWELL_S)
        self.kill()

    def kill(self) -> None:
        """End the worker and all of its session, now."""
        if self.process.poll() is None:
            self.process.kill()
        reaper.kill_session(self.process.pid)
        self.process.wait()
        self.outbox.put(None)

    # -- what may go wrong ----------------------------------------------------------------------------

    def _judge(self, limit_s: float) -> None:
        now = self.clock.tick()
        if self.process.poll() is not None and self.inbox.empty() and now - self.heard_at > 0.5:
            self._lose(self._ending())  # a child that it left behind may hold the pipe open
        if now - self.heard_at > self.silence_s:
            self._lose(f"the worker has not been heard for {now - self.heard_at:.0f} s")
        if now - self.busy_at > limit_s and not self.inside_frame:
            self._lose(f"the worker is alive and has made no progress for {now - self.busy_at:.0f} s")

    def _ending(self) -> str:
        try:
            code = self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            return "the worker closed its output"
        return f"the worker was killed by signal {-code}" if code < 0 else f"the worker ended with code {code}"

    def _lose(self, what: str) -> NoReturn:
        self.kill()
        time.sleep(0.05)  # let the log's last lines arrive
        said = "\n    ".join(self.log)
        raise LostWorkerError(
            what + (f"; it said:\n    {said}" if said else ""),
            where=shlex.join(self.command),
            remedy="run the command by hand: it must start `python -m snnkd_deploy.backends.worker`",
        )

    # -- threads --------------------------------------------------------------------------------------

    def _read(self, count: int) -> bytes:
        assert self.process.stdout is not None
        found: list[bytes] = []
        while count > 0:
            try:
                piece = os.read(self.process.stdout.fileno(), min(count, _PIECE))
            except (OSError, ValueError):
                break
            if not piece:
                break
            self.heard_at = self.clock.now
            self.inside_frame = len(found) > 0 or count > _PIECE
            found.append(piece)
            count -= len(piece)
        self.inside_frame = False
        return b"".join(found)

    def _listen(self) -> None:
        first = True
        try:
            while (message := unpack(self._read, self.max_body, greeting=first)) is not None:
                first = False
                self.inbox.put(message)
            self.inbox.put(None)
        except WireError as error:
            self.inbox.put(error)

    def _write(self) -> None:
        """Writes what is queued, and a ping where nothing is: a pipe that a stuck worker does not read blocks here."""
        assert self.process.stdin is not None
        ping = pack(Message("ping"))
        try:
            while True:
                try:
                    pieces = self.outbox.get(timeout=PING_S)
                except queue.Empty:
                    pieces = ping
                if pieces is None:
                    return
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(self.process.stdin.fileno(), view[:_PIECE]) :]
                        if pieces is not ping:
                            self.busy_at = self.clock.now
        except OSError:
            return  # it is gone, which the reader reports
        finally:
            self.process.stdin.close()

    def _keep_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            rest = b""
            while piece := stream.read(4096):
                *lines, rest = (rest + piece).split(b"\n")
                self.log.extend(line.decode("utf-8", "replace").rstrip() for line in lines)
                rest = rest[-4096:]
            if rest:
                self.log.append(rest.decode("utf-8", "replace"))


def _progress(message: Message) -> tuple[int, int]:
    return int(message.fields["done"]), int(message.fields["total"])


def worker_command(command: str | Sequence[str] = "") -> list[str]:
    """The words of a worker's command line; an interpreter alone means its own worker, nothing means this one's."""
    words = shlex.split(command) if isinstance(command, str) else list(command)
    if not words:
        words = [sys.executable]
    if len(words) == 1:
        words += ["-m", "snnkd_deploy.backends.worker"]
    return words
