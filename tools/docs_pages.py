"""Pages that are written by the package itself: chips, methods, examples. A hook of mkdocs; nothing is committed.

Run by `make docs`. Each function returns Markdown, so that tests read the same text.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from snnkd_deploy import arithmetic
from snnkd_deploy.chips import list_chips, load_chip
from snnkd_deploy.chips.spec import ChipSpec, IntGrid, Quantity
from snnkd_deploy.distill import losses
from snnkd_deploy.distill.losses.registry import METHODS, method_options
from snnkd_deploy.recipe import toml_value

ROOT = Path(__file__).parents[1]

FAMILIES = {
    "cuba_lif": arithmetic.CubaNeuron,
    "iaf": arithmetic.IafNeuron,
    "shift_lif": arithmetic.ShiftNeuron,
    "float_lif": arithmetic.FloatNeuron,
}
SCOPES = {
    "per_term": "Prices of single operations: dynamic terms are added up, static power x time is a term of its own.",
    "all_in": "One all-inclusive price per synaptic operation: it is the whole total, nothing may be added to it.",
    "all_in_and_incremental": "An all-inclusive price, and a price of one more operation; never added to each other.",
    "all_in_bound_only": "No price list was published. There is one bound per neuron and step from a published system; "
    "energy is reported as unpriced, with a labelled proxy where the file names one.",
    "system_only": "Only system measurements were published: operations are counted and reported as unpriced.",
    "arithmetic_only": "Literature numbers for arithmetic alone: no memory, no routing, no leakage.",
    "none": "No prices: operations are counted and reported as unpriced.",
}
# Where each method was published, and the functions whose formulas it adds up.
PAPERS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "none": ("no distillation: the baseline of the per-step methods", (losses.ce_per_step_loss,)),
    "ce": ("no distillation: the baseline of the others", (losses.ce_mean_loss,)),
    "tet": ("TET, temporal efficient training; weights of the authors' code", (losses.tet_loss,)),
    "label_smoothing": ("no distillation: the plainest softening of targets", (losses.label_smoothing_loss,)),
    "kd": ("uniform distillation of logits, averaged over time", (losses.ce_mean_loss, losses.logit_kd_loss)),
    "twkl": ("the teacher's part of logit-SNN (ICML 2025), alone", (losses.ce_per_step_loss, losses.twkl_loss)),
    "kdsnn": ("KDSNN", (losses.ce_mean_loss, losses.kdsnn_logit_loss, losses.feature_distance)),
    "bkdsnn": ("BKDSNN", (losses.ce_mean_loss, losses.bkdsnn_logit_loss, losses.bkdsnn_feature_loss)),
    "enof": ("EnOF, from its abstract only", (losses.ce_mean_loss, losses.enof_loss)),
    "tks": ("TKS, from its code", (losses.ce_mean_loss, losses.tks_loss)),
    "logit_snn": ("logit-SNN (ICML 2025)", (losses.ce_per_step_loss, losses.twkl_loss, losses.twsd_loss)),
    "s2w": ("Strong2Weak (NeurIPS 2025)", (losses.ce_mean_loss, losses.strong_weak_loss)),
    "w2s": ("Weak2Strong (NeurIPS 2025)", (losses.ce_mean_loss, losses.strong_weak_loss)),
    "seal": ("SeAl-KD, arXiv 2605.14252, and its code", (losses.ce_per_step_loss, losses.ela_loss, losses.sta_loss)),
    "seal_ela": ("SeAl-KD, arXiv 2605.14252: its first part", (losses.ce_per_step_loss, losses.ela_loss)),
    "seal_sta": ("SeAl-KD, arXiv 2605.14252: its second part", (losses.ce_per_step_loss, losses.sta_loss)),
    "ckd": ("the CKDSNN paper and its code", (losses.ce_mean_loss, losses.samd_loss, losses.nld_loss)),
    "ckd_samd": ("the CKDSNN paper: its first part", (losses.ce_mean_loss, losses.samd_loss)),
    "ckd_nld": ("the CKDSNN paper: its second part", (losses.ce_mean_loss, losses.nld_loss)),
}
_HELPERS = {  # what a formula's text refers to
    losses.ela_loss: (losses.equalise_errors,),
    losses.sta_loss: (losses.mix_timesteps,),
    losses.samd_loss: (losses.spike_activation_map, losses.class_activation_map, losses.scale_map),
}


# -- chips --------------------------------------------------------------------------------------------------


def chips_index() -> str:
    rows = ["| chip | neuron | spikes a step | weights | prices |", "|---|---|---|---|---|"]
    for name in list_chips():
        chip = load_chip(name)
        n = chip.neuron
        rows.append(
            f"| [{chip.name}]({name}.md) | `{n.family}` | {_most(n.max_spikes)} | {_grid(chip.parameters.weight)} | "
            f"`{chip.energy.scope}` |"
        )
    return "\n".join(["# Chips", "", *rows, "", *_measured(), ""]) + (
        "Each page is made from the chip's file, the very numbers that training, simulation, fit and energy read. "
        "`snnkd chips NAME` prints them, `snnkd fit MODEL --chip all` compares a network on all of them, and "
        "[your own chip](../extend.md) is one more file.\n"
    )


def _measured() -> list[str]:
    """A link to the table of measured runs, where the documentation has one."""
    return ["Accuracies measured on each: [measured](../chips.md).", ""] if (ROOT / "docs/chips.md").exists() else []


def chip_page(chip: ChipSpec) -> str:
    """One chip: arithmetic, grids, what runs, limits, prices, and what agreement with it means."""
    formulas = inspect.getdoc(inspect.getmodule(FAMILIES[chip.neuron.family])) or ""
    facts = {"process": chip.process, "clock": chip.clock, "file": f"`hardware/{chip.id}.toml`"}
    lines = [f"# {chip.name}", "", chip.about, "", "| | |", "|---|---|"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in facts.items() if value]
    lines += ["", f"    {trial(chip)}", ""]
    lines += ["## What a neuron computes", "", *[f"- {line}" for line in _words(chip)], "", _markdown(formulas)]
    lines += ["## What is stored", "", "| | integers |", "|---|---|", *_grids(chip), ""]
    lines += ["## What runs", "", ", ".join(f"`{name}`" for name in chip.operations.supported) + ".", ""]
    if chip.operations.refused:
        lines += ["Refused before any training, with this reason:", "", "| | |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(why)} |" for name, why in chip.operations.refused.items()] + [""]
    lines += ["## Capacity", "", *_quantities(chip.limits)]
    if chip.cores.memory:
        lines += ["Core by core:", "", "| | values | unit | kind | source |", "|---|---|---|---|---|"]
        for name, m in chip.cores.memory.items():
            values = ", ".join(f"{v:g}" for v in m.values)
            lines.append(f"| {_plain(name)} | {values} | {m.unit} | {m.kind} | {_cell(m.source, m.note)} |")
        lines.append("")
    lines += ["## Prices", "", f"`{chip.energy.scope}`: {SCOPES[chip.energy.scope]}", ""]
    if chip.energy.proxy:
        lines += [f"Proxy, shown beside and labelled: the prices of `{chip.energy.proxy}`.", ""]
    lines += _quantities(chip.energy.prices)
    for title, quantities in (("Power", chip.power), ("Time", chip.time)):
        lines += [f"## {title}", "", *_quantities(quantities)] if quantities else []
    lines += ["## What agreement means", "", _agreement(chip), ""]
    return "\n".join(lines)


def trial(chip: ChipSpec) -> str:
    """A command that trains something small for the chip."""
    if chip.limit("input_channels"):
        return f"snnkd run examples/keywords_xylo.toml chip={chip.id} data.options.file=features.npz"
    words = f"snnkd run examples/digits.toml chip={chip.id}"
    if chip.lacks("host_current"):
        words += " student.encoding=" + ("rate" if chip.neuron.max_input == 1 else "counts")
    if chip.cores.mapping == "truenorth":
        words += " student.width=0.4"  # a neuron hears at most 128 inputs
    return words + (" student.net=mlp method=seal" if chip.lacks("conv2d") else "")


def _words(chip: ChipSpec) -> list[str]:
    n = chip.neuron
    test = "above its threshold" if n.fires == ">" else "at its threshold or above"
    reset = "is set to 0" if n.reset == "zero" else "loses one threshold a spike and keeps the rest"
    lines = [f"A neuron fires {test}; its membrane then {reset}."]
    most = {0: "as often as thresholds fit into the membrane", 1: "at most once"}.get(n.max_spikes)
    lines.append(f"It fires {most or f'at most {n.max_spikes} times'} in one timestep.")
    if n.max_output_spikes is not None:
        last = "once" if n.max_output_spikes == 1 else f"{n.max_output_spikes} times"
        lines.append(f"Neurons of the last layer fire {last} at most in one timestep.")
    if n.floor == "threshold":
        lines.append("The membrane never falls below minus its threshold.")
    current = f"a synaptic current of {n.u_bits} bits ({_overflow(n.u_overflow)})" if n.u_bits else "no current"
    lines.append(f"It holds a membrane of {n.v_bits} bits ({_overflow(n.v_overflow)}) and {current}.")
    if n.rounding != "none":
        how = {"toward_zero": "toward zero", "floor": "down", "float32": "to single precision"}[n.rounding]
        lines.append(f"Decays round {how}.")
    if n.input_shift:
        lines.append(f"Synaptic sums enter shifted left by {n.input_shift} bits.")
    heard = {0: "any number of events", 1: "one spike"}.get(n.max_input, f"up to {n.max_input} events")
    lines.append(f"An input sends {heard} in one timestep.")
    if n.hop_delay:
        lines.append("Every hop from neuron to neuron takes a timestep, and biases act from the first one on.")
    return lines


def _overflow(how: str) -> str:
    return {
        "wrap": "wraps around",
        "saturate": "saturates",
        "refuse": "what happens beyond is not documented: a network that could reach it is refused",
        "none": "floating point",
    }[how]


def _grids(chip: ChipSpec) -> list[str]:
    p = chip.parameters
    exponent = p.bias.exponent
    shift = "" if exponent.hi == 0 else f", shifted left by {_grid(exponent)}"
    rows = [f"| weights | {_grid(p.weight)} |", f"| biases | {_grid(p.bias.mantissa)}{shift} |"]
    shifted = f", in units of {1 << chip.neuron.input_shift}" if chip.neuron.input_shift else ""
    rows.append(f"| thresholds | {_grid(p.threshold)}{shifted} |")
    if p.decay is not None:
        of = {"shift_lif": "bit shifts", "iaf": "a constant leak"}.get(chip.neuron.family, "")
        of = f"parts of {1 << chip.neuron.decay_bits}" if chip.neuron.decay_bits else of
        rows.append(f"| decays | {_grid(p.decay)}{', ' + of if of else ''} |")
    rows.append(
        f"| kernels of convolutions | stored {'once' if p.weight_sharing else 'per synapse: nothing is shared'} |"
    )
    return rows


def _grid(grid: IntGrid) -> str:
    if grid.lo == grid.hi:
        return f"{grid.lo}"
    step = f" in steps of {grid.step}" if grid.step > 1 else ""
    return f"{grid.lo} to {grid.hi}{step}"


def _quantities(quantities: dict[str, Quantity]) -> list[str]:
    if not quantities:
        return ["None published.", ""]
    rows = ["| | value | range | kind | source |", "|---|---|---|---|---|"]
    for name, q in quantities.items():
        bounds = "" if q.low is None and q.high is None else f"{q.lo:g} to {q.hi:g}"
        value = "unknown" if q.value is None else f"{q.value:g} {q.unit}"
        rows.append(f"| {_plain(name)} | {value} | {bounds} | {q.kind} | {_cell(q.source, q.note)} |")
    return [*rows, ""]


def _agreement(chip: ChipSpec) -> str:
    always = (
        "Training, the exported file and the exact simulator compute the same integers; every other backend that takes "
        "the model is compared with them spike by spike ([backends](../backends.md))."
    )
    return f"{always} Beyond that: {chip.neuron.promise}." if chip.neuron.promise else always


def _most(spikes: int) -> str:
    return "any number" if spikes == 0 else str(spikes)


# -- methods ------------------------------------------------------------------------------------------------


def methods_index() -> str:
    rows = ["| recipe name | what it adds up | teacher | published |", "|---|---|---|---|"]
    for name, cls in METHODS.items():
        first = (inspect.getdoc(cls) or "").split("\n")[0]
        rows.append(f"| [`{name}`]({name}.md) | {_cell(first)} | {_teacher(name)} | {_cell(PAPERS[name][0])} |")
    return "\n".join(
        [
            "# Methods",
            "",
            'Losses, by the name that a recipe calls them (`method = ["seal", "ckd"]`); several add up, the '
            "classification term counts once. [All of them on one data set](../methods.md).",
            "",
            "z are the student's logits of each timestep (T, B, C), zbar their mean over time, u the teacher's (B, C), "
            "y the labels, sg[] stops the gradient, tau is a temperature.",
            "",
            *rows,
            "",
        ]
    )


def method_page(name: str) -> str:
    """One method: its formula, options with defaults, what it needs, where it was published."""
    cls = METHODS[name]
    source, parts = PAPERS[name]
    lines = [f"# {name}", "", _markdown(inspect.getdoc(cls) or ""), f"*Published:* {source}.", ""]
    lines += [f"*Needs:* {_teacher(name)}.", "", "    snnkd run examples/digits.toml method=" + name, ""]
    options = method_options(name)
    if options:
        lines += ["## Options", "", "| key | default |", "|---|---|"]
        shown = {key: "by the convention" if v is None else f"`{toml_value(v)}`" for key, v in options.items()}
        lines += [f"| `loss.{name}.{key}` | {value} |" for key, value in shown.items()] + [""]
    else:
        lines += ["It has no options.", ""]
    lines += ["## Formulas", ""]
    for part in parts:
        for function in (part, *_HELPERS.get(part, ())):
            lines += [f"### {function.__name__}", "", _markdown(inspect.getdoc(function) or "")]
    return "\n".join(lines)


def _teacher(name: str) -> str:
    # The methods that align features ask for channel counts, which any number stands for here.
    parameters = inspect.signature(METHODS[name]).parameters
    sizes = {key: 1 for key in ("student_channels", "teacher_channels") if key in parameters}
    needs = METHODS[name](**sizes).needs
    if not needs:
        return "no teacher"
    if any("features" in need for need in needs):
        return "a teacher with feature maps"
    return "any teacher"


# -- text ---------------------------------------------------------------------------------------------------


def _markdown(text: str) -> str:
    """A docstring as Markdown: stars and pipes are signs of arithmetic, drawn tables and formulas keep their lines."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        drawn = all(line.startswith(("    ", "|")) for line in lines)
        if drawn:
            blocks.append("\n".join("    " + line.removeprefix("    ") for line in lines))
            continue
        # A formula may follow its sentence without an empty line.
        kept = ""
        for line in lines:
            code = line.startswith("    ")
            if kept and code != kept.split("\n")[-1].startswith("    "):
                kept += "\n"
            kept += (line if code else _cell(line.replace("::", ":"))) + "\n"
        blocks.append(kept.rstrip("\n"))
    return "\n\n".join(blocks) + "\n"


def _cell(*texts: str) -> str:
    """Text in a line of Markdown or a cell of a table: signs of arithmetic stay themselves, code stays code."""
    pieces = re.split(r"(`[^`]*`)", "; ".join(t for t in texts if t))
    return "".join(p.replace("|", "\\|") if p.startswith("`") else re.sub(r"([|*_<\[\]])", r"\\\1", p) for p in pieces)


def _plain(name: str) -> str:
    return name.replace("_", " ")


# -- mkdocs -------------------------------------------------------------------------------------------------


def generated() -> dict[str, str]:
    """Path in the documentation -> text, of every page that nobody writes by hand."""
    pages = {"chip/index.md": chips_index(), "method/index.md": methods_index()}
    pages |= {f"chip/{name}.md": chip_page(load_chip(name)) for name in list_chips()}
    pages |= {f"method/{name}.md": method_page(name) for name in METHODS}
    pages["chip_files.md"] = (ROOT / "hardware" / "README.md").read_text("utf-8")
    pages["examples.md"] = _examples()
    return pages


def _examples() -> str:
    """The table of examples, and the text of each."""
    text = (ROOT / "examples" / "README.md").read_text("utf-8")
    for path in sorted((ROOT / "examples").glob("*.*")):
        if path.suffix in (".py", ".toml"):
            body = "\n".join("    " + line for line in path.read_text("utf-8").splitlines())
            text += f"\n## {path.name}\n\n{body}\n"
    return text


def on_config(config: Any) -> Any:
    for entry in config.nav:
        if "Chips" in entry:
            names = {load_chip(name).name: f"chip/{name}.md" for name in list_chips()}
            entry["Chips"] = [{"All chips": "chip/index.md"}, *({k: v} for k, v in names.items())]
            if (ROOT / "docs/chips.md").exists():
                entry["Chips"].append({"Measured on each": "chips.md"})
        if "Methods" in entry:
            entry["Methods"] = [{"All methods": "method/index.md"}, *({n: f"method/{n}.md"} for n in METHODS)]
    return config


def on_files(files: Files, config: Any) -> Files:
    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Tables that say what their headings head; a mean stays on one line with its deviation."""
    html = re.sub(r"<th([^>]*)></th>", r"<td\1></td>", html)
    html = re.sub(r"<th(?=[ >])(?![^>]* scope=)", '<th scope="col"', html)
    return html.replace(" ± ", "&nbsp;±&nbsp;")
