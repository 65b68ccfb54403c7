"""A model as a drawing: rows for the terminal, and the same rows as SVG with its edges."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import nir
import numpy as np

from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import NeuronParams, ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import NEURONS, pair


@dataclass(frozen=True)
class Row:
    """A node in the order of execution. `hears`: its sources; `late`: those whose last step it hears."""

    name: str
    kind: str
    shape: str
    facts: str
    hears: tuple[str, ...]
    late: tuple[str, ...]
    group: str  # input, weights, neuron, other: what the box looks like


def rows(model: Model) -> list[Row]:
    """One row a node, sources first."""
    place = {name: (i, j) for i, part in enumerate(model.order) for j, name in enumerate(part)}
    found = []
    for name in place:
        node, params = model.nodes[name], model.profile.nodes.get(name)
        late = tuple(s for s in model.sources[name] if place[s][0] == place[name][0] and place[s] >= place[name])
        if isinstance(node, nir.Input | nir.Output):
            group = "input"
        elif isinstance(node, NEURONS):
            group = "neuron"
        else:
            group = "weights" if hasattr(node, "weight") else "other"
        found.append(
            Row(
                name=name,
                kind="readout" if isinstance(params, ReadoutParams) else type(node).__name__,
                shape=" x ".join(map(str, model.shapes[name])),
                facts=", ".join(_facts(model, name)),
                hears=tuple(model.sources[name]),
                late=late,
                group=group,
            )
        )
    return found


def _facts(model: Model, name: str) -> list[str]:
    node: Any = model.nodes[name]
    params = model.profile.nodes.get(name)
    facts = []
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        axes = node.weight.ndim - 2
        facts.append("x".join(map(str, node.weight.shape[2:])) + " kernel")
        facts += [
            f"{k} {v}" for k, v in (("stride", _sizes(node.stride, axes)), ("groups", node.groups)) if v not in ("1", 1)
        ]
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        facts += [f"{_sizes(node.kernel_size, 2)} window", f"stride {_sizes(node.stride, 2)}"]
    if isinstance(node, nir.Delay):
        steps = np.rint(np.asarray(node.delay, dtype=np.float64) / model.profile.dt_s)
        facts.append(f"{_span(steps.astype(np.int64))} steps")
    if isinstance(params, SynapseParams):
        integers = model.weight_int(name)
        facts.append(f"{integers.size:,} integers {_span(integers)}")
        facts += [f"<< {params.weight_exp}"] * (params.weight_exp > 0) + [f">> {-params.weight_exp}"] * (
            params.weight_exp < 0
        )
        facts += ["on the host"] * (params.place == "host")
        facts += [f"delays {_span(np.array(params.delay))}"] if any(params.delay) else []
    elif hasattr(node, "weight") or isinstance(node, nir.Scale):
        weight = model.weight_real(name)
        facts.append(f"{weight.size:,} weights {_span(weight)}")
    if isinstance(params, NeuronParams | ReadoutParams):
        facts += _dynamics(model, params)
        bias = model.bias_int(name)
        facts += [f"bias {_span(bias)}"] if bias.any() else []
    elif isinstance(node, NEURONS):
        for key in ("tau", "tau_syn", "tau_mem", "v_threshold", "threshold", "v_reset", "v_leak"):
            value = getattr(node, key, None)
            if value is not None and (np.any(np.asarray(value) != 0) or not key.startswith("v_")):
                facts.append(
                    f"{key.replace('v_threshold', 'threshold')} {_span(np.asarray(value))}"
                    + (" s" if key.startswith("tau") else "")
                )
    return facts


# What a neuron family's membrane has besides its threshold (`graph.profile`).
_NUMBERS = {
    "cuba_lif": ("Du", "Dv"),
    "iaf": ("v_min", "leak"),
    "shift_lif": ("dash_syn", "dash_mem"),
    "float_lif": ("alpha", "alpha_syn"),
}


def _dynamics(model: Model, params: NeuronParams | ReadoutParams) -> list[str]:
    chip = model.profile.chip
    keys = _NUMBERS[chip.neuron.family] if chip is not None else ()
    values = [(key, getattr(params, key)) for key in keys]
    facts = [", ".join(f"{key} {value:.6g}" for key, value in values if value is not None)]
    if isinstance(params, ReadoutParams):
        return [*facts, f"reads {params.read}"]
    shift = 0 if chip is None else chip.neuron.input_shift
    return [*filter(None, facts), f"threshold {params.vth}" + (f" << {shift}" if shift else "")]


def _sizes(value: Any, axes: int) -> str:
    sizes = pair(value)[:axes]
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def _span(values: np.ndarray) -> str:
    """One number, or low..high."""
    whole = values.dtype.kind in "iu"
    low, high = (f"{int(v):,}" if whole else f"{float(v):.4g}" for v in (values.min(), values.max()))
    return low if low == high else f"{low}..{high}"


def headline(model: Model) -> str:
    profile, encoding = model.profile, model.profile.encoding
    steps = "" if profile.steps is None else f", {profile.steps} steps"
    chip = "float" if profile.chip is None else f"integers of {profile.chip.id}"
    return f"{chip}, input {encoding.kind}, dt {profile.dt_s:g} s{steps}, reset {profile.reset}, fires {profile.fires}"


def render_text(model: Model) -> str:
    """A table for the terminal. Sources are named where they are not simply the row above."""
    lines = [headline(model)]
    found = rows(model)
    cells = []
    for above, row in zip([None, *found], found, strict=False):
        simple = above is not None and row.hears == (above.name,) and not row.late
        heard = [f"{s} of the step before" if s in row.late else s for s in row.hears]
        edges = "" if simple or not heard else "<- " + " + ".join(heard)
        cells.append((row.name, row.kind, row.shape, row.facts, edges))
    widths = [max(len(cell[i]) for cell in cells) for i in range(3)]
    for name, kind, shape, facts, edges in cells:
        line = f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {shape:>{widths[2]}}  {facts}"
        lines.append(f"{line}  {edges}".rstrip())
    return "\n".join(lines)


_ROW, _LEFT, _WIDTH = 40, 8, 640
_STYLE = (
    ".net text{font:12px system-ui,sans-serif;fill:var(--ink,#161b22)}.net .m{fill:var(--muted,#57616d)}"
    ".net rect{fill:var(--paper,#fff);stroke:var(--muted,#57616d)}"
    ".net .neuron{stroke:var(--blue,#0b6aa8);stroke-width:2}.net path{fill:none;stroke:var(--muted,#57616d)}"
    ".net .late{stroke:var(--orange,#c2540a);stroke-dasharray:5 3}"
)
# A file of its own has no page to take its colours from.
_DARK = (
    "@media(prefers-color-scheme:dark){:root{--ink:#e7eaee;--muted:#a1abb6;--paper:#161b21;--blue:#5bb0ea;"
    "--orange:#f0965a}}"
)


def render_svg(model: Model, *, standalone: bool = True) -> str:
    """The drawing as SVG: solid lines carry this step's values, dashed ones those of the step before.

    `standalone` False leaves the colours to the page around it.
    """
    found = rows(model)
    at = {row.name: i for i, row in enumerate(found)}
    lanes = _lanes(found, at)
    left = _LEFT + 14 * max([0, *(lane for (a, b), lane in lanes.items() if a >= b)])
    height, width = _ROW * len(found) + 12, left + _WIDTH + 14 * max([0, *lanes.values()])
    title = escape(headline(model))
    parts = [
        f'<svg class="net" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="The network: {title}" style="max-width:100%;height:auto">',
        f"<title>{title}</title><desc>{escape(render_text(model))}</desc>",
        f"<style>{_STYLE}{_DARK if standalone else ''}</style>",
    ]
    box = left + 200
    for (a, b), lane in lanes.items():
        down = b > a
        x0 = box if down else left
        if lane == 0:
            path = f"M{left + 100} {_ROW * a + 36}V{_ROW * b + 7}m-4 -5l4 5l4 -5"
        else:
            x = x0 + 14 * lane if down else x0 - 14 * lane
            tip = "m5 -4l-5 4l5 4" if down else "m-5 -4l5 4l-5 4"
            path = f"M{x0} {_ROW * a + 24}H{x}V{_ROW * b + 20}H{x0}{tip}"
        mark = ' class="late"' if found[a].name in found[b].late else ""
        parts.append(f'<path{mark} d="{path}"/>')
    texts = box + 14 * max([0, *(lane for (a, b), lane in lanes.items() if b > a)]) + 12
    for i, row in enumerate(found):
        y = _ROW * i + 8
        parts.append(f'<rect class="{row.group}" x="{left}" y="{y}" width="200" height="28" rx="6"/>')
        name = row.name if len(row.name) <= 30 else row.name[:29] + "…"
        parts.append(f'<text x="{left + 100}" y="{y + 18}" text-anchor="middle">{escape(name)}</text>')
        parts.append(f'<text class="m" x="{texts}" y="{y + 12}">{escape(f"{row.kind} {row.shape}")}</text>')
        parts.append(f'<text class="m" x="{texts}" y="{y + 27}">{escape(row.facts)}</text>')
    return "".join([*parts, "</svg>"])


def _lanes(found: list[Row], at: dict[str, int]) -> dict[tuple[int, int], int]:
    """A lane beside the boxes for every edge that is not straight to the next row; lanes do not overlap."""
    lanes: dict[tuple[int, int], int] = {}
    for row in found:
        for source in row.hears:
            a, b = at[source], at[row.name]
            if b == a + 1:
                lanes[a, b] = 0
                continue
            low, high = min(a, b), max(a, b)
            taken = {
                lane
                for (c, d), lane in lanes.items()
                if (lane and (c < d) == (a < b) and min(c, d) < high and low < max(c, d)) or (c == d == a == b)
            }
            lanes[a, b] = next(n for n in range(1, len(taken) + 2) if n not in taken)
    return lanes
