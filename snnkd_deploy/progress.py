"""Progress of long work: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[int, str], None]

# A log file gets a line at most this often.
_LINE_SECONDS = 10.0

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Switch all progress output off (for `--quiet` and `--json`)."""
    global _quiet
    _quiet = quiet


def say(text: str, style: str = "") -> None:
    """One line for the user, on stderr so that stdout stays machine-readable.

    The text is printed as it is: brackets are no markup, and a line is one line in a log file, however long.
    """
    if not _quiet:
        Console(stderr=True, highlight=False).print(text, style=style, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def task(label: str, total: int) -> Iterator[Advance]:
    """Report work of `total` units: `with task("train", 100) as advance: advance(1, "loss 0.3")`."""
    if _quiet or total <= 0:
        yield _silent
    elif sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            handle = bars.add_task(label, total=total, note="")

            def advance(done: int, note: str) -> None:
                bars.update(handle, advance=done, note=note)

            yield advance
    else:
        yield _plain(label, total)


def _silent(done: int, note: str) -> None:
    pass


def _plain(label: str, total: int) -> Advance:
    done_so_far, last = 0, time.monotonic()

    def advance(done: int, note: str) -> None:
        nonlocal done_so_far, last
        done_so_far += done
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            print(f"{label}: {done_so_far}/{total} {note}".rstrip(), file=sys.stderr, flush=True)

    return advance


def since_last(advance: Advance) -> Callable[[int, int], None]:
    """For work that reports how much is done so far: bars advance by differences."""
    last = 0

    def report(done: int, total: int) -> None:
        nonlocal last
        if done > last:
            advance(done - last, "")
            last = done

    return report
