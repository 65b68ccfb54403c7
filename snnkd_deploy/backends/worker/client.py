"""`WorkerBackend`: a backend that lives in a worker, behind the same contract as any other."""

from __future__ import annotations

import shlex
import weakref
from collections.abc import Callable, Sequence
from typing import TypeVar

from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.inputs import check_inputs
from snnkd_deploy.backends.stream import CHUNK
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.backends.worker import codec
from snnkd_deploy.backends.worker.connection import Connection, LostWorkerError, worker_command
from snnkd_deploy.backends.worker.wire import MAX_BODY, PROTOCOL, Message
from snnkd_deploy.errors import BackendError, Problem, RefusedError, SnnkdError
from snnkd_deploy.graph.model import Model

# Loading torch over a slow network disk takes a while; a check may build a large model.
_START_S = 180.0

T = TypeVar("T")


class WorkerBackend:
    """Backend `name` behind `command`. The worker starts on first use, and anew after it was lost.

    command: `python3.10`, `/opt/lava/bin/python -m snnkd_deploy.backends.worker`, `ssh board snnkd-worker`, ...
    stall_s: a run without any progress for so long is given up. silence_s: so is a worker without a sign of life.
    progress: called as `progress(samples_done, samples)`. Use as a context manager, or call `close`.
    """

    def __init__(
        self,
        name: str,
        command: str | Sequence[str] = "",
        *,
        stall_s: float = 600.0,
        silence_s: float = 60.0,
        start_s: float = _START_S,
        max_body: int = MAX_BODY,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.name, self.command = name, worker_command(command)
        self.stall_s, self.silence_s, self.start_s, self.max_body = stall_s, silence_s, start_s, max_body
        self.progress = progress
        self.chunk_samples = CHUNK  # what the backend itself prefers, once it has been asked
        self.hello: dict[str, object] = {}
        self._connection: Connection | None = None
        self._opened: str | None = None
        self._problems: list[Problem] = []
        self._close: Callable[[], object] = lambda: None

    def __enter__(self) -> WorkerBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker. A later call starts it again."""
        self._close()
        self._connection, self._opened = None, None

    @property
    def settings(self) -> dict[str, object]:
        return {"worker": shlex.join(self.command)}

    def availability(self) -> Availability:
        try:
            return self._ask(Message("probe", {"backend": self.name}), "probed", self.start_s, codec.read_availability)
        except SnnkdError as error:
            first = error.problems[0]
            return Availability(False, note=str(first), install=first.remedy)

    def check(self, model: Model) -> list[Problem]:
        """Asks the worker. Raises LostWorkerError where there is none."""
        if self._connection is None or self._opened != model.sha256:
            try:
                message = codec.model_message(model)
                message.fields["backend"] = self.name
                self._problems, chunk = self._ask(message, "opened", self.start_s, codec.read_opened)
            except LostWorkerError:
                raise
            except SnnkdError as error:  # a model that the worker cannot even read
                self._opened = None
                return list(error.problems)
            self.chunk_samples = chunk or CHUNK
            self._opened = model.sha256
        return list(self._problems)

    def run(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        problems = self.check(model)
        if problems:
            raise BackendError.from_problems(problems)
        check_inputs(model, inputs)
        trace = self._ask(codec.run_message(inputs, record), "trace", self.stall_s, codec.read_trace)
        trace.meta["worker"] = shlex.join(self.command)
        return trace

    def _ask(self, message: Message, kind: str, limit_s: float, read: Callable[[Message], T]) -> T:
        """Send `message` and return what `read` makes of the answer, which has to be of this kind."""
        connection = self._connected()
        try:
            connection.send(message)
            reply = connection.receive((kind, "error"), limit_s, self.progress)
            if reply.kind == kind:
                return connection.understood(reply, read)
            problems = connection.understood(reply, codec.read_error)
            if reply.fields.get("fatal"):
                raise LostWorkerError.from_problems(problems)
            refused = bool(reply.fields.get("refused"))
        except BaseException:  # Ctrl-C too: an answer that nobody waits for must not meet the next question
            connection.kill()
            self._connection, self._opened = None, None
            raise
        raise (RefusedError if refused else BackendError).from_problems(problems)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._opened = None
            connection = Connection(self.command, silence_s=self.start_s, max_body=self.max_body)
            try:
                self.hello = self._handshake(connection)
            except BaseException:
                connection.kill()
                raise
            connection.silence_s = self.silence_s
            self._connection = connection
            # Also where this object is dropped, or the interpreter ends.
            self._close = weakref.finalize(self, Connection.close, connection)
        return self._connection

    def _handshake(self, connection: Connection) -> dict[str, object]:
        hello = connection.receive(("hello",), self.start_s).fields
        if hello.get("protocol") != PROTOCOL:
            raise RefusedError(
                "the worker speaks another protocol",
                where=shlex.join(self.command),
                need=f"protocol {PROTOCOL}",
                have=f"protocol {hello.get('protocol')} (snnkd_deploy {hello.get('package', 'unknown')})",
                remedy="install the same release of snnkd_deploy on both sides",
            )
        connection.send(Message("hello", {"protocol": PROTOCOL}))
        connection.receive(("welcome",), self.start_s)
        return dict(hello)
