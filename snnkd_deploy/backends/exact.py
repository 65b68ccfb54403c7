"""`exact`: the chip's integers in batched torch. The default backend, and what training is held to.

Integers live in floats, chosen per layer by a computed bound: float32 below 2^24, float64 below 2^53.
"""

from __future__ import annotations

import warnings

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import snnkd_deploy.backends.layers as layers
from snnkd_deploy.arithmetic import ShiftNeuron, State, exact_dtype, integrate, make_neuron, run, shift_right_round
from snnkd_deploy.arithmetic.cuba import (
    DECAY_ONE,
    INPUT_SHIFT,
    STATE_MAX,
    CubaNeuron,
    accumulate,
    run_in_range,
    wrap_int32,
)
from snnkd_deploy.arithmetic.events import Arrivals, EventByEvent, order_is_free
from snnkd_deploy.arithmetic.layout import channels_last
from snnkd_deploy.backends.base import Availability, Inputs
from snnkd_deploy.backends.engine import DelayLine, Operator, merge_batch, run_graph
from snnkd_deploy.backends.inputs import check_inputs
from snnkd_deploy.backends.trace import EVENT_ORDER, Record, Trace, concatenate
from snnkd_deploy.backends.unroll import weight_matrix
from snnkd_deploy.chips.spec import NeuronSpec
from snnkd_deploy.errors import BackendError, Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import NeuronParams, ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import NEURONS, WEIGHTS, pair

# Floats held at once by one chunk of samples (largest layer times T): keeps memory flat for any data set.
_CHUNK_VALUES = 48_000_000
# Neurons that each thread steps at once on a CPU: enough to outweigh the calls, few enough for its cache.
_CACHED_NEURONS = 1 << 18
# A dense layer of at least so many weights takes its input as a sparse matrix where at most this share of it is not
# zero: from there on the conversion pays (bench/event_driven.py).
_SPARSE_WEIGHTS, _SPARSE_SHARE = 1 << 20, 0.04
# Chunks of fewer samples than this waste more on calls than the cache brings.
_FEWEST_SAMPLES = 16


class ExactBackend:
    """Runs any model that carries integers for a chip of a known family."""

    name = "exact"

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)

    def availability(self) -> Availability:
        return Availability(usable=True, version=f"torch {torch.__version__}")

    def check(self, model: Model) -> list[Problem]:
        if not model.on_chip_grid:
            return [
                Problem(
                    "the model carries no integers of a chip",
                    model.path or "model",
                    remedy="lower it first: snnkd lower IN.nir --chip loihi2 -o OUT.nir, or use --backend float",
                )
            ]
        problems = []
        for name, node in model.nodes.items():
            if isinstance(node, nir.AvgPool2d):
                problems.append(Problem("average pooling is not integer", name, remedy="lower the model: it folds"))
            elif isinstance(node, (*NEURONS, *WEIGHTS)) and name not in model.profile.nodes:
                problems.append(Problem("no integer parameters", name, remedy="lower the model again"))
        return problems

    @torch.no_grad()
    def run(self, model: Model, inputs: Inputs, record: Record) -> Trace:
        problems = self.check(model)
        if problems:
            raise BackendError.from_problems(problems)
        check_inputs(model, inputs)
        size = self._chunk_samples(model, inputs)
        operators = build_operators(model, inputs, self.device)
        # What chunks write their spikes into: each is converted once and copied nowhere.
        assert model.profile.chip is not None
        most = (1, None) if model.profile.chip.neuron.max_spikes == 1 else (1,)
        wanted = [name for name in model.spiking if record.spikes and record.wants(name)]
        single = [name for name in wanted if model.neuron(name).max_spikes in most]
        spikes = {n: torch.empty((inputs.steps, inputs.samples, *model.shapes[n]), dtype=torch.bool) for n in single}
        chunks = []
        for start in range(0, max(1, inputs.samples), size):
            end = start + size
            into = {name: whole[:, start:end] for name, whole in spikes.items()}
            chunks.append(self._run_chunk(model, operators, inputs.chunk(start, end), record, into))
        trace = concatenate(chunks)
        found = trace.spikes | {name: whole.view(torch.uint8) for name, whole in spikes.items()}
        trace.spikes = {name: found[name] for name in [*wanted, *found]}
        return trace

    def _chunk_samples(self, model: Model, inputs: Inputs) -> int:
        largest = max(int(np.prod(shape)) for shape in model.shapes.values())
        size = max(1, _CHUNK_VALUES // (largest * inputs.steps))
        if self.device.type != "cpu":
            return size
        neurons = max((int(np.prod(model.shapes[name])) for name in model.spiking), default=1)
        return min(size, max(_FEWEST_SAMPLES, torch.get_num_threads() * _CACHED_NEURONS // max(1, neurons)))

    @torch.no_grad()
    def _run_chunk(
        self, model: Model, operators: dict[str, Operator], inputs: Inputs, record: Record, into: dict[str, Tensor]
    ) -> Trace:
        """Run some samples. The spikes of the populations in `into` are written there, the others returned."""
        x = inputs.x.to(self.device, torch.float32 if inputs.x.dtype != torch.float64 else torch.float64)
        outputs = run_graph(model, operators, x, inputs.steps, record.states)
        trace = Trace(logits=logits_of(model, outputs, inputs.steps).cpu(), meta={"backend": self.name})
        ordered = {n: o.neuron for n, o in operators.items() if isinstance(o, Population)}
        order = {n: [e.entries, e.changed] for n, e in ordered.items() if isinstance(e, EventByEvent) and e.entries}
        if order:
            trace.meta[EVENT_ORDER] = order
        for name in model.spiking:
            if name in into:
                _above_zero(outputs[name], into[name])
            elif record.spikes and record.wants(name):
                trace.spikes[name] = spike_counts(outputs[name]).cpu()
        silent = silent_readout(model)
        if silent is not None and record.spikes and record.wants(silent):
            shape = (inputs.steps, inputs.samples, *model.shapes[silent])
            trace.spikes[silent] = torch.zeros(shape, dtype=torch.uint8)
        if record.readout and model.readout_name is not None:
            trace.v[model.readout_name] = _stored(model, outputs[model.readout_name])
        if record.states:
            for name, operator in operators.items():
                if isinstance(operator, Population) and record.wants(name):
                    trace.u[name] = _stored(model, operator.us)
                    trace.v[name] = _stored(model, operator.vs)
        return trace


def _above_zero(spikes: Tensor, out: Tensor) -> None:
    """Spikes, at most one a step, as booleans."""
    if spikes.device == out.device:
        torch.gt(spikes, 0, out=out)
    else:
        out.copy_(spikes > 0)


def spike_counts(spikes: Tensor) -> Tensor:
    """Spikes per step as uint8, or as int32 where one step may hold more than 255."""
    fits = not spikes.numel() or float(spikes.max()) <= 255
    return spikes.to(torch.uint8 if fits else torch.int32)


def _stored(model: Model, states: Tensor) -> Tensor:
    """States as the chip's registers hold them: int32, or float32 where the arithmetic is single precision."""
    return states.to(torch.float32 if model.family == "float_lif" else torch.int32).cpu()


def silent_readout(model: Model) -> str | None:
    """The readout of a `.net` file: Lava runs it as a LIF that cannot fire, and records its empty spike train."""
    params = model.profile.nodes.get(model.readout_name or "")
    return model.readout_name if isinstance(params, ReadoutParams) and params.silent else None


def logits_of(model: Model, outputs: dict[str, Tensor], steps: int) -> Tensor:
    """(B, C) float64: de-quantised mean logit of an integrating readout, else spike counts of the last layer.

    With `vote_groups` the counts are averaged over groups of neighbouring neurons.
    """
    out = outputs[model.output_name]
    name = model.readout_name
    if name is None:
        counts = out.to(torch.float64).sum(0).flatten(1)
        groups = model.profile.vote_groups
        return counts if groups is None else counts.unflatten(1, (groups, -1)).mean(2)
    params = model.profile.nodes[name]
    assert isinstance(params, ReadoutParams)
    return out[-1].to(torch.float64).flatten(1) / (params.scale * model.bias_unit * steps)


def _placed(weight: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Weights where and as they are used."""
    placed = torch.from_numpy(weight).to(device, dtype)
    return channels_last(placed) if placed.dim() == 4 and placed.device.type == "cpu" else placed


class EventDriven:
    """x -> x W^T, on (N, in) by the few that are not zero where they are few. Integers come out the same either way."""

    def __init__(self, weight: Tensor) -> None:
        self.weight, self.columns = weight, weight.T.contiguous()
        self.possible = torch.backends.mkl.is_available()  # torch multiplies sparse matrices with nothing else

    def __call__(self, x: Tensor) -> Tensor:
        if not self.possible or x.dim() != 2 or int(torch.count_nonzero(x)) > _SPARSE_SHARE * x.numel():
            return F.linear(x, self.weight)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return x.to_sparse_csr() @ self.columns


class Synapse(Operator):
    """Weights on the chip: exact integer sums, then the exponent's shift. Biases belong to the population."""

    def __init__(self, model: Model, name: str, max_input: int, counts: bool, device: torch.device) -> None:
        params = model.synapse(name)
        node = model.nodes[name]
        weight = model.weight_int(name)
        magnitude = (
            np.abs(weight).reshape(weight.shape[0], -1).sum(1).max(initial=0)
            if weight.ndim > 1
            else np.abs(weight).max(initial=0)
        )
        self.bound = int(magnitude) * max_input
        self.dtype = exact_dtype(self.bound)
        placed = _placed(weight, device, self.dtype)
        wide = isinstance(node, nir.Linear | nir.Affine) and weight.size >= _SPARSE_WEIGHTS and device.type == "cpu"
        self.map = EventDriven(placed) if wide else layers.linear_map(node, placed)
        self.exponent = params.weight_exp
        # A spike is a spike, whatever its value; `counts` are several spikes in one number.
        self.binary = params.message_bits == 0 and not counts
        # Lava's Conv wraps its sum to 24 bits, Dense and Sparse do not.
        is_conv = isinstance(node, nir.Conv1d | nir.Conv2d)
        self.wraps = model.family == "cuba_lif" and is_conv and self.bound >= STATE_MAX
        delay = torch.tensor(params.delay or (0,), device=device)
        in_shape = model.shapes[model.sources[name][0]]
        self.delay = DelayLine(delay.view(-1, *[1] * (len(in_shape) - 1)))
        self.arrivals: Arrivals | None = None  # kept for a population that adds events one by one

    def start(self, keep_states: bool) -> None:
        self.delay.start(keep_states)

    def keep_arrivals(self, model: Model, name: str, device: torch.device) -> Arrivals:
        positive = torch.from_numpy(model.weight_int(name).clip(min=0)).to(device, self.dtype)
        convolve = layers.linear_map(model.nodes[name], positive)
        rank = origin_rank(model, name)
        self.arrivals = Arrivals(rank, weight_matrix(model, name), lambda x: convolve(x.to(self.dtype)))
        return self.arrivals

    @property
    def out_bound(self) -> int:
        return self.bound << self.exponent if self.exponent > 0 else self.bound >> -self.exponent

    def __call__(self, x: Tensor) -> Tensor:
        flat, (steps, batch) = merge_batch(self.delay(x))
        if self.binary:
            flat = flat != 0
        if self.arrivals is not None:
            self.arrivals.events = flat.reshape(steps, batch, *flat.shape[1:])
        total = self.map(flat.to(self.dtype))
        if self.wraps:
            total = torch.remainder(total + STATE_MAX, 2 * STATE_MAX) - STATE_MAX
        if self.exponent > 0:
            total = total * float(1 << self.exponent)
        elif self.exponent < 0:
            total = torch.floor(total * 2.0**self.exponent)
        return total.reshape(steps, batch, *total.shape[1:])


class HostSynapse(Operator):
    """The first layer of a `current` encoding, on the host: integers in, bias mantissas out."""

    def __init__(self, model: Model, name: str, device: torch.device) -> None:
        params = model.synapse(name)
        node = model.nodes[name]
        weight = model.weight_int(name)
        bias = model.synapse_bias_int(name)
        assert model.profile.chip is not None
        self.grid = model.profile.chip.parameters.bias.mantissa
        self.shift = params.shift
        bound = int(np.abs(weight).reshape(weight.shape[0], -1).sum(1).max()) * model.profile.encoding.levels
        bound += (int(np.abs(bias).max(initial=0)) if bias is not None else 0) + (1 << self.shift)
        self.dtype = exact_dtype(bound)
        self.map = layers.linear_map(node, _placed(weight, device, self.dtype))
        self.bias: Tensor | None = None
        if bias is not None:
            ndim = len(model.shapes[name])
            self.bias = torch.from_numpy(bias).to(device, self.dtype).reshape(-1, *[1] * (ndim - 1))

    def __call__(self, x: Tensor) -> Tensor:
        flat, (steps, batch) = merge_batch(x)
        total = self.map(flat.to(self.dtype))
        if self.bias is not None:
            total = total + self.bias
        mantissa = shift_right_round(total, self.shift).clamp(self.grid.lo, self.grid.hi)
        return mantissa.to(torch.float32).reshape(steps, batch, *mantissa.shape[1:])


class Population(Operator):
    """Neurons of the chip's family, spiking or integrating."""

    def __init__(self, model: Model, name: str, bound: int, steps: int, device: torch.device) -> None:
        params = model.profile.nodes[name]
        assert isinstance(params, NeuronParams | ReadoutParams)
        assert model.profile.chip is not None
        spec = model.profile.chip.neuron
        bias = model.bias_int(name)
        self.wraps_int32 = in_range = v_in_range = False
        if spec.family == "cuba_lif":
            reach = _most_held(bound << INPUT_SHIFT, params.Du, steps)
            in_range = reach < STATE_MAX
            v_in_range = _most_held(reach + int(np.abs(bias).max(initial=0)), params.Dv, steps) < STATE_MAX
            self.dtype = torch.float32 if in_range else torch.float64
            self.wraps_int32 = bound << INPUT_SHIFT >= 2**31
        elif spec.family == "float_lif":
            self.dtype = torch.float32  # the rounding is the arithmetic
        else:
            self.dtype = _membrane_dtype(spec, params, bound, bias, steps)
        self.spiking = isinstance(params, NeuronParams)
        # An image that enters the bias register leaves u at 0 on the chip; v is the same either way.
        self.keeps_u_zero = any(model.synapse(s).as_bias for s in model.weight_sources(name))
        self.reads_u = isinstance(params, ReadoutParams) and params.read == "u"
        self.neuron = make_neuron(
            spec,
            params.numbers(),
            torch.from_numpy(bias).to(device, self.dtype) if bias.any() else None,
            u_in_range=in_range,
            v_in_range=v_in_range,
            wraps_int32=bound << INPUT_SHIFT >= 2 * STATE_MAX,
        )
        # Where a bound proves that no register wraps, or none saturates either, there is less to do.
        cuba = self.neuron if isinstance(self.neuron, CubaNeuron) else None
        self.in_range = cuba is not None and in_range and not cuba.wraps_int32
        self.sums_up = cuba is not None and self.in_range and v_in_range and cuba.forgets_current and cuba.Dv == 0
        self.state: State | None = None
        self.keep = False
        self.history: list[tuple[Tensor, Tensor]] = []

    def start(self, keep_states: bool) -> None:
        self.state, self.keep, self.history = None, keep_states, []
        if isinstance(self.neuron, EventByEvent):
            self.neuron.start()

    def add_event_by_event(self, model: Model, name: str, operators: dict[str, Operator], device: torch.device) -> None:
        """Take the sums of a current that saturates in the chip's order."""
        assert isinstance(self.neuron, ShiftNeuron)
        arrivals = []
        for source in model.sources[name]:
            synapse = operators[source]
            if not isinstance(synapse, Synapse) or synapse.exponent:
                what = "events that are added one by one come straight from weights, without exponents"
                raise BackendError(what, where=f"{source} -> {name}", remedy="lower the model again")
            arrivals.append(synapse.keep_arrivals(model, source, device))
        self.neuron = EventByEvent(self.neuron, arrivals)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if self.wraps_int32:
            x = wrap_int32(wrap_int32(x) * float(1 << INPUT_SHIFT)) * (1 / (1 << INPUT_SHIFT))
        if self.state is None:
            self.state = State.zeros(x[0])
        if not self.spiking:
            if self.sums_up and isinstance(self.neuron, CubaNeuron):
                us, vs = accumulate(x, self.neuron, self.state)
            else:
                us, vs = integrate(x, self.neuron, self.state)
            if self.keep:
                self.history.append((us, vs))
            return us if self.reads_u else vs
        if self.in_range and not self.keep:
            assert isinstance(self.neuron, CubaNeuron)
            return run_in_range(x, self.neuron, self.state)
        spikes, us_, vs_ = run(x, self.neuron, self.state, keep_states=self.keep)
        if us_ is not None and vs_ is not None:
            self.history.append((us_, vs_))
        return spikes

    @property
    def us(self) -> Tensor:
        us = torch.cat([u for u, _ in self.history])
        return torch.zeros_like(us) if self.keeps_u_zero else us

    @property
    def vs(self) -> Tensor:
        return torch.cat([v for _, v in self.history])


def _most_held(arriving: int, decay: int, steps: int) -> int:
    """The most that a register can hold to which at most `arriving` is added per step, after `steps` of them."""
    return arriving * DECAY_ONE // decay if decay else arriving * steps


def _membrane_dtype(
    spec: NeuronSpec, params: NeuronParams | ReadoutParams, bound: int, bias: np.ndarray, steps: int
) -> torch.dtype:
    """The float type in which a saturating or a never-decaying membrane is exact.

    Raises OverflowError where even float64 is not.
    """
    step = (bound << spec.input_shift) + int(np.abs(bias).max(initial=0))
    if spec.v_overflow == "saturate":
        return exact_dtype(step + 2 ** (spec.v_bits + 1))
    vth = params.vth if isinstance(params, NeuronParams) else 0
    # Multi-spike neurons fall below their threshold each step; the others, and readouts, may pile up.
    most = params.max_spikes if isinstance(params, NeuronParams) and params.max_spikes is not None else spec.max_spikes
    return exact_dtype(vth + step * (1 if most == 0 and vth else steps))


def _most_spikes(model: Model, name: str, arriving: int, steps: int) -> int:
    """Largest number of spikes that a neuron can send in one step."""
    params = model.neuron(name)
    assert model.profile.chip is not None
    spec = model.profile.chip.neuron
    most = spec.max_spikes if params.max_spikes is None else params.max_spikes
    if most:
        return most
    drive = arriving + int(np.abs(model.bias_int(name)).max(initial=0))
    return max(1, (params.vth + drive) // max(1, params.vth))


def build_operators(model: Model, inputs: Inputs, device: torch.device) -> dict[str, Operator]:
    """One operator a node, with the bound on its output that decides the next one's number type."""
    operators: dict[str, Operator] = {}
    bounds: dict[str, int] = {}
    encoding = model.profile.encoding
    low, high = (int(end) for end in torch.aminmax(inputs.x)) if inputs.x.numel() else (0, 1)
    largest_input = max(-low, high)
    assert model.profile.chip is not None
    spec = model.profile.chip.neuron
    # Loops: what a population emits at most is known before it has been visited.
    bounds |= dict.fromkeys(model.spiking, spec.max_spikes)
    summed: set[str] = set()  # nodes whose values are sums of spikes, or several of them
    if spec.max_spikes != 1:
        summed |= set(model.spiking)
    if spec.max_input != 1:
        summed.add(model.input_name)
    # Nodes whose values are zeros and ones already, so that no synapse has to ask.
    clean = set(model.spiking) if spec.max_spikes == 1 else set()
    if encoding.kind != "float" and low >= 0 and high <= 1:
        clean.add(model.input_name)
    for name in (n for component in model.order for n in component):
        node = model.nodes[name]
        arriving = sum(bounds.get(source, 0) for source in model.sources[name])
        params = model.profile.nodes.get(name)
        if isinstance(params, SynapseParams) and params.place == "host":
            operators[name] = HostSynapse(model, name, device)
            bounds[name] = -model.profile.chip.parameters.bias.mantissa.lo
        elif isinstance(params, SynapseParams):
            pooled = any(source in summed for source in model.sources[name])
            largest = 1 if params.message_bits == 0 and not pooled else max(1, arriving)
            synapse = Synapse(model, name, largest, pooled, device)
            if len(model.sources[name]) == 1 and model.sources[name][0] in clean:
                synapse.binary = False
            operators[name], bounds[name] = synapse, synapse.out_bound
        elif isinstance(params, NeuronParams | ReadoutParams):
            operators[name] = Population(model, name, arriving, inputs.steps, device)
            bounds[name] = (
                _most_spikes(model, name, arriving, inputs.steps) if isinstance(params, NeuronParams) else STATE_MAX
            )
        else:
            in_shape = model.shapes[model.sources[name][0]] if model.sources[name] else model.shapes[name]
            operator = layers.structure_operator(node, in_shape, model.shapes[name])
            if isinstance(node, nir.Delay):
                operator = layers.delay_line(node, model.profile.dt_s, model.shapes[name])
            if operator is None:
                raise BackendError(f"{type(node).__name__} has no integer meaning here", where=name)
            operators[name] = operator
            if isinstance(node, nir.Input):
                binary = encoding.kind == "events" and spec.max_input == 1
                bounds[name] = 1 if binary else max(encoding.levels, largest_input)
            elif isinstance(node, nir.SumPool2d):
                bounds[name] = arriving * int(np.prod(pair(node.kernel_size)))
            else:
                bounds[name] = arriving
                if len(model.sources[name]) == 1 and model.sources[name][0] in clean:
                    clean.add(name)
            if isinstance(node, nir.SumPool2d) or any(source in summed for source in model.sources[name]):
                summed.add(name)
    for name, operator in operators.items():  # synapses of a loop may come after their population
        if isinstance(operator, Population) and isinstance(operator.neuron, ShiftNeuron):
            arriving = sum(bounds[source] for source in model.sources[name])
            if not order_is_free(operator.neuron, arriving):
                operator.add_event_by_event(model, name, operators, device)
    return operators


def origin_rank(model: Model, synapse: str) -> int:
    """Place in layer order of the population that a synapse hears, -1 for the input."""
    flat = [name for component in model.order for name in component]
    name = model.sources[synapse][0]
    while not isinstance(model.nodes[name], (nir.Input, *NEURONS)):
        name = model.sources[name][0]
    return -1 if name == model.input_name else flat.index(name)
