"""A minimal reproducer: the smallest model and input found on which two backends still differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nir
import numpy as np
import torch

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.trace import Trace
from snnkd_deploy.errors import SnnkdError, UsageError
from snnkd_deploy.evaluate.diagnose.fanin import fan_in
from snnkd_deploy.evaluate.parity import Divergence, compare_traces
from snnkd_deploy.files import replacing
from snnkd_deploy.graph.check import check_model
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.nirfile import write_nir
from snnkd_deploy.graph.profile import Encoding

Runner = Callable[[Model, Inputs], Trace]


@dataclass(frozen=True)
class Reproducer:
    """`confirmed`: both sides were run on it and differ. False where one side is a recording."""

    model: Model
    inputs: Inputs
    confirmed: bool

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """`reproducer.nir` and `reproducer.npz` in `folder`."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write there: {error}", where=str(folder)) from error
        model, x = folder / "reproducer.nir", folder / "reproducer.npz"
        write_nir(self.model, model)
        with replacing(x) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, x=self.inputs.x.numpy(), T=np.array(self.inputs.steps))
        return model, x


def reduce_case(
    model: Model, inputs: Inputs, expected: Trace, where: Divergence, run_a: Runner | None, run_b: Runner | None
) -> Reproducer:
    """One sample, no step after the divergence, only the layers needed; the first reduction that still diverges.

    `expected` is the reference's trace of the whole model. Without runners the smallest reduction that keeps
    every layer in front of the divergence is returned unconfirmed.
    """
    candidates = list(_candidates(model, inputs, expected, where))
    if run_a is None or run_b is None:
        return Reproducer(*candidates[-2], confirmed=False)
    for small, x in candidates:
        try:
            check_model(small)
            if not compare_traces(run_a(small, x), run_b(small, x)).identical:
                return Reproducer(small, x, confirmed=True)
        except SnnkdError:
            continue  # a side that cannot run this cut: try the next larger one
    return Reproducer(model, inputs, confirmed=False)


def _candidates(model: Model, inputs: Inputs, expected: Trace, where: Divergence) -> Iterator[tuple[Model, Inputs]]:
    """Smallest first; the last two are all layers up to the divergence, and the whole model, on one sample."""
    steps = where.step + 1
    x = inputs.x[:, where.sample : where.sample + 1]
    short = Inputs(x if inputs.constant else x[:steps], steps)
    heard = [n for n in fan_in(model, where.layer) if n in model.spiking]
    ends = [n for n in fan_in(model, where.layer) if n in model.spiking or n == model.input_name]
    if len(ends) == 1 and heard and where.layer not in heard:
        spikes = expected.spikes[heard[0]][:steps, where.sample : where.sample + 1]
        yield single_layer(model, where.layer, heard[0]), Inputs(spikes.to(torch.float32), steps)
    yield up_to(model, where.layer), short
    yield model, Inputs(x, inputs.steps)


def up_to(model: Model, layer: str) -> Model:
    """The part of the model that `layer` depends on, with `layer` as its output."""
    needed, front = {layer}, [layer]
    while front:
        fresh = [s for s in model.sources[front.pop()] if s not in needed]
        needed.update(fresh)
        front += fresh
    return _cut(model, needed, layer, model.nodes[model.input_name], model.input_name, model.profile.encoding)


def single_layer(model: Model, layer: str, source: str) -> Model:
    """`layer` alone; the spikes of the population `source` in front of it are the input."""
    needed = {layer, *fan_in(model, layer)}
    entrance = nir.Input({"input": np.array(model.shapes[source])})
    return _cut(model, needed, layer, entrance, source, Encoding(kind="events"))


def _cut(model: Model, needed: set[str], layer: str, entrance: nir.NIRNode, replaced: str, encoding: Encoding) -> Model:
    nodes = {name: entrance if name == replaced else node for name, node in model.nodes.items() if name in needed}
    output = model.output_name
    nodes[output] = nir.Output({"output": np.array(model.shapes[layer])})
    edges = [(s, t) for s, t in model.graph.edges if s in needed and t in needed and t != replaced]
    edges.append((layer, output))
    params = {name: p for name, p in model.profile.nodes.items() if name in nodes and name != replaced}
    profile = model.profile.model_copy(
        update={"nodes": params, "encoding": encoding, "vote_groups": None, "classes": (), "provenance": {}}
    )
    return Model(nir.NIRGraph(nodes=nodes, edges=edges, type_check=False), profile)
