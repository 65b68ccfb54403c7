"""The checker: everything that is wrong with a model, found before it runs."""

from __future__ import annotations

from collections import Counter

import nir
import numpy as np

from snnkd_deploy.arithmetic.cuba import INPUT_SHIFT, STATE_MAX
from snnkd_deploy.errors import GraphError, Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import ChipStamp, NeuronParams, ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import NEURONS, WEIGHTS

_ONE_INPUT = "one Input with the values side by side, and weights of 0 where a part goes elsewhere"
_ONE_OUTPUT = "one Output, behind the population that answers: a trace holds the spikes of all of them"
STRUCTURE = (nir.Input, nir.Output, nir.Flatten, nir.SumPool2d, nir.AvgPool2d, nir.Delay)
UNDERSTOOD = (*STRUCTURE, *NEURONS, *WEIGHTS)


def check_model(model: Model) -> None:
    """Raise one GraphError with every problem of structure, values and grid; return silently if none."""
    problems = _structure(model)
    if not problems:
        problems = [p for name in model.nodes for p in _values(model, name)]
    if not problems:
        model.shapes  # noqa: B018  raises GraphError itself, with the node's name
        problems = [p for name in model.nodes for p in _grid(model, name)]
    if problems:
        raise GraphError.from_problems([_placed(p, model.path) for p in problems])


def _placed(problem: Problem, path: str) -> Problem:
    where = f"{path} [{problem.where}]" if path and problem.where else problem.where or path
    return Problem(problem.what, where, problem.need, problem.have, problem.remedy)


def _structure(model: Model) -> list[Problem]:
    problems = []
    nodes = model.nodes
    for kind, label, several in ((nir.Input, "Input", _ONE_INPUT), (nir.Output, "Output", _ONE_OUTPUT)):
        count = sum(isinstance(node, kind) for node in nodes.values())
        if count != 1:
            remedy = several if count else f"add the {label}"
            problems.append(Problem(f"exactly one {label} node is needed", "graph", "1", str(count), remedy))
    for name, node in nodes.items():
        if not isinstance(node, UNDERSTOOD):
            problems.append(
                Problem(
                    f"node type {type(node).__name__} is not understood",
                    name,
                    remedy="NIR 1.x primitives are",
                )
            )
    edges = Counter(map(tuple, model.graph.edges))
    for (source, target), count in edges.items():
        for end in (source, target):
            if end not in nodes:
                problems.append(Problem(f"dangling edge {source} -> {target}: no node '{end}'", "graph"))
        if count > 1:
            problems.append(Problem(f"edge {source} -> {target} stands {count} times", "graph"))
    targets, sources = {t for _, t in edges}, {s for s, _ in edges}
    for name, node in nodes.items():
        if not isinstance(node, nir.Input) and name not in targets:
            problems.append(Problem("node has no input", name, remedy="connect it or remove it"))
        if not isinstance(node, nir.Output) and name not in sources:
            problems.append(Problem("node feeds nothing", name, remedy="connect it or remove it"))
    if not problems:
        problems += _unreached(model)
    for name in model.profile.nodes:
        if name not in nodes:
            problems.append(Problem("the profile speaks of a node that is not in the graph", name))
    return problems


def _unreached(model: Model) -> list[Problem]:
    """Nodes that the input does not reach (a loop on its own), or that the output does not hear of."""
    problems = []
    forward: dict[str, list[str]] = {name: [] for name in model.nodes}
    for name, incoming in model.sources.items():
        for source in incoming:
            forward[source].append(name)
    for start, edges, what in (
        (model.input_name, forward, "nothing arrives here from the input"),
        (model.output_name, model.sources, "nothing goes from here to the output"),
    ):
        seen = {start}
        front = [start]
        while front:
            fresh = [n for n in edges[front.pop()] if n not in seen]
            seen.update(fresh)
            front += fresh
        problems += [Problem(what, name, remedy="connect it or remove it") for name in model.nodes if name not in seen]
    return problems


def _values(model: Model, name: str) -> list[Problem]:
    """NIR checks no parameter values: NaN, negative time constants and unstable steps are found here."""
    node = model.nodes[name]
    problems = []
    for key, value in vars(node).items():
        if isinstance(value, np.ndarray | np.generic | float):
            array = np.asarray(value)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                endless = key.startswith("tau") and np.isinf(array).any()
                remedy = "IF in place of LIF where nothing leaks: a decay of 1 has no tau" if endless else ""
                problems.append(Problem(f"{key} holds NaN or infinite values", name, remedy=remedy))
    problems += _geometry(node, name)
    for key in ("tau", "tau_mem", "tau_syn"):
        tau = getattr(node, key, None)
        if tau is None:
            continue
        low = float(np.min(np.asarray(tau)))
        if low <= 0:
            problems.append(Problem(f"{key} must be positive", name, "> 0 s", f"{low:g} s"))
        elif low < model.profile.dt_s * (1 - 1e-6):
            problems.append(
                Problem(
                    f"{key} is shorter than the timestep: forward Euler is unstable",
                    name,
                    f">= dt = {model.profile.dt_s:g} s",
                    f"{low:g} s",
                    "a smaller --dt (norse 1.1 writes tau times its dt: --dt 1e-6 for its 1e-3)",
                )
            )
    if isinstance(node, nir.Delay):
        steps = np.asarray(node.delay, dtype=np.float64) / model.profile.dt_s
        if np.any(steps < 0) or np.any(np.abs(steps - np.rint(steps)) > 1e-3):
            problems.append(Problem("delays must be non-negative multiples of dt", name, remedy="another --dt"))
    if model.profile.reset == "subtract" and np.any(np.asarray(getattr(node, "v_reset", 0)) != 0):
        problems.append(Problem("reset by subtraction has no meaning with v_reset != 0", name, remedy="--reset zero"))
    return problems


def _geometry(node: nir.NIRNode, name: str) -> list[Problem]:
    """Strides, paddings and kernels that mean something."""
    problems = []
    for key, low in (("stride", 1), ("dilation", 1), ("kernel_size", 1), ("groups", 1), ("padding", 0)):
        value = getattr(node, key, None)
        if value is None or isinstance(value, str | bytes):
            continue
        array = np.atleast_1d(np.asarray(value))
        if array.size not in (1, 2) or np.any(array < low) or np.any(array != np.rint(array)) or np.any(array > 2**20):
            problems.append(Problem(f"{key} must be one or two whole numbers", name, f">= {low}", f"{array.tolist()}"))
    if isinstance(node, nir.Affine | nir.Linear) and node.weight.ndim != 2:
        problems.append(Problem("weight must be (out, in)", name, have=f"{node.weight.shape}"))
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        axes = 2 if isinstance(node, nir.Conv2d) else 1
        if node.weight.ndim != axes + 2 or 0 in node.weight.shape:
            problems.append(Problem(f"weight must have {axes + 2} axes", name, have=f"{node.weight.shape}"))
        elif node.weight.shape[0] % max(1, int(np.max(np.asarray(node.groups)))):
            problems.append(Problem("groups do not divide the output channels", name, have=f"{node.groups}"))
    if isinstance(node, nir.Affine | nir.Conv1d | nir.Conv2d) and node.bias.shape != node.weight.shape[:1]:
        problems.append(Problem("bias does not fit the weight", name, f"{node.weight.shape[:1]}", f"{node.bias.shape}"))
    return problems


def _grid(model: Model, name: str) -> list[Problem]:
    """On a chip: every integer is one that the register can hold, and the floats mean those integers."""
    chip = model.profile.chip
    node = model.nodes[name]
    if chip is None:
        return []
    params = model.profile.nodes.get(name)
    if isinstance(node, (*WEIGHTS, *NEURONS)) and params is None:
        return [Problem("no integer parameters in the profile", name, remedy="lower the model again")]
    problems: list[Problem] = []
    grids = chip.parameters
    if isinstance(params, SynapseParams):
        bias = model.synapse_bias_int(name)
        readers = [target for source, target in model.graph.edges if source == name]
        if bias is not None and bias.any() and not all(isinstance(model.nodes[r], NEURONS) for r in readers):
            problems.append(
                Problem(
                    "a bias can only be held by the population that its weights feed directly",
                    name,
                    "an edge to a neuron",
                    f"edges to {', '.join(readers)}",
                    "lower the graph again: pooling and flattening belong in front of the weights",
                )
            )
        real = model.weight_real(name) * params.weight_scale
        integers = model.weight_int(name)
        if np.abs(real - integers).max(initial=0) > 1e-3:
            problems.append(Problem("weights are not on the grid that weight_scale declares", name))
        grid = grids.weight
        if params.place == "chip" and integers.size:
            low, high = int(integers.min()), int(integers.max())
            # Loihi's sign modes: a matrix of one sign may use every integer, a mixed one even integers only.
            mixed = low < 0 < high
            step_ok = not mixed or not np.any(integers % grid.step)
            if low < grid.lo or high > max(grid.hi, -grid.lo - 1) or (mixed and high > grid.hi) or not step_ok:
                problems.append(
                    Problem(
                        "weights are outside the chip's grid",
                        name,
                        f"multiples of {grid.step} in {grid.lo}..{grid.hi}",
                        f"{low}..{high}",
                        "lower the model again",
                    )
                )
    if isinstance(params, NeuronParams | ReadoutParams):
        problems += _bias_problems(model, name, chip)
        problems += _register_problems(name, params, chip)
    return problems


def _bias_problems(model: Model, name: str, chip: ChipStamp) -> list[Problem]:
    params = model.profile.nodes[name]
    exponent = params.bias_exp if isinstance(params, NeuronParams) else chip.neuron.input_shift
    bias, allowed = model.bias_int(name), chip.parameters.bias
    mantissa = bias >> exponent
    problems = []
    if exponent not in allowed.exponent:
        need = f"{allowed.exponent.lo}..{allowed.exponent.hi}"
        problems.append(Problem("the bias exponent is outside the chip's", name, need, f"{exponent}"))
    low, high = allowed.mantissa.lo, allowed.mantissa.hi
    if np.any(mantissa << exponent != bias) or (bias.size and not (low <= mantissa.min() and mantissa.max() <= high)):
        need, have = f"{low}..{high} << {exponent}", f"{bias.min()}..{bias.max()}"
        problems.append(Problem("bias does not fit the register", name, need, have))
    return problems


def _register_problems(name: str, params: NeuronParams | ReadoutParams, chip: ChipStamp) -> list[Problem]:
    """Threshold and decays, which the chip file bounds."""
    problems = []
    neuron, grid = chip.neuron, chip.parameters.decay
    if isinstance(params, NeuronParams) and params.vth not in chip.parameters.threshold:
        allowed = chip.parameters.threshold
        # Lava's own "never" is one above the register: no membrane can pass it.
        if neuron.family != "cuba_lif" or params.vth << INPUT_SHIFT != STATE_MAX:
            need = f"{allowed.lo}..{allowed.hi}"
            problems.append(Problem("the threshold is outside the chip's range", name, need, f"{params.vth}"))
    if grid is None:
        return problems
    stored: dict[str, int | None] = {}
    if neuron.family == "shift_lif":
        stored = {"dash_mem": params.dash_mem, "dash_syn": params.dash_syn}
    elif neuron.family == "iaf":
        stored = {"leak": params.leak}
    elif neuron.family == "cuba_lif":
        stored = {"Du": params.Du, "Dv": params.Dv}
    for key, value in stored.items():
        if value is not None and value not in grid:
            problems.append(Problem(f"{key} is no decay of the chip", name, f"{grid.lo}..{grid.hi}", f"{value}"))
    if neuron.family == "shift_lif" and (params.dash_syn is None) != (neuron.u_bits == 0):
        need = "none" if neuron.u_bits == 0 else "a shift"
        problems.append(Problem("the synaptic current is not the chip's", name, need, f"dash_syn {params.dash_syn}"))
    return problems
