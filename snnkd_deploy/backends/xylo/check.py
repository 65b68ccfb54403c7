"""Everything that Xylo cannot do of a model. Its simulator checks nothing but integer types."""

from __future__ import annotations

import nir
import numpy as np
from scipy.sparse import csr_matrix

from snnkd_deploy.backends.xylo.layout import Layout, is_convolution, lay_out
from snnkd_deploy.chips import list_chips, load_chip
from snnkd_deploy.chips.spec import NeuronSpec
from snnkd_deploy.errors import Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import NeuronParams, SynapseParams
from snnkd_deploy.graph.topology import NEURONS, WEIGHTS

MAX_EVENTS = 15  # of one input channel in a step
HIDDEN_SPIKES, OUTPUT_SPIKES = 31, 1
_STRUCTURE = (nir.Input, nir.Output, nir.Flatten, nir.Delay)
_LOWER = "lower the model for a Xylo: chip = xylo_a2 or xylo_a3"
_NEURON = {
    "family": "shift_lif",
    "reset": "subtract",
    "fires": ">=",
    "u_bits": 16,
    "v_bits": 16,
    "u_overflow": "saturate",
    "v_overflow": "saturate",
    "rounding": "floor",
}


def check_for_xylo(model: Model) -> tuple[Layout | None, list[Problem]]:
    """The layout of a model that Xylo runs, or all reasons why it does not."""
    if model.profile.chip is None:
        return None, [Problem("the model carries no integers of a chip", model.path or "model", remedy=_LOWER)]
    problems = _arithmetic(model, model.profile.chip.neuron)
    nodes = [p for name in model.nodes for p in _node(model, name)]
    problems += nodes
    if nodes:  # a layout needs every node understood
        return None, problems
    layout, found = lay_out(model)
    problems += found
    if layout is not None:
        for name in (*layout.hidden, layout.output):
            problems += _population(model, name, OUTPUT_SPIKES if name == layout.output else HIDDEN_SPIKES)
        problems += _weights(layout) + _capacity(model, layout)
    return (None if problems else layout), problems


def _arithmetic(model: Model, neuron: NeuronSpec) -> list[Problem]:
    if neuron.family != "shift_lif":
        return [Problem("Xylo has neurons that decay by bit shifts only", "chip", "shift_lif", neuron.family, _LOWER)]
    problems = [
        Problem(f"Xylo's neuron has another {key}", "chip", f"{need}", f"{getattr(neuron, key)}", _LOWER)
        for key, need in _NEURON.items()
        if getattr(neuron, key) != need
    ]
    if neuron.input_shift > 8:
        problems.append(
            Problem("weights shifted that far wrap", "chip", "input_shift up to 8", f"{neuron.input_shift}")
        )
    profile = model.profile
    if (profile.reset, profile.fires, profile.v0) != ("subtract", ">=", 0.0):
        have = f"{profile.reset}, {profile.fires}, {profile.v0:g}"
        problems.append(Problem("reset, threshold test and start of v", "profile", "subtract, >=, 0", have, _LOWER))
    if profile.encoding.kind != "events":
        remedy = 'student.encoding = "events", "counts" or "rate"'
        problems.append(Problem("Xylo hears events", "profile.encoding", "events", profile.encoding.kind, remedy))
    return problems


def _node(model: Model, name: str) -> list[Problem]:
    node, params = model.nodes[name], model.profile.nodes.get(name)
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        return [Problem("there is no pooling stage", name, remedy="fold it into dense weights")]
    if is_convolution(node):
        remedy = "a dense or recurrent student"
        return [Problem("no shared weights: a convolution would have to be unrolled", name, remedy=remedy)]
    if isinstance(node, WEIGHTS):
        if not isinstance(params, SynapseParams):
            return [Problem("no integer parameters", name, remedy="lower the model again")]
        if params.place == "host":
            return [Problem("the host computes currents, the chip takes events", name, remedy=_LOWER)]
        if params.weight_exp or params.message_bits:
            return [Problem("neither exponents of weights nor graded spikes", name, remedy=_LOWER)]
        return []
    if isinstance(node, NEURONS):
        if not isinstance(params, NeuronParams):
            what = "no integer parameters" if params is None else "every neuron of the chip spikes"
            return [Problem(what, name, remedy=_LOWER)]
        return []
    return [] if isinstance(node, _STRUCTURE) else [Problem(f"{type(node).__name__} has no counterpart", name)]


def _population(model: Model, name: str, cap: int) -> list[Problem]:
    assert model.profile.chip is not None
    spec, params, problems = model.profile.chip.neuron, model.neuron(name), []
    most = spec.max_spikes if params.max_spikes is None else params.max_spikes
    if most != cap:
        problems.append(Problem("spikes of a neuron in one step", name, f"{cap}", f"{most or 'any number'}", _LOWER))
    for what, dash in (("synaptic current", params.dash_syn), ("membrane", params.dash_mem)):
        if not 1 <= (dash or 0) <= 15:
            problems.append(Problem(f"bit shift of the {what}", name, "1..15", f"{dash}", _LOWER))
    threshold = params.vth << spec.input_shift
    if not 1 <= threshold <= 32767:
        problems.append(Problem("threshold register", name, "1..32767", f"{threshold}", "a smaller input_shift"))
    bias = model.bias_int(name)
    if bias.min(initial=0) < -32768 or bias.max(initial=0) > 32767:
        have = f"{bias.min()}..{bias.max()}"
        problems.append(Problem("bias register", name, "-32768..32767", have, "a smaller input_shift"))
    return problems


def _weights(layout: Layout) -> list[Problem]:
    problems = []
    named = (
        ("input", layout.inputs_to_hidden),
        ("hidden", layout.hidden_to_hidden),
        ("output", layout.hidden_to_output),
    )
    for name, matrix in named:
        low, high = int(matrix.min()), int(matrix.max())
        if low < -128 or high > 127:
            problems.append(Problem(f"{name} weights in 8 bits", "weights", "-128..127", f"{low}..{high}", _LOWER))
    return problems


def _capacity(model: Model, layout: Layout) -> list[Problem]:
    """The chip's limits, as far as its file is one of ours. The same numbers as in `evaluate.mapping.xylo`."""
    assert model.profile.chip is not None
    if model.profile.chip.id not in list_chips():
        return []
    chip = load_chip(model.profile.chip.id)
    fan_out = np.diff(layout.hidden_to_hidden.tocsc().indptr)
    need = {
        "input_channels": layout.channels,
        "hidden_neurons": layout.neurons,
        "output_neurons": layout.outputs,
        "max_fanout": int(fan_out.max(initial=0)),
        "hidden_synapses": layout.hidden_to_hidden.nnz,
        "input_reach": _extent(layout, layout.inputs_to_hidden, first=True),
        "output_feed": _extent(layout, layout.hidden_to_output.T.tocsr(), first=False),
    }
    problems = []
    for key, used in need.items():
        limit = chip.limit(key)
        if limit is not None and used > limit:
            what = f"more than the chip has: {key.replace('_', ' ')}"
            problems.append(Problem(what, chip.id, f"{used}", f"{limit:g}", "snnkd fit says where; a narrower student"))
    return problems


def _extent(layout: Layout, heard: csr_matrix, *, first: bool) -> int:
    """Hidden ids from one end of the range up to the farthest that hears the input (or feeds outputs)."""
    used = np.flatnonzero(np.diff(heard.indptr))
    if not used.size:
        return 0
    return int(used.max()) + 1 if first else layout.neurons - int(used.min())
