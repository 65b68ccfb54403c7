"""What student and teacher see of a sample: the input encoding, in one place for training, tests and deployment.

| encoding | data | the chip gets |
|---|---|---|
| current | images | nothing per step: the host computes the first layer once, its result is injected as bias |
| events  | event recordings | spikes per step: binary, or counts where the chip hears them |
| graded  | images, event counts, time series | integers 0..levels per step, as the payload of graded spikes |
| rate    | images, time series | binary spikes, fired with probability value / levels at each step |
| latency | images | one binary spike a pixel, the earlier the brighter |
| counts  | images, time series | 0..counts events per step, the more the brighter (chips that hear counts) |

A time series keeps its values in `graded`: one message a feature and step, its weight multiplied on the chip.
`rate` needs no payload (Loihi 1) and pays with noise. Both are spikes for the model file (`events`), computed by
the host before the chip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.data import Dataset, EventStore, Split, latency, rate
from snnkd_deploy.data.dataset import Kind
from snnkd_deploy.errors import Problem

Encoding = Literal["current", "events", "graded", "rate", "latency", "counts"]
_FOR: dict[Kind, tuple[Encoding, ...]] = {
    "image": ("current", "graded", "counts", "rate", "latency"),
    "events": ("events", "graded"),
    "series": ("graded", "counts", "rate"),
}
# The limits of a chip file that decide how students are trained; the others are for the fit.
LIMITS_READ = ("spike_payload",)
# Recordings are binned into frames this many samples at a time where a whole split is wanted.
_FRAME_ROWS = 256


@dataclass(frozen=True)
class Feed:
    """Encodes samples of one data set for a student of `steps` timesteps."""

    encoding: Encoding
    kind: Kind
    steps: int
    levels: int
    seed: int = 0
    counts: int = 4

    @property
    def on_chip(self) -> Literal["current", "events", "graded"]:
        """The encoding of the model: what a host computes beforehand arrives as events."""
        if self.encoding == "current" or self.encoding == "graded":
            return self.encoding
        return "events"

    @property
    def student_levels(self) -> int:
        """Largest integer that the student's first layer meets."""
        if self.encoding == "counts":
            return self.counts
        return 1 if self.encoding in ("rate", "latency") else self.levels

    def raw(self, split: Split, rows: Tensor) -> Tensor:
        """Integers as stored: images (B, C, H, W), frames (B, T, P, H, W) or series (B, T, F), uint8."""
        if isinstance(split.x, EventStore):
            return split.frames(rows, self.steps).movedim(1, 0)
        return split.x[rows]

    def student(self, raw: Tensor, index: Tensor, epoch: int = 0) -> Tensor:
        """What the student eats: pixels (B, C, H, W) for `current`, else (T, B, ...).

        `index` (B,): the samples' numbers in the data set; with the epoch they decide the spikes of `rate`.
        """
        if self.encoding == "current":
            return raw
        if self.encoding == "counts":
            raw = torch.round(raw * (self.counts / self.levels))
        if self.kind == "image":
            if self.encoding == "graded" or self.encoding == "counts":
                return raw.unsqueeze(0).expand(self.steps, *raw.shape)
            if self.encoding == "latency":
                return latency(raw, self.steps, levels=self.levels)
            return rate(raw, self.steps, levels=self.levels, seed=self.seed, indices=self._draw(index, epoch))
        if self.encoding == "rate":
            raw = rate(raw, 1, levels=self.levels, seed=self.seed, indices=self._draw(index, epoch))[0]
        return raw.movedim(1, 0)

    def _draw(self, index: Tensor, epoch: int) -> Tensor:
        # Fresh spikes each epoch, the same ones whenever that epoch is run again.
        return index + (epoch << 32)

    def teacher(self, raw: Tensor) -> Tensor:
        """What the teacher sees (B, C, H, W): pixels; the mean over the T frames; a series as one map (B, 1, T, F)."""
        if self.kind == "events":
            return raw.to(torch.float32).mean(1)
        return raw.unsqueeze(1) if self.kind == "series" else raw

    def augmentable(self, raw: Tensor) -> Tensor:
        """As (B, C, H, W), so that one crop or flip moves all frames of a recording alike."""
        return raw.flatten(1, 2) if self.kind == "events" else raw


def plain_feed(encoding: Literal["current", "events", "graded"], split: Split, steps: int, levels: int) -> Feed:
    """The feed of a student that takes a split's samples as they are stored."""
    if isinstance(split.x, EventStore):
        return Feed(encoding, "events", steps, levels)
    kinds: dict[int, Kind] = {3: "series", 4: "image", 5: "events"}
    return Feed(encoding, kinds[split.x.ndim], steps, levels)


def teacher_shape(data: Dataset) -> tuple[int, ...]:
    """(C, H, W) of what the teacher sees."""
    return (1, *data.shape) if data.kind == "series" else tuple(data.shape)


def step_shape(data: Dataset) -> tuple[int, ...]:
    """What a student gets in one step: (C, H, W), or (F,) of a series."""
    return tuple(data.shape[1:]) if data.kind == "series" else tuple(data.shape)


def series_steps(data: Dataset) -> int | None:
    """The number of steps that the samples have on their own; None where any number will do."""
    x = data.train.x
    if isinstance(x, EventStore) or data.kind == "image":
        return None
    return int(x.shape[1])


def encodings_for(kind: Kind) -> tuple[Encoding, ...]:
    """The encodings that this kind of data can have, the usual one first."""
    return _FOR[kind]


def check_feed(feed: Feed, augment: tuple[str, ...], data: Dataset, chip: ChipSpec) -> list[Problem]:
    """Everything that keeps this encoding from this data set and chip."""
    problems = []
    where = "student.encoding"
    encoding, steps = feed.encoding, feed.steps
    fitting = [name for name in _FOR[data.kind] if not _refusal(name, feed, data, chip)]
    remedy = " or ".join(f'student.encoding = "{name}"' for name in fitting)
    if encoding not in _FOR[data.kind]:
        what = f"encoding '{encoding}' does not fit {data.name}, which holds {data.kind}"
        problems.append(Problem(what, where, remedy=remedy))
    else:
        refusal = _refusal(encoding, feed, data, chip)
        if refusal:
            what, need, have = refusal
            if encoding in ("events", "graded") and data.kind == "events":
                remedy = " or ".join(filter(None, ["data.options.cap = 1", remedy]))
            problems.append(Problem(what, where, need, have, remedy))
    own = series_steps(data)
    if own is not None and own != steps:
        what = f"{data.name} has samples of a fixed length"
        problems.append(Problem(what, "student.steps", f"{own}", f"{steps}", f"student.steps = {own}"))
    if augment and data.kind == "series":
        what = "augmentations move pixels, and a time series has none"
        problems.append(Problem(what, "train.augment", remedy="augment = []"))
    return problems


def _refusal(encoding: Encoding, feed: Feed, data: Dataset, chip: ChipSpec) -> tuple[str, str, str] | None:
    """Why the chip cannot take an encoding of this data (what, need, have), or None."""
    heard = chip.neuron.max_input
    filtered = chip.neuron.family == "shift_lif" and chip.neuron.u_bits > 0
    if encoding == "current":
        reason = chip.lacks("host_current")
        if reason is None and filtered:
            reason = "its neurons filter every input, and a constant bias passes no filter"
        return (f"{chip.id} cannot take currents: {reason}", "", "") if reason else None
    if encoding == "graded" and filtered:
        return f"{chip.id} adds events one by one, which is not defined for events with a value", "", ""
    if encoding == "graded":
        need, have = data.levels.bit_length(), chip.limit("spike_payload") or 0
        return (f"{chip.id} cannot send a value with a spike", f"{need} bits", f"{have:g}") if have < need else None
    if encoding in ("events", "counts") and heard:
        sent = feed.counts if encoding == "counts" else data.levels
        if sent > heard:
            what = f"{chip.id} hears at most {heard} event{'s' * (heard > 1)} of an input in one step"
            return what, f"{heard}", f"{sent}"
    return None
