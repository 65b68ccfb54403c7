"""Everything that Lava cannot do of a model, found from the model alone."""

from __future__ import annotations

import nir
import numpy as np

from snnkd_deploy.backends.lava.build import Options
from snnkd_deploy.backends.lava.schedule import NoScheduleError, depths_of
from snnkd_deploy.backends.matrices import delays_along, is_delayed, route_parts, wants_convolution
from snnkd_deploy.backends.routes import Route, Routes
from snnkd_deploy.backends.unroll import sign_mode, size_of
from snnkd_deploy.chips.spec import NeuronSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import NeuronParams, ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import NEURONS, WEIGHTS, pair

MAX_DELAY = 62
MAX_WEIGHTS = 100_000_000  # unrolled; 8 bytes each, in two processes at once while Lava starts
_CONV_WRAP = 2**23
_STRUCTURE = (nir.Input, nir.Output, nir.Flatten, nir.SumPool2d, nir.Delay)
_LOWER = "lower it first: snnkd lower IN.nir --chip loihi2 -o OUT.nir"

# The arithmetic that Lava's bit-accurate LIF has; a chip of this family with another one is not Loihi.
_LOIHI = {
    "family": "cuba_lif",
    "reset": "zero",
    "fires": ">",
    "decay_bits": 12,
    "rounding": "toward_zero",
    "u_bits": 24,
    "v_bits": 24,
    "u_overflow": "wrap",
    "v_overflow": "saturate",
    "input_shift": 6,
}


def check_for_lava(model: Model, options: Options) -> list[Problem]:
    """All reasons why Lava cannot run the model; an empty list where it can."""
    if model.profile.chip is None:
        return [Problem("the model carries no integers of a chip", model.path or "model", remedy=_LOWER)]
    problems = arithmetic_problems(model, model.profile.chip.neuron)
    nodes = [p for name in model.nodes for p in _node(model, name)]
    problems += nodes
    if not nodes:  # routes need every node understood
        problems += _routes(model, options)
    return problems


def arithmetic_problems(model: Model, neuron: NeuronSpec) -> list[Problem]:
    """Where the chip's neuron is not the LIF that Lava has."""
    problems = []
    if neuron.family != "cuba_lif":
        what = "Lava has Loihi's neuron only"
        return [Problem(what, "chip", "cuba_lif", neuron.family, "lower the model for loihi2")]
    for key, need in _LOIHI.items():
        have = getattr(neuron, key)
        if have != need:
            remedy = "lower the model for loihi2" if key != "reset" else "lower it with reset = zero"
            problems.append(Problem(f"Lava's neuron has another {key}", "chip", f"{need}", f"{have}", remedy))
    profile = model.profile
    if profile.reset != "zero" and neuron.reset == "zero":
        problems.append(Problem("Lava's LIF resets hard to 0", "profile.reset", "zero", profile.reset))
    if profile.fires != ">" and neuron.fires == ">":
        problems.append(Problem("Lava's LIF fires strictly above", "profile.fires", ">", profile.fires))
    if profile.v0 != 0:
        problems.append(Problem("Lava starts every sample at v = 0", "profile.v0", "0", f"{profile.v0:g}"))
    return problems


def _node(model: Model, name: str) -> list[Problem]:
    node, params = model.nodes[name], model.profile.nodes.get(name)
    if isinstance(node, nir.AvgPool2d):
        return [Problem("average pooling is not integer", name, remedy="lower the model: it folds")]
    if isinstance(node, NEURONS) and not isinstance(params, NeuronParams | ReadoutParams):
        return [Problem("no integer parameters", name, remedy="lower the model again")]
    if isinstance(node, WEIGHTS):
        if not isinstance(params, SynapseParams):
            return [Problem("no integer parameters", name, remedy="lower the model again")]
        return _delay_count(model, name, params)
    if not isinstance(node, (*NEURONS, *_STRUCTURE)):
        return [Problem(f"{type(node).__name__} has no counterpart in Lava", name)]
    if isinstance(params, NeuronParams | ReadoutParams):
        return _bias_range(model, name, params)
    return []


def _delay_count(model: Model, name: str, params: SynapseParams) -> list[Problem]:
    width = model.shapes[model.sources[name][0]][0]
    if params.place == "host" or len(params.delay) in (0, 1, width):
        return []
    have = f"{len(params.delay)} delays"
    return [Problem("one delay, or one for each source", name, f"1 or {width}", have)]


def _bias_range(model: Model, name: str, params: NeuronParams | ReadoutParams) -> list[Problem]:
    """Lava keeps the mantissa in 16 bits and checks nothing."""
    exponent = params.bias_exp if isinstance(params, NeuronParams) else 6
    bias = model.bias_int(name)
    mantissa = bias >> exponent
    if np.any(mantissa << exponent != bias) or np.any((mantissa < -4096) | (mantissa > 4095)):
        have = f"{bias.min()}..{bias.max()}"
        return [Problem("bias does not fit the register", name, f"-4096..4095 << {exponent}", have)]
    return []


def _routes(model: Model, options: Options) -> list[Problem]:
    routes = Routes(model)
    every = [*routes.routes, *routes.into(model.output_name)]
    problems = [Problem(what, where) for where, what in dict.fromkeys(routes.faults)]
    if problems:
        return problems
    problems += _output(model, routes)
    for route in every:
        if route.weight is not None or route.members[0].origin not in routes.host:
            problems += _route(model, routes, route, options)
    if not routes.populations:
        problems.append(Problem("the model has no neurons", model.path or "model"))
    try:
        depths_of(model, routes)
    except NoScheduleError as error:
        problems.append(
            Problem(
                "a loop is faster than its synapses: every synapse takes one step, a loop gives back one",
                ", ".join(error.nodes),
                remedy="one population in the loop, or a delay on its synapses",
            )
        )
    if options.hardware:
        problems += _hardware(model, routes)
    return list(dict.fromkeys(problems))


def _output(model: Model, routes: Routes) -> list[Problem]:
    into = routes.into(model.output_name)
    origins = {member.origin for route in into for member in route.members}
    readout = model.readout_name
    plain = all(route.weight is None and not route.pre and not route.post for route in into)
    if readout is not None and (origins != {readout} or not plain):
        what = "logits are the readout's state: nothing else may reach the output"
        return [Problem(what, model.output_name, readout, ", ".join(sorted(origins)))]
    if origins & routes.host:
        return [Problem("the input reaches the output without a neuron", model.output_name)]
    return []


def _route(model: Model, routes: Routes, route: Route, options: Options) -> list[Problem]:
    where = route.weight or route.target
    problems = []
    delays = delays_along(model, route)
    most = sum(int(d.max()) for d in delays)
    if most > MAX_DELAY or any(d.min() < 0 for d in delays):
        have = f"{min(int(d.min()) for d in delays)}..{most}"
        problems.append(Problem("delays are out of range", where, f"0..{MAX_DELAY} steps", have))
    if route.weight is not None:
        convolution = wants_convolution(model, route, options.conv)
        unrolled = unrolled_size(model, route.weight)
        if unrolled > MAX_WEIGHTS and not convolution:
            remedy = "LavaBackend(conv='conv')"
            what = "too many weights once unrolled"
            return [Problem(what, where, f"up to {MAX_WEIGHTS:.3g}", f"{unrolled:.3g}", remedy)]
        if not convolution:
            problems += _wraps(model, route, routes)
        problems += _partial_sums(model, routes, route)
    if problems:
        return problems
    # Pooling adds up weights where windows overlap; without it the node's own integers decide.
    pools = any(isinstance(model.nodes[n], nir.SumPool2d) for n in (*route.pre, *route.post))
    if pools:
        values = np.concatenate([part.data for part in route_parts(model, route).values()])
    else:
        values = model.weight_int(where) if route.weight else np.ones(1, dtype=np.int64)
    if sign_mode(np.asarray(values)) is None:
        need = "even -256..254, or 0..255, or -255..0"
        have = f"{values.min()}..{values.max()}"
        remedy = "lower the model again"
        problems.append(Problem("Lava would clip or truncate these weights", where, need, have, remedy))
    return problems


def _partial_sums(model: Model, routes: Routes, route: Route) -> list[Problem]:
    """Cases in which Lava adds up partial results of what is one nonlinear operation on a sum."""
    assert route.weight is not None
    problems = []
    split = sum(other.weight == route.weight for other in routes.into(route.target)) > 1
    uneven = any(delays.min() != delays.max() for delays in delays_along(model, route))
    pooled = any(isinstance(model.nodes[n], nir.SumPool2d) for n in route.post)
    exponent = model.synapse(route.weight).weight_exp
    if exponent < 0 and (pooled or uneven or split):
        what = "a negative weight exponent rounds each sum, and here Lava adds up parts of it"
        problems.append(Problem(what, route.weight, "weight_exp >= 0", str(exponent)))
    if route.binary and split:
        what = "spikes that reach binary weights over different delays would count one by one"
        problems.append(Problem(what, route.weight, remedy="message_bits > 0, or separate weights"))
    return problems


def _wraps(model: Model, route: Route, routes: Routes) -> list[Problem]:
    """Lava's Conv wraps its sum to 24 bits, Sparse does not: with graded spikes it can matter."""
    assert route.weight is not None
    if not isinstance(model.nodes[route.weight], nir.Conv1d | nir.Conv2d) or route.binary:
        return []
    weight = np.abs(model.weight_int(route.weight))
    encoding = model.profile.encoding
    from_host = any(member.origin in routes.host for member in route.members)
    largest = max(encoding.levels, 2**encoding.bits - 1 if encoding.bits else 1) if from_host else 1
    for name in route.pre:
        if isinstance(model.nodes[name], nir.SumPool2d):
            largest *= int(np.prod(pair(model.nodes[name].kernel_size)))
    bound = int(weight.reshape(weight.shape[0], -1).sum(1).max()) * largest
    if bound < _CONV_WRAP:
        return []
    return [
        Problem(
            "sums of this convolution may wrap at 24 bits, which only Lava's Conv does",
            route.weight,
            f"below {_CONV_WRAP}",
            str(bound),
            "LavaBackend(conv='conv'), or fewer bits a graded spike",
        )
    ]


def _hardware(model: Model, routes: Routes) -> list[Problem]:
    """What our own CPU processes do, and a chip cannot."""
    problems = []
    for route in routes.routes:
        direct = route.weight is None and any(m.origin in routes.host for m in route.members)
        if direct:
            what = "a current from the host has no counterpart on the chip: only synapses reach a neuron"
            problems.append(Problem(what, route.target, remedy="encoding events or graded"))
        if any(m.back for m in route.members) or is_delayed(model, route):
            what = "loops and delays cross samples, which only our gate on the CPU prevents"
            problems.append(Problem(what, route.weight or route.target, remedy="hardware=False"))
    return problems


def unrolled_size(model: Model, name: str) -> int:
    """Upper bound on the number of stored weights of a node, without unrolling it."""
    weight = model.weight_int(name)
    positions = size_of(model.shapes[name]) // weight.shape[0] if weight.ndim > 1 else 1
    return int(np.count_nonzero(weight)) * max(1, positions)
