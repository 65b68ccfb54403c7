"""A student's shapes as a model, before it has weights worth keeping: enough to see whether it fits a chip."""

from __future__ import annotations

import nir
import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.evaluate.mapping.greedy import fit
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import Encoding, Profile
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.synapse import Synapse


def check_fit(what: Model | Student, chip: ChipSpec | str) -> list[Problem]:
    """Everything by which a network is too big for a chip: of a model, or of a student that was never trained.

    Empty where it fits, and where the chip has no limits. Nothing of it depends on weights, except that Xylo
    does not store zeros.
    """
    return list(fit(what if isinstance(what, Model) else outline(what), chip).violations)


def outline(student: Student) -> Model:
    """The student's graph with weights of one and no chip's integers: for shapes and connections only."""
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(student.input_shape)})}
    edges: list[tuple[str, str]] = []
    shapes: dict[str, tuple[int, ...]] = {"input": tuple(student.input_shape)}
    for population in student:
        for source, synapse in zip(population.sources, population.synapses, strict=True):
            assert isinstance(synapse, Synapse)
            entry = source
            if not synapse.is_conv and len(shapes.get(source, population.shape)) > 1:
                entry = f"flatten_{source}"
                nodes.setdefault(entry, nir.Flatten({"input": np.array(shapes[source])}, -len(shapes[source]), -1))
                if (source, entry) not in edges:
                    edges.append((source, entry))
            nodes[synapse.name] = _weights(synapse, shapes.get(source, population.shape))
            edges += [(entry, synapse.name), (synapse.name, population.name)]
        ones = _ones(population.shape)
        nodes[population.name] = (
            nir.I(r=ones) if population.lif is None else nir.IF(r=ones, v_threshold=ones, v_reset=ones)
        )
        shapes[population.name] = tuple(population.shape)
    nodes["output"] = nir.Output({"output": np.array(student.readout.shape)})
    edges.append((student.readout.name, "output"))
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    encoding = Encoding(kind=student.encoding, levels=student.levels)
    return Model(graph, Profile(dt_s=1e-3, reset="zero", encoding=encoding, steps=student.steps))


def _weights(synapse: Synapse, source: tuple[int, ...]) -> nir.NIRNode:
    shape = tuple(synapse.weight.shape)
    bias = _ones(shape[:1]) if synapse.norm is not None else np.zeros(shape[0])
    if synapse.is_conv:
        pads, strides = (synapse.padding,) * 2, (synapse.stride,) * 2
        return nir.Conv2d(source[1:], _ones(shape), strides, pads, (1, 1), synapse.groups, bias)
    # Global pooling is folded into the weights: every position of a channel has its own copy.
    return nir.Affine(_ones((shape[0], shape[1] * max(1, synapse.pool_area))), bias)


def _ones(shape: tuple[int, ...]) -> np.ndarray:
    """Ones that take no memory."""
    return np.broadcast_to(np.float64(1.0), shape)
