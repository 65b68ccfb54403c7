"""`snnkd convert`: between model files, and `--for`: a plain NIR that another simulator's importer runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from snnkd_deploy.errors import UsageError
from snnkd_deploy.verbs.options import model_from

if TYPE_CHECKING:
    from snnkd_deploy.graph.model import Model

_STEPS, _SAMPLES = 16, 4


def convert(args: argparse.Namespace, show: Callable[[Any], None]) -> dict[str, Any]:
    """Read, rewrite where `--for` asks for it, write. Raises GraphError with everything that the target cannot say."""
    from snnkd_deploy import api
    from snnkd_deploy.graph.load import save_model

    model = model_from(args.source, args)
    found: dict[str, Any] = {"source": str(args.source), "target": str(args.target)}
    if args.reader is None:
        save_model(model, args.target)
        show(f"{args.source} -> {args.target}")
        return found | {"model": api.describe(model)}

    from snnkd_deploy.graph.interop import READERS, interop

    if args.target.suffix.lower() != ".nir":
        raise UsageError(f"--for writes NIR, not '{args.target.suffix}'", where=str(args.target), remedy="OUT.nir")
    made, notes = interop(model, args.reader)
    differ, compared = spikes_that_differ(model, made)
    save_model(made, args.target)
    show(f"{args.source} -> {args.target} for {args.reader}: {READERS[args.reader].call}")
    show(f"  random input, {_SAMPLES} samples x {_STEPS} steps: {differ} of {compared:,} spikes differ in real numbers")
    for note in notes:
        show(f"  note: {note}")
    facts = {"for": args.reader, "notes": notes, "check": {"mismatches": differ, "spikes_compared": compared}}
    return found | facts | {"model": api.describe(made)}


def spikes_that_differ(model: Model, made: Model) -> tuple[int, int]:
    """(differing, compared) spikes of the source, on its own backend, and of the rewritten graph in float."""
    import numpy as np

    from snnkd_deploy import api
    from snnkd_deploy.backends.inputs import make_inputs

    rng, encoding = np.random.default_rng(0), model.profile.encoding
    shape = (_STEPS, _SAMPLES, *model.shapes[model.input_name])
    if encoding.kind == "current":
        x = rng.integers(max(encoding.low, -encoding.levels), encoding.levels + 1, (1, *shape[1:]))
    else:
        x = (rng.random(shape) < 0.4) * (rng.integers(1, 2**encoding.bits, shape) if encoding.bits else 1)
    a = api.run(model, make_inputs(x, model, _STEPS), backend="exact" if model.on_chip_grid else "float")
    b = api.run(made, make_inputs(x.astype(np.float32), made, _STEPS), backend="float")
    pairs = list(zip(model.spiking, made.spiking, strict=True))
    return sum(int((a.spikes[p] != b.spikes[q]).sum()) for p, q in pairs), sum(a.spikes[p].numel() for p, _ in pairs)
