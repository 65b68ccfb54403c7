"""Which operations of a chip file a graph needs, and the rewritings that make do without some of them."""

from __future__ import annotations

from dataclasses import replace

import nir
import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.ungrouped import full_weight
from snnkd_deploy.lower.paths import Convolution, Path, Synapse


def written_out(synapse: Synapse, chip: ChipSpec) -> Synapse:
    """Groups and dilation as zeros of a larger kernel, where the chip has no other way. The map stays the same."""
    if not isinstance(synapse, Convolution):
        return synapse
    if synapse.groups > 1 and chip.lacks("groups"):
        synapse = replace(synapse, weight=full_weight(synapse.weight, synapse.groups), groups=1)
    if any(d > 1 for d in synapse.dilation) and chip.lacks("dilation"):
        sizes = [d * (k - 1) + 1 for d, k in zip(synapse.dilation, synapse.weight.shape[2:], strict=True)]
        spread = np.zeros((*synapse.weight.shape[:2], *sizes))
        spread[(slice(None), slice(None), *(slice(None, None, d) for d in synapse.dilation))] = synapse.weight
        synapse = replace(synapse, weight=spread, dilation=(1,) * len(sizes))
    return synapse


def operations_lacking(
    model: Model, name: str, ways: list[tuple[Path, Synapse]], chip: ChipSpec, encoding: str
) -> list[Problem]:
    """Everything on the way into population `name` that the chip cannot run, with the chip file's reason.

    (What it lacks of the neuron itself is said by `neuron_form`.)
    """
    loops = [any(path.source in part and name in part for part in model.order) for path, _ in ways]
    host = encoding == "current" and any(path.source == model.input_name for path, _ in ways)
    needed = [(name, "host_current")] if host else []
    if loops.count(False) > 1:
        needed.append((name, "residual"))
    for (path, synapse), loop in zip(ways, loops, strict=True):
        where = " - ".join(path.nodes) or name
        needed += [(where, operation) for operation in (["recurrent"] if loop else [])]
        needed += [(where, operation) for operation in ([] if host else _of_synapse(synapse))]
        needed += [(where, operation) for operation in (["delay"] if _delayed(model, path) else [])]
    lacking = [(where, operation, chip.lacks(operation)) for where, operation in dict.fromkeys(needed)]
    return [Problem(f"{chip.id} cannot run '{what}': {why}", where) for where, what, why in lacking if why is not None]


def _of_synapse(synapse: Synapse) -> list[str]:
    if not isinstance(synapse, Convolution):
        return ["linear"]
    found = ["conv2d" if synapse.weight.ndim == 4 else "conv1d"]
    if synapse.groups > 1:
        found.append("groups")
    if any(d > 1 for d in synapse.dilation):
        found.append("dilation")
    return found


def _delayed(model: Model, path: Path) -> bool:
    nodes = (model.nodes[name] for name in path.nodes)
    return any(isinstance(node, nir.Delay) and np.any(np.rint(node.delay / model.profile.dt_s)) for node in nodes)
