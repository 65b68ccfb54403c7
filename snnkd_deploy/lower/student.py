"""A chip-mode student as a model: the integers it was trained in, and the same network in NIR's real units."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import torch

from snnkd_deploy.arithmetic import kept
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.check import check_model
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import (
    ChipStamp,
    Encoding,
    NodeParams,
    Profile,
    SynapseParams,
)
from snnkd_deploy.lower.membrane import chip_membrane, input_gain
from snnkd_deploy.nets.operations import operations_lacking
from snnkd_deploy.nets.population import HOST_WEIGHTS, Population
from snnkd_deploy.nets.student import Student
from snnkd_deploy.nets.synapse import Synapse

# Neurons whose NIR form adds its input to the membrane at once, so that a bias may ride on a weight node.
_WITHOUT_CURRENT = (nir.IF, nir.LIF, nir.I, nir.LI)


def lower_student(
    student: Student, *, dt_s: float = 1e-3, classes: tuple[str, ...] = (), provenance: dict[str, Any] | None = None
) -> Model:
    """The model that computes exactly what the student's chip-mode forward pass computes.

    Requires a student in chip mode. Guarantees: integers taken from the same functions as the forward
    pass, and the checker's approval. Raises GraphError otherwise.
    """
    if student.mode != "chip" or student.chip is None:
        raise GraphError("the student is still in float mode", remedy="run the chip phase of training first")
    student.check_headroom()
    problems = operations_lacking(student, student.chip)
    if problems:
        raise GraphError.from_problems(problems)
    lowering = _Lowering(student.chip, dt_s, student.levels)
    with torch.no_grad():
        lowering.input(student.input_shape)
        for population in student:
            lowering.population(population)
        lowering.output(student.readout)
    profile = Profile(
        dt_s=dt_s,
        reset=student.chip.neuron.reset,
        fires=student.chip.neuron.fires,
        encoding=_encoding(student),
        steps=student.steps,
        chip=chip_stamp(student.chip),
        nodes=lowering.params,
        classes=classes,
        provenance=provenance or {},
    )
    graph = nir.NIRGraph(nodes=lowering.nodes, edges=lowering.edges, type_check=False)
    model = Model(graph=graph, profile=profile)
    check_model(model)
    return model


def _encoding(student: Student) -> Encoding:
    if student.encoding == "graded":
        return Encoding(kind="graded", levels=student.levels, bits=student.levels.bit_length())
    return Encoding(kind=student.encoding, levels=student.levels)


def chip_stamp(chip: ChipSpec) -> ChipStamp:
    return ChipStamp(id=chip.id, sha256=chip.sha256, neuron=chip.neuron, parameters=chip.parameters)


class _Lowering:
    """Collects nodes, edges and integer parameters while walking the populations."""

    def __init__(self, chip: ChipSpec, dt_s: float, levels: int) -> None:
        self.chip, self.dt_s, self.levels = chip, dt_s, levels
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.params: dict[str, NodeParams] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def input(self, shape: tuple[int, ...]) -> None:
        self.nodes["input"] = nir.Input({"input": np.array(shape)})
        self.shapes["input"] = shape

    def output(self, readout: Population) -> None:
        self.nodes["output"] = nir.Output({"output": np.array(readout.shape)})
        self.edges.append((readout.name, "output"))

    def population(self, population: Population) -> None:
        gain = self._neuron(population)
        for source, synapse in zip(population.sources, population.synapses, strict=True):
            assert isinstance(synapse, Synapse)
            # The population's bias rides on its first synapse: NIR neurons have no bias of their own.
            first = synapse is population.synapses[0] and isinstance(self.nodes[population.name], _WITHOUT_CURRENT)
            self._synapse(population, synapse, source, gain, with_bias=first)

    def _neuron(self, population: Population) -> float:
        """Add the neuron node; returns b = dt / tau, by which NIR multiplies its input."""
        numbers, scale, spec = population.numbers(), population.scale_value, self.chip.neuron
        keep_v, keep_u = kept(spec, numbers)
        bias = None
        if population.bias is not None and keep_u > 0 and not population.host_levels:
            # A bias adds to v, NIR's affine bias would pass through the current: it becomes the neuron's v_leak.
            per_channel = population.bias_mantissa().double().cpu().numpy() * (1 << population.bias_exp)
            bias = per_channel.reshape(-1, *[1] * (len(population.shape) - 1))
        self.nodes[population.name], self.params[population.name] = chip_membrane(
            spec, population.shape, numbers, scale=scale, bias_exp=population.bias_exp, dt_s=self.dt_s, bias=bias
        )
        self.shapes[population.name] = population.shape
        return input_gain(keep_v, keep_u)

    def _synapse(self, population: Population, synapse: Synapse, source: str, gain: float, *, with_bias: bool) -> None:
        host = population.host_levels > 0
        if host:
            # In real units the host's accumulator is 2^shift bias mantissas.
            weight_int = synapse.weight_int(float(population.host_scale), HOST_WEIGHTS)
            weight_scale = population.scale_value * gain * 2.0**population.shift
            bias_scale = weight_scale
            bias_int = population.host_bias() if population.bias is not None else None
        else:
            weight_int = population.weight_int(synapse)
            weight_scale = population.scale_value * gain
            bias_scale = weight_scale * (1 << population.bias_exp)
            if synapse.payload:  # sums of weight times payload are shifted right by the exponent
                weight_scale *= 2.0**population.shift
            bias_int = population.bias_mantissa() * (1 << population.bias_exp) if population.bias is not None else None
        out = population.shape[0]
        bias = np.zeros(out) if bias_int is None or not with_bias else bias_int.double().numpy() / bias_scale
        weight = weight_int.double().numpy() / weight_scale
        # A loop hears the last step already: that is its hop.
        hop = 0 if source in ("input", population.name) else self.chip.neuron.hop_delay
        self.params[synapse.name] = SynapseParams(
            place="host" if host else "chip",
            weight_scale=weight_scale,
            bias_scale=bias_scale,
            shift=population.shift if host else 0,
            weight_exp=-population.shift if synapse.payload else 0,
            message_bits=synapse.payload.bit_length(),
            delay=(hop,) if hop else (),
        )
        if synapse.is_conv:
            _, height, width = self.shapes[source]
            self.nodes[synapse.name] = nir.Conv2d(
                input_shape=(height, width),
                weight=weight,
                stride=(synapse.stride, synapse.stride),
                padding=(synapse.padding, synapse.padding),
                dilation=(1, 1),
                groups=synapse.groups,
                bias=bias,
            )
            self.edges.append((source, synapse.name))
        else:
            if synapse.pool_area:  # the pooled map in full: every position of a channel has its weight
                weight = weight.repeat(synapse.pool_area, axis=1)
            self.nodes[synapse.name] = nir.Affine(weight=weight, bias=bias)
            self.edges.append((self._flattened(source), synapse.name))
        self.edges.append((synapse.name, population.name))

    def _flattened(self, source: str) -> str:
        """The source, through a Flatten node where it has maps (one for all its readers)."""
        shape = self.shapes[source]
        if len(shape) == 1:
            return source
        name = f"flatten_{source}"
        if name not in self.nodes:
            # Negative axes: positive ones are read differently by different importers.
            self.nodes[name] = nir.Flatten(input_type={"input": np.array(shape)}, start_dim=-len(shape), end_dim=-1)
            self.edges.append((source, name))
        return name
