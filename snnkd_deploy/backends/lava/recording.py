"""What a run writes down: recorders for spikes and sums, probes for states, and their empty files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from snnkd_deploy.backends.lava.plan import ProbePlan, RecorderPlan
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.backends.unroll import size_of
from snnkd_deploy.graph.profile import ReadoutParams

if TYPE_CHECKING:
    from snnkd_deploy.backends.lava.build import Builder

LOGIT_TAP = "output tap"  # records weighted sums where the output has no population in front
READOUT_FILE = "readout.npy"  # the readout's state: after the last step, or after each
TAP_FILE = "tap.npy"


def recording(builder: Builder, record: Record, tap: bool) -> tuple[list[RecorderPlan], list[ProbePlan]]:
    """Recorders and probes for `record` and for the logits; creates their files in the builder's folder."""
    model, steps = builder.model, builder.inputs.steps
    recorders: list[RecorderPlan] = []
    probes: list[ProbePlan] = []

    def result(file: str, steps: int, size: int, dtype: type) -> str:
        """An empty (T, B, N) file that Lava's processes fill in place."""
        shape = (steps, builder.inputs.samples, size)
        np.lib.format.open_memmap(builder.folder / file, mode="w+", dtype=dtype, shape=shape).flush()
        return file

    readout = model.readout_name
    counted: set[str] = set()
    if readout is None and not tap:
        counted = {m.origin for r in builder.routes.into(model.output_name) for m in r.members}
    for number, name in enumerate(builder.routes.populations):
        size, depth, wanted = size_of(model.shapes[name]), builder.depth[name], record.wants(name)
        params = model.profile.nodes[name]
        # The readout of a .net file is a LIF that cannot fire; its trace holds an empty spike train.
        spiking = not isinstance(params, ReadoutParams) or params.silent
        if name in counted or (record.spikes and wanted and spiking):
            file = result(f"spikes{number}.npy", steps, size, np.uint8)
            recorders.append(RecorderPlan(f"spikes of {name}", name, size, depth, file))
        for state in ("u", "v") if record.states and wanted else ():
            file = result(f"{state}{number}.npy", steps, size, np.int32)
            probes.append(ProbePlan(name, state, size, depth, file))
        if name == readout:
            assert isinstance(params, ReadoutParams)
            file = result(READOUT_FILE, steps if record.readout else 1, size, np.int32)
            probes.append(ProbePlan(name, params.read, size, depth, file))
    if tap:
        size = size_of(model.shapes[model.output_name])
        file = result(TAP_FILE, steps, size, np.int32)
        recorders.append(RecorderPlan(LOGIT_TAP, "", size, builder.depth[model.output_name], file))
    return recorders, probes
