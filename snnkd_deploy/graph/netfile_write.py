"""`Model` -> layers of a `.net` file, or every reason why the format cannot hold the model.

The format is a chain: one source a layer, no pooling, no branches. Populations stay in their order; the
convolution that a `current` model computes on the host is not a layer of the chip, so the first layer is then
an `input` layer whose neurons are driven by bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from snnkd_deploy.arithmetic.cuba import INPUT_SHIFT
from snnkd_deploy.errors import GraphError, Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.net_layers import INTEGRATOR, MAX_DELAY, NEVER_FIRES, NetLayer, NetNeuron
from snnkd_deploy.graph.netx_weights import changed_by_netx
from snnkd_deploy.graph.profile import NeuronParams, ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import NEURONS, WEIGHTS, conv_padding, pair

_ONLY_GRAPH = "deploy model.nir instead: the lava backend builds the whole graph"


@dataclass(frozen=True)
class _Way:
    """From a population (or the input) through one weight node into a population. `before` in order of travel."""

    origin: str
    before: tuple[str, ...]
    weight: str
    behind: tuple[str, ...]


def layers_of_model(model: Model) -> list[NetLayer]:
    """The file's layers. Raises GraphError with all problems."""
    return _Chain(model).layers()


def weights_in_layers(model: Model) -> dict[str, dict[str, Any]]:
    """Weight node -> where its integers stand in the file and the scale that gives its real weights."""
    chain = _Chain(model)
    layers = chain.layers()
    found: dict[str, dict[str, Any]] = {}
    for layer, population in chain.placed.items():
        for way in chain.ways[population]:
            params = model.synapse(way.weight)
            key = "weight_rec" if way.origin == population else "weight"
            integers = getattr(layers[layer], key)
            if params.place == "chip" and integers is not None:
                scale = params.weight_scale / 2.0**params.weight_exp
                found[way.weight] = {"layer": layer, "key": key, "scale": scale, "weight": integers}
    return found


class _Chain:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.problems: list[Problem] = []
        self.placed: dict[int, str] = {}  # layer index -> population
        self.ways: dict[str, list[_Way]] = {}

    def problem(self, what: str, where: str, remedy: str = _ONLY_GRAPH, **more: str) -> None:
        self.problems.append(Problem(what, where, remedy=remedy, **more))

    def layers(self) -> list[NetLayer]:
        model = self.model
        if not model.on_chip_grid:
            raise GraphError(
                "a .net file holds a chip's integers, and the model has none",
                where=model.path,
                remedy="snnkd lower IN.nir --chip loihi2 -o OUT.nir first",
            )
        if model.family != "cuba_lif":
            what = f"a .net file holds Loihi's neurons, and the model is for {model.family}"
            raise GraphError(what, where=model.path, remedy="lower the network for loihi2")
        flat = [name for component in model.order for name in component]
        populations = [name for name in flat if isinstance(model.nodes[name], NEURONS)]
        for name in populations:
            self._unsupported(name)
            self.ways[name] = self._ways_into(name)
        self._one_end(populations)
        if self.problems:  # the rest needs a chain
            raise GraphError.from_problems(self.problems)
        layers: list[NetLayer] = []
        for position, name in enumerate(populations):
            previous = populations[position - 1] if position else model.input_name
            self._append(layers, name, previous)
        if model.profile.vote_groups is not None:
            layers.append(NetLayer(len(layers), "average", (model.profile.vote_groups, 1, 1)))
        if self.problems:
            raise GraphError.from_problems(self.problems)
        return layers

    # -- the chain --------------------------------------------------------------------------------

    def _unsupported(self, name: str) -> None:
        params = self.model.profile.nodes.get(name)
        if not isinstance(params, NeuronParams | ReadoutParams):
            self.problem("no integer parameters", name, remedy="lower the model again")

    def _ways_into(self, name: str) -> list[_Way]:
        """Everything that feeds a population, traced back to populations."""
        ways = []
        for source in self.model.sources[name]:
            behind: list[str] = []
            while isinstance(self.model.nodes[source], nir.Delay):
                behind.insert(0, source)
                (source, *more) = self.model.sources[source]
                if more:  # parallel synapses with delays of their own
                    ways += [w for s in more if (w := self._way(s, tuple(behind), name)) is not None]
            way = self._way(source, tuple(behind), name)
            if way is not None:
                ways.append(way)
        return ways

    def _way(self, weight: str, behind: tuple[str, ...], target: str) -> _Way | None:
        model = self.model
        node = model.nodes[weight]
        if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
            self.problem("pooling has no place in a .net file", weight)
            return None
        if not isinstance(model.profile.nodes.get(weight), SynapseParams) or not isinstance(node, WEIGHTS):
            self.problem(f"{type(node).__name__} in front of {target} has no place in a .net file", weight)
            return None
        before: list[str] = []
        at = weight
        while True:
            sources = model.sources[at]
            if len(sources) != 1:
                self.problem("several sources meet in front of a synapse", at)
                return None
            at = sources[0]
            step = model.nodes[at]
            if isinstance(step, (*NEURONS, nir.Input)):
                return _Way(at, tuple(before), weight, behind)
            if isinstance(step, nir.Flatten | nir.Delay):
                before.insert(0, at)
            elif isinstance(step, nir.SumPool2d | nir.AvgPool2d):
                self.problem("pooling has no place in a .net file", at)
                return None
            else:
                self.problem(f"{type(step).__name__} in front of {weight} has no place in a .net file", at)
                return None

    def _one_end(self, populations: list[str]) -> None:
        """Every population feeds only itself and the next one; the last feeds the output."""
        model = self.model
        for position, name in enumerate(populations):
            previous = populations[position - 1] if position else model.input_name
            for way in self.ways[name]:
                if way.origin not in (previous, name):
                    self.problem(f"{name} is fed by {way.origin}: branches have no place in a .net file", way.weight)
            if not any(way.origin == previous for way in self.ways[name]):
                self.problem(f"the layers do not form a chain: nothing goes from {previous} to {name}", name)
        last = populations[-1] if populations else ""
        at = model.sources[model.output_name]
        while len(at) == 1 and isinstance(model.nodes[at[0]], nir.Flatten):
            at = model.sources[at[0]]
        if at != [last]:
            self.problem("the output must be the last population", model.output_name, have=", ".join(at))

    # -- one population -> one or two layers --------------------------------------------------------

    def _append(self, layers: list[NetLayer], name: str, previous: str) -> None:
        model = self.model
        forward = [way for way in self.ways[name] if way.origin == previous]
        recurrent = [way for way in self.ways[name] if way.origin == name]
        shape = model.shapes[name]
        if not layers:
            if model.synapse(forward[0].weight).place == "host":
                if len(forward) > 1 or recurrent:
                    self.problem("a layer that the host drives can have no other inputs", name)
                if self._bias(name) is not None:
                    self.problem("a layer that the host drives can have no bias of its own", name)
                self.placed[0] = name
                layers.append(NetLayer(0, "input", shape, neuron=self._neuron(name)))
                return
            layers.append(NetLayer(0, "input", model.shapes[previous]))
        node = model.nodes[forward[0].weight]
        common = {"neuron": self._neuron(name), "bias": self._bias(name)}
        if isinstance(node, nir.Conv2d):
            if len(forward) > 1 or recurrent:
                self.problem("a convolution must be the only input of its population", name)
            if any(self._delay_of(way) is not None for way in forward):
                self.problem("netx ignores delays of a convolution", forward[0].weight)
            weight = self._integers(forward[0].weight)
            layers.append(
                NetLayer(
                    len(layers),
                    "conv",
                    shape,
                    weight=weight,
                    stride=pair(node.stride),
                    padding=self._pads(node, forward[0].weight),
                    dilation=pair(node.dilation),
                    groups=int(np.asarray(node.groups)),
                    **common,  # type: ignore[arg-type]
                )
            )
        else:
            self._append_dense(layers, name, previous, forward, recurrent, common)
        self.placed[len(layers) - 1] = name

    def _append_dense(
        self,
        layers: list[NetLayer],
        name: str,
        previous: str,
        forward: list[_Way],
        recurrent: list[_Way],
        common: dict[str, Any],
    ) -> None:
        model = self.model
        for way in (*forward, *recurrent):
            if not isinstance(model.nodes[way.weight], nir.Affine | nir.Linear):
                kind = type(model.nodes[way.weight]).__name__
                self.problem(f"{kind} has no place in a .net file", way.weight, remedy="write it as Linear or Conv2d")
                return
        if len(model.shapes[name]) != 1 or len(recurrent) > 1:
            self.problem("a dense layer is one vector of neurons with at most one recurrent matrix", name)
            return
        if len(model.shapes[previous]) > 1:
            if not any(isinstance(model.nodes[n], nir.Flatten) for n in forward[0].before):
                self.problem("a dense layer behind maps needs a flatten", forward[0].weight)
                return
            layers.append(NetLayer(len(layers), "flatten", (1, 1, int(np.prod(model.shapes[previous])))))
        weight, delay = self._merge(forward, name)
        weight_rec = None
        if recurrent:
            weight_rec = self._integers(recurrent[0].weight)
            if delay is not None or self._delay_of(recurrent[0]) is not None:
                self.problem("netx loses the weight exponent of a recurrent layer with delays", name)
        changed = changed_by_netx(weight, *([] if weight_rec is None else [weight_rec]))
        assert model.profile.chip is not None
        # `lava` marks a model of more than 8 bits, which came out of a .net file and goes back into one.
        if changed and not (model.profile.chip.id == "lava" and "bits" in changed):
            remedy = f"change a weight of {forward[0].weight} by one step of its grid, or {_ONLY_GRAPH}"
            self.problem(f"the weights would not arrive as they are: {changed}", forward[0].weight, remedy=remedy)
        kind = "dense" if weight_rec is None else "dense_rec"
        layer = NetLayer(
            len(layers), kind, model.shapes[name], weight=weight, weight_rec=weight_rec, delay=delay, **common
        )
        layers.append(layer)

    def _merge(self, forward: list[_Way], name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """One matrix and its delays from parallel synapses of disjoint patterns."""
        weight = np.zeros_like(self._integers(forward[0].weight))
        delay = np.zeros_like(weight)
        for way in forward:
            piece = self._integers(way.weight)
            steps = self._delay_of(way)
            own = np.zeros_like(weight) if steps is None else np.broadcast_to(steps, weight.shape)
            if np.any((weight != 0) & (piece != 0) & (delay != own)):
                self.problem("two synapses with different delays between the same neurons", name)
            delay = np.where(piece != 0, own, delay) if len(forward) > 1 else own
            weight = weight + piece
        if not delay.any():
            return weight, None
        if delay.max() > MAX_DELAY:
            self.problem("delays are too long", name, need=f"at most {MAX_DELAY} steps", have=f"{delay.max()}")
        if np.all(delay == delay.ravel()[0]):
            return weight, np.asarray(delay.ravel()[0])
        if np.all(delay == delay[:, :1]):
            return weight, delay[:, 0]
        # netx reads a vector of N numbers as delays of the outputs first.
        if np.all(delay == delay[:1]) and delay.shape[0] != delay.shape[1]:
            return weight, delay[0]
        return weight, delay

    def _delay_of(self, way: _Way) -> np.ndarray | None:
        """Delay in steps of every synapse, broadcast to (out, in), or None."""
        model = self.model
        params = model.synapse(way.weight)
        own = np.asarray(params.delay, dtype=np.int64) if any(params.delay) else np.zeros(1, dtype=np.int64)
        if own.size > 1:  # per element of the first input axis
            in_shape = model.shapes[model.sources[way.weight][0]]
            own = np.broadcast_to(own.reshape(-1, *[1] * (len(in_shape) - 1)), in_shape).ravel()
        total = own[None, :]
        for name in (*way.before, *way.behind):
            node = model.nodes[name]
            if isinstance(node, nir.Delay):
                steps = np.rint(np.asarray(node.delay, dtype=np.float64) / model.profile.dt_s).astype(np.int64)
                shaped = np.broadcast_to(steps, model.shapes[name]).ravel()
                total = total + (shaped[:, None] if name in way.behind else shaped[None, :])
        return total if total.any() else None

    def _integers(self, weight: str) -> np.ndarray:
        """What a spike adds through this synapse: the stored integer times 2^exponent."""
        exponent = self.model.synapse(weight).weight_exp
        stored = self.model.weight_int(weight)
        value = stored << exponent if exponent >= 0 else stored >> -exponent
        if exponent < 0 and np.any(value << -exponent != stored):
            self.problem("a negative weight exponent leaves fractions", weight)
        if self.model.synapse(weight).place == "host":
            self.problem("only the first layer can be computed on the host", weight)
        return value

    def _pads(self, node: nir.Conv2d, name: str) -> tuple[int, int]:
        try:
            return pair(conv_padding(node))
        except GraphError as error:
            self.problem(error.problems[0].what, name, remedy=error.problems[0].remedy)
            return (0, 0)

    def _neuron(self, name: str) -> NetNeuron | None:
        params = self.model.profile.nodes[name]
        if isinstance(params, ReadoutParams):
            neuron = NetNeuron(params.Du, params.Dv, NEVER_FIRES)
            return None if neuron == INTEGRATOR and params.read == "u" else neuron
        assert isinstance(params, NeuronParams)
        return NetNeuron(params.Du, params.Dv, params.vth)

    def _bias(self, name: str) -> np.ndarray | None:
        """Mantissas with exponent 6: (N,) or (C,), or (W, H, C) where they differ inside a channel."""
        units = self.model.bias_int(name)
        if not units.any():
            return None
        if np.any(units % (1 << INPUT_SHIFT)):
            remedy = "lower the model with bias_exp 6"
            self.problem("netx stores biases in steps of 64 units of v", name, remedy=remedy)
        mantissa = units >> INPUT_SHIFT
        if mantissa.ndim == 1:
            return mantissa
        if mantissa.ndim == 3 and np.all(mantissa == mantissa[:, :1, :1]):
            return mantissa[:, 0, 0]
        return mantissa.transpose(2, 1, 0) if mantissa.ndim == 3 else mantissa
