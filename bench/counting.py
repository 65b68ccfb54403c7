"""Time of counting operations beside the exact simulation that made the spikes: `python bench/counting.py`.

Random nets of three kinds, batches as the pipeline runs them. Prints best of five; the goal is 20 %.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import nir
import numpy as np
import torch

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips import load_chip
from snnkd_deploy.evaluate import OpCounter
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import ChipStamp, Encoding, NeuronParams, Profile, ReadoutParams, SynapseParams
from snnkd_deploy.graph.topology import infer_shapes


def network(shape: tuple[int, ...], convs: list[tuple[int, int]], dense: list[int], vth: int) -> Model:
    """Convolutions of (channels, stride) and dense layers of random even weights, CUBA neurons, a readout."""
    rng = np.random.default_rng(0)
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(shape)})}
    edges: list[tuple[str, str]] = []
    params: dict[str, SynapseParams | NeuronParams | ReadoutParams] = {}
    last = "input"

    def add(name: str, node: nir.NIRNode, param: SynapseParams | NeuronParams | ReadoutParams | None = None) -> None:
        nonlocal last
        nodes[name] = node
        edges.append((last, name))
        if param is not None:
            params[name] = param
        last = name

    def here() -> tuple[int, ...]:
        return infer_shapes(nir.NIRGraph(nodes, edges, type_check=False))[last]

    def weights(*size: int) -> np.ndarray:
        return rng.integers(-32, 33, size) * 2.0

    def population(name: str, threshold: int) -> None:
        ones = np.ones(here())
        node = nir.LIF(tau=ones * 8e-3, r=ones, v_leak=0 * ones, v_threshold=ones)
        add(name, node, NeuronParams(Du=4096, Dv=512, vth=threshold))

    for i, (channels, stride) in enumerate(convs):
        weight = weights(channels, here()[0], 3, 3)
        node = nir.Conv2d(here()[1:], weight, stride, 1, 1, 1, np.zeros(channels))
        add(f"conv{i}", node, SynapseParams(weight_scale=1.0))
        population(f"c{i}", vth * 2**i)
    if convs:
        add("flat", nir.Flatten({"input": np.array(here())}, 0, -1))
    for i, size in enumerate(dense):
        add(f"dense{i}", nir.Linear(weights(size, here()[-1])), SynapseParams(weight_scale=1.0))
        if i < len(dense) - 1:
            population(f"d{i}", vth * 4)
    add("readout", nir.I(r=np.ones(here())), ReadoutParams())
    add("output", nir.Output({"output": np.array(here())}))
    chip = load_chip("loihi2")
    stamp = ChipStamp(id=chip.id, sha256=chip.sha256, neuron=chip.neuron, parameters=chip.parameters)
    profile = Profile(dt_s=1e-3, reset="zero", encoding=Encoding(kind="events"), chip=stamp, nodes=params)
    return Model(nir.NIRGraph(nodes, edges, type_check=False), profile)


CASES: dict[str, tuple[Callable[[], Model], int, int]] = {
    "digits, 2 convolutions": (lambda: network((1, 8, 8), [(16, 1), (32, 2)], [128, 10], 100), 6, 200),
    "32x32, 3 convolutions": (lambda: network((3, 32, 32), [(32, 1), (64, 2), (128, 2)], [10], 200), 6, 32),
    "784-512-512-10": (lambda: network((784,), [], [512, 512, 10], 200), 8, 256),
}


def best(work: Callable[[], object], times: int = 5) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def main() -> None:
    backend = ExactBackend()
    for name, (build, steps, samples) in CASES.items():
        model = build()
        rng = np.random.default_rng(1)
        x = (rng.random((steps, samples, *model.shapes["input"])) < 0.2).astype(np.uint8)
        inputs = make_inputs(x, model)
        trace = backend.run(model, inputs, Record())
        counter = OpCounter(model)
        simulation = best(lambda m=model, i=inputs: backend.run(m, i, Record()))  # type: ignore[misc]
        counting = best(lambda c=counter, t=trace, i=inputs: c.update(t, i))  # type: ignore[misc]
        rates = ", ".join(f"{float(s.float().mean()):.3f}" for s in trace.spikes.values())
        print(
            f"{name}: simulation {simulation * 1e3:.1f} ms, counting {counting * 1e3:.1f} ms = "
            f"{counting / simulation:.1%} ({samples} samples x {steps} steps, rates {rates}, "
            f"{torch.get_num_threads()} threads)"
        )


if __name__ == "__main__":
    main()
