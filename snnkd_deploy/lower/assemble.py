"""Build the lowered graph: one population after the other, integers chosen, NIR nodes and profile written."""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np

from snnkd_deploy.arithmetic import decay_numbers
from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.errors import GraphError, Problem
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import Encoding, NodeParams, SynapseParams
from snnkd_deploy.graph.topology import Shape
from snnkd_deploy.lower.deviations import notes_on
from snnkd_deploy.lower.integers import quantise_host, quantise_population
from snnkd_deploy.lower.membrane import chip_membrane, input_gain
from snnkd_deploy.lower.neuron_form import NeuronForm
from snnkd_deploy.lower.paths import Convolution, Linear, Path, Synapse
from snnkd_deploy.lower.report import LayerReport

# The extra population of one neuron that fires in every step.
ALWAYS = "always"


@dataclass(frozen=True)
class Way:
    """A path as one synapse: `merged` as the graph means it, `synapse` in units of the target's membrane.

    `wait`: timesteps that its spikes are held back for, beyond the graph's own delays (see `hops`).
    """

    path: Path
    merged: Synapse
    synapse: Synapse
    wait: int = 0


@dataclass(frozen=True)
class Population:
    """`original`: its node in the foreign graph. `constant` (*shape): what arrives when every source is silent."""

    name: str
    original: str
    kind: str
    shape: Shape
    form: NeuronForm
    ways: tuple[Way, ...]
    constant: np.ndarray
    late: int = 0


class Assembly:
    """Collects nodes, edges, parameters, reports, and everything that stands in the way."""

    def __init__(self, model: Model, chip: ChipSpec, encoding: Encoding, measured: dict[str, float], last: str) -> None:
        self.model, self.chip, self.encoding, self.measured = model, chip, encoding, measured
        self.bias_exp, self.last = chip.neuron.input_shift, last
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.params: dict[str, NodeParams] = {}
        self.reports: list[LayerReport] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        shape = model.shapes[model.input_name]
        self.nodes[model.input_name] = nir.Input({"input": np.array(shape)})
        self.shapes = {**model.shapes, ALWAYS: (1,)}
        if ALWAYS in model.nodes:
            self.problem(f"'{ALWAYS}' is the name of a neuron that the lowering may add", ALWAYS, remedy="rename it")

    def problem(self, what: str, where: str, **more: str) -> None:
        self.problems.append(Problem(what, where, **more))

    def finish(self) -> nir.NIRGraph:
        """The graph with its output. Raises GraphError with all that was found on the way."""
        if self.problems:
            raise GraphError.from_problems(self.problems)
        heard = self.reports[-1].name if self.last == self.model.output_name else self.last
        shape = self.model.shapes[self.model.output_name]
        if len(shape) != len(self.model.shapes.get(heard, shape)):
            heard = self._flattened(heard, self.model.shapes[heard])
        self.nodes[self.model.output_name] = nir.Output({"output": np.array(shape)})
        self.edges.append((heard, self.model.output_name))
        return nir.NIRGraph(nodes=self.nodes, edges=self.edges, type_check=False)

    # -- a population -----------------------------------------------------------------------------

    def add(self, population: Population) -> None:
        host = self.encoding.kind == "current" and any(
            way.path.source == self.model.input_name for way in population.ways
        )
        if host:
            self._add_driven(population)
        else:
            self._add_on_chip(population)

    def _add_on_chip(self, population: Population) -> None:
        form = population.form
        drive = form.drive + form.bias_gain * population.constant
        notes = list(form.notes)
        if any(way.path.source == ALWAYS for way in population.ways):
            self._add_always()
            notes.append(f"its bias comes as spikes of the extra neuron '{ALWAYS}'")
        if np.any(population.constant) and form.keep_u > 0:
            notes.append("a bias enters the current in the graph, the membrane on the chip: right once it has settled")
        weights = [way.synapse.weight for way in population.ways]
        loudest = [self._loudest(way.path.source) for way in population.ways]
        quantised = quantise_population(
            weights,
            loudest,
            drive,
            form,
            self.chip,
            population.name,
            fires=self.model.profile.fires,
            steps=self.model.profile.steps,
            largest_current=self.measured.get(population.original),
        )
        if isinstance(quantised, Problem):
            self.problems.append(quantised)
            return
        notes += notes_on(self.chip, form, quantised, drive, loudest, self.model.profile.steps)
        if population.late:
            notes.append(
                f"runs {population.late} steps behind the graph; its bias and leak run from step 0 all the same"
            )
        scale = quantised.scale
        through, register = self._split_bias(population, quantised.bias)
        gain = input_gain(form.keep_v, form.keep_u)
        names = []
        for number, (way, integers) in enumerate(zip(population.ways, quantised.weights, strict=True)):
            name = self._weight_name(population, way, number)
            bias = through if number == 0 else None
            names.append(name)
            self._synapse(name, population, way, integers, scale * gain, bias)
        self._neuron(population, scale, quantised.vth, register)
        self.reports.append(
            LayerReport(
                name=population.name,
                kind=population.kind,
                synapses=tuple(names),
                scale=scale,
                numbers=dict(form.numbers),
                vth=quantised.vth,
                decay_error=form.decay_error,
                weight_error_max=quantised.weight_error_max,
                weight_error_rms=quantised.weight_error_rms,
                weights_saturated=quantised.saturated,
                threshold_error=quantised.threshold_error,
                bias_error=quantised.bias_error,
                headroom=quantised.headroom,
                headroom_measured=population.original in self.measured,
                late=population.late,
                notes=tuple(notes),
            )
        )

    def _add_driven(self, population: Population) -> None:
        """The first population of a `current` encoding: its weights are multiplied on the host."""
        form, ways = population.form, population.ways
        if len(ways) != 1 or ways[0].path.source != self.model.input_name:
            self.problem("a population that the host drives can have no other input", population.name)
            return
        if form.keep_u > 0 or form.threshold is None or self._delays(population, ways[0])[0]:
            self.problem(
                "the host can only drive a spiking population without current memory and without delays",
                population.name,
                remedy="encoding events or graded",
            )
            return
        drive = form.drive + form.bias_gain * population.constant
        per_channel = drive.reshape(drive.shape[0], -1)
        if np.any(per_channel != per_channel[:, :1]):
            self.problem("the bias of a population that the host drives must be one number a channel", population.name)
            return
        weight = ways[0].synapse.weight
        host = quantise_host(weight, per_channel[:, 0], self.encoding.levels, self.chip)
        vth = round(host.scale * form.threshold)
        allowed = self.chip.parameters.threshold
        lowest = max(2, allowed.lo)
        if vth < lowest or vth > allowed.hi:
            what = "the threshold does not fit the image's currents"
            self.problem(what, population.name, need=f"{lowest}..{allowed.hi}", have=f"{vth}")
            return
        scale = host.scale * input_gain(form.keep_v, form.keep_u) * 2.0**host.shift
        name = self._weight_name(population, ways[0], 0)
        params = SynapseParams(place="host", weight_scale=scale, bias_scale=scale, shift=host.shift)
        self._weights(name, population, ways[0], host.weight / scale, host.bias / scale, params)
        self._neuron(population, host.scale, vth, None)
        self.reports.append(
            LayerReport(
                name=population.name,
                kind=population.kind,
                synapses=(name,),
                scale=host.scale,
                numbers=dict(form.numbers),
                vth=vth,
                decay_error=form.decay_error,
                weight_error_max=host.weight_error_max,
                weight_error_rms=host.weight_error_rms,
                weights_saturated=0,
                threshold_error=abs(vth / host.scale - form.threshold) / form.threshold if form.threshold else 0.0,
                bias_error=0.5 / host.scale / (form.threshold or 1.0),
                headroom=float("inf"),
                notes=(*form.notes, "its weights are multiplied on the host"),
            )
        )

    def _add_always(self) -> None:
        """Its bias alone passes the threshold in every step. NIR wants an input: it hears the input with weight 0."""
        if ALWAYS in self.nodes:
            return
        name = f"{ALWAYS}_silent"
        source, shape = self.model.input_name, self.shapes[self.model.input_name]
        self.nodes[name] = nir.Linear(np.zeros((1, int(np.prod(shape)))))
        self.params[name] = SynapseParams(weight_scale=1.0)
        self.edges += [(self._flattened(source, shape), name), (name, ALWAYS)]
        spec, allowed = self.chip.neuron, self.chip.parameters.threshold
        vth = allowed.lo
        mantissa = vth + 1 if spec.fires == ">" else vth
        self.nodes[ALWAYS], self.params[ALWAYS] = chip_membrane(
            spec,
            (1,),
            {**decay_numbers(self.chip, 0.0, 0.0), "vth": vth},
            scale=1.0,
            bias_exp=self.bias_exp,
            dt_s=self.model.profile.dt_s,
            bias=np.array([mantissa << self.bias_exp]),
        )

    def _loudest(self, source: str) -> float:
        """Largest value that a source sends."""
        if source != self.model.input_name:
            return 1.0
        if self.encoding.kind == "events":
            return 1.0 if self.chip.neuron.max_input == 1 else float(self.encoding.levels)
        return float(2**self.encoding.bits - 1) if self.encoding.bits else float(self.encoding.levels)

    def _split_bias(self, population: Population, mantissa: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(per channel on the first synapse, per neuron in the node), in units of v; None for zeros."""
        units = mantissa << self.bias_exp
        if not units.any():
            return None, None
        per_channel = units.reshape(units.shape[0], -1)
        # Delay nodes behind a synapse would hold its bias back.
        behind = any(isinstance(self._delays(population, way)[1], np.ndarray) for way in population.ways)
        if population.form.keep_u == 0 and np.all(per_channel == per_channel[:, :1]) and not behind:
            return per_channel[:, 0], None
        return None, units

    # -- nodes ------------------------------------------------------------------------------------

    def _weight_name(self, population: Population, way: Way, number: int) -> str:
        """The graph's own name where one weight node stands for the path, else one made of the ends."""
        weights = [n for n in way.path.nodes if hasattr(self.model.nodes[n], "weight")]
        name = weights[0] if len(weights) == 1 else f"{way.path.source}_to_{population.name}"
        while name in self.nodes or name in (self.model.output_name,):
            name = f"{name}_{number}"
        return name

    def _neuron(self, population: Population, scale: float, vth: int | None, register: np.ndarray | None) -> None:
        form, spec = population.form, self.chip.neuron
        numbers = dict(form.numbers)
        if vth is not None:
            numbers["vth"] = vth
            if spec.family == "iaf":
                numbers["v_min"] = -vth if spec.floor == "threshold" else None
            if population.original == self.last and spec.max_output_spikes is not None:
                numbers["max_spikes"] = spec.max_output_spikes
        self.nodes[population.name], self.params[population.name] = chip_membrane(
            spec,
            population.shape,
            numbers,
            scale=scale,
            bias_exp=self.bias_exp,
            dt_s=self.model.profile.dt_s,
            bias=register,
        )

    def _synapse(
        self, name: str, population: Population, way: Way, integers: np.ndarray, scale: float, bias: np.ndarray | None
    ) -> None:
        graded = way.path.source == self.model.input_name and self.encoding.kind == "graded"
        params = SynapseParams(
            weight_scale=scale,
            bias_scale=scale * (1 << self.bias_exp),
            message_bits=max(1, self.encoding.bits) if graded else 0,
        )
        real_bias = None if bias is None else bias / params.bias_scale
        self._weights(name, population, way, integers / scale, real_bias, params)

    def _weights(
        self,
        name: str,
        population: Population,
        way: Way,
        weight: np.ndarray,
        bias: np.ndarray | None,
        params: SynapseParams,
    ) -> None:
        source, synapse = way.path.source, way.synapse
        ahead, behind = self._delays(population, way)
        outputs = np.zeros(len(weight)) if bias is None else np.asarray(bias, dtype=np.float64)
        if isinstance(synapse, Linear):
            self.nodes[name] = nir.Linear(weight) if bias is None else nir.Affine(weight, outputs)
            self.edges.append((self._flattened(source, self.shapes[source]), name))
        else:
            self.nodes[name] = _convolution(synapse, weight, outputs, self.shapes[source])
            self.edges.append((source, name))
        self.params[name] = replace_delay(params, ahead)
        if behind is not None:
            self.nodes[f"{name}_delay"] = nir.Delay(behind * self.model.profile.dt_s)
            self.edges += [(name, f"{name}_delay"), (f"{name}_delay", population.name)]
        else:
            self.edges.append((name, population.name))

    def _flattened(self, source: str, shape: Shape) -> str:
        if len(shape) == 1:
            return source
        name = f"flatten_{source}"
        if name not in self.nodes:
            self.nodes[name] = nir.Flatten({"input": np.array(shape)}, start_dim=-len(shape), end_dim=-1)
            self.edges.append((source, name))
        return name

    def _delays(self, population: Population, way: Way) -> tuple[tuple[int, ...], np.ndarray | None]:
        """Delays of the path: (per input of the synapse, per target neuron behind it)."""
        ahead: np.ndarray = np.full(1, way.wait, dtype=np.int64)
        behind: np.ndarray | None = None
        nodes = way.path.nodes
        for place, name in enumerate(nodes):
            node = self.model.nodes[name]
            if not isinstance(node, nir.Delay):
                continue
            steps = np.rint(np.asarray(node.delay, dtype=np.float64) / self.model.profile.dt_s).astype(np.int64)
            steps = np.broadcast_to(steps, self.model.shapes[name])
            weightless = [isinstance(self.model.nodes[n], nir.Delay | nir.Flatten) for n in nodes]
            if np.all(steps == steps.flat[0]):
                ahead = ahead + steps.flat[0]
            elif all(weightless[:place]):
                flat = steps.ravel() if isinstance(way.synapse, Linear) else steps.reshape(len(steps), -1)
                if flat.ndim == 2 and np.any(flat != flat[:, :1]):
                    self.problem("delays inside a channel differ", name, remedy="one delay a channel")
                ahead = ahead + (flat if flat.ndim == 1 else flat[:, 0])
            elif all(weightless[place:]):
                behind = steps.reshape(population.shape) if behind is None else behind + steps.reshape(population.shape)
            else:
                self.problem(
                    "different delays in the middle of a chain of weights", name, remedy="a uniform delay there"
                )
            biased = any(np.any(getattr(self.model.nodes[n], "bias", 0)) for n in nodes[:place])
            note = f"{population.name}: a bias ahead of the delay {name} acts from the first step"
            if biased and steps.any() and note not in self.notes:
                self.notes.append(note)
        return (tuple(int(d) for d in ahead) if ahead.any() else ()), behind


def replace_delay(params: SynapseParams, delay: tuple[int, ...]) -> SynapseParams:
    return params.model_copy(update={"delay": delay}) if delay else params


def _convolution(synapse: Convolution, weight: np.ndarray, bias: np.ndarray, shape: Shape) -> nir.NIRNode:
    if weight.ndim == 3:
        return nir.Conv1d(
            shape[1], weight, synapse.stride[0], synapse.padding[0], synapse.dilation[0], synapse.groups, bias
        )
    return nir.Conv2d(shape[1:], weight, synapse.stride, synapse.padding, synapse.dilation, synapse.groups, bias)
