"""Record what other simulators compute for files that they export or import: `python record_simulators.py FOLDER`.

One `<case>.npz` a case with the bytes of its file in `nir` (small that way), `x` (T, B, ...), `dt`, `reset`, for the k-th spiking
population in order of execution `spikes<k>` (T, B, ...) and, where the simulator's membrane is NIR's, `v<k>` after
the reset and `c<k>`, the synaptic current. Needs norse 1.1, snntorch 1.0, spikingjelly 2.0, nirtorch 2.6. The files
in tests/backends/recorded were written by it.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch

nn = torch.nn
STEPS, SAMPLES = 24, 2
Case = tuple[nir.NIRGraph, torch.Tensor, dict[str, list[torch.Tensor]], float, str]


def events(*shape: int, rate: float = 0.5) -> torch.Tensor:
    return (torch.rand(STEPS, SAMPLES, *shape) < rate).float()


# -- snnTorch: its own exporter -----------------------------------------------------------------------------


def snntorch_cases() -> Iterator[tuple[str, Callable[[], Case]]]:
    import snntorch as snn

    keep: dict[str, Any] = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}

    def full(value: float, *shape: int) -> torch.Tensor:
        return torch.full(shape, value) + 0.05 * torch.rand(shape)

    def leaky(*shape: int, threshold: float = 0.5, **more: Any) -> nn.Module:
        return snn.Leaky(beta=full(0.85, *shape), threshold=full(threshold, *shape), **(keep | more))

    def dense() -> nn.Module:
        return nn.Sequential(nn.Linear(9, 14), leaky(14), nn.Linear(14, 5, bias=False), leaky(5, output=True))

    def conv() -> nn.Module:
        layers = [nn.Conv2d(2, 4, 3, padding=1, stride=2, bias=False), leaky(4, 5, 5), nn.AvgPool2d((2, 2))]
        layers += [nn.Conv2d(4, 4, 2, groups=2), leaky(4, 1, 1, threshold=0.2), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(4, 5), leaky(5, output=True, threshold=0.2))

    def synaptic() -> nn.Module:
        cell = snn.Synaptic(alpha=full(0.7, 12), beta=full(0.85, 12), threshold=full(1, 12), **keep)
        last = snn.Synaptic(alpha=full(0.6, 4), beta=full(0.8, 4), threshold=full(0.6, 4), output=True, **keep)
        return nn.Sequential(nn.Linear(9, 12), cell, nn.Linear(12, 4), last)

    def rleaky() -> nn.Module:
        cell = snn.RLeaky(beta=full(0.9, 12), linear_features=12, **keep)
        return nn.Sequential(nn.Linear(9, 12), cell, nn.Linear(12, 4), leaky(4, output=True))

    def rleaky_diagonal() -> nn.Module:
        cell = snn.RLeaky(beta=full(0.9, 12), all_to_all=False, V=torch.randn(12), output=True, **keep)
        return nn.Sequential(nn.Linear(9, 12), cell)

    def rsynaptic() -> nn.Module:
        # With reset_delay=False its forward fails (snntorch 1.0.0): the recording loop resets in its place.
        cell = snn.RSynaptic(0.7, 0.85, linear_features=12, output=True, init_hidden=True, reset_mechanism="zero")
        return nn.Sequential(nn.Linear(9, 12), cell)

    def subtract() -> nn.Module:
        return nn.Sequential(nn.Linear(9, 12), leaky(12, threshold=1.5, reset_mechanism="subtract", output=True))

    shapes = {conv: (2, 9, 9)}
    for build in (dense, conv, synaptic, rleaky, rleaky_diagonal, rsynaptic, subtract):
        reset = "subtract" if build is subtract else "zero"
        yield f"snntorch_{build.__name__}", lambda b=build, r=reset: _snntorch(b(), shapes.get(b, (9,)), r)


def _snntorch(net: nn.Module, shape: tuple[int, ...], reset: str) -> Case:
    from snntorch.export_nir import export_to_nir

    x = events(*shape)
    graph = export_to_nir(net, x[0][:1], ignore_dims=[0])
    cells = [m for m in net.modules() if hasattr(m, "reset_mem")]
    found: dict[str, list[torch.Tensor]] = {}
    for cell in cells:
        cell.reset_mem()
        cell.register_forward_hook(lambda m, _, out: fired.append(out[0] if isinstance(out, tuple) else out))
    for now in x:
        fired: list[torch.Tensor] = []
        net(now)
        for k, (cell, spikes) in enumerate(zip(cells, fired, strict=True)):
            if cell.reset_delay:
                cell.mem = cell.mem * (1 - spikes)
            found.setdefault(f"spikes{k}", []).append(spikes)
            found.setdefault(f"v{k}", []).append(cell.mem)
            if hasattr(cell, "syn"):
                found.setdefault(f"c{k}", []).append(cell.syn)
    return graph, x, found, 1e-4, reset


# -- spikingjelly: its own exporter --------------------------------------------------------------------------


def spikingjelly_cases() -> Iterator[tuple[str, Callable[[], Case]]]:
    from spikingjelly.activation_based import layer, neuron

    def lif() -> list[nn.Module]:
        cells = neuron.LIFNode(tau=2.0, v_threshold=0.31), neuron.LIFNode(3.0, decay_input=False, v_threshold=0.313)
        return [layer.Linear(9, 14), cells[0], layer.Linear(14, 5, bias=False), cells[1]]

    def plif() -> list[nn.Module]:
        return [layer.Linear(9, 14), neuron.ParametricLIFNode(init_tau=2.7, v_threshold=0.21)]

    def cuba() -> list[nn.Module]:
        cell = neuron.CUBALIFNode(c_decay=0.6, v_decay=0.8, v_threshold=1.1)
        return [layer.Linear(9, 14), cell, layer.Linear(14, 5), neuron.CUBALIFNode(0.5, 0.7, v_threshold=0.9)]

    def if_conv_pool() -> list[nn.Module]:
        layers = [layer.Conv2d(2, 4, 3, padding=1, bias=False), neuron.IFNode(v_threshold=0.917), layer.AvgPool2d(2)]
        layers += [layer.Conv2d(4, 6, 3, stride=2, padding=1), neuron.IFNode(v_threshold=0.371), layer.Flatten()]
        return [*layers, layer.Linear(54, 5), neuron.IFNode(v_threshold=0.31)]

    def conv1d() -> list[nn.Module]:
        layers = [layer.Conv1d(2, 4, 3, padding=1), neuron.LIFNode(v_threshold=0.2137), layer.Flatten()]
        return [*layers, layer.Linear(36, 4), neuron.IFNode(v_threshold=0.413)]

    shapes = {"if_conv_pool": (2, 10, 10), "conv1d": (2, 9)}
    for build in (lif, plif, cuba, if_conv_pool, conv1d):
        shape = shapes.get(build.__name__, (9,))
        yield f"spikingjelly_{build.__name__}", lambda b=build, s=shape: _spikingjelly(b(), s)


def _spikingjelly(modules: list[nn.Module], shape: tuple[int, ...]) -> Case:
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    net = nn.Sequential(*modules)
    x = events(*shape)
    graph = export_to_nir(net, x[0][:1], dt=1e-4)
    functional.reset_net(net)
    cells = [m for m in net.modules() if isinstance(m, neuron.BaseNode)]
    found: dict[str, list[torch.Tensor]] = {}
    for cell in cells:
        cell.register_forward_hook(lambda m, _, out: fired.append(out))
    for now in x:
        fired: list[torch.Tensor] = []
        net(now)
        for k, (cell, spikes) in enumerate(zip(cells, fired, strict=True)):
            found.setdefault(f"spikes{k}", []).append(spikes)
            found.setdefault(f"v{k}", []).append(cell.v)
            if hasattr(cell, "c"):
                found.setdefault(f"c{k}", []).append(cell.c)
    return graph, x, found, 1e-4, "zero"


# -- norse: graphs that its importer reads (its exporter writes tau times dt) ----------------------------------


def norse_cases() -> Iterator[tuple[str, Callable[[], Case]]]:
    rng = np.random.default_rng(3)

    def values(*shape: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    def lif(*shape: int, threshold: float = 0.1) -> nir.LIF:
        one = np.ones(shape, np.float32)
        spread = rng.uniform(0.8, 1.2, shape).astype(np.float32)
        return nir.LIF(one * 5e-3 * spread, one, one * 0, one * threshold * spread, one * 0)

    def cuba(*shape: int) -> nir.CubaLIF:
        one = np.ones(shape, np.float32)
        return nir.CubaLIF(
            tau_syn=one * 4e-3, tau_mem=one * 6e-3, r=one * 1.5, v_leak=one * 0, v_threshold=one * 0.1, w_in=one * 2
        )

    def chain(shape: tuple[int, ...], **nodes: nir.NIRNode) -> nir.NIRGraph:
        named = {"input": nir.Input({"input": np.array(shape)})} | nodes | {"output": nir.Output({"output": None})}
        names = list(named)
        return nir.NIRGraph(named, list(zip(names, names[1:], strict=False)))

    def affine(out: int, inputs: int) -> nir.Affine:
        return nir.Affine(values(out, inputs), rng.normal(0.1, 0.1, out).astype(np.float32))

    def dense() -> nir.NIRGraph:
        return chain((9,), a=affine(14, 9), lif1=lif(14), b=affine(5, 14), lif2=lif(5, threshold=0.05))

    def cubalif() -> nir.NIRGraph:
        return chain((9,), a=affine(14, 9), cuba1=cuba(14), b=affine(5, 14), cuba2=cuba(5))

    def conv_pool() -> nir.NIRGraph:
        bias = rng.normal(0.1, 0.1, 4).astype(np.float32)
        pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
        flat = nir.Flatten({"input": np.array([4, 5, 5])}, -3, -1)
        first = nir.Conv2d((10, 10), values(4, 2, 3, 3), 1, 1, 1, 1, bias)
        return chain((2, 10, 10), c=first, lif1=lif(4, 10, 10), p=pool, f=flat, b=affine(5, 100), lif2=lif(5))

    def residual() -> nir.NIRGraph:
        graph = chain((9,), a=affine(9, 9), lif1=lif(9), b=affine(9, 9), lif2=lif(9, threshold=0.15))
        graph.edges.append(("lif1", "lif2"))
        return graph

    for build in (dense, cubalif, conv_pool, residual):
        yield f"norse_{build.__name__}", lambda b=build: _norse(b())


def _norse(graph: nir.NIRGraph) -> Case:
    import norse.torch as norse
    from norse.torch.module.lif_box import LIFBoxCell

    logging.disable(logging.WARNING)
    net = norse.from_nir(graph, dt=1e-3)
    x = events(*graph.nodes["input"].input_type["input"].tolist())
    cells = [m for m in net.modules() if isinstance(m, LIFBoxCell)]
    found: dict[str, list[torch.Tensor]] = {}
    for cell in cells:
        cell.register_forward_hook(lambda m, _, out: fired.append(out))
    state = None
    for now in x:
        fired: list[Any] = []
        _, state = net(now, state)
        for k, (spikes, after) in enumerate(fired):
            found.setdefault(f"spikes{k}", []).append(spikes)
            found.setdefault(f"v{k}", []).append(after.v)
    return graph, x, found, 1e-3, "zero"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    for cases in (snntorch_cases, spikingjelly_cases, norse_cases):
        for name, make in cases():
            torch.manual_seed(sum(map(ord, name)))
            with torch.no_grad():
                graph, x, found, dt, reset = make()
            buffer = io.BytesIO()
            nir.write(buffer, graph)
            arrays = {
                key: torch.stack(values).numpy().astype(np.uint8 if key.startswith("spikes") else np.float32)
                for key, values in found.items()
            }
            small = x.to(torch.uint8).numpy()
            np.savez_compressed(
                folder / f"{name}.npz",
                nir=np.frombuffer(buffer.getvalue(), np.uint8),
                x=small,
                dt=dt,
                reset=reset,
                **arrays,
            )
            print(name, {k: int(v.sum()) for k, v in arrays.items() if k.startswith("spikes")})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
