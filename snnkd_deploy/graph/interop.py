"""A graph for the stock importers of other simulators: the same spikes within what each of them understands.

Importers keep silent about much of what they ignore (r, v_reset, leaks, average pools, per-neuron values). So each
neuron is rewritten into the one form that its reader computes as NIR means it, at dt = 1e-4 s, which snnTorch has
built in; gains and leaks move into the weights and biases in front. What cannot be said is refused with its reason.

Read in the sources of norse 1.1.0 `utils/import_nir.py`, snntorch 1.0.0 `import_nir.py`, spikingjelly 2.0.0
`nir_exchange/from_nir.py`, sinabs 3.1.3 `nir.py`, and held to them by tests/graph/test_interop.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np

from snnkd_deploy.arithmetic.cuba import INPUT_SHIFT
from snnkd_deploy.errors import GraphError, Problem
from snnkd_deploy.graph.check import check_model
from snnkd_deploy.graph.depth_first import same_lags
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.normalise import normalise
from snnkd_deploy.graph.profile import Encoding, NeuronParams, Profile, SynapseParams
from snnkd_deploy.graph.topology import is_loop, pair
from snnkd_deploy.graph.ungrouped import full_kernel

DT_S = 1e-4
_FOREVER = 2.0**60  # steps: 1 - 1/this rounds to 1, so that a leaky neuron keeps all
_FIRING = (nir.IF, nir.LIF, nir.CubaLIF)
_WEIGHTS = (nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d)
_INTEGRATORS = (nir.I, nir.LI, nir.CubaLI)


@dataclass(frozen=True)
class Reader:
    """What an importer understands. `unit_gain`: it wants r = tau/dt (an input of 1 adds 1), else r = 1."""

    call: str
    unit_gain: bool
    integrate_and_fire: bool
    uniform: tuple[str, ...]  # parameters that must be one number a population
    conv1d: bool
    loops: bool
    at_threshold: bool  # fires at the threshold, not above
    depth_first: bool = False  # runs nodes in the order of a depth-first walk, and gives the last one's output


READERS = {
    "norse": Reader("norse.torch.from_nir(graph, dt=1e-4)", False, True, (), False, True, False, True),
    "snntorch": Reader("snntorch.import_nir.import_from_nir(graph)", True, False, ("v_threshold",), True, False, False),
    "spikingjelly": Reader(
        "nir_exchange.import_from_nir(graph, dt=1e-4)", True, True, ("tau", "v_threshold"), True, True, True
    ),
}
_HOPELESS = {
    "sinabs": "its importer fires several spikes a step, at the threshold, resets by subtraction, takes tau in steps "
    "with an exponential decay and clips IF at -v_threshold: no file makes it compute NIR's neurons",
    "rockpool": "its importer fails on every nir.LIF and resets by subtraction",
}
TARGETS = (*READERS, *_HOPELESS)


def interop(model: Model, target: str) -> tuple[Model, list[str]]:
    """The model rewritten for an importer, in float32 at 1e-4 s a step, and notes on what a user should know.

    Raises GraphError with every reason why the importer would compute something else, and the importers that would not.
    """
    if target in _HOPELESS:
        raise GraphError(
            f"no plain NIR file runs in {target} with the same spikes",
            where=model.path or "model",
            have=_HOPELESS[target],
            remedy=f"--for {', '.join(READERS)}; or the backend `{target}`, which sets the simulator up itself",
        )
    rewriting = _Rewriting(model, READERS[target], target)
    try:
        return rewriting.result(), rewriting.notes
    except GraphError as error:
        way_out = _way_out(model, target)
        raise GraphError.from_problems([replace(p, remedy=p.remedy or way_out) for p in error.problems]) from error


def _way_out(model: Model, refused: str) -> str:
    able = [tool for tool in READERS if tool != refused and _takes(model, tool)]
    if able:
        return f"--for {' or '.join(able)}, whose importer computes this model"
    return "no importer computes this model as it stands: change what is named here, or run it with snnkd simulate"


def _takes(model: Model, target: str) -> bool:
    try:
        _Rewriting(model, READERS[target], target).result()
    except GraphError:
        return False
    return True


class _Rewriting:
    """Nodes of the new graph by their old names; obstacles are collected."""

    def __init__(self, model: Model, reader: Reader, target: str) -> None:
        self.model, self.reader, self.target = model, reader, target
        self.nodes: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.targets: dict[str, list[str]] = {name: [] for name in model.nodes}
        for a, b in model.graph.edges:
            self.targets[a].append(b)

    @property
    def _on_loihi(self) -> bool:
        return self.model.family == "cuba_lif"

    def result(self) -> Model:
        model = self.model
        self._profile()
        order = [name for part in model.order for name in part]
        if not self.reader.loops and any(is_loop(model.graph, part) for part in model.order):
            self._problem("its importer wires the input of a recurrent layer into the recurrent weights", "graph")
        for name in order:
            node = self._copy(name)
            if node is not None:
                self.nodes[name] = node
        for name in order:
            if isinstance(model.nodes[name], nir.AvgPool2d):
                self._scale_readers(name, 1.0 / float(np.prod(pair(model.nodes[name].kernel_size))))
            elif isinstance(model.nodes[name], _FIRING):
                self._neuron(name)
        for part in model.order:
            if is_loop(model.graph, part):
                self._biases_out_of(part)
        if self.problems:
            raise GraphError.from_problems(self.problems)
        return self._assemble(order)

    def _problem(self, what: str, where: str, **more: str) -> None:
        self.problems.append(Problem(f"{self.target}: {what}", where, **more))

    def _profile(self) -> None:
        profile = self.model.profile
        chip = None if profile.chip is None else profile.chip.neuron
        if chip is not None and (chip.family not in ("cuba_lif", "float_lif") or chip.hop_delay):
            what = f"NIR has no neurons of family {chip.family}, with their floors, counts of spikes and late hops"
            self._problem(what, "chip", need="cuba_lif or float_lif")
        if profile.reset != "zero":
            self._problem("NIR has no reset by subtraction", "profile.reset", need="zero", have=profile.reset)
        if profile.fires != ">" and not self.reader.at_threshold:
            self._problem("it fires above the threshold, not at it", "profile.fires", need=">", have=profile.fires)
        if profile.v0 != 0:
            self._problem("membranes start at 0", "profile.v0", need="0", have=f"{profile.v0:g}")
        for name, params in profile.nodes.items():
            if isinstance(params, SynapseParams) and any(params.delay):
                self._problem("NIR's importers know no axonal delays", name)
            elif isinstance(params, SynapseParams) and params.place == "host":
                self.notes.append(f"{name}: the host rounds this layer to bias mantissas, which a float graph does not")
            elif self._on_loihi and isinstance(params, NeuronParams) and (0 < params.Dv < 4096 or 0 < params.Du < 4096):
                self.notes.append(f"{name}: the chip rounds its decays, so single spikes may differ from its integers")

    # -- nodes ----------------------------------------------------------------------------------------

    def _copy(self, name: str) -> Any:
        """The node in a form that importers take; neurons are finished later, integrators left out."""
        node = self.model.nodes[name]
        shape = self.model.shapes[name]
        if isinstance(node, nir.Input):
            return nir.Input({"input": np.array(shape)})
        if isinstance(node, nir.Output):
            return nir.Output({"output": np.array(shape)})
        if isinstance(node, nir.Flatten | nir.IF | nir.LIF | nir.CubaLIF):
            return node
        if isinstance(node, nir.Affine | nir.Linear):
            if node.weight.ndim != 2 or len(shape) != 1:
                self._problem("a matrix on maps", name, remedy="a Flatten in front of it")
            bias = getattr(node, "bias", None)
            return nir.Affine(_float(node.weight), _float(np.zeros(shape[-1]) if bias is None else bias))
        if isinstance(node, nir.Conv1d | nir.Conv2d):
            return self._convolution(name, node)
        if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
            if np.any(np.asarray(node.padding) != 0):
                self._problem("its importer ignores the padding of a pool", name, remedy="pooling without padding")
            kernel, stride = np.array(pair(node.kernel_size)), np.array(pair(node.stride))
            return nir.SumPool2d(kernel, stride, np.array([0, 0]))
        ends = all(isinstance(self.model.nodes[t], nir.Output) for t in self.targets[name])
        if isinstance(node, _INTEGRATORS) and ends:
            self.notes.append(
                f"{name}: the {type(node).__name__} readout is left out, as importers do not know it: "
                "the outputs are what it would add up"
            )
            return None
        self._problem(f"its importer does not know {type(node).__name__}", name)
        return None

    def _convolution(self, name: str, node: Any) -> Any:
        if isinstance(node, nir.Conv1d):
            if not self.reader.conv1d:
                self._problem("its importer drops Conv1d", name)
        elif len(set(node.weight.shape[2:])) != 1:
            self._problem("NIR 1.0.8 infers a wrong shape for non-square kernels", name, have=f"{node.weight.shape}")
        padding: Any = node.padding if isinstance(node.padding, str) else pair(node.padding)
        weight, bias = _float(full_kernel(node)), _float(node.bias)
        stride, dilation = pair(node.stride), pair(node.dilation)
        if isinstance(node, nir.Conv1d):
            padding = padding if isinstance(padding, str) else padding[0]
            return nir.Conv1d(node.input_shape, weight, stride[0], padding, dilation[0], 1, bias)
        size = self.model.shapes[self.model.sources[name][0]][1:]
        return nir.Conv2d(size, weight, stride, padding, dilation, 1, bias)

    # -- neurons --------------------------------------------------------------------------------------

    def _neuron(self, name: str) -> None:
        """Per step: u = beta u + gain I + drive. Gain and drive move in front, so that the new node has neither."""
        node: Any = self.model.nodes[name]
        dt, shape = self.model.profile.dt_s, self.model.shapes[name]

        def values(key: str) -> np.ndarray:
            return np.broadcast_to(np.asarray(getattr(node, key), dtype=np.float64), shape)

        for key in ("tau", "tau_syn", "tau_mem", "v_threshold"):
            wanted = "tau" if key.startswith("tau") else key
            if hasattr(node, key) and wanted in self.reader.uniform and np.ptp(values(key)) > 0:
                self._problem(f"its importer takes one {key} a population", name)
        if np.any(values("v_reset") != 0):
            self._problem("its importer ignores v_reset, or starts at it", name, need="0")
        threshold = self._threshold(name, values("v_threshold"))
        steps = np.maximum(values("tau") / dt, 1.0) if isinstance(node, nir.LIF) else np.full(shape, _FOREVER)
        if isinstance(node, nir.CubaLIF):
            self._cuba(name, values, threshold)
            return
        gain = values("r") / steps if isinstance(node, nir.LIF) else dt * values("r")
        leak = values("v_leak") / steps if isinstance(node, nir.LIF) else np.zeros(shape)
        if isinstance(node, nir.IF) and self.reader.integrate_and_fire:
            per_step = np.ones(shape)
            new: Any = nir.IF(_float(per_step / DT_S), _float(threshold), _float(0 * threshold))
        elif isinstance(node, nir.IF) or self.reader.unit_gain:
            per_step = np.ones(shape)
            new = _lif(steps, steps, threshold)
        else:
            per_step = 1 / steps
            new = _lif(steps, np.ones(shape), threshold)
        if isinstance(node, nir.IF) and not (self.reader.integrate_and_fire or self.reader.unit_gain):
            self._problem("its importer does not know IF", name)
        if self.target == "spikingjelly" and isinstance(new, nir.LIF) and np.any(steps <= 1):
            self._problem("its importer wants tau longer than a step", name)
        self._in_front(name, gain / per_step, leak / per_step)
        self.nodes[name] = new

    def _cuba(self, name: str, values: Any, threshold: np.ndarray) -> None:
        """Importers agree on w_in = tau_syn/dt and r = tau_mem/dt: an input of 1 adds 1 to the current, 1 to v."""
        dt = self.model.profile.dt_s
        syn, mem = np.maximum(values("tau_syn") / dt, 1.0), np.maximum(values("tau_mem") / dt, 1.0)
        if np.any(values("v_leak") != 0):
            self._problem("its importers put the leak of a CubaLIF on the current as well", name, need="v_leak 0")
        gain = values("w_in") / syn * values("r") / mem
        self._in_front(name, gain, np.zeros_like(gain))
        self.nodes[name] = nir.CubaLIF(
            tau_syn=_float(syn * DT_S),
            tau_mem=_float(mem * DT_S),
            r=_float(mem),
            v_leak=_float(0 * mem),
            v_threshold=_float(threshold),
            v_reset=_float(0 * mem),
            w_in=_float(syn),
        )

    def _threshold(self, name: str, threshold: np.ndarray) -> np.ndarray:
        """Off the ties: half a unit of the register up where the chip has one, else the next float where it matters."""
        params = self.model.profile.nodes.get(name)
        if self._on_loihi and isinstance(params, NeuronParams):
            register = params.vth << INPUT_SHIFT
            return threshold * (register + 0.5) / register if register else threshold + 0.5 / 64 / params.scale
        if self.reader.at_threshold and self.model.profile.fires == ">":
            return np.nextafter(threshold.astype(np.float32), np.float32(np.inf)).astype(np.float64)
        return threshold

    # -- factors in front -------------------------------------------------------------------------------

    def _in_front(self, name: str, factor: np.ndarray, constant: np.ndarray) -> None:
        """Multiply what arrives at a neuron and add a constant, in the weights that feed it and nobody else."""
        if np.all(factor == 1) and np.all(constant == 0):
            return
        sources = self.model.sources[name]
        usable = all(isinstance(self.nodes.get(s), _WEIGHTS) and self.targets[s] == [name] for s in sources)
        axes = tuple(range(1, factor.ndim))
        if not usable:
            self._problem(
                "its importer has no gain or leak of its own, and there are no weights to take them",
                name,
                have="edges from " + ", ".join(sources),
                remedy="an Affine or a convolution in front that feeds this population only",
            )
            return
        if axes and (np.any(np.ptp(factor, axis=axes) > 0) or np.any(np.ptp(constant, axis=axes) > 0)):
            self._problem("gain or leak differ inside a channel, which a shared kernel cannot take", name)
            return
        rows, biases = factor.reshape(len(factor), -1)[:, 0], constant.reshape(len(constant), -1)[:, 0]
        for position, source in enumerate(sources):
            node = self.nodes[source]
            node.weight = _float(node.weight * rows.reshape(-1, *[1] * (node.weight.ndim - 1)))
            node.bias = _float(node.bias * rows + (biases if position == 0 else 0))

    def _biases_out_of(self, loop: list[str]) -> None:
        """Importers let recurrent weights speak from the second step on: their bias moves to weights outside."""
        for name in loop:
            node = self.nodes.get(name)
            if not isinstance(node, _WEIGHTS) or not node.bias.any():
                continue
            (target, *more) = self.targets[name]
            outside = [s for s in self.model.sources[target] if s not in loop and self.targets[s] == [target]]
            taker = next((s for s in outside if isinstance(self.nodes.get(s), _WEIGHTS)), None)
            if more or taker is None:
                self._problem("recurrent weights lack their bias in the first step", name, remedy="Linear, or no bias")
                continue
            self.nodes[taker].bias = _float(self.nodes[taker].bias + node.bias)
            node.bias = _float(0 * node.bias)

    def _scale_readers(self, name: str, factor: float) -> None:
        """Average pools become sums: their factor goes into the weights behind."""
        for target in self.targets[name]:
            if isinstance(self.model.nodes[target], nir.Flatten):
                self._scale_readers(target, factor)
            elif isinstance(self.nodes.get(target), _WEIGHTS) and self.model.sources[target] == [name]:
                self.nodes[target].weight = _float(self.nodes[target].weight * factor)
            else:
                self._problem("an average pool needs weights behind it that take its factor", name, have=target)

    # -- assembling -------------------------------------------------------------------------------------

    def _assemble(self, order: list[str]) -> Model:
        gone = [name for name in order if name not in self.nodes]
        names: dict[str, str] = {}
        for name in order:
            plain = {self.model.input_name: "input", self.model.output_name: "output"}.get(name)
            plain = plain or re.sub(r"[^A-Za-z0-9_]", "_", name)
            while plain in names.values():
                plain += "_"
            names[name] = plain
        edges = list(self.model.graph.edges)
        for name in gone:
            arriving = [a for a, b in edges if b == name]
            leaving = [b for a, b in edges if a == name]
            edges = [e for e in edges if name not in e] + [(a, b) for a in arriving for b in leaving]
        graph = nir.NIRGraph(
            nodes={names[n]: self.nodes[n] for n in order if n in self.nodes},
            edges=[
                (names[a], names[b]) for a, b in sorted(edges, key=lambda e: (order.index(e[0]), order.index(e[1])))
            ],
            type_check=False,
        )
        if self.reader.depth_first and not same_lags(graph, order=[names[n] for n in order if n in self.nodes]):
            self._problem(
                "its executor walks depth first: the second of two branches would come a step late, or last",
                "graph",
                remedy="skips without weights of their own, or --for spikingjelly",
            )
            raise GraphError.from_problems(self.problems)
        profile = Profile(
            dt_s=DT_S,
            reset="zero",
            fires=">=" if self.reader.at_threshold else ">",
            encoding=Encoding(kind="float"),
            steps=self.model.profile.steps,
            classes=self.model.profile.classes,
            provenance={"for": self.target, "from": self.model.sha256, "notes": self.notes},
        )
        made = Model(graph=normalise(graph), profile=profile)
        check_model(made)
        return made


def _lif(steps: np.ndarray, r: np.ndarray, threshold: np.ndarray) -> nir.LIF:
    zero = _float(0 * threshold)
    return nir.LIF(tau=_float(steps * DT_S), r=_float(r), v_leak=zero, v_threshold=_float(threshold), v_reset=zero)


def _float(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=np.float32)
