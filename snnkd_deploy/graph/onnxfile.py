"""A lowered model as ONNX: one timestep with its states as inputs and outputs, or the whole run as one Scan.

step   x (B, *shape) and every state -> spikes of each population, the readout, every next state
scan   x (B, *shape) and T for a constant image, else x (T, B, *shape) -> spikes (T, B, ...), logits (B, C)

Both compute what `exact` computes, integer for integer, and take any batch size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nir
import numpy as np

from snnkd_deploy.arithmetic.cuba import DECAY_ONE, INPUT_SHIFT, STATE_MAX
from snnkd_deploy.arithmetic.exact import EXACT_FLOAT32
from snnkd_deploy.errors import GraphError, Problem
from snnkd_deploy.files import replacing
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.onnx_nodes import Emitter
from snnkd_deploy.graph.onnx_read import embed
from snnkd_deploy.graph.profile import PROFILE_KEY, NeuronParams, ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import NEURONS, WEIGHTS, Shape, pair

OPSET = 18
Form = Literal["step", "scan"]


@dataclass(frozen=True)
class State:
    """A tensor that one step hands to the next: (B, *shape) of float64 (u, v) or float32 (spikes)."""

    name: str
    shape: Shape
    dtype: str

    @property
    def next_name(self) -> str:
        return f"{self.name}_next"


def write_onnx(model: Model, path: str | Path, form: Form = "scan", *, keep_states: bool = False) -> None:
    """Write atomically, weights inside the file. `keep_states` adds outputs after_u.<node> and after_v.<node>,
    (T, B, ...), to a scan.

    Raises GraphError for a model that is not on a chip's grid, or whose sums float32 cannot hold.
    """
    try:
        import onnx
    except ImportError as error:
        raise GraphError(
            "writing ONNX needs the package onnx", where=str(path), remedy='pip install "snnkd_deploy[onnx]"'
        ) from error
    proto = OnnxWriter(model, onnx, keep_states=keep_states).proto(form)
    embed(model, proto)
    onnx.checker.check_model(proto, full_check=True)
    with replacing(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


class OnnxWriter:
    """Translates the nodes of one model."""

    def __init__(self, model: Model, onnx: Any, *, keep_states: bool = False) -> None:
        self.model, self.onnx, self.helper, self.keep_states = model, onnx, onnx.helper, keep_states
        self.flat = [name for part in model.order for name in part]
        self.place = {name: (i, j) for i, part in enumerate(model.order) for j, name in enumerate(part)}
        problems = self._check()
        if problems:
            raise GraphError.from_problems(problems)

    # -- what can be said ---------------------------------------------------------------------------

    def _check(self) -> list[Problem]:
        model = self.model
        if not model.on_chip_grid:
            return [Problem("the model carries no integers of a chip", model.path or "model", remedy="lower it first")]
        if model.family != "cuba_lif":
            what = "only Loihi's neuron can be written as ONNX so far"
            return [Problem(what, "chip", "cuba_lif", str(model.family), "lower the model for loihi2")]
        problems = []
        for name, node in model.nodes.items():
            if isinstance(node, nir.AvgPool2d):
                problems.append(Problem("average pooling is not integer", name, remedy="lower the model: it folds"))
            elif isinstance(node, (*NEURONS, *WEIGHTS)) and name not in model.profile.nodes:
                problems.append(Problem("no integer parameters", name, remedy="lower the model again"))
        if problems:
            return problems
        self.bounds = self._bounds()
        for name, bound in self.bounds.items():
            if isinstance(model.profile.nodes.get(name), SynapseParams) and bound > EXACT_FLOAT32:
                have = f"{bound:.3g}"
                problems.append(Problem("sums are too large for float32", name, f"{EXACT_FLOAT32}", have))
        return problems

    def _bounds(self) -> dict[str, float]:
        """Largest magnitude that each node can put out."""
        model, encoding = self.model, self.model.profile.encoding
        bounds: dict[str, float] = dict.fromkeys(model.spiking, 1.0)
        self.pooled: set[str] = set()
        for name in self.flat:
            node, params = model.nodes[name], model.profile.nodes.get(name)
            sources = model.sources[name]
            arriving = sum(bounds.get(source, 0.0) for source in sources)
            if isinstance(node, nir.Input):
                graded = float(2**encoding.bits - 1) if encoding.bits else 0.0
                bounds[name] = max(1.0, graded, float(encoding.levels), float(-encoding.low))
            elif isinstance(params, SynapseParams):
                pooled = any(source in self.pooled for source in sources)
                binary = params.place == "chip" and params.message_bits == 0 and not pooled
                weight = np.abs(model.weight_int(name))
                row = (
                    weight.reshape(weight.shape[0], -1).sum(1).max(initial=0)
                    if weight.ndim > 1
                    else weight.max(initial=0)
                )
                bounds[name] = float(row) * (1.0 if binary else arriving) * 2.0 ** max(0, params.weight_exp)
                if params.place == "host":
                    bias = model.synapse_bias_int(name)
                    bounds[name] += 0.0 if bias is None else float(np.abs(bias).max(initial=0))
            elif isinstance(node, nir.SumPool2d):
                bounds[name] = arriving * float(np.prod(pair(node.kernel_size)))
                self.pooled.add(name)
            elif name not in bounds:
                bounds[name] = arriving
            if isinstance(node, nir.Flatten | nir.Delay) and any(source in self.pooled for source in sources):
                self.pooled.add(name)
        return bounds

    # -- states ---------------------------------------------------------------------------------------

    def states(self) -> list[State]:
        """Everything that one step must hand to the next."""
        model = self.model
        found = []
        for name in self.flat:
            params, shape = model.profile.nodes.get(name), model.shapes[name]
            if isinstance(params, NeuronParams | ReadoutParams):
                if params.Du != DECAY_ONE:
                    found.append(State(f"u.{name}", shape, "DOUBLE"))
                if params.Dv != DECAY_ONE:
                    found.append(State(f"v.{name}", shape, "DOUBLE"))
            depth = int(self._delays(name).max(initial=0))
            if depth:
                found.append(State(f"past.{name}", (depth, *self._delayed_shape(name)), "FLOAT"))
        found += [State(f"last.{name}", model.shapes[name], "FLOAT") for name in self._fed_back()]
        return found

    def _fed_back(self) -> list[str]:
        """Nodes whose last step is heard through a back edge."""
        back = []
        for name in self.flat:
            for source in self.model.sources[name]:
                if self._is_back(source, name) and source not in back:
                    back.append(source)
        return back

    def _is_back(self, source: str, target: str) -> bool:
        return self.place[source][0] == self.place[target][0] and self.place[source][1] >= self.place[target][1]

    def _delays(self, name: str) -> np.ndarray:
        """Delay in steps of what arrives at a node, broadcastable to its shape."""
        node, params = self.model.nodes[name], self.model.profile.nodes.get(name)
        if isinstance(node, nir.Delay):
            return np.rint(np.asarray(node.delay, dtype=np.float64) / self.model.profile.dt_s).astype(np.int64)
        if isinstance(params, SynapseParams) and any(params.delay):
            axes = len(self._delayed_shape(name)) - 1
            return np.asarray(params.delay, dtype=np.int64).reshape(-1, *[1] * axes)
        return np.zeros(0, dtype=np.int64)

    def _delayed_shape(self, name: str) -> Shape:
        return self.model.shapes[self.model.sources[name][0]]

    # -- one step -------------------------------------------------------------------------------------

    def step(self, emitter: Emitter, x: str, ready: dict[str, str] | None = None) -> None:
        """Emit one timestep; states and spikes follow their names. `ready`: tensors of nodes emitted elsewhere."""
        values = dict(ready or {})
        self._nodes(emitter, x, [name for name in self.flat if name not in values], values)
        for name in self._fed_back():
            emitter.emit("Identity", values[name], name=f"last.{name}_next")

    def _before_time(self) -> list[str]:
        """What a constant image needs once: the input, and everything up to the weights that the host multiplies."""
        model, once = self.model, {self.model.input_name}
        for name in self.flat:
            params = model.profile.nodes.get(name)
            host = isinstance(params, SynapseParams) and params.place == "host"
            constant = model.sources[name] and all(s in once for s in model.sources[name])
            if constant and (host or isinstance(model.nodes[name], nir.Flatten | nir.SumPool2d)):
                once.add(name)
        return [name for name in self.flat if name in once]

    def _nodes(self, emitter: Emitter, x: str, names: list[str], values: dict[str, str]) -> None:
        model = self.model
        for name in names:
            node, params = model.nodes[name], model.profile.nodes.get(name)
            if isinstance(node, nir.Input):
                values[name] = x
                continue
            arriving = self._sum(emitter, name, values)
            if isinstance(params, SynapseParams):
                values[name] = self._synapse(emitter, name, params, arriving)
            elif isinstance(params, NeuronParams | ReadoutParams):
                values[name] = self._population(emitter, name, params, arriving)
            elif isinstance(node, nir.Delay):
                values[name] = self._delayed(emitter, name, arriving)
            elif isinstance(node, nir.Output):
                values[name] = arriving
            else:
                in_shape = self._delayed_shape(name)
                values[name] = emitter.structure(node, arriving, in_shape, model.shapes[name], name)

    def _sum(self, emitter: Emitter, name: str, values: dict[str, str]) -> str:
        parts = [
            f"last.{source}" if self._is_back(source, name) else values[source] for source in self.model.sources[name]
        ]
        total = parts[0]
        for part in parts[1:]:
            total = emitter.emit("Add", total, part)
        return total

    def _synapse(self, emitter: Emitter, name: str, params: SynapseParams, x: str) -> str:
        model = self.model
        node = model.nodes[name]
        x = self._delayed(emitter, name, x)
        pooled = any(source in self.pooled for source in model.sources[name])
        if params.place == "chip" and params.message_bits == 0 and not pooled:
            x = emitter.emit("Sign", emitter.emit("Abs", x))  # a spike is a spike, whatever its value
        total = emitter.weights(node, model.weight_int(name), x, name)
        if params.place == "host":
            return self._host(emitter, name, params, total)
        if params.weight_exp:
            total = emitter.emit("Mul", total, emitter.constant(2.0**params.weight_exp, np.float32))
        return emitter.emit("Floor", total) if params.weight_exp < 0 else total

    def _host(self, emitter: Emitter, name: str, params: SynapseParams, total: str) -> str:
        """Bias mantissas, rounded and clipped like the host does."""
        model = self.model
        assert model.profile.chip is not None
        total = emitter.cast(total, "DOUBLE")
        bias = model.synapse_bias_int(name)
        if bias is not None and bias.any():
            shaped = bias.reshape(-1, *[1] * (len(model.shapes[name]) - 1))
            total = emitter.emit("Add", total, emitter.constant(shaped))
        if params.shift:
            total = emitter.emit("Add", total, emitter.constant(2.0 ** (params.shift - 1)))
            total = emitter.emit("Floor", emitter.emit("Mul", total, emitter.constant(2.0**-params.shift)))
        grid = model.profile.chip.parameters.bias.mantissa
        clipped = emitter.emit("Max", total, emitter.constant(float(grid.lo)))
        return emitter.cast(emitter.emit("Min", clipped, emitter.constant(float(grid.hi))), "FLOAT")

    def _population(self, emitter: Emitter, name: str, params: NeuronParams | ReadoutParams, x: str) -> str:
        reach = sum(self.bounds.get(source, 0.0) for source in self.model.sources[name]) * (1 << INPUT_SHIFT)
        may_wrap = params.Du == 0 or reach * DECAY_ONE / params.Du >= STATE_MAX
        u = emitter.current(f"u.{name}", emitter.cast(x, "DOUBLE"), params.Du, may_wrap=may_wrap)
        if params.Du != DECAY_ONE:
            emitter.emit("Identity", u, name=f"u.{name}_next")
        v = emitter.membrane(f"v.{name}", u, params.Dv, self.model.bias_int(name))
        next_v = f"v.{name}_next" if params.Dv != DECAY_ONE else f"v.{name}_unused"
        if isinstance(params, NeuronParams):
            out = emitter.fire(v, params.vth, f"{emitter.prefix}spikes.{name}", next_v)
        else:
            emitter.emit("Identity", v, name=next_v)
        if self.keep_states:
            # An image in the bias register leaves u at 0.
            as_bias = any(self.model.synapse(s).as_bias for s in self.model.weight_sources(name))
            kept = emitter.constant(0.0 if as_bias else 1.0)
            emitter.emit("Mul", u, kept, name=f"{emitter.prefix}after_u.{name}")
            emitter.emit("Identity", next_v, name=f"{emitter.prefix}after_v.{name}")
        if isinstance(params, NeuronParams):
            return out
        return emitter.emit("Identity", u if params.read == "u" else v, name=f"{emitter.prefix}state.{name}")

    def _delayed(self, emitter: Emitter, name: str, x: str) -> str:
        """A shift register (B, depth, *shape), oldest first; each element taken at its own age."""
        delays = self._delays(name)
        depth = int(delays.max(initial=0))
        if depth == 0:
            return x
        now = emitter.emit("Unsqueeze", x, emitter.constant([1], np.int64))
        line = emitter.emit("Concat", f"past.{name}", now, axis=1)
        first, last = emitter.constant([1], np.int64), emitter.constant([depth + 1], np.int64)
        emitter.emit("Slice", line, first, last, emitter.constant([1], np.int64), name=f"past.{name}_next")
        total = ""
        for steps in np.unique(delays):
            index = emitter.constant(depth - int(steps), np.int64)
            piece = emitter.emit("Gather", line, index, axis=1)
            if np.any(delays != steps):
                mask = np.broadcast_to(delays == steps, self._delayed_shape(name))
                piece = emitter.emit("Mul", piece, emitter.constant(mask, np.float32))
            total = piece if not total else emitter.emit("Add", total, piece)
        return total

    # -- whole files ----------------------------------------------------------------------------------

    def proto(self, form: Form) -> Any:
        emitter = Emitter(self.onnx)
        graph = self._step_graph(emitter) if form == "step" else self._scan_graph(emitter)
        proto = self.helper.make_model(
            graph, opset_imports=[self.helper.make_opsetid("", OPSET)], ir_version=9, producer_name="snnkd_deploy"
        )
        for key, value in ((PROFILE_KEY, self.model.profile.model_dump_json()), ("model_sha256", self.model.sha256)):
            entry = proto.metadata_props.add()
            entry.key, entry.value = key, value
        return proto

    def _info(self, name: str, dtype: str, shape: list[Any]) -> Any:
        return self.helper.make_tensor_value_info(name, getattr(self.onnx.TensorProto, dtype), shape)

    def _step_graph(self, emitter: Emitter) -> Any:
        model, states = self.model, self.states()
        self.step(emitter, "x")
        inputs = [self._info("x", "FLOAT", ["B", *model.shapes[model.input_name]])]
        inputs += [self._info(s.name, s.dtype, ["B", *s.shape]) for s in states]
        outputs = [self._info(f"spikes.{n}", "FLOAT", ["B", *model.shapes[n]]) for n in model.spiking]
        readout = model.readout_name
        if readout is not None:
            outputs.append(self._info(f"state.{readout}", "DOUBLE", ["B", *model.shapes[readout]]))
        outputs += [self._info(s.next_name, s.dtype, ["B", *s.shape]) for s in states]
        return self.helper.make_graph(emitter.nodes, "step", inputs, outputs, list(emitter.constants.values()))

    def _scan_graph(self, emitter: Emitter) -> Any:
        model, states = self.model, self.states()
        constant = model.profile.encoding.kind == "current"
        body = Emitter(self.onnx, "now.")
        # What an image drives is computed once, outside; events come one step at a time.
        ready: dict[str, str] = {}
        if constant:
            self._nodes(emitter, "x", self._before_time(), ready)
        self.step(body, "x_t", ready)
        kept = [f"spikes.{n}" for n in model.spiking]
        readout = model.readout_name
        if readout is not None:
            kept.append(f"state.{readout}")
        kept += self._recorded()
        if constant:
            scanned = self._info("tick", "INT64", [])
        else:
            scanned = self._info("x_t", "FLOAT", ["B", *model.shapes[model.input_name]])
        body_inputs = [self._info(s.name, s.dtype, ["B", *s.shape]) for s in states] + [scanned]
        body_outputs = [self._info(s.next_name, s.dtype, ["B", *s.shape]) for s in states]
        body_outputs += [self._info(f"now.{n}", self._kind(n), ["B", *self._shape_of(n)]) for n in kept]
        graph = self.helper.make_graph(body.nodes, "timestep", body_inputs, body_outputs)
        emitter.constants |= body.constants
        # Zero states of the batch's size.
        axis = 0 if constant else 1
        batch = emitter.emit("Gather", emitter.emit("Shape", "x"), emitter.constant([axis], np.int64), axis=0)
        zeros = []
        for s in states:
            size = emitter.emit("Concat", batch, emitter.constant(list(s.shape), np.int64), axis=0)
            value = self.helper.make_tensor("zero", getattr(self.onnx.TensorProto, s.dtype), [1], [0])
            zeros.append(emitter.emit("ConstantOfShape", size, value=value))
        if constant:
            zero, one = emitter.constant(0, np.int64), emitter.constant(1, np.int64)
            sequence = emitter.emit("Range", zero, "T", one)
            steps = "T"
        else:
            sequence = "x"
            whole = emitter.emit("Gather", emitter.emit("Shape", "x"), emitter.constant(0, np.int64), axis=0)
            steps = whole
        finals = [f"{s.name}_final" for s in states]
        emitter.nodes.append(
            self.helper.make_node("Scan", [*zeros, sequence], [*finals, *kept], num_scan_inputs=1, body=graph)
        )
        self._logits(emitter, steps)
        inputs = [self._info("x", "FLOAT", [*([] if constant else ["T"]), "B", *model.shapes[model.input_name]])]
        if constant:
            inputs.append(self._info("T", "INT64", []))
        outputs = [self._info("logits", "DOUBLE", ["B", None])]
        outputs += [self._info(f"spikes.{n}", "FLOAT", [None, "B", *model.shapes[n]]) for n in model.spiking]
        outputs += [self._info(n, "DOUBLE", [None, "B", *self._shape_of(n)]) for n in self._recorded()]
        return self.helper.make_graph(emitter.nodes, "run", inputs, outputs, list(emitter.constants.values()))

    def _recorded(self) -> list[str]:
        """Every state after every step, where the caller wants them."""
        populations = [n for n in self.flat if isinstance(self.model.nodes[n], NEURONS)] if self.keep_states else []
        return [f"after_{state}.{name}" for name in populations for state in "uv"]

    def _kind(self, kept: str) -> str:
        return "FLOAT" if kept.startswith("spikes.") else "DOUBLE"

    def _shape_of(self, kept: str) -> Shape:
        return self.model.shapes[kept.partition(".")[2]]

    def _logits(self, emitter: Emitter, steps: str) -> None:
        """As `exact` reads them: the integrator's last state as a mean logit, else spike counts."""
        model = self.model
        readout = model.readout_name
        if readout is not None:
            params = model.profile.nodes[readout]
            assert isinstance(params, ReadoutParams)
            last = emitter.emit("Gather", f"state.{readout}", emitter.constant(-1, np.int64), axis=0)
            unit = emitter.emit(
                "Mul", emitter.cast(steps, "DOUBLE"), emitter.constant(params.scale * (1 << INPUT_SHIFT))
            )
            values = emitter.emit("Div", last, unit)
        else:
            last_population = self._heard()
            counts = emitter.emit("ReduceSum", f"spikes.{last_population}", emitter.constant([0], np.int64), keepdims=0)
            values = emitter.cast(counts, "DOUBLE")
        size = int(np.prod(model.shapes[model.output_name]))
        if model.profile.vote_groups is not None and readout is None:
            groups = model.profile.vote_groups
            split = emitter.emit("Reshape", values, emitter.constant([-1, groups, size // groups], np.int64))
            emitter.emit("ReduceMean", split, emitter.constant([2], np.int64), keepdims=0, name="logits")
        else:
            emitter.emit("Reshape", values, emitter.constant([-1, size], np.int64), name="logits")

    def _heard(self) -> str:
        at = self.model.sources[self.model.output_name]
        while len(at) == 1 and isinstance(self.model.nodes[at[0]], nir.Flatten):
            at = self.model.sources[at[0]]
        if len(at) != 1 or not isinstance(self.model.nodes[at[0]], NEURONS):
            raise GraphError("the output must hear one population", where=self.model.output_name, have=", ".join(at))
        return at[0]
