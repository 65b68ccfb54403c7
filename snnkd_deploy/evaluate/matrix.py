"""The parity matrix: every usable backend on every kind of model, spike for spike, or the reason why not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from snnkd_deploy.backends.base import Backend
from snnkd_deploy.backends.registry import backend_names, closing_backend, get_backend, usable_backend
from snnkd_deploy.backends.stream import stream
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.errors import SnnkdError
from snnkd_deploy.evaluate.parity import compare_traces
from snnkd_deploy.evaluate.parity_models import Case

# Simulators of one chip step by step: a second or more for a chunk.
SLOW = ("lava", "netx")
# A recording answers for its own model only.
_NO_SIMULATOR = ("replay",)


@dataclass(frozen=True)
class Cell:
    """One backend on one model. `reasons` where it refuses; `failure` where it broke; else the comparison."""

    backend: str
    model: str
    samples: int = 0
    spikes_compared: int = 0
    mismatches: int = 0
    logits_mismatches: int = 0
    fired: int = 0
    first_divergence: str = ""
    reasons: tuple[str, ...] = ()
    failure: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Equal, or refused with a reason."""
        if self.failure:
            return False
        return bool(self.reasons) or (self.spikes_compared > 0 and not self.mismatches and not self.logits_mismatches)

    def __str__(self) -> str:
        if self.failure:
            return "failed"
        if self.reasons:
            return "refused"
        logits = f", logits of {self.logits_mismatches} samples" if self.logits_mismatches else ""
        return f"{self.mismatches} of {self.spikes_compared:,}{logits}"


@dataclass
class Matrix:
    """`missing`: backends that are not usable here, and why."""

    cells: list[Cell] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return bool(self.cells) and all(cell.good for cell in self.cells)

    @property
    def backends(self) -> list[str]:
        return list(dict.fromkeys(cell.backend for cell in self.cells))

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(cell.model for cell in self.cells))

    def cell(self, backend: str, model: str) -> Cell:
        return next(c for c in self.cells if (c.backend, c.model) == (backend, model))

    def notes(self) -> list[str]:
        """Every reason once with the models it holds for, then failures and divergences."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for cell in self.cells:
            for reason in cell.reasons:
                reasons.setdefault((cell.backend, reason), []).append(cell.model)
        lines = [f"{b} refuses {', '.join(dict.fromkeys(m))}: {reason}" for (b, reason), m in reasons.items()]
        lines += [f"{c.backend} failed on {c.model}: {c.failure}" for c in self.cells if c.failure]
        lines += [f"{c.backend} on {c.model}: {c.first_divergence}" for c in self.cells if c.first_divergence]
        return lines + [f"{name} is not usable here: {why}" for name, why in self.missing.items()]

    def to_dict(self) -> dict[str, Any]:
        return {
            "good": self.good,
            "cells": [{**asdict(c), "reasons": list(c.reasons), "good": c.good} for c in self.cells],
            "missing": self.missing,
        }


def parity_matrix(
    cases: Sequence[Case],
    *,
    samples: int = 1000,
    slow_samples: int = 200,
    backends: Sequence[str] | None = None,
    workers: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Matrix:
    """Run `cases` on all registered backends, or on those named. Slow ones get the first `slow_samples` samples.

    workers: backend -> command behind which it lives. Raises UsageError for an unknown backend.
    """
    matrix, workers = Matrix(), workers or {}
    names = list(backends) if backends is not None else [n for n in backend_names() if n not in _NO_SIMULATOR]
    references = {case.name: _run(get_backend(case.reference), case, samples) for case in cases}
    for name in names:
        if name not in workers:
            get_backend(name)  # an unknown name is a mistake of the caller, not a missing package
        try:
            backend = usable_backend(name, workers.get(name))
        except SnnkdError as error:
            matrix.missing[name] = str(error.problems[0].what)
            continue
        count = min(samples, slow_samples) if name in SLOW else samples
        with closing_backend(backend):
            for case in cases:
                if progress is not None:
                    progress(f"{name}: {case.name}")
                if name != case.reference:
                    matrix.cells.append(_cell(backend, case, count, references[case.name]))
    return matrix


def _run(backend: Backend, case: Case, samples: int) -> Trace:
    return stream(backend, case.model, case.inputs(samples), Record())


def _cell(backend: Backend, case: Case, samples: int, reference: Trace) -> Cell:
    if backend.name == "float" and case.model.on_chip_grid:
        why = "runs a chip's model in real units, without the chip's roundings: it is no check of the integers"
        return Cell(backend.name, case.name, reasons=(why,))
    problems = backend.check(case.model)
    if problems:
        return Cell(backend.name, case.name, reasons=tuple(dict.fromkeys(p.what for p in problems)))
    began = time.monotonic()
    whole = case.inputs(reference.samples).chunk(0, samples)  # the same samples as the reference's first ones
    try:
        got = stream(backend, case.model, whole, Record())
    except Exception as error:  # a backend that breaks is a cell of the matrix, not its end
        failure = str(error.problems[0]) if isinstance(error, SnnkdError) else f"{type(error).__name__}: {error}"
        return Cell(backend.name, case.name, samples, failure=failure)
    expected = Trace(reference.logits[:samples], {n: s[:, :samples] for n, s in reference.spikes.items()})
    found = compare_traces(expected, got, case.model.spiking)
    return Cell(
        backend.name,
        case.name,
        samples,
        found.spikes_compared,
        found.mismatches,
        found.logits_mismatches,
        fired=sum(int(s.sum()) for s in expected.spikes.values()),
        first_divergence=str(found.first_divergence or ""),
        seconds=round(time.monotonic() - began, 3),
    )
