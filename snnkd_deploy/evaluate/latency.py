"""Time of one sample on a chip: barrier plus the slowest core. A compute-bound lower limit; I/O is not in it.

    t_step = barrier(tiles) + max over cores of max(neurons + updates + spikes out, messages in + SOPs)
    t      = T t_step + (L - 1) t_step           the last factor fills the pipeline of L layers

Work is spread evenly over the steps and, within a layer, over its neurons, so a burst takes longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from snnkd_deploy.chips.load import load_chip
from snnkd_deploy.chips.spec import ChipSpec, Kind, Quantity
from snnkd_deploy.chips.units import si_range, span_text
from snnkd_deploy.errors import UsageError
from snnkd_deploy.evaluate.counts import LayerCounts, OpCounts
from snnkd_deploy.evaluate.mapping.report import FitReport
from snnkd_deploy.evaluate.terms import weakest

EXCLUDES = (
    "host input and output",
    "flight time of spikes between cores",
    "bursts: work is spread evenly over steps",
)
Times = tuple[float, float, float]


@dataclass(frozen=True)
class LatencyEstimate:
    """Seconds of one sample; None where the chip's times are unknown. `excludes` says what is missing.

    `proxy` holds another chip's times for the same work, labelled with its id; it is never this chip's.
    """

    chip: str
    low: float | None = None
    mid: float | None = None
    high: float | None = None
    excludes: tuple[str, ...] = ()
    step_s: Times | None = None
    steps: int = 0
    real_time: bool = False
    kind: Kind = "unknown"
    source: str = ""
    note: str = ""
    proxy: LatencyEstimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report's `latency_s`."""
        note = self.note
        if self.proxy is not None and self.proxy.low is not None and self.proxy.high is not None:
            note += f" With {self.proxy.chip}'s times, a proxy: {span_text(self.proxy.low, self.proxy.high, 's')}."
        return {
            "low": self.low,
            "mid": self.mid,
            "high": self.high,
            "excludes": list(self.excludes),
            "kind": self.kind,
            "source": self.source,
            "note": note.strip(),
        }


def estimate_latency(
    counts: OpCounts,
    chip: ChipSpec | str,
    *,
    fit: FitReport | None = None,
    dt_s: float | None = None,
) -> LatencyEstimate:
    """Time of one sample. With `dt_s` the chip runs in real time: a step lasts at least that long.

    Cores come from `fit`; without one, each layer takes as few as its neurons need.
    """
    spec = load_chip(chip) if isinstance(chip, str) else chip
    if dt_s is not None and not dt_s > 0:
        raise UsageError("a timestep must be positive", where="dt_s", have=dt_s)
    lists = [times for times in (_published(spec), _fitted(spec)) if times is not None]
    tick = spec.time.get("step")
    if not lists and tick is not None and tick.known:
        return _ticked(spec, counts, tick, dt_s)
    if not lists:
        return _unknown(spec, counts, fit, dt_s)
    cores, tiles = _cores(counts, spec, fit)
    steps = [[_step(counts, t, cores, tiles, i) for i in range(3)] for t in lists]
    step: Times = (min(s[0] for s in steps), steps[-1][1], max(s[2] for s in steps))
    if dt_s is not None:
        step = (max(dt_s, step[0]), max(dt_s, step[1]), max(dt_s, step[2]))
    total = counts.steps + _depth(counts) - 1
    return LatencyEstimate(
        chip=spec.id,
        low=total * step[0],
        mid=total * step[1],
        high=total * step[2],
        excludes=EXCLUDES,
        step_s=step,
        steps=total,
        real_time=dt_s is not None,
        kind=weakest([t.kind for t in lists]),
        source="; ".join(dict.fromkeys(s for t in lists for s in t.sources)),
        note=f"Compute-bound lower limit: {total} steps, {total - counts.steps} of them fill the pipeline.",
    )


@dataclass(frozen=True)
class _PriceList:
    """Times in seconds at three corners, by what they are per."""

    access: Times
    active: Times
    idle: Times
    spike: Times
    out: Times
    arrive: Times
    sop: Times
    sop_conv: Times
    barrier: dict[int, Times]  # by number of tiles
    kind: Kind
    sources: tuple[str, ...]


_ZERO: Times = (0.0, 0.0, 0.0)


def _times(chip: ChipSpec, keys: dict[str, str]) -> tuple[dict[str, Times], list[Quantity]] | None:
    """Times by role, or None where one is missing or unknown."""
    found: dict[str, Times] = {}
    used: list[Quantity] = []
    for role, key in keys.items():
        quantity = chip.time.get(key)
        if quantity is None or not quantity.known:
            return None
        found[role] = si_range(quantity, "time", f"{chip.id} [time.{key}]")
        used.append(quantity)
    return found, used


def _published(chip: ChipSpec) -> _PriceList | None:
    keys = {"sop": "synop", "active": "neuron_active", "idle": "neuron_inactive", "barrier": "barrier"}
    found = _times(chip, keys)
    if found is None:
        return None
    t, used = found
    return _PriceList(
        access=_ZERO,
        active=t["active"],
        idle=t["idle"],
        spike=_ZERO,
        out=_ZERO,
        arrive=_ZERO,
        sop=t["sop"],
        sop_conv=t["sop"],
        barrier={1: t["barrier"]},
        kind=weakest([q.kind for q in used]),
        sources=tuple(q.source for q in used),
    )


def _fitted(chip: ChipSpec) -> _PriceList | None:
    keys = {
        "access": "neuron_access_fit",
        "active": "neuron_update_fit",
        "spike": "neuron_spike_fit",
        "out": "axon_out_fit",
        "arrive": "axon_in_fit",
        "sop": "synop_dense_fit",
        "sop_conv": "synop_conv_fit",
    }
    found = _times(chip, keys)
    prefix, suffix = "barrier_fit_", "_tiles"
    barrier = {
        int(key.removeprefix(prefix).removesuffix(suffix)): si_range(q, "time", f"{chip.id} [time.{key}]")
        for key, q in chip.time.items()
        if key.startswith(prefix) and q.known
    }
    if found is None or not barrier:
        return None
    t, used = found
    return _PriceList(
        idle=_ZERO,
        barrier=barrier,
        kind=weakest([q.kind for q in used]),
        sources=tuple(q.source for q in used),
        **t,
    )


def _barrier(times: dict[int, Times], tiles: int, corner: int) -> float:
    """Between the published numbers of tiles the barrier grows with their logarithm; outside it is flat."""
    known = sorted(times)
    return float(np.interp(math.log2(max(tiles, 1)), [math.log2(k) for k in known], [times[k][corner] for k in known]))


def _step(counts: OpCounts, t: _PriceList, cores: list[dict[str, float]], tiles: int, corner: int) -> float:
    """Seconds of one step: the barrier and the slowest core."""
    return _barrier(t.barrier, tiles, corner) + max(_core_seconds(counts, t, cores, corner), default=0.0)


def _core_seconds(counts: OpCounts, t: _PriceList, cores: list[dict[str, float]], corner: int) -> list[float]:
    """Seconds per step that each core works."""
    holders = {layer.name: sum(layer.name in core for core in cores) for layer in counts.layers}
    times = {layer.name: _work(layer, t, corner, holders[layer.name]) for layer in counts.layers}
    # Layers that share a core take turns.
    return [
        max(sum(times[name][part] * share for name, share in core.items()) for part in (0, 1)) / counts.steps
        for core in cores
    ]


def slowest_core(counts: OpCounts, chip: ChipSpec, fit: FitReport) -> tuple[str, float, float] | None:
    """(layer that loads the slowest core most, its seconds per step, mean seconds of all cores); None without times.

    With the times of the chip's proxy where it has none: which core is slowest hardly depends on whose they are.
    """
    times = _fitted(chip) or _published(chip)
    if times is None:
        return slowest_core(counts, load_chip(chip.energy.proxy), fit) if chip.energy.proxy else None
    cores, _ = _cores(counts, chip, fit)
    seconds = _core_seconds(counts, times, cores, 1)
    worst = int(np.argmax(seconds))
    return max(cores[worst], key=lambda name: cores[worst][name]), seconds[worst], float(np.mean(seconds))


def _work(layer: LayerCounts, t: _PriceList, corner: int, cores: int) -> tuple[float, float]:
    """Seconds per sample that a layer's cores spend in all: (updating and sending, receiving).

    Before mapping every core of a layer hears every source spike: true of dense layers, high for maps.
    """
    messages = layer.messages if layer.messages is not None else layer.spikes_per_sample
    arriving = layer.messages_in if layer.messages_in is not None else layer.spikes_in * cores
    generate = (
        layer.updates * t.access[corner]
        + layer.updates_active * t.active[corner]
        + layer.updates_idle * t.idle[corner]
        + layer.spikes_per_sample * t.spike[corner]
        + messages * t.out[corner]
    )
    conv = layer.sop_conv
    process = arriving * t.arrive[corner] + (layer.sop_event - conv) * t.sop[corner] + conv * t.sop_conv[corner]
    return generate, process


def _cores(counts: OpCounts, chip: ChipSpec, fit: FitReport | None) -> tuple[list[dict[str, float]], int]:
    """For every core the share that it has of each layer, and the number of tiles in use."""
    cores: list[dict[str, float]] = []
    layers = {layer.name: layer for layer in counts.layers}
    placed: dict[tuple[int, int], dict[str, float]] = {}
    for tile in fit.tiles if fit is not None else ():
        if tile.layer in layers:
            core = placed.setdefault((tile.chip, tile.core), {})
            core[tile.layer] = core.get(tile.layer, 0.0) + tile.neurons / layers[tile.layer].neurons
    cores += placed.values()
    per_core = chip.limit("neurons_per_core") or math.inf
    missing = [layer for name, layer in layers.items() if not any(name in core for core in cores)]
    for layer in missing:
        count = max(1, math.ceil(layer.neurons / per_core))
        cores += [{layer.name: 1 / count}] * count
    per_tile = (chip.limit("cores_per_chip") or 1) / (chip.limit("tiles_per_chip") or 1)
    return cores, max(1, math.ceil(len(cores) / per_tile))


def _depth(counts: OpCounts) -> int:
    return counts.depth or max(1, len(counts.layers))


def _ticked(chip: ChipSpec, counts: OpCounts, tick: Quantity, dt_s: float | None) -> LatencyEstimate:
    """A chip whose steps last a fixed tick, whatever the work: T + L - 1 of them."""
    step = si_range(tick, "time", f"{chip.id} [time.step]") if dt_s is None else (dt_s, dt_s, dt_s)
    steps = counts.steps + _depth(counts) - 1
    return LatencyEstimate(
        chip=chip.id,
        low=steps * step[0],
        mid=steps * step[1],
        high=steps * step[2],
        excludes=("host input and output",),
        step_s=step,
        steps=steps,
        real_time=True,
        kind=tick.kind,
        source=tick.source,
        note=f"{steps} fixed ticks, {steps - counts.steps} of them fill the pipeline, if every core keeps up.",
    )


def _unknown(chip: ChipSpec, counts: OpCounts, fit: FitReport | None, dt_s: float | None) -> LatencyEstimate:
    """No times: None, or T x dt where real time is asked for, with a proxy where the chip file names one."""
    unknown = sorted(key for key, q in chip.time.items() if not q.known)
    proxy = estimate_latency(counts, chip.energy.proxy, fit=fit, dt_s=dt_s) if chip.energy.proxy else None
    points = [
        f"{k.replace('_', ' ')} {q.value:g} {q.unit} ({q.kind}; {q.source})" for k, q in chip.time.items() if q.known
    ]
    note = "No published times of single operations."
    if points:
        note += " Published: " + "; ".join(points) + "."
    steps = counts.steps + _depth(counts) - 1
    total = None if dt_s is None else steps * dt_s
    if dt_s is not None:
        note = f"{steps} steps of {dt_s:g} s: real time, if the chip keeps up. {note}"
    return LatencyEstimate(
        chip=chip.id,
        low=total,
        mid=total,
        high=total,
        excludes=(*EXCLUDES, *(f"{key}: unknown" for key in unknown)),
        step_s=None if dt_s is None else (dt_s, dt_s, dt_s),
        steps=steps,
        real_time=dt_s is not None,
        kind="unknown" if dt_s is None else "derived",
        note=note,
        proxy=proxy,
    )
