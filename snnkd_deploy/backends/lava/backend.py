"""`LavaBackend`: a model on real lava-nc processes."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.inputs import check_inputs
from snnkd_deploy.backends.lava.availability import interpreter, lava_availability
from snnkd_deploy.backends.lava.build import Builder, Options
from snnkd_deploy.backends.lava.check import check_for_lava
from snnkd_deploy.backends.lava.collect import collect
from snnkd_deploy.backends.lava.session import run_session
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.errors import BackendError, Problem
from snnkd_deploy.graph.model import Model


class LavaBackend:
    """Runs models of family `cuba_lif` on Lava's bit-accurate CPU processes, in a child interpreter.

    conv: "sparse" unrolls convolutions to Sparse, exact and several times faster on CPU; "conv" uses Lava's
    Conv where it can. hardware: Loihi2HwCfg instead of the CPU models; **untested, for want of a board**.
    python: an interpreter with lava-nc (default $SNNKD_LAVA_PYTHON, else this one). stall_s: give up after
    so many seconds without progress. timeout_s: limit of the whole run. progress: called as
    `progress(samples_done, samples)`.
    """

    name = "lava"
    chunk_samples = 100  # a second or two to compile and start, whatever the number of samples

    def __init__(
        self,
        *,
        conv: str = "sparse",
        hardware: bool = False,
        python: str | None = None,
        stall_s: float = 180.0,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if conv not in ("sparse", "conv"):
            raise BackendError(f"unknown conv '{conv}'", where="LavaBackend", need="sparse or conv")
        self.options = Options(conv=conv, hardware=hardware)
        self.python, self.stall_s, self.timeout_s, self.progress = python, stall_s, timeout_s, progress

    @property
    def settings(self) -> dict[str, object]:
        """What besides model and inputs could change a result."""
        return {"conv": self.options.conv, "hardware": self.options.hardware}

    def availability(self) -> Availability:
        return lava_availability(self.python)

    def check(self, model: Model) -> list[Problem]:
        return check_for_lava(model, self.options)

    def run(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        state = self.availability()
        if not state.usable:
            raise BackendError(f"backend 'lava' is not usable here: {state.note}", remedy=state.install)
        problems = self.check(model)
        if problems:
            raise BackendError.from_problems(problems)
        check_inputs(model, inputs)
        start = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix="snnkd_lava_"))
        try:
            builder = Builder(model, inputs, self.options, folder)
            plan = builder.build(record)
            child = run_session(
                folder,
                samples=inputs.samples,
                python=interpreter(self.python),
                stall_s=self.stall_s,
                timeout_s=self.timeout_s,
                progress=self.progress,
            )
            trace = collect(model, builder, plan, record, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        trace.meta = {
            "backend": self.name,
            "lava_nc": state.version.removeprefix("lava-nc ").split()[0],
            "python": child["python"],
            "timesteps": plan.steps,
            "seconds": round(time.monotonic() - start, 3),
        }
        return trace
