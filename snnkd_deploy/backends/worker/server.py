"""The worker's side: serves one client over stdin and stdout until that closes.

The protocol owns the two descriptors: a library that prints goes to stderr instead. One thread reads (so that a
client that is gone is noticed in the middle of a run), one says every second that this process is alive, and
the main thread runs the backend.
"""

from __future__ import annotations

import os
import platform
import queue
import select
import threading
import time
import traceback
from typing import Any, NoReturn

from snnkd_deploy import __version__
from snnkd_deploy.backends import reaper
from snnkd_deploy.backends.awake import AwakeClock
from snnkd_deploy.backends.base import Backend
from snnkd_deploy.backends.registry import get_backend
from snnkd_deploy.backends.worker import codec
from snnkd_deploy.backends.worker.wire import MAX_BODY, PROTOCOL, Message, WireError, pack, unpack
from snnkd_deploy.errors import BackendError, Problem, RefusedError, SnnkdError
from snnkd_deploy.graph.model import Model

BEAT_S = 1.0
# The client pings every few seconds: a connection that is cut without a word ends the worker too.
QUIET_S = 120.0
_WAIT_S = 1.0
_PIECE = 2**20


class Server:
    """`requests` and `replies` are descriptors. `serve` returns when the client says goodbye."""

    def __init__(self, requests: int, replies: int, *, max_body: int = MAX_BODY, quiet_s: float = QUIET_S) -> None:
        self.requests, self.replies, self.max_body, self.quiet_s = requests, replies, max_body, quiet_s
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.sending = threading.Lock()
        self.backend: Backend | None = None
        self.model: Model | None = None

    def serve(self) -> None:
        hello = {"protocol": PROTOCOL, "package": __version__, "python": platform.python_version(), "pid": os.getpid()}
        self.send(Message("hello", hello))
        threading.Thread(target=self._listen, daemon=True, name="listen").start()
        threading.Thread(target=self._beat, daemon=True, name="beat").start()
        while True:
            message = self.inbox.get()
            if message.kind == "bye":
                return
            try:
                reply = self._answer(message)
            except SnnkdError as error:
                # Anything but a failure of the backend itself comes back the same at every try.
                refused = isinstance(error, RefusedError) or not isinstance(error, BackendError)
                fields = {"problems": codec.problems_fields(error.problems), "details": "", "refused": refused}
                reply = Message("error", fields)
            except Exception as error:
                problem = Problem(f"{type(error).__name__}: {error}", "worker")
                details = traceback.format_exc()
                reply = Message("error", {"problems": codec.problems_fields([problem]), "details": details})
            self.send(reply)

    def _answer(self, message: Message) -> Message:
        if message.kind == "hello":
            if message.fields.get("protocol") != PROTOCOL:
                have = f"protocol {message.fields.get('protocol')} of the client"
                raise RefusedError("the worker speaks another protocol", need=f"protocol {PROTOCOL}", have=have)
            return Message("welcome")
        if message.kind == "probe":
            state = get_backend(message.fields["backend"]).availability()
            return Message("probed", codec.availability_fields(state))
        if message.kind == "open":
            self.backend = get_backend(message.fields["backend"])
            self.model = codec.read_model(message)
            problems = codec.problems_fields(self.backend.check(self.model))
            return Message("opened", {"problems": problems, "chunk": getattr(self.backend, "chunk_samples", None)})
        if message.kind == "run":
            if self.backend is None or self.model is None:
                raise BackendError("the worker was asked to run before it was given a model")
            inputs, record = codec.read_run(message)
            if hasattr(self.backend, "progress"):
                self.backend.progress = self._progress
            return codec.trace_message(self.backend.run(self.model, inputs, record))
        raise BackendError(f"the worker does not know the request '{message.kind}'")

    def _progress(self, done: int, total: int) -> None:
        self.send(Message("progress", {"done": done, "total": total}))

    def send(self, message: Message) -> None:
        """Whole frames only, from any thread. Ends the process where nobody listens any more."""
        try:
            pieces = pack(message, self.max_body)
        except WireError as error:
            problem = Problem(str(error), "worker", remedy="fewer samples at once (--chunk), or record less")
            pieces = pack(Message("error", {"problems": codec.problems_fields([problem]), "details": ""}))
        with self.sending:
            try:
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(self.replies, view[:_PIECE]) :]
            except OSError:
                leave(3)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            self.send(Message("beat"))

    def _listen(self) -> None:
        try:
            while (message := unpack(self._read, self.max_body)) is not None:
                if message.kind != "ping":
                    self.inbox.put(message)
        except WireError as error:
            problem = Problem(f"the worker could not read a request: {error}", "worker")
            self.send(Message("error", {"problems": codec.problems_fields([problem]), "details": "", "fatal": True}))
            leave(4)
        leave(3)

    def _read(self, count: int) -> bytes:
        found: list[bytes] = []
        while count > 0:
            clock = AwakeClock()
            while not select.select([self.requests], [], [], _WAIT_S)[0]:
                if clock.tick() > self.quiet_s:
                    leave(5)
            piece = os.read(self.requests, min(count, _PIECE))
            if not piece:
                break
            found.append(piece)
            count -= len(piece)
        return b"".join(found)


def leave(code: int) -> NoReturn:
    """End this process and what it started, at once: a backend may be stuck in the main thread."""
    reaper.kill_descendants(wait_s=1.0)
    os._exit(code)


def own_descriptors() -> tuple[int, int]:
    """(requests, replies): stdin and stdout for the protocol alone. Prints of libraries go to stderr."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, replies


def main(**options: Any) -> None:
    """Serve until the client says goodbye or is gone."""
    Server(*own_descriptors(), **options).serve()
    leave(0)
