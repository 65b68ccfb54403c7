"""What a reader learns first, in words: one list for the terminal and for the top of the page.

Each number in a text is a `Figure`: a value of the report by its path, so that the page can point into
`report.json` and a test can hold every figure to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from snnkd_deploy.report.numbers import NBSP, UNKNOWN, count, interval_parts, percent
from snnkd_deploy.report.schema import Interval, Report

Mood = Literal["good", "bad", "plain"]
Path = tuple[str | int, ...]

TITLES = {
    "teacher": "Teacher (ANN)",
    "student_float": "Student, float",
    "student": "Student, chip arithmetic",
    "exact": "Exact simulator",
    "float": "Float reference",
    "lava": "Lava",
    "netx": "lava-dl netx",
}
_NOTES = {
    "teacher": "the network to distil from",
    "student_float": "before quantisation",
    "student": "as training reported it, in the chip's integers",
    "exact": "integer simulator, exported file",
    "lava": "Intel's Lava processes, exported file",
    "netx": "lava-dl loading the .net file",
}


@dataclass(frozen=True)
class Figure:
    """A number of the report: where it stands in `report.json`, its value and how it reads."""

    path: Path
    value: float
    text: str


Words = tuple[str | Figure, ...]


def plain(words: Sequence[str | Figure]) -> str:
    """Words and figures as one text."""
    return "".join(word if isinstance(word, str) else word.text for word in words)


@dataclass(frozen=True)
class StageRow:
    """Accuracy of one stage or backend."""

    key: str
    title: str
    accuracy: Figure | None
    samples: Figure | None
    note: str
    equal: bool | None = None  # a backend's accuracy against the student's on the same samples
    partial: bool = False  # measured on fewer samples than the split has

    @property
    def verdict(self) -> str:
        """A backend's accuracy beside the student's on the same samples, in words."""
        if self.equal is None:
            return self.note
        same = ("equals" if self.equal else "DIFFERS from") + " the student"
        same += " on these samples" if self.partial else ""
        return f"{self.note}: {same}" if self.note else same

    @property
    def accuracy_text(self) -> str:
        return self.accuracy.text if self.accuracy else UNKNOWN

    @property
    def samples_text(self) -> str:
        return self.samples.text if self.samples and self.accuracy else ""


@dataclass(frozen=True)
class Fact:
    """One line of the headline beside the accuracies. `aside`: it is about something other than this chip."""

    title: str
    words: Words
    mood: Mood = "plain"
    note: str = ""
    aside: bool = False

    @property
    def text(self) -> str:
        return plain(self.words)


def stages(report: Report) -> list[StageRow]:
    """From the teacher to every backend, each with the number of samples it was measured on."""
    rows = []
    for key, value in report.accuracy.items().items():
        detail = report.accuracy_detail.get(key)
        path: Path = ("accuracy_detail", key, "samples") if detail else ("dataset", "samples")
        samples = detail.samples if detail else report.dataset.samples
        same = detail.student_same_samples if detail else None
        if same is None and (detail is None or samples == report.dataset.samples):
            same = report.accuracy.student
        backend = key in report.accuracy.backends()
        accuracy = None if value is None else Figure(("accuracy", key), value, percent(value, samples))
        rows.append(
            StageRow(
                key=key,
                title=TITLES.get(key, key),
                accuracy=accuracy,
                samples=Figure(path, samples, f"{samples:,}"),
                note=_NOTES.get(key, ""),
                partial=samples != report.dataset.samples,
                equal=None if not backend or value is None or same is None else abs(value - same) < 1e-12,
            )
        )
    return rows


def parity_facts(report: Report) -> list[Fact]:
    """One line per backend that was held against the reference."""
    found = []
    for name, parity in report.parity.items():
        at = ("parity", name)
        words: Words = (
            Figure((*at, "mismatches"), parity.mismatches, f"{parity.mismatches:,}"),
            " of ",
            Figure((*at, "spikes_compared"), parity.spikes_compared, f"{parity.spikes_compared:,}"),
            " spikes differ over ",
            Figure((*at, "samples"), parity.samples, f"{parity.samples:,}"),
            " samples",
        )
        if parity.logits_mismatches:
            bad = Figure((*at, "logits_mismatches"), parity.logits_mismatches, f"{parity.logits_mismatches:,}")
            words += ("; logits differ for ", bad, " samples")
        title = f"{TITLES.get(name, name)} against {TITLES.get(parity.reference, parity.reference).lower()}"
        found.append(Fact(title, words, "good" if parity.equal else "bad"))
    return found


def fit_fact(report: Report) -> Fact:
    """Fits or not, on how many cores."""
    fit = report.fit
    words: list[str | Figure] = []
    if fit.fits is None:
        return Fact("Fits the chip", ("not checked",))
    words.append("yes" if fit.fits else "no")
    if fit.cores is not None:
        words += [", on " if fit.fits else ": ", Figure(("fit", "cores"), fit.cores, f"{fit.cores:,}")]
        if fit.cores_available is not None and (fit.chips or 1) == 1:  # of one chip
            words += [" of ", Figure(("fit", "cores_available"), fit.cores_available, f"{fit.cores_available:,}")]
        words.append(" cores")
        if fit.chips is not None and fit.chips > 1:
            words += [" on ", Figure(("fit", "chips"), fit.chips, f"{fit.chips:,}"), " chips"]
    if fit.fits and fit.unknown_limits:
        words.append(", as far as its limits are published")
    if fit.violations:
        words += [": " if fit.cores is None else "; ", fit.violations[0].what]
    return Fact("Fits the chip", tuple(words), "good" if fit.fits else "bad", fit.note)


def energy_facts(report: Report) -> list[Fact]:
    """The chip's energy or why there is none; the proxy and the bound by their names; the ordinary network."""
    energy, baseline = report.energy_j, report.baseline_ann
    title = "Energy per inference"
    found = [
        Fact(title, span(energy, ("energy_j",), "J"), note=energy.note)
        if energy.known
        else Fact(
            title,
            ("unpriced: no published prices for this chip" if energy.unpriced else "not estimated",),
            note=energy.note,
        )
    ]
    if energy.proxy is not None and energy.proxy.known:
        words = span(energy.proxy, ("energy_j", "proxy"), "J")
        label = f"Proxy, at {energy.proxy.chip} prices"
        found.append(Fact(label, (*words, ", not this chip's energy"), note=energy.proxy.note, aside=True))
    if energy.bound is not None and energy.bound.known:
        words = span(energy.bound, ("energy_j", "bound"), "J")
        found.append(
            Fact(energy.bound.label, (*words, ", from one published system"), note=energy.bound.note, aside=True)
        )
    if baseline.energy_j.known:
        words = span(baseline.energy_j, ("baseline_ann", "energy_j"), "J")
        note = baseline.energy_j.note
        found.append(Fact("ANN baseline", (*words, ", literature arithmetic only"), note=note, aside=True))
    return found


def latency_fact(report: Report) -> Fact:
    """Time per inference and what it leaves out."""
    latency = report.latency_s
    if not latency.known:
        return Fact("Latency per inference", (UNKNOWN,), note=latency.note)
    words = span(latency, ("latency_s",), "s")
    if latency.excludes:
        words += (", without " + ", ".join(latency.excludes),)
    return Fact("Latency per inference", words, note=latency.note)


def fires_once(report: Report) -> bool:
    """A neuron of this chip fires at most once in a timestep: a rate is a share of neurons."""
    return report.chip_info is None or report.chip_info.max_spikes == 1


def activity_fact(report: Report) -> Fact | None:
    """Mean rate and synaptic operations: what the energy is made of."""
    total = report.totals
    words: Words = ()
    if total.rate is not None:
        if fires_once(report):
            words = (Figure(("totals", "rate"), total.rate, percent(total.rate)), " of neurons fire in a timestep")
        else:
            words = (Figure(("totals", "rate"), total.rate, f"{total.rate:.2g}"), " spikes per neuron and timestep")
    if total.sop_event is not None:
        sops = Figure(("totals", "sop_event"), total.sop_event, count(total.sop_event))
        words += ("; " if words else "", sops, f"{NBSP}SOP per inference")
    return Fact("Activity", words) if words else None


def facts(report: Report) -> list[Fact]:
    """Everything of the headline but the accuracies."""
    activity = activity_fact(report)
    parity = parity_facts(report) or [Fact("Parity", ("not checked against another backend",))]
    rest = [fit_fact(report), *([activity] if activity else []), latency_fact(report), *energy_facts(report)]
    return [*parity, *rest]


def span(value: Interval, at: Path, base: str) -> Words:
    """An interval as words: "0.28–0.72 µJ". The value must be known."""
    assert value.low is not None and value.high is not None
    low, high, unit = interval_parts(value.low, value.high, base)
    ends = (Figure((*at, "low"), value.low, low),)
    if value.low != value.high:
        ends += ("–" if unit else " – ", Figure((*at, "high"), value.high, high))  # type: ignore[assignment]
    return (*ends, f"{NBSP}{unit}" if unit else "")
