"""`snnkd chips`: what chips there are, everything that one file says, and the schema that such files follow."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from snnkd_deploy.chips.spec import ChipSpec, IntGrid, Parameters, PerCore, Quantity
from snnkd_deploy.errors import UsageError


def chips(args: argparse.Namespace, show: Callable[[Any], None]) -> dict[str, Any]:
    """Prints with `show`; returns what `--json` prints. Raises UsageError, ChipError."""
    from rich.table import Table

    from snnkd_deploy.chips import list_chips, load_chip
    from snnkd_deploy.chips.schema import chip_schema, schema_text

    if args.schema:
        if args.name:
            raise UsageError("--schema is of all chip files", where=args.name, remedy="snnkd chips --schema")
        show(schema_text().rstrip())
        return chip_schema()
    if args.name:
        return _one(load_chip(args.name), show)
    table = Table("chip", "name", "neuron", "prices")
    found = {}
    for name in list_chips():
        chip = load_chip(name)
        table.add_row(name, chip.name, chip.neuron.family, chip.energy.scope)
        found[name] = {"name": chip.name, "family": chip.neuron.family, "scope": chip.energy.scope, "path": chip.path}
    show(table)
    return {"chips": found}


def _one(chip: ChipSpec, show: Callable[[Any], None]) -> dict[str, Any]:
    from rich.markup import escape
    from rich.table import Table

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
    table = Table(title="quantities", title_justify="left")
    for column in ("quantity", "value", "kind", "source"):
        table.add_column(column, overflow="fold")  # cut names and sources would be of no use
    sections: dict[str, Mapping[str, Quantity | PerCore]] = {
        "[cores.memory]": chip.cores.memory,
        "[limits]": chip.limits,
        "[energy.prices]": chip.energy.prices,
        "[power]": chip.power,
        "[time]": chip.time,
    }
    for section, quantities in sections.items():
        if quantities:
            table.add_row(escape(section))
        for name, q in quantities.items():
            table.add_row(name, _value(q), q.kind, f"{q.source}; {q.note}" if q.note else q.source)
        table.add_section()
    if table.row_count:
        show(table)
    return chip.model_dump(mode="json")


def _value(quantity: Quantity | PerCore) -> str:
    if isinstance(quantity, PerCore):
        return f"{', '.join(f'{value:g}' for value in quantity.values)} {quantity.unit}, core by core"
    if quantity.value is None:
        return "unknown"
    bounds = "" if quantity.low is None and quantity.high is None else f" ({quantity.lo:g}..{quantity.hi:g})"
    return f"{quantity.value:g} {quantity.unit}{bounds}"


def _grids(parameters: Parameters) -> list[tuple[str, str]]:
    def told(grid: IntGrid) -> str:
        return f"{grid.lo}..{grid.hi}" + (f" in steps of {grid.step}" if grid.step > 1 else "")

    bias = parameters.bias
    rows = [("weight", told(parameters.weight)), ("threshold", told(parameters.threshold))]
    rows.append(("bias", f"({told(bias.mantissa)}) << ({told(bias.exponent)})"))
    if parameters.decay is not None:
        rows.append(("decay", told(parameters.decay)))
    return [*rows, ("weight_sharing", str(parameters.weight_sharing))]
