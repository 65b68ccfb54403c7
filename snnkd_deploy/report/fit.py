"""One network on several chips for the terminal: what `snnkd fit` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from snnkd_deploy.report.numbers import percent


def fit_table(found: Mapping[str, Mapping[str, Any]]) -> Group:
    """From the plain values of `snnkd fit --json`: a row per chip, then what is used, violated, and what to try."""
    table = Table("chip", "fits", "cores", "chips", "nearest limit")
    lines: list[Text] = []
    for chip, fit in found.items():
        answer = {True: "yes", False: "no", None: "no limits"}[fit["fits"]]
        available = (fit["cores_available"] or 0) * (fit["chips"] or 1)  # of a chip, and several may be used
        table.add_row(
            Text(chip),
            Text(answer, style={"yes": "green", "no": "bold red"}.get(answer, "")),
            f"{fit['cores']:,} of {available:,}" if fit["cores"] and available else str(fit["cores"] or "-"),
            str(fit["chips"] or "-"),
            Text(_used(fit["binding"], fit["utilisation"].get(fit["binding"])) if fit["binding"] else "-"),
        )
        if fit["utilisation"]:
            used = ", ".join(_used(name, share) for name, share in fit["utilisation"].items())
            lines.append(Text(f"{chip}: of the fullest core: {used}"))
        for item in fit["violations"]:
            numbers = f" (need {item['need']}, have {item['have']})" if item["need"] or item["have"] else ""
            lines.append(Text(f"{chip}: {item['where']}: {item['what']}{numbers}"))
            if item["remedy"]:
                lines.append(Text(f"  try: {item['remedy']}"))
        if fit["unknown_limits"]:
            lines.append(Text(f"{chip}: not checked, nobody has published: {', '.join(fit['unknown_limits'])}"))
        if fit["note"]:
            lines.append(Text(f"{chip}: {fit['note']}"))
    return Group(table, *lines)


def _used(resource: str, share: float | None) -> str:
    return resource if share is None else f"{resource} {percent(share)}"
