"""`replay`: recorded traces stand in for a board.

A recording answers for the very samples it holds, found by their content: any subset, order or chunking of them.
It refuses another model and samples that it has never seen.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.inputs import check_inputs
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.errors import BackendError, DataError, Problem, RefusedError
from snnkd_deploy.graph.model import Model

VARIABLE = "SNNKD_REPLAY"


def sample_hashes(inputs: Inputs) -> list[str]:
    """A fingerprint of each sample's values and of the number of steps; independent of the batch around it."""
    values = inputs.x.to(torch.float64).numpy()
    # A train that never changes and a held image are the same input.
    found = []
    for sample in range(inputs.samples):
        own = np.ascontiguousarray(values[:, sample]) + 0.0
        if (own == own[:1]).all():
            own = own[:1]
        digest = hashlib.sha256(f"{inputs.steps}:{own.shape}".encode() + own.tobytes())
        found.append(digest.hexdigest()[:24])
    return found


def stamp(trace: Trace, model: Model, inputs: Inputs) -> Trace:
    """Write into the trace what a replay needs to know: the model and the samples it belongs to."""
    trace.meta |= {"model": model.sha256, "steps": inputs.steps, "sample_hashes": sample_hashes(inputs)}
    return trace


class ReplayBackend:
    """Gives back what was recorded with `snnkd simulate ... -o TRACE.npz`. path: default $SNNKD_REPLAY."""

    name = "replay"

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = path if path is not None else os.environ.get(VARIABLE)
        self._trace: Trace | None = None

    @property
    def settings(self) -> dict[str, object]:
        """Which recording answers."""
        content = b"" if not self.path or not Path(self.path).is_file() else Path(self.path).read_bytes()
        return {"recording": hashlib.sha256(content).hexdigest()}

    def availability(self) -> Availability:
        try:
            trace = self._load()
        except (DataError, BackendError) as error:
            problem = error.problems[0]
            return Availability(False, note=problem.what, install=problem.remedy or f"{VARIABLE}=TRACE.npz")
        return Availability(True, version=f"recorded by {trace.meta.get('backend', '?')}")

    def check(self, model: Model) -> list[Problem]:
        try:
            meta = self._load().meta
        except (DataError, BackendError) as error:
            return list(error.problems)
        where = str(self.path)
        if meta.get("model") != model.sha256:
            have = str(meta.get("model", "unknown"))[:12]
            return [Problem("the recording is of another model", where, model.sha256[:12], have, "record it again")]
        if not isinstance(meta.get("sample_hashes"), list):
            return [Problem("the recording does not say what it was an answer to", where, remedy="record it again")]
        return []

    def run(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        problems = self.check(model)
        if problems:
            raise BackendError.from_problems(problems)
        check_inputs(model, inputs)
        trace = self._load()
        place = {key: i for i, key in enumerate(trace.meta["sample_hashes"])}
        wanted = sample_hashes(inputs)
        unknown = [i for i, key in enumerate(wanted) if key not in place]
        if unknown:
            raise RefusedError(
                "the recording does not hold these inputs",
                where=str(self.path),
                need=f"{inputs.samples} samples of {inputs.steps} steps",
                have=f"{len(unknown)} of them unknown, sample {unknown[0]} first",
                remedy="replay the input file that was recorded",
            )
        lacking = self._lacking(trace, model, record)
        if lacking:
            raise RefusedError(
                f"the recording holds no {', '.join(lacking)}",
                where=str(self.path),
                remedy="record it again with --state",
            )
        index = torch.tensor([place[key] for key in wanted])

        def pick(group: dict[str, Tensor], wanted: bool) -> dict[str, Tensor]:
            return {n: t[:, index] for n, t in group.items() if wanted and record.wants(n)}

        readout = model.readout_name
        v = pick(trace.v, record.states)
        if record.readout and readout is not None:
            v[readout] = trace.v[readout][:, index]
        return Trace(
            logits=trace.logits[index],
            spikes=pick(trace.spikes, record.spikes),
            u=pick(trace.u, record.states),
            v=v,
            meta={"backend": self.name, "recorded_by": trace.meta.get("backend", "?"), "recording": str(self.path)},
        )

    def _lacking(self, trace: Trace, model: Model, record: Record) -> list[str]:
        nodes = [n for n in model.spiking if record.wants(n)]
        found = [f"spikes/{n}" for n in nodes if record.spikes and n not in trace.spikes]
        found += [f"v/{n}" for n in nodes if record.states and n not in trace.v]
        readout = model.readout_name
        if record.readout and readout is not None and readout not in trace.v:
            found.append(f"v/{readout}")
        return found

    def _load(self) -> Trace:
        if not self.path:
            raise BackendError("no recording is named", remedy=f"set {VARIABLE}=TRACE.npz, or ReplayBackend(path)")
        if self._trace is None:
            self._trace = Trace.load(self.path)
        return self._trace
