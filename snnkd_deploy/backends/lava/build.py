"""Model and inputs -> plan: one graph through which all samples stream, window after window."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nir
import numpy as np
from scipy.sparse import csr_matrix, identity

from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.lava.hostside import host_values
from snnkd_deploy.backends.lava.plan import (
    NEVER_FIRES,
    GatePlan,
    Plan,
    PopulationPlan,
    SourcePlan,
    SynapsePlan,
)
from snnkd_deploy.backends.lava.recording import LOGIT_TAP, recording
from snnkd_deploy.backends.lava.schedule import depths_of
from snnkd_deploy.backends.matrices import by_origin, is_delayed, route_parts, wants_convolution
from snnkd_deploy.backends.routes import Member, Route, Routes
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.backends.unroll import sign_mode, size_of
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import NeuronParams, ReadoutParams
from snnkd_deploy.graph.topology import conv_padding, pair


@dataclass(frozen=True)
class Options:
    """conv: "sparse" unrolls convolutions (fast on CPU), "conv" uses Lava's Conv where it can."""

    conv: str = "sparse"
    hardware: bool = False


@dataclass
class _Parts:
    """Everything of a plan while it is built. Dictionaries keyed by what two users may share."""

    sources: dict[tuple, SourcePlan] = field(default_factory=dict)
    populations: list[PopulationPlan] = field(default_factory=list)
    relays: dict[tuple[str, int], str] = field(default_factory=dict)
    synapses: list[SynapsePlan] = field(default_factory=list)
    gates: dict[tuple[str, bytes], GatePlan] = field(default_factory=dict)
    wires: list[tuple[str, str]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class Builder:
    """Builds the plan of one run into `folder`."""

    def __init__(self, model: Model, inputs: Inputs, options: Options, folder: Path) -> None:
        self.model, self.inputs, self.options, self.folder = model, inputs, options, folder
        self.routes = Routes(model)
        self.depth = depths_of(model, self.routes)
        self.parts = _Parts()
        self.values: dict[str, np.ndarray] = {}

    def build(self, record: Record) -> Plan:
        """Write plan, weights, sources and empty result files to the folder."""
        routes = self.routes.routes
        tap = [] if self._counts_spikes() else self.routes.into(self.model.output_name)
        if tap:
            known = [m.origin for r in tap for m in r.members if m.origin in self.depth]
            self.depth[self.model.output_name] = 1 + max((self.depth[o] for o in known), default=0)
        origins = {m.origin for r in [*routes, *tap] for m in r.members}
        self.values = host_values(self.model, self.routes, self.inputs, origins & self.routes.host)
        for name in self.routes.populations:
            self._add_population(name)
        for route in routes:
            self._add_route(route)
        for route in tap:
            self._add_route(route, LOGIT_TAP)
        recorders, probes = recording(self, record, bool(tap))
        parts = self.parts
        plan = Plan(
            samples=self.inputs.samples,
            window=self.inputs.steps,
            steps=self.inputs.samples * self.inputs.steps + max(self.depth.values(), default=0),
            sources=tuple(parts.sources.values()),
            populations=tuple(parts.populations),
            synapses=tuple(parts.synapses),
            gates=tuple(parts.gates.values()),
            wires=tuple(parts.wires),
            recorders=tuple(recorders),
            probes=tuple(probes),
            hardware=self.options.hardware,
        )
        plan.save(self.folder, parts.arrays)
        return plan

    def _counts_spikes(self) -> bool:
        """True where the logits need no process of their own: a readout's state, or counted spikes."""
        routes = self.routes.into(self.model.output_name)
        return all(route.weight is None and not is_delayed(self.model, route) for route in routes)

    def _add_population(self, name: str) -> None:
        params = self.model.profile.nodes[name]
        assert isinstance(params, NeuronParams | ReadoutParams)
        exponent = params.bias_exp if isinstance(params, NeuronParams) else 6
        bias = self.model.bias_int(name).ravel()
        key = ""
        if bias.any():
            key = f"bias{len(self.parts.populations)}"
            self.parts.arrays[key] = (bias >> exponent).astype(np.int32)
        self.parts.populations.append(
            PopulationPlan(
                name=name,
                size=size_of(self.model.shapes[name]),
                du=params.Du - 1,
                dv=params.Dv,
                vth=params.vth if isinstance(params, NeuronParams) else NEVER_FIRES,
                depth=self.depth[name],
                bias=key,
                bias_exp=exponent,
            )
        )

    def _add_route(self, route: Route, target: str = "") -> None:
        target = target or route.target
        depth = self.depth[route.target]
        if route.weight is None and route.members[0].origin in self.routes.host:
            for member in route.members:
                self.parts.wires.append((self._source(member, depth, None, False), target))
            return
        if wants_convolution(self.model, route, self.options.conv):
            sources, _ = self._feeds(route, None)
            self.parts.synapses.append(self._convolution(route, sources, target))
            return
        parts = route_parts(self.model, route)
        whole = by_origin(parts)
        if whole is not None:
            self._add_synapse(route, target, *whole)
            return
        for delay, matrix in parts.items():  # an element with two delays needs two processes
            self._add_synapse(route, target, matrix, np.full(matrix.shape[1], delay))

    def _add_synapse(self, route: Route, target: str, matrix: csr_matrix, delays: np.ndarray) -> None:
        sources, early = self._feeds(route, delays if delays.any() else None)
        mode = sign_mode(matrix.data)
        assert mode is not None  # check() has refused
        key = f"weights{len(self.parts.synapses)}"
        self._store(key, matrix)
        steps = delays[matrix.indices] + early
        if steps.any():
            self.parts.arrays[f"{key}.delays"] = steps.astype(np.int32)
        self.parts.synapses.append(
            SynapsePlan(
                kind="delay" if steps.any() else "sparse",
                sources=sources,
                target=target,
                weights=key,
                shape=matrix.shape,
                sign_mode=mode,
                weight_exp=self.model.synapse(route.weight).weight_exp if route.weight else 0,
                message_bits=self._message_bits(route, len(sources)),
            )
        )

    def _message_bits(self, route: Route, sources: int) -> int:
        if route.binary and (sources > 1 or self.options.hardware):
            return 0
        # Binary spikes give the same sums on Lava's graded path, which is several times faster.
        return max(1, self.model.synapse(route.weight).message_bits) if route.weight else 1

    def _feeds(self, route: Route, delays: np.ndarray | None) -> tuple[tuple[str, ...], int]:
        """Where the synapse gets its spikes, all in step, and what it must add to its delays (<= 0)."""
        depth = self.depth[route.target]
        spare = [depth - self.depth[m.origin] - 1 + m.back for m in route.members if m.origin in self.depth]
        # Inside a loop a delay may have to make up for the synapse's own step.
        early = min(0, *spare) if spare else 0
        sources = []
        for member in route.members:
            if member.origin in self.routes.host:
                sources.append(self._source(member, depth - 1 - early, delays, route.binary))
                continue
            missing = depth - self.depth[member.origin] - 1 + member.back - early
            sources.append(self._relay(self._gate(member, delays), member.origin, missing))
        return tuple(sources), early

    def _store(self, key: str, matrix: csr_matrix) -> None:
        for part in ("data", "indices", "indptr"):
            self.parts.arrays[f"{key}.{part}"] = getattr(matrix, part).astype(np.int32)

    def _source(self, member: Member, shift: int, late: np.ndarray | None, binary: bool) -> str:
        key = (member.origin, shift, binary, None if late is None else late.tobytes())
        if key not in self.parts.sources:
            values = self.values[member.origin]
            steps = self.inputs.steps
            if binary:
                values = (values != 0).astype(np.uint8)
            if late is not None:
                # What would only arrive after the sample's end is not sent.
                values = np.broadcast_to(values, (steps, *values.shape[1:]))
                inside = np.arange(steps)[:, None] + late[None] < steps
                values = np.where(inside[:, None], values, 0).astype(values.dtype)
            constant = values.shape[0] == 1
            number = len(self.parts.sources)
            file = f"source{number}.npy"
            np.save(self.folder / file, values[0] if constant else values)
            self.parts.sources[key] = SourcePlan(f"source {number}", file, int(values.shape[2]), shift, constant)
        return self.parts.sources[key].name

    def _gate(self, member: Member, late: np.ndarray | None) -> str:
        """The name to take spikes of an origin from, so that none crosses into the next sample."""
        size = size_of(self.model.shapes[member.origin])
        carried = np.full(size, member.back) + (0 if late is None else late)
        if not carried.any():
            return member.origin
        limit = np.maximum(self.inputs.steps - carried, 0).astype(np.int32)
        key = (member.origin, limit.tobytes())
        if key not in self.parts.gates:
            number = len(self.parts.gates)
            self.parts.arrays[f"limit{number}"] = limit
            self.parts.gates[key] = GatePlan(
                f"gate {number}", member.origin, self.depth[member.origin], f"limit{number}"
            )
        return self.parts.gates[key].name

    def _relay(self, name: str, origin: str, steps: int) -> str:
        """`name` delayed by `steps` steps through stateless neurons that copy their input."""
        size = size_of(self.model.shapes[origin])
        for step in range(1, steps + 1):
            key = (name, step)
            if key not in self.parts.relays:
                relay = f"relay {len(self.parts.relays)}"
                before = self.parts.relays.get((name, step - 1), name)
                depth = self.depth[origin] + step
                # u = 64 a, v = u: one weight of 1 exceeds a threshold of 0, and nothing is remembered.
                self.parts.populations.append(
                    PopulationPlan(relay, size, du=4095, dv=4096, vth=0, depth=depth, relay=True)
                )
                self.parts.synapses.append(self._identity(size, before, relay))
                self.parts.relays[key] = relay
        return self.parts.relays[(name, steps)] if steps else name

    def _identity(self, size: int, source: str, target: str) -> SynapsePlan:
        key = f"identity{size}"
        eye = identity(size, dtype=np.int32, format="csr")
        self._store(key, eye)
        return SynapsePlan("sparse", (source,), target, key, (size, size), "EXCITATORY", 0, 1)

    def _convolution(self, route: Route, sources: tuple[str, ...], target: str) -> SynapsePlan:
        """Lava's own Conv process."""
        assert route.weight is not None
        node = self.model.nodes[route.weight]
        assert isinstance(node, nir.Conv2d)
        in_shape = self.model.shapes[self.model.sources[route.weight][0]]
        shape = (size_of(self.model.shapes[route.weight]), size_of(in_shape))
        kernel = self.model.weight_int(route.weight)
        key = f"kernel{len(self.parts.synapses)}"
        # Lava flips kernels (a true convolution) and speaks (out, x, y, in).
        flipped = kernel[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
        self.parts.arrays[key] = np.ascontiguousarray(flipped).astype(np.int32)
        geometry = {
            "in_shape": list(in_shape),
            "stride": list(reversed(pair(node.stride))),
            "padding": list(reversed(conv_padding(node))),
            "dilation": list(reversed(pair(node.dilation))),
            "groups": int(np.asarray(node.groups)),
        }
        bits = 0 if route.binary else self._message_bits(route, len(sources))
        return SynapsePlan("conv", sources, target, key, shape, "MIXED", 0, bits, geometry)
