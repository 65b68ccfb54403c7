"""`Model`: a NIR graph with its profile. The only thing that backends, fit and energy are given."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import nir
import numpy as np

from snnkd_deploy.graph.normalise import normalise
from snnkd_deploy.graph.profile import NeuronParams, Profile, ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import SPIKING, Shape, execution_order, infer_shapes, pair, sources_of

# NIR allows a number or a pair for these; both mean the same.
_PAIRS = ("stride", "padding", "dilation", "kernel_size")


@dataclass(frozen=True, eq=False)
class Model:
    """A network. Weights in `graph` (NIR, values in real units), everything else in `profile`."""

    graph: nir.NIRGraph
    profile: Profile
    path: str = field(default="", compare=False)

    def __repr__(self) -> str:
        chip = "no chip" if self.profile.chip is None else self.profile.chip.id
        layers = ", ".join(f"{name} {self.shapes.get(name)}" for name in self.spiking)
        return f"Model({self.path or 'in memory'}; {chip}; input {self.shapes.get(self.input_name)}; {layers})"

    @property
    def nodes(self) -> dict[str, nir.NIRNode]:
        return self.graph.nodes

    @cached_property
    def order(self) -> list[list[str]]:
        """Node names, sources first; more than one name in an entry is a loop."""
        return execution_order(self.graph)

    @cached_property
    def sources(self) -> dict[str, list[str]]:
        return sources_of(self.graph)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Output shape of every node, without time and batch."""
        return infer_shapes(self.graph)

    @cached_property
    def spiking(self) -> list[str]:
        """Names of the nodes that emit spikes, in execution order."""
        flat = [name for component in self.order for name in component]
        return [name for name in flat if isinstance(self.nodes[name], SPIKING)]

    @property
    def input_name(self) -> str:
        return next(name for name, node in self.nodes.items() if isinstance(node, nir.Input))

    @property
    def output_name(self) -> str:
        return next(name for name, node in self.nodes.items() if isinstance(node, nir.Output))

    @property
    def readout_name(self) -> str | None:
        """The non-spiking integrator in front of the output, where there is one."""
        for name, params in self.profile.nodes.items():
            if isinstance(params, ReadoutParams):
                return name
        return None

    @property
    def voter_name(self) -> str:
        """The population in front of the output: its integrator, or the last one that spikes."""
        return self.readout_name or self.spiking[-1]

    @property
    def on_chip_grid(self) -> bool:
        """True where the model carries integers for a chip, so that `exact` and `lava` can run it."""
        return self.profile.chip is not None

    @property
    def family(self) -> str | None:
        """The neuron family of the chip that the integers are for; None for a float model."""
        return None if self.profile.chip is None else self.profile.chip.neuron.family

    @property
    def bias_unit(self) -> int:
        """Units of v in one synaptic integer: 2^input_shift of the chip."""
        return 1 if self.profile.chip is None else 1 << self.profile.chip.neuron.input_shift

    def synapse(self, name: str) -> SynapseParams:
        params = self.profile.nodes[name]
        assert isinstance(params, SynapseParams)
        return params

    def neuron(self, name: str) -> NeuronParams:
        params = self.profile.nodes[name]
        assert isinstance(params, NeuronParams)
        return params

    def weight_real(self, name: str) -> np.ndarray:
        """Real weights of a weight node as float64 (what NIR calls `scale` in a Scale node)."""
        node = self.nodes[name]
        return np.asarray(node.scale if isinstance(node, nir.Scale) else node.weight, dtype=np.float64)

    def weight_int(self, name: str) -> np.ndarray:
        """Integer weights of a synapse node as int64, in the layout of the NIR node."""
        scaled = self.weight_real(name) * self.synapse(name).weight_scale
        return np.rint(scaled).astype(np.int64)

    def synapse_bias_int(self, name: str) -> np.ndarray | None:
        """Integer bias of a weight node (units of v on chip, of the accumulator on host), or None."""
        bias = getattr(self.nodes[name], "bias", None)
        if bias is None:
            return None
        return np.rint(np.asarray(bias, dtype=np.float64) * self.synapse(name).bias_scale).astype(np.int64)

    def bias_int(self, name: str) -> np.ndarray:
        """The bias register of a population in units of v, broadcast to its shape (int64)."""
        shape = self.shapes[name]
        total = np.zeros(shape, dtype=np.int64)
        params = self.profile.nodes.get(name)
        leak = getattr(self.nodes[name], "v_leak", None)
        if isinstance(params, NeuronParams | ReadoutParams) and params.leak_scale and leak is not None:
            leak_int = np.rint(np.asarray(leak, dtype=np.float64) * params.leak_scale).astype(np.int64)
            total += np.broadcast_to(leak_int, shape)
        for source in self.weight_sources(name):
            bias = self.synapse_bias_int(source)
            if bias is not None and self.synapse(source).place == "chip":
                total += bias.reshape(bias.shape + (1,) * (len(shape) - bias.ndim))
        return total

    def weight_sources(self, name: str) -> list[str]:
        """Weight nodes that feed `name` directly (flatten and pooling do not carry weights)."""
        return [s for s in self.sources[name] if isinstance(self.profile.nodes.get(s), SynapseParams)]

    def content(self) -> dict[str, Any]:
        """Everything that matters for results, as plain arrays and values: for equality and hashing.

        Provenance and the path are left out, and so is the form that a file happens to have: the graph is
        taken as `normalise` writes it.
        """
        nodes = {}
        for name, node in normalise(self.graph).nodes.items():
            entry: dict[str, Any] = {"type": type(node).__name__}
            for key, value in vars(node).items():
                if key == "metadata" or (key.endswith("_type") and not isinstance(node, nir.Input)):
                    continue
                entry[key] = pair(value) if key in _PAIRS and not isinstance(value, str | bytes) else value
            nodes[name] = entry
        # Without defaults, so that a field added by a later release does not change the hash of older models.
        profile = self.profile.model_dump(mode="json", exclude={"provenance"}, exclude_defaults=True)
        return {"nodes": nodes, "edges": sorted(map(tuple, self.graph.edges)), "profile": profile}

    @cached_property
    def sha256(self) -> str:
        """Hash of `content()`: equal models have equal hashes whatever file they came from."""
        digest = hashlib.sha256()
        _update(digest, self.content())
        return digest.hexdigest()


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value):
            digest.update(f"{key}:".encode())
            _update(digest, value[key])
    elif isinstance(value, np.ndarray | np.generic | int | float) or _is_numbers(value):
        # Numbers are hashed as float64 so that a file's storage type does not change the hash.
        array = np.asarray(value)
        if array.dtype.kind in "iufb":
            array = np.ascontiguousarray(array, dtype=np.float64) + 0.0  # -0.0 and 0.0 are the same weight
            digest.update(str(array.shape).encode() + array.tobytes())
        else:
            digest.update(repr(array.tolist()).encode())
    elif isinstance(value, list | tuple):
        for item in value:
            _update(digest, item)
            digest.update(b";")
    else:
        digest.update(json.dumps(value, sort_keys=True, default=str).encode())


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, int | float | np.number) for item in value)


def same(a: Model, b: Model) -> bool:
    """Value equality of two models (NIR's own `==` compares identity)."""
    return a.sha256 == b.sha256
