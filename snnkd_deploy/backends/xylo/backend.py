"""`xylo`: a model lowered for Xylo in xylosim, SynSense's simulator of the chip, driven without rockpool and samna.

xylosim (0.1.3) is one C++ extension a core version; version 2 is that of Audio 2, Audio 3 and IMU. It states no
licence: nothing of it is in this package, the user installs it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.exact import logits_of
from snnkd_deploy.backends.inputs import check_inputs
from snnkd_deploy.backends.trace import Record, Trace
from snnkd_deploy.backends.xylo.check import MAX_EVENTS, check_for_xylo
from snnkd_deploy.backends.xylo.layout import Layout
from snnkd_deploy.errors import BackendError, DataError, Problem
from snnkd_deploy.graph.model import Model

INSTALL = "pip install xylosim==0.1.3 (built from source: needs g++ and Python's headers)"


class XyloBackend:
    """Runs sample after sample, each from zero state. Logical time is the chip's own: hops are in the model.

    Keeps the layer of the last model: xylosim never frees its neurons and their records (about 0.4 MB for 300
    neurons and 200 steps), so that a sweep over many networks is better run behind a worker.
    """

    name = "xylo"

    def __init__(self) -> None:
        self._built: tuple[str, _Core] | None = None

    def availability(self) -> Availability:
        if find_spec("xylosim") is None:
            return Availability(False, install=INSTALL)
        try:
            return Availability(True, f"xylosim {version('xylosim')}")
        except PackageNotFoundError:
            return Availability(True, "xylosim")

    def check(self, model: Model) -> list[Problem]:
        return check_for_xylo(model)[1]

    def run(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        state = self.availability()
        if not state.usable:
            raise BackendError("backend 'xylo' is not usable here: xylosim is not installed", remedy=state.install)
        layout, problems = check_for_xylo(model)
        if layout is None:
            raise BackendError.from_problems(problems)
        check_inputs(model, inputs)
        if inputs.x.min() < 0 or inputs.x.max() > MAX_EVENTS:
            have = f"{float(inputs.x.min()):g}..{float(inputs.x.max()):g}"
            raise DataError("events of a channel in one step", where="inputs.x", need=f"0..{MAX_EVENTS}", have=have)
        if self._built is None or self._built[0] != model.sha256:
            self._built = (model.sha256, _Core(model, layout))
        return self._built[1].run(inputs, record, {"backend": self.name, "xylosim": state.version.split()[-1]})


class _Core:
    """One XyloLayer. It holds raw pointers to the synapse objects: they have to live as long as it does."""

    def __init__(self, model: Model, layout: Layout) -> None:
        from xylosim.v2 import XyloLayer, XyloSynapse

        assert model.profile.chip is not None
        self.model, self.layout = model, layout
        shift = model.profile.chip.neuron.input_shift
        hidden, out = list(layout.hidden), layout.output
        bias = [int(b) for name in hidden for b in model.bias_int(name).ravel()]
        bias_out = [int(b) for b in model.bias_int(out).ravel()]

        def each(names: list[str], key: str) -> list[int]:
            sizes = [int(np.prod(model.shapes[name])) for name in names]
            values = [model.neuron(name).numbers()[key] for name in names]
            return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]

        self.synapses = [
            _synapses(XyloSynapse, matrix)
            for matrix in (layout.inputs_to_hidden, layout.hidden_to_hidden, layout.hidden_to_output)
        ]
        self.layer = XyloLayer(
            synapses_in=self.synapses[0],
            synapses_rec=self.synapses[1],
            synapses_out=self.synapses[2],
            aliases=[[] for _ in range(layout.neurons)],
            threshold=[vth << shift for vth in each(hidden, "vth")],
            threshold_out=[vth << shift for vth in each([out], "vth")],
            has_bias=any(bias) or any(bias_out),
            bias=bias,
            bias_out=bias_out,
            weight_shift_inp=shift,
            weight_shift_rec=shift,
            weight_shift_out=shift,
            dash_mem=each(hidden, "dash_mem"),
            dash_mem_out=each([out], "dash_mem"),
            dash_syns=[[dash] for dash in each(hidden, "dash_syn")],
            dash_syns_out=[[dash] for dash in each([out], "dash_syn")],
            name="snnkd",
        )

    def run(self, inputs: Inputs, record: Record, meta: dict[str, Any]) -> Trace:
        steps, samples = inputs.steps, inputs.samples
        raster = inputs.x.expand(steps, *inputs.x.shape[1:]).reshape(steps, samples, -1).to(torch.int64).numpy()
        runs = [self._sample(raster[:, b], record.states) for b in range(samples)]
        counts = {name: [hidden[:, ids] for hidden, _, _ in runs] for name, ids in self._columns()}
        trace = Trace(logits=torch.zeros(0), meta=meta)
        spikes = {name: self._stacked(name, counts[name], np.uint8) for name in counts}
        trace.logits = logits_of(self.model, {self.model.output_name: spikes[self.layout.output]}, steps)
        for name, ids in self._columns():
            if record.spikes and record.wants(name):
                trace.spikes[name] = spikes[name]
            if record.states and record.wants(name):
                trace.u[name] = self._stacked(name, [u[:, ids] for _, u, _ in runs], np.int32)
                trace.v[name] = self._stacked(name, [v[:, ids] for _, _, v in runs], np.int32)
        return trace

    def _columns(self) -> list[tuple[str, slice]]:
        """Every population with its columns in what `_sample` returns: hidden neurons, then outputs."""
        first = self.layout.neurons
        hidden = [(name, slice(ids.start, ids.stop)) for name, ids in self.layout.hidden.items()]
        return [*hidden, (self.layout.output, slice(first, first + self.layout.outputs))]

    def _stacked(self, name: str, runs: list[np.ndarray], dtype: type) -> torch.Tensor:
        whole: np.ndarray = np.stack(runs, axis=1).astype(dtype)
        return torch.from_numpy(whole.reshape(*whole.shape[:2], *self.model.shapes[name]))

    def _sample(self, raster: np.ndarray, states: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Spike counts, currents and membranes, each (T, hidden + outputs); the last two are empty unless asked for."""
        layer = self.layer
        layer.reset_all()
        out = np.asarray(layer.evolve(raster), dtype=np.int64)
        counts = np.concatenate([np.asarray(layer.rec_recurrent_spikes, dtype=np.int64), out], axis=1)
        if not states:
            return counts, counts[:0], counts[:0]
        u = np.concatenate([np.asarray(layer.rec_i_syn), np.asarray(layer.rec_i_syn_out)]).T  # neuron-major
        v = np.concatenate([np.asarray(layer.rec_v_mem), np.asarray(layer.rec_v_mem_out)]).T
        return counts, u, v


def _synapses(synapse: Any, matrix: csr_matrix) -> list[list[Any]]:
    """For every source its synapses, by ascending target. Weights of 0 are not stored."""
    columns = matrix.tocsc()
    columns.sort_indices()
    made = []
    for source in range(columns.shape[1]):
        entries = range(columns.indptr[source], columns.indptr[source + 1])
        pairs = [(int(columns.indices[k]), int(columns.data[k])) for k in entries if columns.data[k]]
        made.append([synapse(target, 0, weight) for target, weight in pairs])
    return made
