"""A data set through a backend in chunks: finished ones stay on disk, failed ones are tried again.

A chunk is named by a hash over all that its result depends on: the model, the backend with its version and
settings, what is recorded, and the very inputs. What is found there is not run again, whoever left it.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from snnkd_deploy.backends.base import Backend, Inputs
from snnkd_deploy.backends.exact import silent_readout
from snnkd_deploy.backends.trace import Record, Trace, concatenate
from snnkd_deploy.errors import BackendError, DataError, Problem, RefusedError
from snnkd_deploy.graph.model import Model
from snnkd_deploy.progress import say

CHUNK = 256
# Values of one chunk's recording: bounds memory, and the size of a message of a worker.
_CHUNK_VALUES = 200_000_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Retry:
    """attempts: tries of one chunk before giving up; pause_s: before the second one, doubled each time."""

    attempts: int = 3
    pause_s: float = 1.0


@dataclass
class Throughput:
    """What a stream did. `seconds` counts the chunks that ran now; `resumed` samples came from disk."""

    samples: int = 0
    resumed: int = 0
    chunks: int = 0
    seconds: float = 0.0
    restarts: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def samples_per_s(self) -> float | None:
        ran = self.samples - self.resumed
        return ran / self.seconds if ran and self.seconds else None

    def to_dict(self) -> dict[str, Any]:
        rate = self.samples_per_s
        return {
            "samples": self.samples,
            "resumed": self.resumed,
            "chunks": self.chunks,
            "seconds": round(self.seconds, 3),
            "samples_per_s": None if rate is None else round(rate, 2),
            "restarts": self.restarts,
            "failures": list(self.failures),
        }


def stream(
    backend: Backend,
    model: Model,
    inputs: Inputs,
    record: Record,
    *,
    store: Path | None = None,
    chunk: int | None = None,
    retry: Retry | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Run all samples; the trace equals that of one single run.

    store: folder that keeps finished chunks (`forget` removes it). chunk: samples at once (default: what the
    backend prefers, within bounds of memory). progress: called as `progress(samples_done, samples)`.
    Throughput and restarts are in `trace.meta["stream"]`. Raises BackendError where the backend refuses model or
    inputs, or fails `retry.attempts` times on one chunk; finished chunks then are still in `store`.
    """
    problems = backend.check(model)
    if problems:
        raise BackendError.from_problems(problems)
    retry = retry or Retry()
    size = chunk if chunk is not None else chunk_size(backend, model, inputs, record)
    if size < 1:
        raise BackendError("samples at once", where="--chunk", need="1 or more", have=size)
    base = _key(backend, model, record) if store is not None else ""
    done, stats, parts = 0, Throughput(samples=inputs.samples), []
    for start in range(0, inputs.samples, size):
        part = inputs.chunk(start, min(start + size, inputs.samples))
        path = None if store is None else store / f"{start:08d}-{_content(base, part)}.npz"
        trace = None if path is None else _kept(path, part.samples)
        if trace is not None:
            stats.resumed += part.samples
        else:
            began = time.monotonic()
            with _watching(backend, _offset(progress, done, inputs.samples)):
                trace = _attempts(backend, model, part, record, retry, stats, done, inputs.samples, store)
            stats.seconds += time.monotonic() - began
            if path is not None:
                trace.save(path)
        parts.append(trace)
        stats.chunks += 1
        done += part.samples
        if progress is not None:
            progress(done, inputs.samples)
    whole = concatenate(parts)
    if "seconds" in whole.meta:
        whole.meta["seconds"] = round(sum(float(trace.meta["seconds"]) for trace in parts), 3)
    whole.meta["stream"] = stats.to_dict()
    return whole


def forget(store: Path) -> None:
    """Remove the chunks of a stream whose trace is written."""
    shutil.rmtree(store, ignore_errors=True)


def chunk_size(backend: Backend, model: Model, inputs: Inputs, record: Record) -> int:
    """Samples at once: the backend's `chunk_samples` or CHUNK, less where the recording would be large."""
    wanted = [n for n in model.spiking if record.wants(n)]
    neurons = sum(math.prod(model.shapes[n]) for n in wanted) + math.prod(model.shapes[model.input_name])
    values = neurons * inputs.steps * (9 if record.states else 1)  # u and v are four bytes each
    return max(1, min(int(getattr(backend, "chunk_samples", CHUNK)), _CHUNK_VALUES // max(1, values)))


def _attempts(
    backend: Backend,
    model: Model,
    part: Inputs,
    record: Record,
    retry: Retry,
    stats: Throughput,
    done: int,
    total: int,
    store: Path | None,
) -> Trace:
    pause = retry.pause_s
    for attempt in range(1, retry.attempts + 1):
        try:
            return _answer(backend, model, part, record)
        except RefusedError:
            raise
        except BackendError as error:
            first, *rest = error.problems
            stats.failures.append(first.what)
            if attempt == retry.attempts:
                kept = f"{done} of {total} samples are finished"
                kept += f" and kept in {store}" if store is not None and done else ""
                raise BackendError(
                    f"gave up after {attempt} attempts: {first.what}",
                    where=first.where or backend.name,
                    need=first.need,
                    have=first.have,
                    remedy=first.remedy or "the same command goes on from there",
                    also=[*rest, Problem(kept)],
                ) from error
            stats.restarts += 1
            say(f"{backend.name}: {first.what.splitlines()[0]}; trying again from sample {done}", style="yellow")
            time.sleep(pause)
            pause *= 2
    raise AssertionError("unreachable: attempts is at least one")


def _answer(backend: Backend, model: Model, part: Inputs, record: Record) -> Trace:
    """One run. An answer to something else than was asked is a failure like any other, not a part of the trace."""
    trace = backend.run(model, part, record)
    found = {"logits": tuple(trace.logits.shape[:1])} | {n: tuple(s.shape) for n, s in trace.spikes.items()}
    need: dict[str, tuple[int, ...]] = {"logits": (part.samples,)}
    trains = [*model.spiking, silent_readout(model)]
    need |= {n: (part.steps, part.samples, *model.shapes[n]) for n in trains if n is not None and n in trace.spikes}
    if wrong := next((n for n in found if found[n] != need.get(n)), None):
        raise BackendError(
            "the backend answered something else than it was asked",
            where=f"{backend.name}, {wrong}",
            need=need.get(wrong, "a layer of the model"),
            have=found[wrong],
        )
    return trace


def _kept(path: Path, samples: int) -> Trace | None:
    """A finished chunk, or None. One that does not read is run again, and said so."""
    if not path.is_file():
        return None
    try:
        trace = Trace.load(path)
    except DataError:
        say(f"{path.name} is damaged: run again", style="yellow")
        return None
    return trace if trace.samples == samples else None


def _key(backend: Backend, model: Model, record: Record) -> str:
    wanted = {**asdict(record), "nodes": None if record.nodes is None else sorted(record.nodes)}
    settings = getattr(backend, "settings", {})
    parts = [model.sha256, backend.name, backend.availability().version, settings, wanted]
    return json.dumps(parts, sort_keys=True, default=str)


def _content(base: str, part: Inputs) -> str:
    digest = hashlib.sha256(f"{base}:{part.steps}:{tuple(part.x.shape)}:{part.x.dtype}".encode())
    digest.update(np.ascontiguousarray(part.x.numpy()).tobytes())
    return digest.hexdigest()[:24]


@contextmanager
def _watching(backend: Backend, progress: Progress | None) -> Iterator[None]:
    """Have a backend that can say so report the samples inside a chunk."""
    if progress is None or not hasattr(backend, "progress"):
        yield
        return
    before = backend.progress
    backend.progress = progress
    try:
        yield
    finally:
        backend.progress = before


def _offset(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
