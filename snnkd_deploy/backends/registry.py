"""Backends by name, through the entry-point group that strangers use too."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points

from snnkd_deploy.backends.base import Availability, Backend
from snnkd_deploy.errors import BackendError, UsageError

GROUP = "snnkd_deploy.backends"


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def backend_names() -> list[str]:
    """Every registered backend, usable here or not; `exact` and `float` first."""
    return sorted(_entries(), key=lambda name: ({"exact": 0, "float": 1}.get(name, 2), name))


def get_backend(name: str) -> Backend:
    """The backend of that name. Raises UsageError where there is none; whether it is usable is another question."""
    entries = _entries()
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"unknown backend '{name}'",
            where="--backend",
            remedy=f"{hint}known: {', '.join(backend_names())}",
        )
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
        name, equals, command = option.partition("=")
        if equals and name.strip() in (*names, *_entries()):
            if name.strip() not in names:
                raise UsageError(
                    f"there is no backend '{name.strip()}' in this call", where="--worker", have=", ".join(names)
                )
            found[name.strip()] = command.strip()
        else:
            found |= {name: option for name in names if name not in found}
    return found
