"""Operations, latency and energy of one trace for the terminal: what `snnkd energy` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Column, Table

from snnkd_deploy.report.numbers import interval, si


def cost_table(found: Mapping[str, Any]) -> Group:
    """Tables from the plain values of `snnkd energy --json`: layers, then every energy term with its kind."""
    layers = Table(
        "layer", *(_right(n) for n in ("neurons", "rate", "SOP", "SOP, w != 0", "host MAC", "active updates"))
    )
    for layer in found["layers"]:
        layers.add_row(
            layer["name"],
            f"{layer['neurons']:,}",
            f"{100 * layer['rate']:.1f} %" if layer["spiking"] else "-",
            *(f"{layer[key]:,.0f}" for key in ("sop_event", "sop_nonzero", "macs_analog", "updates_active")),
        )
    energy, latency = found["energy_j"], found["latency_s"]
    # Folded, not cut: half a name is of no use.
    name, price = Column("energy term", overflow="fold"), Column("price", overflow="fold")
    terms = Table(name, _right("count"), _right("energy per inference"), "kind", price)
    for term in energy["terms"]:
        terms.add_row(term["name"], _count(term), _joules(term), term["kind"], term.get("price", ""))
    for item in energy["unpriced"]:
        terms.add_row(item["name"], _count(item), "unpriced", "", item.get("reason", ""))
    lines = [f"energy per inference on {found['chip']}: {_joules(energy)}"]
    if energy.get("proxy"):
        lines.append(f"proxy, {energy['proxy']['label']}: {_joules(energy['proxy'])}")
    if energy.get("bound"):
        lines.append(f"bound, {energy['bound']['label']}: {_joules(energy['bound'])}")
    seconds = "not known" if latency["mid"] is None else interval(latency["low"], latency["high"], "s")
    lines.append(f"latency per inference: {seconds}; not included: {', '.join(latency['excludes']) or 'nothing'}")
    return Group(layers, terms, *lines)


def _right(heading: str) -> Column:
    return Column(heading, justify="right")


def _count(part: Mapping[str, Any]) -> str:
    """How often, or how long for what is paid by the second."""
    value = part.get("count")
    if value is None:
        return ""
    return si(value, "s") if part.get("count_unit") == "s" else f"{value:,.0f}"


def _joules(part: Mapping[str, Any]) -> str:
    return "unpriced" if part.get("mid") is None else interval(part["low"], part["high"], "J")
