"""Layers of a `.net` file -> `Model`, with the integers and the semantics that Lava gives them.

Populations are called `layer<i>` after their place in the file. Delays: netx applies a vector of N_out delays
to the rows of the matrix, that is behind the synapse (a NIR Delay node), one of N_in to its inputs (the synapse's
own `delay`), and a full matrix to each synapse (one synapse node per distinct delay).
"""

from __future__ import annotations

import nir
import numpy as np

from snnkd_deploy.arithmetic.cuba import INPUT_SHIFT
from snnkd_deploy.chips import IntGrid, load_chip
from snnkd_deploy.errors import GraphError, Problem
from snnkd_deploy.graph.check import check_model
from snnkd_deploy.graph.cuba_nodes import input_gain, readout_node, spiking_node, takes_bias_through_synapse
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.net_layers import INTEGRATOR, MAX_DELAY, NEVER_FIRES, WITH_WEIGHTS, NetLayer, NetNeuron
from snnkd_deploy.graph.netx_weights import effective_dense
from snnkd_deploy.graph.profile import ChipStamp, Encoding, NodeParams, Profile, SynapseParams
from snnkd_deploy.graph.topology import Shape, conv_output

# lava-dl's unit: a weight, threshold or bias of the file is 64 times its value in training.
UNIT = 64.0
_INT16 = 2**15


def model_of_layers(
    layers: list[NetLayer],
    path: str,
    *,
    dt_s: float,
    steps: int | None,
    input_shape: tuple[int, ...] | None = None,
) -> Model:
    """The network of the file. Raises GraphError with every layer that Lava could not run."""
    build = _Build(dt_s, input_shape)
    for position, layer in enumerate(layers):
        build.add(layer, last=all(later.kind not in WITH_WEIGHTS for later in layers[position + 1 :]))
    if not build.populations:
        build.problems.append(Problem("the file holds no neurons", path))
    if build.problems:
        raise GraphError.from_problems([_placed(p, path) for p in build.problems])
    build.node("output", nir.Output({"output": np.array(build.shape)}), [build.at])
    graph = nir.NIRGraph(nodes=build.nodes, edges=build.edges, type_check=False)
    profile = Profile(
        dt_s=dt_s,
        reset="zero",
        encoding=build.encoding,
        steps=steps,
        chip=_stamp(build),
        nodes=build.params,
        vote_groups=build.vote_groups,
        provenance={"format": "netx .net", "notes": build.notes},
    )
    model = Model(graph=graph, profile=profile, path=path)
    check_model(model)
    return model


def _placed(problem: Problem, path: str) -> Problem:
    where = f"{path} [{problem.where}]" if problem.where != path else path
    return Problem(problem.what, where, problem.need, problem.have, problem.remedy)


def _stamp(build: _Build) -> ChipStamp:
    """Loihi 2 where every integer is legal there; else `lava`, the CPU simulation, which takes more."""
    chip = load_chip("loihi2")
    stamp = ChipStamp(id=chip.id, sha256=chip.sha256, neuron=chip.neuron, parameters=chip.parameters)
    if not build.beyond_chip:
        return stamp
    parameters = chip.parameters.model_copy(
        update={
            "weight": IntGrid(lo=-(2**31), hi=2**31),
            "bias": chip.parameters.bias.model_copy(update={"mantissa": IntGrid(lo=-_INT16, hi=_INT16 - 1)}),
            "threshold": IntGrid(lo=0, hi=NEVER_FIRES),
        }
    )
    return stamp.model_copy(update={"id": "lava", "sha256": "", "parameters": parameters})


def has_odd_mixed(weight: np.ndarray) -> bool:
    return bool(weight.min() < 0 < weight.max() and np.any(weight % 2))


def off_grid(weight: np.ndarray) -> bool:
    """True where no 8-bit format of Loihi holds these integers exactly."""
    low, high = int(weight.min()), int(weight.max())
    if has_odd_mixed(weight):
        return low < -128 or high > 127
    return low < -256 or high > (254 if low < 0 else 255)


class _Build:
    """Walks the layers and keeps the end of the chain: node `at` of shape `shape`."""

    def __init__(self, dt_s: float, input_shape: tuple[int, ...] | None = None) -> None:
        self.dt_s, self.input_shape = dt_s, input_shape
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.params: dict[str, NodeParams] = {}
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.populations: list[str] = []
        self.encoding = Encoding(kind="events")
        self.vote_groups: int | None = None
        self.beyond_chip = False
        self.message_bits = 0
        self.at = ""
        self.shape: Shape = ()

    def node(self, name: str, node: nir.NIRNode, sources: list[str], params: NodeParams | None = None) -> str:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        if params is not None:
            self.params[name] = params
        return name

    def problem(self, layer: NetLayer, what: str, **more: str) -> None:
        self.problems.append(Problem(what, f"/layer/{layer.index}", **more))

    def add(self, layer: NetLayer, *, last: bool) -> None:
        self.notes += [f"{layer.name}: {note}" for note in layer.notes]
        if self.vote_groups is not None:
            self.problem(layer, "nothing can follow an average layer")
        elif layer.kind == "input":
            self._input(layer)
        elif layer.kind == "flatten":
            self._flatten(layer)
        elif layer.kind == "average":
            self._average(layer)
        elif layer.kind == "conv":
            self._conv(layer)
        else:
            self._dense(layer, last)

    # -- layers without weights -------------------------------------------------------------------

    def _start(self, shape: Shape) -> None:
        self.at, self.shape = self.node("input", nir.Input({"input": np.array(shape)}), []), shape

    def _input(self, layer: NetLayer) -> None:
        if self.at:
            self.problem(layer, "an input layer must be the first")
            return
        self._start(layer.shape)
        if layer.neuron is None:
            return
        # Driven by bias: the input image is the bias mantissa itself, computed by the caller.
        self.encoding = Encoding(kind="current", low=-4096, levels=4095)
        scale = UNIT * input_gain(layer.neuron.iDecay, layer.neuron.vDecay)
        params = SynapseParams(place="host", weight_scale=scale, bias_scale=scale, as_bias=True)
        name = f"{layer.name}_image"
        self.at = self.node(name, nir.Scale(np.full(layer.shape, 1 / scale)), [self.at], params)
        if layer.neuron.iDecay != 4096:
            self.notes.append(f"{layer.name}: iDecay has no effect on biases")
        # A bias acts on v at once; only a neuron without current memory says so in NIR.
        neuron = NetNeuron(4096, layer.neuron.vDecay, layer.neuron.vThMant, layer.neuron.message_bits)
        self._population(layer, neuron, [self.at], None, readout=False)

    def _flatten(self, layer: NetLayer) -> None:
        if not self.at:
            self.problem(layer, "a flatten layer needs an input layer or a convolution before it")
            return
        self._flat(layer.name)

    def _flat(self, name: str) -> None:
        """Channels, rows, columns in this order, as torch flattens."""
        if len(self.shape) > 1:
            flatten = nir.Flatten(input_type={"input": np.array(self.shape)}, start_dim=-len(self.shape), end_dim=-1)
            self.at, self.shape = self.node(name, flatten, [self.at]), (int(np.prod(self.shape)),)

    def _average(self, layer: NetLayer) -> None:
        groups = int(np.prod(layer.shape))
        total = int(np.prod(self.shape))
        if not self.populations or total % groups:
            need = f"a multiple of {groups}"
            self.problem(layer, "the neurons do not divide into groups", need=need, have=f"{total}")
            return
        self.vote_groups = groups

    # -- layers with weights ----------------------------------------------------------------------

    def _conv(self, layer: NetLayer) -> None:
        weight = layer.weight
        assert weight is not None and layer.neuron is not None
        if weight.ndim not in (4, 5) or weight.shape[4:] not in ((), (1,)) or weight.size == 0:
            self.problem(layer, "the kernel must be (out, in, height, width)", have=f"{weight.shape}")
            return
        height, width = int(weight.shape[2]), int(weight.shape[3])
        weight = weight.reshape(*weight.shape[:2], height, width)
        if not self.at and not self._first_convolution(layer, (height, width)):
            return
        if len(self.shape) != 3 or self.shape[0] != weight.shape[1] * layer.groups or weight.shape[0] % layer.groups:
            need = f"({weight.shape[1] * layer.groups}, H, W)"
            self.problem(layer, "the input does not fit the kernel", need=need, have=f"{self.shape}")
            return
        geometry = zip(self.shape[1:], (height, width), layer.stride, layer.padding, layer.dilation, strict=True)
        out = (int(weight.shape[0]), *(conv_output(n, k, s, p, d) for n, k, s, p, d in geometry))
        if layer.shape != out or min(out) < 1:
            self.problem(layer, "the shape is not what the convolution gives", need=f"{out}", have=f"{layer.shape}")
            return
        if off_grid(weight):
            self.beyond_chip = True
            self.notes.append(
                f"{layer.name}: weights off the chip's grid, which Lava's CPU convolution takes as they are"
            )
        scale = UNIT * input_gain(layer.neuron.iDecay, layer.neuron.vDecay)
        register, through = self._bias(layer, out, layer.neuron)
        bias = np.zeros(out[0]) if through is None else through / (scale * (1 << INPUT_SHIFT))
        convolution = nir.Conv2d(
            input_shape=self.shape[1:],
            weight=weight / scale,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=bias,
        )
        name = self.node(f"{layer.name}_weights", convolution, [self.at], self._synapse(scale, weight))
        self.shape = out
        self._population(layer, layer.neuron, [name], register, readout=False)

    def _first_convolution(self, layer: NetLayer, kernel: tuple[int, int]) -> bool:
        """A file without input layer: its size is given, or follows from the output where the stride skips nothing."""
        assert layer.weight is not None
        shape = self.input_shape
        if shape is None and layer.stride == (1, 1) and len(layer.shape) == 3:
            geometry = zip(layer.shape[1:], kernel, layer.padding, layer.dilation, strict=True)
            sizes = (out + d * (k - 1) - 2 * p for out, k, p, d in geometry)
            shape = (int(layer.weight.shape[1]) * layer.groups, *sizes)
        if shape is None or len(shape) != 3 or min(shape) < 1:
            remedy = "--input-shape C,H,W (netx calls it input_shape), or an input layer before it"
            have = "" if shape is None else f"{tuple(shape)}"
            self.problem(layer, "the size of the input is unknown", need="(C, H, W)", have=have, remedy=remedy)
            return False
        self._start(tuple(int(n) for n in shape))
        return True

    def _dense(self, layer: NetLayer, last: bool) -> None:
        neuron = layer.neuron or INTEGRATOR
        matrices = self._matrices(layer)
        if matrices is None:
            return
        weight = matrices[0]
        if not self.at:
            self._start((weight.shape[1],))
        if sum(n > 1 for n in self.shape) > 1:
            self.problem(layer, "a dense layer after maps", remedy="a flatten layer between them")
            return
        self._flat(f"{layer.name}_flatten")
        if self.shape != (weight.shape[1],):
            self.problem(layer, "the input does not fit the matrix", need=f"{weight.shape[1]}", have=f"{self.shape}")
            return
        outputs = weight.shape[0]
        scale = UNIT * input_gain(neuron.iDecay, neuron.vDecay)
        delayed = self._delays(layer, weight)
        if delayed is None:
            return
        pieces, axonal, behind = delayed
        register, through = self._bias(layer, (outputs,), neuron, behind=behind is not None)
        names = []
        for number, (piece, delay) in enumerate(pieces):
            bias = None if through is None or number else through / (scale * (1 << INPUT_SHIFT))
            node = nir.Linear(piece / scale) if bias is None else nir.Affine(piece / scale, bias)
            name = f"{layer.name}_weights" + (f"_delay{delay}" if len(pieces) > 1 else "")
            delays = (delay,) if len(pieces) > 1 else axonal
            names.append(self.node(name, node, [self.at], self._synapse(scale, piece, delays)))
        if behind is not None:
            name = f"{layer.name}_delay"
            names = [self.node(name, nir.Delay(behind * self.dt_s), names)]
        self.shape = (outputs,)
        if len(matrices) == 2:
            recurrent = self.node(f"{layer.name}_recurrent", nir.Linear(matrices[1] / scale), [layer.name])
            self.params[recurrent] = self._synapse(scale, matrices[1])
            names.append(recurrent)
        readout = last and neuron.vThMant == NEVER_FIRES
        self._population(layer, neuron, names, register, readout=readout)

    def _synapse(self, scale: float, weight: np.ndarray, delay: tuple[int, ...] = ()) -> SynapseParams:
        # Mixed signs leave even integers only: odd ones are stored doubled, with exponent -1, as netx does.
        doubled = has_odd_mixed(weight) and not off_grid(weight)
        return SynapseParams(
            weight_scale=scale * (2 if doubled else 1),
            weight_exp=-1 if doubled else 0,
            bias_scale=scale * (1 << INPUT_SHIFT),
            message_bits=self.message_bits,
            delay=delay,
        )

    def _matrices(self, layer: NetLayer) -> list[np.ndarray] | None:
        """Effective integers as Lava computes with them: [weight] or [weight, weight_rec]."""
        outputs = int(np.prod(layer.shape))
        found = []
        for matrix in (layer.weight, layer.weight_rec):
            if matrix is None:
                continue
            if matrix.ndim == 1 and matrix.size and matrix.size % outputs == 0:
                matrix = matrix.reshape(outputs, -1)
            if matrix.ndim != 2 or matrix.shape[0] != outputs or matrix.size == 0:
                self.problem(layer, "the weights do not fit the shape", need=f"({outputs}, in)", have=f"{matrix.shape}")
                return None
            found.append(matrix)
        if len(found) == 2 and found[1].shape != (outputs, outputs):
            self.problem(layer, "weight_rec must be square", need=f"{(outputs, outputs)}", have=f"{found[1].shape}")
            return None
        try:
            effective = effective_dense(*found)
        except ValueError as error:
            self.problem(layer, str(error))
            return None
        if any(off_grid(part) for part in effective.parts):
            self.beyond_chip = True
            self.notes.append(f"{layer.name}: the weights need {effective.bits} bits, exact in Lava on CPU only")
        changed = sum(int(np.any(a != b)) for a, b in zip(found, effective.parts, strict=True))
        if changed:
            self.notes.append(f"{layer.name}: netx changes some weights when it loads them; its values are used")
        return list(effective.parts)

    def _delays(
        self, layer: NetLayer, weight: np.ndarray
    ) -> tuple[list[tuple[np.ndarray, int]], tuple[int, ...], np.ndarray | None] | None:
        """(pieces of the matrix with their delay, delays of the inputs, delays behind the synapse)."""
        delay = layer.delay
        if delay is None or not delay.any():
            return [(weight, 0)], (), None
        if delay.min() < 0:
            self.problem(layer, "delays must not be negative", have=f"{delay.min()}")
            return None
        if delay.max() > MAX_DELAY:
            self.notes.append(f"{layer.name}: delays above {MAX_DELAY} are cut to it, as netx does")
            delay = np.minimum(delay, MAX_DELAY)
        if layer.kind == "dense_rec":
            self.problem(layer, "netx loses the weight exponent of a recurrent layer with delays", remedy="no delays")
            return None
        if delay.ndim == 0 or (delay.shape == weight.shape and len(np.unique(delay)) == 1):
            return [(weight, 0)], (int(delay.ravel()[0]),), None
        if delay.ndim == 1 and delay.size == weight.shape[0]:
            return [(weight, 0)], (), delay
        if delay.ndim == 1 and delay.size == weight.shape[1]:
            return [(weight, 0)], tuple(int(d) for d in delay), None
        if delay.shape == weight.shape:
            return [(np.where(delay == d, weight, 0), int(d)) for d in np.unique(delay)], (), None
        need = f"a number, {weight.shape[0]}, {weight.shape[1]} or {weight.shape}"
        self.problem(layer, "the delays do not fit the weights", need=need, have=f"{delay.shape}")
        return None

    def _bias(
        self, layer: NetLayer, shape: Shape, neuron: NetNeuron, *, behind: bool = False
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Bias in units of v: (register of every neuron, or what may ride on the synapse per channel)."""
        bias = layer.bias
        if bias is None or not bias.any():
            return None, None
        if bias.min() < -4096 or bias.max() > 4095:
            self.beyond_chip = True
            self.notes.append(f"{layer.name}: biases beyond the chip's 13 bits")
        if bias.min() < -_INT16 or bias.max() >= _INT16:
            have = f"{bias.min()}..{bias.max()}"
            self.problem(layer, "biases do not fit 16 bits", need="-4096..4095", have=have)
            return None, None
        units = bias << INPUT_SHIFT
        whole = (shape[2], shape[1], shape[0]) if len(shape) == 3 else shape
        through = takes_bias_through_synapse(neuron.iDecay) and not behind
        if units.size == 1 and (len(shape) == 1 or shape[0] == 1):
            units = np.full(shape[0], units.ravel()[0])
        if units.shape == whole and len(shape) == 3:  # (W, H, C), one a neuron
            return units.transpose(2, 1, 0), None
        if units.shape != (shape[0],):
            self.problem(layer, "the bias does not fit the neurons", need=f"({shape[0]},)", have=f"{bias.shape}")
            return None, None
        if through:
            return None, units
        return np.broadcast_to(units.reshape(-1, *[1] * (len(shape) - 1)), shape), None

    def _population(
        self, layer: NetLayer, neuron: NetNeuron, sources: list[str], bias: np.ndarray | None, *, readout: bool
    ) -> None:
        decays = {"Du": neuron.iDecay, "Dv": neuron.vDecay, "scale": UNIT, "dt_s": self.dt_s, "bias": bias}
        if readout:
            # netx's own integrator adds up in u, an explicit one in v.
            read = "u" if neuron.iDecay == 0 and neuron.vDecay == 4096 else "v"
            node, params = readout_node(self.shape, read=read, silent=True, **decays)  # type: ignore[arg-type]
        else:
            node, params = spiking_node(self.shape, vth=neuron.vThMant, **decays)  # type: ignore[arg-type]
            self.beyond_chip |= neuron.vThMant > 131071
        self.at = self.node(layer.name, node, sources, params)
        self.populations.append(layer.name)
        self.message_bits = neuron.message_bits
