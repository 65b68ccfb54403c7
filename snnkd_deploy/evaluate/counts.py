"""What a run costs in operations: the values. Definitions: `docs/energy.md`; counting itself: `counter.py`.

Every number is a mean per sample over all its timesteps, so that samples of a data set can be added up;
`OpCounts.exact` keeps the integer sums that they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from snnkd_deploy.errors import UsageError

# Columns of the report, in its order, and the further ones.
REPORT_COLUMNS = (
    "neurons",
    "rate",
    "spikes_per_sample",
    "sop_event",
    "sop_nonzero",
    "sop_dense",
    "macs_analog",
    "updates_active",
    "updates_idle",
)


@dataclass(frozen=True)
class LayerCounts:
    """One population or readout, means per sample (all T steps).

    A synaptic operation (SOP) belongs to the layer that receives it.

    neurons          elements of the layer
    rate             spikes per neuron and step
    spikes_per_sample  spikes that the layer emits
    sop_event        spikes times existing taps: hardware that keeps zero weights
    sop_nonzero      the same without taps whose quantised weight is 0
    sop_dense        as if every source fired at every step
    macs_analog      multiply-accumulates on values that are no spikes (first layer of `current`: on the
                     host, once per sample; of a float input: every step)
    updates_active   neuron-steps that received a SOP or fired; `updates_idle` are the others
    macs_framework   MACs of ONE step as frameworks count them (padding taps included, pools apart)
    sop_framework    source rate x T x macs_framework: the SOPs that papers print
    sop_conv         part of sop_event that came through a convolution (weights stored once)
    sop_graded       part of sop_event whose spikes carry a value (priced as a MAC of that many bits)
    spikes_in        spikes of all sources of the layer
    messages         spikes sent to destination cores (a spike counts once per core); None before mapping
    messages_in      messages that arrive at the layer's cores; None before mapping
    """

    name: str
    neurons: int
    rate: float = 0.0
    spikes_per_sample: float = 0.0
    sop_event: float = 0.0
    sop_nonzero: float = 0.0
    sop_dense: float = 0.0
    macs_analog: float = 0.0
    updates_active: float = 0.0
    updates_idle: float = 0.0
    macs_framework: float = 0.0
    sop_framework: float = 0.0
    sop_conv: float = 0.0
    sop_graded: float = 0.0
    spikes_in: float = 0.0
    messages: float | None = None
    messages_in: float | None = None
    spiking: bool = True

    @property
    def updates(self) -> float:
        """Neuron-steps of a sample: N x T for a population."""
        return self.updates_active + self.updates_idle

    def to_dict(self) -> dict[str, Any]:
        """The report's keys first, then the further columns."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class OpCounts:
    """Operations of a network, per layer and in total. Build it by hand, from rates, or with `count_ops`.

    `steps` is T; `depth` the layers on the longest way from input to output (None: all of them).
    `input_spikes` are events that enter the chip per sample (0 for injected currents).
    `exact` holds integer sums over all `samples` by layer; `spike_sums` the spikes of every single
    neuron, which mapping turns into messages and hops. Both are empty for counts made by hand.
    """

    layers: tuple[LayerCounts, ...]
    steps: int
    samples: int = 1
    input_spikes: float = 0.0
    input_messages: float | None = None
    hops_ew: float | None = None
    hops_ns: float | None = None
    messages_intra_tile: float | None = None
    messages_offchip: float | None = None
    depth: int | None = None
    exact: Mapping[str, Mapping[str, int]] = field(default_factory=dict, repr=False)
    spike_sums: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError("counts need at least one timestep", where="OpCounts.steps", have=self.steps)
        object.__setattr__(self, "layers", tuple(self.layers))
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names):
            raise UsageError("two layers have the same name", where="OpCounts.layers", have=names)

    def layer(self, name: str) -> LayerCounts:
        return next(layer for layer in self.layers if layer.name == name)

    @property
    def total(self) -> LayerCounts:
        """All layers together; `rate` is the mean over spiking neurons."""
        sums: dict[str, Any] = {}
        for f in fields(LayerCounts):
            if f.name in ("name", "rate", "spiking"):
                continue
            values = [getattr(layer, f.name) for layer in self.layers]
            known = [v for v in values if v is not None]
            sums[f.name] = sum(known) if known else (None if f.name.startswith("messages") else 0)
        firing = sum(layer.neurons for layer in self.layers if layer.spiking)
        rate = sums["spikes_per_sample"] / (firing * self.steps) if firing else 0.0
        return LayerCounts(name="total", rate=rate, **sums)

    @property
    def messages(self) -> float | None:
        """Messages of the populations and of the input; None before mapping."""
        own = self.total.messages
        return own if own is None else own + (self.input_messages or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """`layers` and `totals` as the report has them, with what belongs to the network as a whole."""
        totals = self.total.to_dict()
        for key in ("name", "spiking", "messages_in"):
            totals.pop(key)
        totals |= {
            "input_spikes": self.input_spikes,
            "input_messages": self.input_messages,
            "messages": self.messages,
            "messages_intra_tile": self.messages_intra_tile,
            "offchip_messages": self.messages_offchip,
            "hops": None if self.hops_ew is None or self.hops_ns is None else self.hops_ew + self.hops_ns,
            "hops_ew": self.hops_ew,
            "hops_ns": self.hops_ns,
            "steps": self.steps,
            "samples": self.samples,
        }
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "totals": totals,
            "notes": list(self.notes),
        }


def layer_from_rates(
    name: str,
    neurons: int,
    steps: int,
    *,
    rate: float = 0.0,
    inputs: int = 0,
    input_rate: float = 0.0,
    synapses: int | None = None,
    density: float = 1.0,
    shared: bool = False,
    macs_analog: float = 0.0,
    spiking: bool = True,
    max_rate: float = 1.0,
) -> LayerCounts:
    """A layer from its size and mean rates, without a model or a trace.

    `inputs` elements fire with `input_rate` per step and reach `synapses` taps in all (default: fully
    connected). `density` is the share of weights that are not 0. Active updates assume independent
    spikes: a neuron with fan-in f is reached with probability 1 - (1 - input_rate)^f. Rates are spikes per neuron
    and step; `max_rate` above 1 is for chips that let a neuron fire several times in a step.
    """
    for key, value, most in (("rate", rate, max_rate), ("input_rate", input_rate, max_rate), ("density", density, 1)):
        if not 0 <= value <= most:
            raise UsageError(f"must lie in 0..{most:g}", where=f"{name}.{key}", have=value)
    taps = inputs * neurons if synapses is None else synapses
    sop = taps * input_rate * steps
    reached = 1 - (1 - min(input_rate, 1.0)) ** (taps / neurons) if neurons and taps else 0.0
    active = neurons * steps * (reached + (1 - reached) * min(rate, 1.0))
    return LayerCounts(
        name=name,
        neurons=neurons,
        rate=rate,
        spikes_per_sample=rate * neurons * steps,
        sop_event=sop,
        sop_nonzero=sop * density,
        sop_dense=float(taps * steps),
        macs_analog=macs_analog,
        updates_active=active,
        updates_idle=neurons * steps - active,
        macs_framework=float(taps),
        sop_framework=sop,
        sop_conv=sop if shared else 0.0,
        spikes_in=inputs * input_rate * steps,
        spiking=spiking,
    )


def add_samples(parts: Iterable[OpCounts]) -> OpCounts:
    """Counts of several sample sets of one network as one: means weighted by samples, integers added."""
    chunks = list(parts)
    if not chunks:
        raise UsageError("nothing to add", where="add_samples")
    first = chunks[0]
    names = [layer.name for layer in first.layers]
    if any([layer.name for layer in c.layers] != names or c.steps != first.steps for c in chunks):
        raise UsageError("counts of different networks or numbers of steps cannot be added as samples")
    samples = sum(c.samples for c in chunks)

    def mean(values: list[Any]) -> Any:
        if any(v is None for v in values):
            return None
        return sum(v * c.samples for v, c in zip(values, chunks, strict=True)) / samples

    layers = []
    for index, name in enumerate(names):
        rows = [c.layers[index] for c in chunks]
        columns = {
            f.name: mean([getattr(row, f.name) for row in rows])
            for f in fields(LayerCounts)
            if f.name not in ("name", "neurons", "spiking")
        }
        layers.append(LayerCounts(name=name, neurons=rows[0].neurons, spiking=rows[0].spiking, **columns))
    whole = {
        key: mean([getattr(c, key) for c in chunks])
        for key in (
            "input_spikes",
            "input_messages",
            "hops_ew",
            "hops_ns",
            "messages_intra_tile",
            "messages_offchip",
        )
    }
    exact = {
        name: {key: sum(c.exact[name][key] for c in chunks) for key in first.exact[name]}
        for name in first.exact
        if all(name in c.exact for c in chunks)
    }
    sums = {
        name: np.sum([c.spike_sums[name] for c in chunks], axis=0)
        for name in first.spike_sums
        if all(name in c.spike_sums for c in chunks)
    }
    notes = tuple(dict.fromkeys(note for c in chunks for note in c.notes))
    return OpCounts(
        tuple(layers), first.steps, samples, depth=first.depth, exact=exact, spike_sums=sums, notes=notes, **whole
    )
