"""Backends by name, through the entry-point group that strangers use too."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points

from snnkd_deploy.backends.base import Availability, Backend
from snnkd_deploy.errors import BackendError, UsageError

GROUP = "snnkd_deploy.backends"
_COMMAND = 'quoted as one word, e.g. "ssh board snnkd-python"'


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def backend_names() -> list[str]:
    """Every registered backend, usable here or not; `exact` and `float` first."""
    return sorted(_entries(), key=lambda name: ({"exact": 0, "float": 1}.get(name, 2), name))


def get_backend(name: str) -> Backend:
    """The backend of that name. Raises UsageError where there is none; whether it is usable is another question."""
    entries = _entries()
    if name not in entries:
        raise UsageError(f"unknown backend '{name}'", where="--backend", remedy=_nearest(name, entries))
    backend = entries[name].load()()
    assert isinstance(backend, Backend)
    return backend


def usable_backend(name: str, worker: str | None = None) -> Backend:
    """The backend, or a BackendError that says how to install what it lacks.

    worker: a command behind which it lives, in another interpreter or on another machine (backends/worker).
    """
    backend: Backend
    if worker is None:
        backend = get_backend(name)
    else:
        from snnkd_deploy.backends.worker import WorkerBackend

        backend = WorkerBackend(name, worker)
    state: Availability = backend.availability()
    if not state.usable:
        raise BackendError(
            f"backend '{name}' is not usable here: {state.note or 'not installed'}", remedy=state.install
        )
    return backend


@contextmanager
def closing_backend(backend: Backend) -> Iterator[Backend]:
    """Ends the worker of a backend that has one."""
    try:
        yield backend
    finally:
        close = getattr(backend, "close", None)
        if close is not None:
            close()


def worker_commands(options: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """`--worker CMD` or `--worker BACKEND=CMD`, several times: backend -> command. A bare CMD is for all `names`."""
    found: dict[str, str] = {}
    for option in options:
        name, equals, command = (part.strip() for part in option.partition("="))
        if equals and name in (*names, *_entries()):
            if name not in names:
                raise UsageError(
                    f"there is no backend '{name}' in this call",
                    where="--worker",
                    need=f"one of {', '.join(names)}" if names else "a backend other than exact",
                )
            found[name] = command
        elif equals and name.isidentifier():  # no program is called so: it is a misspelt backend
            raise UsageError(f"unknown backend '{name}'", where="--worker", remedy=_nearest(name, names or _entries()))
        else:
            command = option
            found |= {name: option for name in names if name not in found}
        check_command(command, "--worker")
    return found


def check_command(command: str, where: str) -> None:
    """Raises UsageError for what is no command line; an empty one is a variable that was never set."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"not a command line: {error}", where=where, have=command, remedy=_COMMAND) from error
    if not words:
        raise UsageError("the command of a worker is empty", where=where, remedy=_COMMAND)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{f'did you mean {near[0]}? ' if near else ''}known: {', '.join(backend_names())}"
