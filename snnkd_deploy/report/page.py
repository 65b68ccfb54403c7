"""The offline HTML page of a report: one file, no script, nothing loaded from anywhere."""

from __future__ import annotations

import json

from markupsafe import Markup

from snnkd_deploy.report import plots
from snnkd_deploy.report.headline import (
    TITLES,
    energy_facts,
    facts,
    fires_once,
    fit_fact,
    in_words,
    latency_fact,
    parity_facts,
    stages,
    title_of,
)
from snnkd_deploy.report.numbers import UNKNOWN
from snnkd_deploy.report.plots import Plot
from snnkd_deploy.report.render import Numbers, Picture, environment
from snnkd_deploy.report.schema import Report


def render_page(report: Report, drawing: str = "") -> str:
    """The page as one string. Parts that the report does not have are left out.

    `drawing` is SVG of the network from `graph.drawing`, which escapes its names.
    """
    numbers = Numbers(json.loads(report.to_json()))
    return environment().get_template("template.html.j2").render(
        report=report,
        chip_name=report.chip_info.name if report.chip_info else report.chip,
        title=report.name or report.dataset.name,
        lede=_lede(report),
        stages=stages(report),
        badges=[*parity_facts(report), fit_fact(report)],
        facts=facts(report)[max(1, len(report.parity)) :],
        latency=latency_fact(report),
        energy=energy_facts(report)[0],
        title_of=title_of,
        in_words=in_words,
        drawing=Markup(drawing),
        figures=_pictures(report),
        learning=_learning(report),
        loss_terms=_loss_terms(report),
        totals=[(key, words) for key, words in _TOTALS if getattr(report.totals, key) is not None],
        known_columns=_known_columns(report),
        shares=fires_once(report),  # a rate is a share of neurons, else a number of spikes
        num=numbers.show,
        words=numbers.words,
        interval=numbers.interval,
        heat=plots.heat_png,
        flat=plots.is_flat,
        image=plots.image_png,
        unknown=UNKNOWN,
    )  # fmt: skip


def _lede(report: Report) -> list[str]:
    """What was made from what, in phrases."""
    networks, encoding = report.networks, report.encoding
    method = report.method.title or " + ".join(report.method.names)
    lines = []
    if networks.student:
        lines.append(
            f"{networks.student.name} student" + (f" ({networks.student.about})" if networks.student.about else "")
        )
    if networks.teacher:
        lines.append(f"taught by {networks.teacher.name}" + (f" with {method}" if method else ""))
    elif method:
        lines.append(method)
    if encoding:
        lines.append(f"input as {encoding.kind}")
    return lines


def _pictures(report: Report) -> dict[str, list[Picture]]:
    """The figures by section; a section without data has an empty list."""
    found: dict[str, list[Picture]] = {name: [] for name in ("accuracy", "activity", "raster", "energy")}
    found |= {name: [] for name in ("fit", "pareto")}

    def add(section: str, title: str, plot: Plot | None, caption: str = "") -> None:
        if plot is not None:
            found[section].append(Picture(title, plot, caption))

    add("accuracy", "Per stage and backend", plots.plot_accuracy(report.accuracy.items(), TITLES))
    if report.accuracy_per_step and report.accuracy_per_step.cumulative:
        per_step = plots.plot_per_step(report.accuracy_per_step, report.accuracy.teacher)
        add(
            "accuracy", "By timestep", per_step, "How early the answer is right: fewer steps cost less time and energy."
        )
    if report.confusion:
        subject = title_of(report.confusion.subject)
        caption = f"{subject}. Blue: right, orange: wrong; each has its own scale."
        add("accuracy", "Where it errs", plots.plot_confusion(report.confusion), caption)
    add("activity", "Firing rate per layer", plots.plot_rates(report.layers, fires_once(report)))
    caption = "Each layer's incoming work; the outline is what it would be if every source fired once in every step."
    add("activity", "Synaptic operations per layer", plots.plot_sops(report.layers), caption)
    if report.raster:
        for number, sample in enumerate(report.raster.samples):
            truth = f"class {sample.label}" if sample.label else ""
            answer = f"read as {sample.predicted}" if sample.predicted else ""
            caption = ", ".join(filter(None, (truth, answer)))
            add("raster", f"Sample {sample.index}", plots.plot_raster(sample, report.raster.steps, number), caption)
    chip = report.chip_info.name if report.chip_info else report.chip
    energy = report.energy_j
    overview = plots.plot_energy_overview(energy, chip, report.baseline_ann.energy_j, "ANN, 45 nm arithmetic only")
    add("energy", "Side by side", overview, "The mark is the middle estimate, the bar the interval.")
    priced, label = (energy, "Terms") if energy.terms or not energy.proxy else (energy.proxy, "Terms of the proxy")
    plot = plots.plot_energy_terms(priced.terms, [u.name for u in priced.unpriced], "main")
    add("energy", label, plot, "Static power and host work are kept apart from the chip's dynamic energy.")
    if report.cores:
        layers = _in_order(report)
        caption = "; ".join(f"{number}: {name}" for number, name in enumerate(layers, 1))
        if any(len(item.layers) > 1 for item in report.cores.items):
            caption += ". +: with other layers on one core"
        add("fit", "Core map", plots.plot_cores(report.cores, layers), caption)
    if report.pareto:
        add("pareto", "Accuracy against cost", plots.plot_pareto(report.pareto), "Diamond: this run.")
    return found


def _in_order(report: Report) -> list[str]:
    """The layers of the core map as the network has them, from input to readout, wherever they sit."""
    placed = dict.fromkeys(name for item in (report.cores.items if report.cores else ()) for name in item.layers)
    listed = [layer.name for layer in report.layers if layer.name in placed]
    return list(dict.fromkeys([*listed, *placed]))


def _learning(report: Report) -> list[tuple[str, list[Picture]]]:
    """The curves by training stage."""
    found = []
    for curve in report.curves:
        kept = "Dotted line: the epoch that was kept." if curve.picked_epoch is not None else ""
        candidates = (
            ("Loss terms", plots.plot_losses(curve), ""),
            ("Accuracy", plots.plot_learning(curve), kept),
            ("Firing rate", plots.plot_firing(curve), ""),
        )
        pictures = [Picture(title, plot, caption) for title, plot, caption in candidates if plot is not None]
        if pictures:
            found.append((curve.stage, pictures))
    return found


def _loss_terms(report: Report) -> list[tuple[str, str]]:
    """What the names beside the loss curves mean. A method of somebody else may have terms that are not known here."""
    names = dict.fromkeys(name for curve in report.curves for name in curve.losses)
    return [(name, LOSS_TERMS[name]) for name in names if name in LOSS_TERMS]


LOSS_TERMS = {
    "ce": "cross-entropy with the labels",
    "kd": "the teacher's answers, softened",
    "ela": "SeAl-KD: the teacher's answers at every timestep, adjusted where the step errs",
    "sta": "SeAl-KD: timesteps of the student agree with each other",
    "samd": "CKDSNN: the student's activation map follows the teacher's",
    "nld": "CKDSNN: the teacher's answers, learned under noise",
    "rate": "firing above the wished rate",
}

# Totals that the side of the activity figures lists: key, words.
_TOTALS = (
    ("neurons", "neurons"),
    ("spikes_per_sample", "spikes per inference"),
    ("sop_event", "synaptic operations per inference"),
    ("sop_dense", "the same, every source firing once a step"),
    ("macs_analog", "host multiply-accumulates"),
    ("updates_active", "active neuron updates"),
    ("updates_idle", "idle neuron updates"),
    ("messages", "spike messages between cores"),
    ("hops_ew", "hops, east to west"),
    ("hops_ns", "hops, north to south"),
    ("messages_offchip", "messages between chips"),
    ("parameters", "parameters on the chip"),
)


# Columns of the layer table: key, heading, explanation.
_COLUMNS = (
    ("neurons", "Neurons", "number of neurons"),
    ("rate", "Rate", "spikes per neuron and timestep"),
    ("spikes_per_sample", "Spikes", "spikes emitted per inference"),
    ("sop_event", "SOP", "synaptic operations per inference, zero weights included"),
    ("sop_nonzero", "SOP, w≠0", "the same without weights that are exactly zero"),
    ("sop_dense", "SOP, dense", "if every source fired once in every step"),
    ("macs_analog", "Host MAC", "multiply-accumulates on values that are no spikes"),
    ("updates_active", "Updates, active", "neuron updates with input or a spike"),
    ("updates_idle", "Updates, idle", "the other neuron updates"),
    ("messages", "Messages", "spikes sent to destination cores"),
    ("parameters", "Parameters", "stored weights and biases"),
)


def _known_columns(report: Report) -> list[tuple[str, str, str]]:
    """The contract's columns always, the further ones where something is known."""
    optional = ("messages", "parameters")
    return [c for c in _COLUMNS if c[0] not in optional or any(getattr(x, c[0]) is not None for x in report.layers)]
