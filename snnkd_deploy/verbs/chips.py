"""`snnkd chips`: what chips there are, everything that one file says, and the schema that such files follow."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from snnkd_deploy.chips.spec import ChipSpec, IntGrid, Parameters, PerCore, Quantity, Scope
from snnkd_deploy.errors import UsageError

# What a chip's energy can be computed from (`energy.scope`), in words short enough for a column.
PRICES: dict[Scope, str] = {
    "per_term": "per operation",
    "all_in": "all in one",
    "all_in_and_incremental": "all in one, and one more",
    "all_in_bound_only": "an upper bound",
    "system_only": "whole system only",
    "arithmetic_only": "arithmetic only",
    "none": "none",
}
_WIDE = 100  # columns from which the parts of a quantity stand side by side


def chips(args: argparse.Namespace, show: Callable[[Any], None]) -> dict[str, Any]:
    """Prints with `show`; returns what `--json` prints. Raises UsageError, ChipError."""
    from snnkd_deploy.chips import list_chips, load_chip
    from snnkd_deploy.chips.schema import chip_schema, schema_text

    if args.schema:
        if args.name:
            raise UsageError("--schema is of all chip files", where=args.name, remedy="snnkd chips --schema")
        show(schema_text().rstrip())
        return chip_schema()
    if args.name:
        return _one(load_chip(args.name), show)
    table = Table("chip", "name", "neuron", "energy prices")
    found = {}
    for name in list_chips():
        chip = load_chip(name)
        table.add_row(name, chip.name, chip.neuron.family, PRICES[chip.energy.scope])
        found[name] = {"name": chip.name, "family": chip.neuron.family, "scope": chip.energy.scope, "path": chip.path}
    show(table)
    show("every number of one, with its source: snnkd chips NAME")
    return {"chips": found}


def _one(chip: ChipSpec, show: Callable[[Any], None]) -> dict[str, Any]:
    show(f"{chip.name} ({chip.id}), {chip.path}")
    show(f"{chip.process}; {chip.clock}\n{chip.about}")
    if chip.neuron.promise:
        show(f"agreement: {chip.neuron.promise}")
    arithmetic = Table("key", "value", title="arithmetic (sources: the comments of the file)", title_justify="left")
    for key, value in chip.neuron.model_dump(exclude={"promise"}).items():
        if value is not None:
            arithmetic.add_row(f"neuron.{key}", str(value))
    for key, value in _grids(chip.parameters):
        arithmetic.add_row(f"parameters.{key}", value)
    arithmetic.add_row("operations.supported", ", ".join(chip.operations.supported))
    for key, why in chip.operations.refused.items():
        arithmetic.add_row(f"no {key}", why)
    arithmetic.add_row("cores.mapping", chip.cores.mapping or "the rules of the neuron family")
    proxy = f", proxy {chip.energy.proxy}" if chip.energy.proxy else ""
    arithmetic.add_row("energy.scope", chip.energy.scope + proxy)
    show(arithmetic)
    sections: dict[str, Mapping[str, Quantity | PerCore]] = {
        "[cores.memory]": chip.cores.memory,
        "[limits]": chip.limits,
        "[energy.prices]": chip.energy.prices,
        "[power]": chip.power,
        "[time]": chip.time,
    }
    if any(sections.values()):
        show(_Quantities(sections))
    return chip.model_dump(mode="json")


@dataclass(frozen=True)
class _Quantities:
    """Names, values, kinds and sources: side by side, or on a narrow terminal the source beside the other three."""

    sections: Mapping[str, Mapping[str, Quantity | PerCore]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= _WIDE
        table = Table(title="quantities", title_justify="left")
        for column in ("quantity", "value", "kind", "source") if wide else ("quantity", "source"):
            table.add_column(column, overflow="fold")  # cut names and sources would be of no use
        for section, quantities in self.sections.items():
            if quantities:
                table.add_row(Text(section))
            for name, q in quantities.items():
                source = Text(f"{q.source}; {q.note}" if q.note else q.source)
                told = (name, _value(q), q.kind)
                if wide:
                    table.add_row(*map(Text, told), source)
                else:
                    about = told[1] if told[1] == q.kind else f"{told[1]}, {q.kind}"
                    table.add_row(Text(f"{name}\n  {about}"), source)
            table.add_section()
        yield table


def _value(quantity: Quantity | PerCore) -> str:
    if isinstance(quantity, PerCore):
        return f"{', '.join(map(_number, quantity.values))} {quantity.unit}, core by core"
    if quantity.value is None:
        return "unknown"
    bounded = quantity.low is not None or quantity.high is not None
    bounds = f" ({_number(quantity.lo)}..{_number(quantity.hi)})" if bounded else ""
    return f"{_number(quantity.value)} {quantity.unit}{bounds}"


def _number(value: float) -> str:
    """As in the chip's file, and whole numbers in groups: 120,000,000."""
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _grids(parameters: Parameters) -> list[tuple[str, str]]:
    def told(grid: IntGrid) -> str:
        return f"{grid.lo}..{grid.hi}" + (f" in steps of {grid.step}" if grid.step > 1 else "")

    bias = parameters.bias
    rows = [("weight", told(parameters.weight)), ("threshold", told(parameters.threshold))]
    rows.append(("bias", f"({told(bias.mantissa)}) << ({told(bias.exponent)})"))
    if parameters.decay is not None:
        rows.append(("decay", told(parameters.decay)))
    return [*rows, ("weight_sharing", str(parameters.weight_sharing))]
