"""Count operations of a trace: exact integers, chunk by chunk, in memory that does not grow with the data.

Synaptic operations need only how often each neuron fired (times its fan-out); where a chip lets a neuron fire n
times in a step, that is n spikes and n operations per synapse. Active updates need to know
which neurons were reached at each step (`reach.py`): a few ORs of a single-channel spike map a layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np
import torch
from torch import Tensor

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.engine import DelayLine
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.errors import DataError, UsageError
from snnkd_deploy.evaluate.counts import LayerCounts, OpCounts
from snnkd_deploy.evaluate.fanout import fan_out, macs_framework, pass_chain
from snnkd_deploy.evaluate.reach import count_active, reach
from snnkd_deploy.evaluate.tally import Tally, tally
from snnkd_deploy.evaluate.wiring import POOLS, Arrival, Connection, Signal, neurons_of, wiring
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import SynapseParams
from snnkd_deploy.graph.topology import SPIKING


@dataclass
class _Fan:
    """Fan-outs of one stream, flat int64."""

    connection: Connection
    arrival: Arrival
    taps: np.ndarray
    taps_nonzero: np.ndarray
    macs_framework: int


class OpCounter:
    """Add up traces of one model. All chunks must have the same number of steps.

    Integers only; `result` divides by the number of samples.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.wiring = wiring(model)
        self.steps: int | None = None
        self.samples = 0
        self._fans = [
            self._fan(connection, arrival) for connection in self.wiring.connections for arrival in connection.arrivals
        ]
        self._spikes: dict[str, np.ndarray] = {}
        self._active = dict.fromkeys(self.wiring.layers, 0)

    def _fan(self, connection: Connection, arrival: Arrival) -> _Fan:
        def taps(nonzero: bool) -> np.ndarray:
            table = fan_out(
                self.model,
                connection.synapse,
                nonzero=nonzero,
                chain=arrival.chain,
                source=arrival.source,
            )
            return table.flatten().numpy()

        return _Fan(connection, arrival, taps(False), taps(True), macs_framework(self.model, connection.synapse))

    def update(self, trace: Trace, inputs: Inputs | None = None) -> None:
        """Add a chunk of samples. `inputs` is needed where events enter the chip.

        Raises DataError where the trace lacks a population or has another number of steps.
        """
        streams = self._streams(trace, inputs)
        steps, samples = self._extent(trace, streams)
        tallies = {name: tally(spikes, once=self._once(name)) for name, spikes in streams.items()}
        for name, found in tallies.items():
            self._spikes[name] = self._spikes[name] + found.sums if name in self._spikes else found.sums
        for layer in self.wiring.layers:
            self._active[layer] += self._count_active(layer, tallies, steps, samples)
        self.steps = steps
        self.samples += samples

    def _streams(self, trace: Trace, inputs: Inputs | None) -> dict[str, Tensor]:
        """Spikes of every source that sends any, by node name."""
        streams: dict[str, Tensor] = {}
        missing = [name for name in self.model.spiking if name not in trace.spikes]
        if missing:
            raise DataError(
                "the trace lacks spikes of " + ", ".join(missing),
                where="trace",
                remedy="record every spiking node (Record() does)",
            )
        for name in self.model.spiking:
            streams[name] = trace.spikes[name]
        if self._entering:
            if inputs is None:
                raise UsageError(
                    f"encoding '{self.model.profile.encoding.kind}' sends spikes into the chip",
                    where="count_ops",
                    remedy="give the inputs of the run as well (--input X.npz)",
                )
            streams[self.model.input_name] = inputs.x.expand(inputs.steps, *inputs.x.shape[1:])
        return streams

    @property
    def _entering(self) -> set[Signal]:
        """Kinds of spikes that come from outside."""
        arrivals = (a for c in self.wiring.connections for a in c.arrivals if self._is_input(a))
        return {a.signal for a in arrivals if a.signal != "analog"}

    def _once(self, source: str) -> bool:
        """Whether a message is one spike, whatever its value. Where the chip takes several in a step, n means n."""
        return source == self.model.input_name and ("graded" in self._entering or not self._takes_counts())

    def _takes_counts(self) -> bool:
        """Whether n on one line in one step is n events; True as well where no chip is known."""
        chip = self.model.profile.chip
        return chip is None or chip.neuron.max_spikes != 1 or chip.neuron.max_input != 1

    def _is_input(self, arrival: Arrival) -> bool:
        return arrival.source == self.model.input_name

    def _extent(self, trace: Trace, streams: dict[str, Tensor]) -> tuple[int, int]:
        shapes = {tuple(spikes.shape[:2]) for spikes in streams.values()}
        if len(shapes) > 1:
            raise DataError(
                "spikes of different lengths or batch sizes, (T, B)",
                where="trace and input",
                have=sorted(shapes),
                remedy="the inputs that the trace was recorded with",
            )
        if not shapes:
            return self.steps or self.model.profile.steps or 1, trace.samples
        ((steps, samples),) = shapes
        if self.steps is not None and steps != self.steps:
            raise DataError("chunks differ in their number of steps", need=self.steps, have=steps)
        return steps, samples

    # ---- active updates -------------------------------------------------------------------

    def _count_active(self, layer: str, tallies: dict[str, Tally], steps: int, samples: int) -> int:
        """Neuron-steps of a chunk that received a spike through any tap, or fired."""
        if self._is_weight(layer):
            return 0
        shape = self.model.shapes[layer]
        reached: Tensor | None = None
        for fan in self._fans:
            if fan.connection.target != layer or fan.connection.host:
                continue
            if fan.arrival.signal == "analog":
                # Values that are no spikes arrive at every step.
                return steps * samples * int(np.prod(shape))
            here = self._reach(fan, tallies[fan.arrival.source])
            reached = here if reached is None else reached | here
        fired = tallies.get(layer) if isinstance(self.model.nodes[layer], SPIKING) else None
        return count_active(reached, fired, shape)

    def _is_weight(self, layer: str) -> bool:
        return any(c.synapse == layer for c in self.wiring.connections)

    def _reach(self, fan: _Fan, sent: Tally) -> Tensor:
        """Which elements receive at least one spike: bool (T, B, ...) that broadcasts to the layer."""
        connection, arrival = fan.connection, fan.arrival
        reached = reach(self.model, connection, arrival, self._delayed(connection, arrival, sent), fan.taps > 0)
        if connection.post:
            full = reached.expand(*reached.shape[:2], *self.model.shapes[connection.synapse])
            flat = pass_chain(self.model, connection.post, full.flatten(0, 1).to(torch.float32))
            reached = (flat > 0).reshape(*reached.shape[:2], *flat.shape[1:])
        if arrival.lag:
            lag = min(arrival.lag, reached.shape[0])
            reached = torch.cat([torch.zeros_like(reached[:lag]), reached[: reached.shape[0] - lag]])
        return reached

    def _delayed(self, connection: Connection, arrival: Arrival, sent: Tally) -> Tally:
        """Spikes when they arrive: after the axonal delays of the weight node and of Delay nodes."""
        params = self.model.profile.nodes.get(connection.synapse)
        tables = [np.asarray(params.delay)] if isinstance(params, SynapseParams) and any(params.delay) else []
        for name in arrival.chain:
            node = self.model.nodes[name]
            if isinstance(node, nir.Delay):
                tables.append(np.rint(np.asarray(node.delay, dtype=np.float64) / self.model.profile.dt_s))
        spikes = sent.spikes
        shape = tuple(spikes.shape[2:])
        for table in tables:
            steps = torch.from_numpy(table.astype(np.int64))
            if steps.numel() == int(np.prod(shape)):
                steps = steps.reshape(shape)
            elif steps.numel() == shape[0]:
                steps = steps.reshape(-1, *[1] * (len(shape) - 1))
            else:
                # Delays that differ behind a pool cannot be told apart here: the latest of them.
                steps = steps.max().reshape([1] * len(shape))
            spikes = DelayLine(steps)(spikes)
        return tally(spikes) if tables else sent

    # ---- the result -----------------------------------------------------------------------

    def result(self) -> OpCounts:
        """Counts of everything so far. Raises UsageError where nothing was added."""
        if self.steps is None or self.samples == 0:
            raise UsageError("no trace was counted", where="OpCounter", remedy="call update first")
        exact = {layer: self._totals(layer) for layer in self.wiring.layers}
        layers = tuple(self._layer(layer, exact[layer]) for layer in self.wiring.layers)
        entering = self._spikes.get(self.model.input_name)
        return OpCounts(
            layers=layers,
            steps=self.steps,
            samples=self.samples,
            input_spikes=0.0 if entering is None else int(entering.sum()) / self.samples,
            depth=self.wiring.depth,
            exact=exact,
            spike_sums={name: sums.reshape(self.model.shapes[name]) for name, sums in self._spikes.items()},
            notes=tuple(self._notes()),
        )

    def _totals(self, layer: str) -> dict[str, int]:
        assert self.steps is not None
        runs = self.steps * self.samples
        totals = dict.fromkeys(
            (
                "sop_event",
                "sop_nonzero",
                "sop_dense",
                "sop_conv",
                "sop_graded",
                "macs_analog",
            ),
            0,
        )
        for fan in self._fans:
            if fan.connection.target != layer:
                continue
            if fan.arrival.signal == "analog":
                # On the host a constant image is computed once a sample; elsewhere values come every step.
                repeats = self.samples if fan.connection.host else runs
                totals["macs_analog"] += int(fan.taps.sum()) * repeats
                continue
            spikes = self._spikes[fan.arrival.source]
            event = int(spikes @ fan.taps)
            totals["sop_event"] += event
            totals["sop_nonzero"] += int(spikes @ fan.taps_nonzero)
            totals["sop_dense"] += int(fan.taps.sum()) * runs
            totals["sop_conv"] += event if fan.connection.shared else 0
            totals["sop_graded"] += event if fan.arrival.signal == "graded" else 0
        own = self._spikes.get(layer)
        totals["spikes"] = 0 if own is None else int(own.sum())
        updates = 0 if self._is_weight(layer) else neurons_of(self.model, layer) * runs
        totals["updates_active"] = self._active[layer]
        totals["updates_idle"] = updates - self._active[layer]
        return totals

    def _layer(self, layer: str, exact: dict[str, int]) -> LayerCounts:
        assert self.steps is not None
        neurons = neurons_of(self.model, layer)
        runs = self.steps * self.samples
        paper = arriving = 0.0
        for fan in self._fans:
            if fan.connection.target == layer and fan.arrival.signal != "analog":
                spikes = self._spikes[fan.arrival.source]
                paper += fan.macs_framework * float(spikes.mean())  # rate x T x samples
                arriving += float(spikes.sum())
        means = {key: value / self.samples for key, value in exact.items() if key != "spikes"}
        return LayerCounts(
            name=layer,
            neurons=neurons,
            rate=exact["spikes"] / (neurons * runs),
            spikes_per_sample=exact["spikes"] / self.samples,
            macs_framework=float(sum(f.macs_framework for f in self._fans if f.connection.target == layer)),
            sop_framework=paper / self.samples,
            spikes_in=arriving / self.samples,
            spiking=isinstance(self.model.nodes[layer], SPIKING),
            **means,
        )

    def _notes(self) -> list[str]:
        notes = []
        if any(c.host for c in self.wiring.connections):
            notes.append("first layer on the host, once per sample (first_layer_repeats = 1), no SOPs")
        elif any(a.signal == "analog" for c in self.wiring.connections for a in c.arrivals):
            notes.append("values that are no spikes enter weights at every step (first_layer_repeats = T)")
        if any(isinstance(node, POOLS) for node in self.model.nodes.values()):
            notes.append("pools are sum pools: every spike costs the fan-out of its pooled position")
        return notes


def count_ops(model: Model, trace: Trace, inputs: Inputs | None = None) -> OpCounts:
    """Operations of one run, from a trace of any backend. `inputs` is needed for `events` and `graded`.

    For a whole data set use `OpCounter`, which takes the chunks one by one.
    """
    counter = OpCounter(model)
    counter.update(trace, inputs)
    return counter.result()
