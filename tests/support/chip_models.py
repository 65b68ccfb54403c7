"""Models on Loihi's grid for tests, built node by node as NIR graph and profile, with random integers."""

from __future__ import annotations

import nir
import numpy as np

from snnkd_deploy.chips import load_chip
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import (
    ChipStamp,
    Encoding,
    NeuronParams,
    Profile,
    ReadoutParams,
    SynapseParams,
)
from snnkd_deploy.graph.topology import infer_shapes

SCALE = 64.0  # a power of two: weight / SCALE * SCALE gives the integer back
DT = 1e-3


class Net:
    """Adds nodes one by one; every method returns the node's name, `sources` are names or one name."""

    def __init__(self, shape, encoding="events", levels=1, bits=0, seed=0, chip="loihi2"):
        self.rng = np.random.default_rng(seed)
        self.encoding = Encoding(kind=encoding, levels=levels, bits=bits)
        self.chip = load_chip(chip)
        self.nodes = {"input": nir.Input({"input": np.array(shape)})}
        self.edges: list[tuple[str, str]] = []
        self.params = {}

    def add(self, name, node, sources, params=None):
        self.nodes[name] = node
        for source in [sources] if isinstance(sources, str) else sources:
            self.edges.append((source, name))
        if params is not None:
            self.params[name] = params
        return name

    def shape(self, name):
        known = nir.NIRGraph(nodes=self.nodes, edges=self.edges, type_check=False)
        return infer_shapes(known)[name]

    def weights(self, shape, low=-64, high=64, density=1.0):
        """Random integers on the chip's grid: even, or of one sign where the range is."""
        values = self.rng.integers(low, high + 1, shape)
        if low < 0 < high:
            values = values // 2 * 2
        return values * (self.rng.random(shape) < density)

    def conv(self, name, sources, weight, stride=1, padding=0, dilation=1, groups=1, bias=None, **params):
        shape = self.shape(sources if isinstance(sources, str) else sources[0])
        bias = np.zeros(weight.shape[0]) if bias is None else bias
        kind = nir.Conv2d if weight.ndim == 4 else nir.Conv1d
        size = shape[1:] if weight.ndim == 4 else shape[1]
        node = kind(size, weight / SCALE, stride, padding, dilation, groups, bias.astype(float))
        return self.add(name, node, sources, SynapseParams(weight_scale=SCALE, **params))

    def dense(self, name, sources, weight, bias=None, **params):
        node = nir.Linear(weight / SCALE) if bias is None else nir.Affine(weight / SCALE, bias.astype(float))
        return self.add(name, node, sources, SynapseParams(weight_scale=SCALE, **params))

    def lif(self, name, sources, vth=64, Du=4096, Dv=512, bias_exp=0, leak=None):
        first = sources if isinstance(sources, str) else sources[0]
        ones = np.ones(self.shape(first))
        node = nir.LIF(
            tau=ones * DT * 4096 / max(Dv, 1),
            r=ones,
            v_leak=ones * 0 if leak is None else leak * ones,
            v_threshold=ones * vth / SCALE,
        )
        scale = 0.0 if leak is None else 1.0
        return self.add(name, node, sources, NeuronParams(Du=Du, Dv=Dv, vth=vth, bias_exp=bias_exp, leak_scale=scale))

    def loop(self, name, layer, weight, **params):
        """Recurrent weights of a population onto itself."""
        self.dense(name, layer, weight, **params)
        self.edges.append((name, layer))
        return name

    def readout(self, name, sources, Du=4096, Dv=0, read="v", scale=32.0, **params):
        ones = np.ones(self.shape(sources if isinstance(sources, str) else sources[0]))
        readout = ReadoutParams(Du=Du, Dv=Dv, read=read, scale=scale, **params)
        return self.add(name, nir.I(r=ones), sources, readout)

    def flatten(self, name, source):
        return self.add(name, nir.Flatten({"input": np.array(self.shape(source))}, 0, -1), source)

    def pool(self, name, source, kernel, stride=None, padding=0):
        pair = lambda n: np.array([n, n] if np.isscalar(n) else n)  # noqa: E731
        node = nir.SumPool2d(pair(kernel), pair(kernel if stride is None else stride), pair(padding))
        return self.add(name, node, source)

    def delay(self, name, source, steps):
        """A nir.Delay of `steps`, one number or one for each element."""
        return self.add(name, nir.Delay(np.broadcast_to(steps, self.shape(source)) * DT), source)

    def scale(self, name, source, factors, **params):
        return self.add(name, nir.Scale(factors / SCALE), source, SynapseParams(weight_scale=SCALE, **params))

    def model(self, output, **profile):
        shape = np.array(self.shape(output if isinstance(output, str) else output[0]))
        self.add("output", nir.Output({"output": shape}), output)
        graph = nir.NIRGraph(nodes=self.nodes, edges=self.edges, type_check=False)
        chip = ChipStamp(
            id=self.chip.id,
            sha256=self.chip.sha256,
            neuron=self.chip.neuron,
            parameters=self.chip.parameters,
        )
        values = {"dt_s": DT, "reset": "zero", "encoding": self.encoding, "chip": chip, "nodes": self.params}
        return Model(graph, Profile(**(values | profile)))

    def spikes(self, steps, samples, rate=0.3):
        """Random input of the encoding's kind: (T, B, *shape), or (1, B, *shape) for `current`."""
        shape = self.shape("input")
        if self.encoding.kind == "current":
            return self.rng.integers(0, self.encoding.levels + 1, (1, samples, *shape))
        fire = self.rng.random((steps, samples, *shape)) < rate
        if self.encoding.kind == "graded":
            return fire * self.rng.integers(0, 2**self.encoding.bits, fire.shape)
        return fire.astype(np.uint8)
