"""Random NIR graphs with every node type, and what they must give: a slow, obvious simulation."""

from __future__ import annotations

import nir
import numpy as np

from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import Encoding, Profile

DT = 1e-3


class RandomGraph:
    """`nodes`, `edges`, and the back edges of its loops: (population, node that hears its last step)."""

    def __init__(self, seed: int, *, integer_values: bool = False, uniform: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.uniform = uniform  # one value a population, spiking neurons only: what a chip can do
        self.dyadic = integer_values  # coarse weights make ties likely
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.back: set[tuple[str, str]] = set()
        self.shapes: dict[str, tuple[int, ...]] = {}
        shape = ((5,), (2, 7), (2, 6, 5))[self.pick(3)]
        self.nodes["input"], self.shapes["input"] = nir.Input({"input": np.array(shape)}), shape
        at = "input"
        for _ in range(2 + self.pick(6)):
            at = self.grow(at)
        self.add("output", nir.Output({"output": np.array(self.shapes[at])}), [at], self.shapes[at])

    def pick(self, n: int) -> int:
        return int(self.rng.integers(n))

    def values(self, *shape: int) -> np.ndarray:
        if self.dyadic:
            return self.rng.integers(-4, 5, shape) / 4.0
        return self.rng.normal(0, 0.7, shape)

    def positive(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        if self.dyadic:
            return 2.0 ** self.rng.integers(int(np.log2(low)), int(np.log2(high)) + 1, shape)
        return self.rng.uniform(low, high, shape)

    def add(self, name: str, node: nir.NIRNode, sources: list[str], shape: tuple[int, ...]) -> str:
        self.nodes[name], self.shapes[name] = node, shape
        self.edges += [(source, name) for source in sources]
        return name

    def name(self, kind: str) -> str:
        return f"{kind}_{len(self.nodes)}"

    # -- growing ---------------------------------------------------------------------------------

    def grow(self, at: str) -> str:
        shape = self.shapes[at]
        grows = {1: [self.dense, self.dense, self.skip, self.loop], 2: [self.conv1d, self.flatten], 3: [self.conv2d]}
        grows[3] += [self.conv2d, self.pool, self.flatten]
        choices = [*grows[len(shape)], self.neuron, self.neuron, self.neuron, self.scale, self.delay]
        return choices[self.pick(len(choices))](at)

    def dense(self, at: str) -> str:
        out = 2 + self.pick(6)
        weight = self.values(out, self.shapes[at][-1])
        node = nir.Linear(weight) if self.pick(2) else nir.Affine(weight, self.values(out))
        return self.add(self.name("dense"), node, [at], (out,))

    def skip(self, at: str) -> str:
        """Two paths that meet in a population."""
        width = self.shapes[at][0]
        branch = self.add(self.name("branch"), nir.Linear(self.values(width, width)), [at], (width,))
        return self.neuron(branch, also=[at])

    def loop(self, at: str) -> str:
        width = self.shapes[at][0]
        if self.pick(2):
            lif = self.neuron(at, kinds=(nir.LIF, nir.IF, nir.CubaLIF))
            self.feed_back(lif, lif, width)
            return lif
        first = self.neuron(at, kinds=(nir.LIF, nir.CubaLIF))
        between = self.add(self.name("between"), nir.Linear(self.values(width, width)), [first], (width,))
        second = self.neuron(between, kinds=(nir.LIF, nir.IF))
        self.feed_back(second, first, width)
        return (first, second)[self.pick(2)]

    def feed_back(self, source: str, target: str, width: int) -> None:
        weight = self.values(width, width)
        node = nir.Linear(weight) if self.pick(2) else nir.Affine(weight, self.values(width))
        name = self.add(self.name("back"), node, [source], (width,))
        self.back.add((source, name))
        self.edges.append((name, target))

    def conv1d(self, at: str) -> str:
        c, length = self.shapes[at]
        out, kernel = 1 + self.pick(3), 1 + self.pick(3)
        padding: object = self.pick(2)
        if self.pick(4) == 0:
            padding = ("same", "valid")[self.pick(2)]
        stride = 1 if padding == "same" else 1 + self.pick(2)
        node = nir.Conv1d(length, self.values(out, c, kernel), stride, padding, 1, 1, self.values(out))
        pads = {"same": kernel - 1, "valid": 0}.get(padding, 2 * padding if isinstance(padding, int) else 0)
        size = (length + pads - kernel) // stride + 1
        if size < 1:
            return self.neuron(at)
        return self.add(self.name("conv"), node, [at], (out, size))

    def conv2d(self, at: str) -> str:
        c, h, w = self.shapes[at]
        groups = c if self.pick(3) == 0 else 1
        out = groups * (1 + self.pick(2))
        kernel = (1 + self.pick(3), 1 + self.pick(3))
        stride, padding = (1 + self.pick(2), 1 + self.pick(2)), (self.pick(2), self.pick(2))
        dilation = (1 + self.pick(2), 1)
        sizes = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip((h, w), kernel, stride, padding, dilation, strict=True)
        )
        if min(sizes) < 1:
            return self.neuron(at)
        weight = self.values(out, c // groups, *kernel)
        node = nir.Conv2d((h, w), weight, stride, padding, dilation, groups, self.values(out))
        return self.add(self.name("conv"), node, [at], (out, *sizes))

    def pool(self, at: str) -> str:
        c, h, w = self.shapes[at]
        kernel, padding = (1 + self.pick(2), 1 + self.pick(3)), (0, self.pick(2))
        stride = (1 + self.pick(2), 1 + self.pick(2))
        sizes = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip((h, w), kernel, stride, padding, strict=True))
        if min(sizes) < 1:
            return self.neuron(at)
        kind = nir.SumPool2d if self.pick(2) else nir.AvgPool2d
        node = kind(np.array(kernel), np.array(stride), np.array(padding))
        return self.add(self.name("pool"), node, [at], (c, *sizes))

    def flatten(self, at: str) -> str:
        shape = self.shapes[at]
        start = (0, -len(shape))[self.pick(2)]
        node = nir.Flatten({"input": np.array(shape)}, start, -1)
        return self.add(self.name("flatten"), node, [at], (int(np.prod(shape)),))

    def scale(self, at: str) -> str:
        shape = self.shapes[at]
        if self.uniform and len(shape) > 1:
            values = np.broadcast_to(self.values(shape[0]).reshape(-1, *[1] * (len(shape) - 1)), shape).copy()
        else:
            values = self.values(*shape)
        return self.add(self.name("scale"), nir.Scale(values), [at], shape)

    def delay(self, at: str) -> str:
        steps = np.full(self.shapes[at], self.pick(4)) if self.uniform else self.rng.integers(0, 4, self.shapes[at])
        return self.add(self.name("delay"), nir.Delay(steps * DT), [at], self.shapes[at])

    def neuron(self, at: str, also: list[str] | None = None, kinds: tuple[type, ...] = ()) -> str:
        shape = self.shapes[at]
        known = (nir.IF, nir.LIF, nir.CubaLIF, nir.LI, nir.CubaLI, nir.I, nir.Threshold)
        kinds = kinds or (known if len(self.nodes) > 2 and not self.uniform else known[:3])
        kind = kinds[self.pick(len(kinds))]
        one = () if self.uniform else shape
        tau = lambda: np.full(shape, DT * self.positive(one, 1.0, 16.0))  # noqa: E731
        leak = self.values(*shape) * (self.pick(2))
        reset = -np.abs(self.values(*shape)) * (self.pick(2) if not self.uniform else 0)
        threshold = np.full(shape, self.positive(one, 0.25, 1.0))
        if kind is nir.IF:
            node = nir.IF(r=np.full(shape, 1 / DT), v_threshold=threshold, v_reset=reset)
        elif kind is nir.LIF:
            r = np.full(shape, self.positive(one, 1.0, 4.0))
            node = nir.LIF(tau=tau(), r=r, v_leak=leak, v_threshold=threshold, v_reset=reset)
        elif kind is nir.CubaLIF:
            node = nir.CubaLIF(
                tau_syn=tau(), tau_mem=tau(), r=np.full(shape, self.positive(one, 1.0, 4.0)), v_leak=leak, v_threshold=threshold,
                v_reset=reset, w_in=np.full(shape, self.positive(one, 1.0, 4.0)),
            )  # fmt: skip
        elif kind is nir.LI:
            node = nir.LI(tau=tau(), r=np.ones(shape), v_leak=leak)
        elif kind is nir.CubaLI:
            node = nir.CubaLI(
                tau_syn=tau(), tau_mem=tau(), r=np.ones(shape), v_leak=leak, w_in=self.positive(shape, 1.0, 4.0)
            )
        elif kind is nir.I:
            node = nir.I(r=np.full(shape, 0.25 / DT))
        else:
            node = nir.Threshold(threshold)
        return self.add(self.name(kind.__name__.lower()), node, [at, *(also or [])], shape)

    # -- results ---------------------------------------------------------------------------------

    def graph(self) -> nir.NIRGraph:
        return nir.NIRGraph(nodes=dict(self.nodes), edges=list(self.edges), type_check=False)

    def model(self, reset: str = "zero") -> Model:
        return Model(self.graph(), Profile(dt_s=DT, reset=reset, encoding=Encoding(kind="float")))

    def input(self, steps: int, samples: int = 1) -> np.ndarray:
        shape = (steps, samples, *self.shapes["input"])
        return (self.rng.random(shape) < 0.4).astype(np.float64)


def simulate(net: RandomGraph, x: np.ndarray, soft: bool = False) -> dict[str, np.ndarray]:
    """Outputs (T, *shape) of every node for one sample x (T, *shape), node by node and step by step."""
    out: dict[str, list[np.ndarray]] = {name: [] for name in net.nodes}
    state: dict[str, dict[str, np.ndarray]] = {name: {} for name in net.nodes}
    waiting = {name: [(s, (s, name) in net.back) for s, t in net.edges if t == name] for name in net.nodes}
    for t in range(len(x)):
        done: set[str] = set()
        while len(done) < len(net.nodes):
            for name, node in net.nodes.items():
                if name in done or any(s not in done and not last for s, last in waiting[name]):
                    continue
                total = x[t] if name == "input" else 0.0
                for source, last in waiting[name]:
                    if last:
                        total = total + (out[source][t - 1] if t else np.zeros(net.shapes[source]))
                    else:
                        total = total + out[source][t]
                out[name].append(_step(node, total, state[name], net.shapes[name], soft))
                done.add(name)
    return {name: np.stack(values) for name, values in out.items()}


def _step(node, x, state, shape, soft):
    if isinstance(node, nir.Linear):
        return node.weight @ x
    if isinstance(node, nir.Affine):
        return node.weight @ x + node.bias
    if isinstance(node, nir.Scale):
        return node.scale * x
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        return _convolution(node, x)
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        return _pool(node, x)
    if isinstance(node, nir.Flatten):
        return x.reshape(shape)
    if isinstance(node, nir.Threshold):
        return (x > node.threshold).astype(float)
    if isinstance(node, nir.Delay):
        past = state.setdefault("past", [])
        past.append(x)
        steps = np.rint(node.delay / DT).astype(int)
        out = np.zeros(shape)
        for index in np.ndindex(*shape):
            if steps[index] < len(past):
                out[index] = past[-1 - steps[index]][index]
        return out
    if isinstance(node, nir.Input | nir.Output):
        return np.asarray(x)
    return _neuron(node, x, state, shape, soft)


def _neuron(node, x, state, shape, soft):
    v = state.get("v", np.zeros(shape))
    if isinstance(node, nir.CubaLI | nir.CubaLIF):
        c = state.get("c", np.zeros(shape))
        c = c + DT / node.tau_syn * (node.w_in * x - c)
        state["c"], x, tau = c, c, node.tau_mem
    else:
        tau = getattr(node, "tau", None)
    v = v + DT * node.r * x if tau is None else v + DT / tau * (node.v_leak - v + node.r * x)
    if not hasattr(node, "v_threshold"):
        state["v"] = v
        return v
    fired = v > node.v_threshold
    state["v"] = np.where(fired, v - node.v_threshold if soft else node.v_reset, v)
    return fired.astype(float)


def _convolution(node, x):
    weight, axes = node.weight, node.weight.ndim - 2
    as_pair = lambda value: np.broadcast_to(np.asarray(value), (axes,))  # noqa: E731
    stride, dilation = as_pair(node.stride), as_pair(node.dilation)
    kernel = np.array(weight.shape[2:])
    if node.padding == "same":
        before = dilation * (kernel - 1) // 2
        after = dilation * (kernel - 1) - before
    else:
        before = after = as_pair(0 if node.padding == "valid" else node.padding)
    x = np.pad(x, [(0, 0), *zip(before, after, strict=True)])
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(x.shape[1:], dilation, kernel, stride, strict=True)]
    out = np.zeros((len(weight), *sizes))
    channels = weight.shape[1]
    for o in range(len(weight)):
        group = o // (len(weight) // int(np.asarray(node.groups)))
        for place in np.ndindex(*sizes):
            for tap in np.ndindex(*kernel):
                at = tuple(p * s + k * d for p, s, k, d in zip(place, stride, tap, dilation, strict=True))
                piece = x[(slice(group * channels, (group + 1) * channels), *at)]
                out[(o, *place)] += weight[(o, slice(None), *tap)] @ piece
    return out + node.bias.reshape(-1, *[1] * axes)


def _pool(node, x):
    kernel, stride, padding = np.asarray(node.kernel_size), np.asarray(node.stride), np.asarray(node.padding)
    x = np.pad(x, [(0, 0), *zip(padding, padding, strict=True)])
    sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:], kernel, stride, strict=True)]
    out = np.zeros((len(x), *sizes))
    for i, j in np.ndindex(*sizes):
        window = x[:, i * stride[0] : i * stride[0] + kernel[0], j * stride[1] : j * stride[1] + kernel[1]]
        total = window.sum((1, 2))
        out[:, i, j] = total if isinstance(node, nir.SumPool2d) else total / kernel.prod()
    return out
