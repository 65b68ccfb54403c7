"""`snnkd show`: what a model file holds, as a drawing in text or SVG."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from snnkd_deploy.files import replacing
from snnkd_deploy.verbs.options import model_from


def show_model(args: argparse.Namespace, show: Callable[[Any], None]) -> dict[str, Any]:
    from snnkd_deploy import api
    from snnkd_deploy.graph.drawing import render_svg, render_text, rows

    model = model_from(args.model, args)
    show(render_text(model))
    if args.svg is not None:
        with replacing(args.svg) as temporary:
            temporary.write_text(render_svg(model), encoding="utf-8")
        show(f"drawing: {args.svg}")
    notes = model.profile.provenance.get("notes", [])
    for note in notes:
        show(f"note: {note}")
    return {**api.describe(model), "nodes": [asdict(row) for row in rows(model)], "notes": notes}
