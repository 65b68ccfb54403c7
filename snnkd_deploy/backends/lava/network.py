"""Plan -> Lava processes. Imported in the Lava interpreter only, after the shim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix

from snnkd_deploy.backends.lava.plan import Plan, PopulationPlan, SynapsePlan
from snnkd_deploy.backends.lava.processes.gate import SampleGate
from snnkd_deploy.backends.lava.processes.probe import StateProbe
from snnkd_deploy.backends.lava.processes.recorder import PORTS, FileRecorder
from snnkd_deploy.backends.lava.processes.source import ColumnSource

Arrays = dict[str, np.ndarray]


def assemble(plan: Plan, arrays: Arrays, folder: Path) -> list[AbstractProcess]:
    """Create and connect every process of the plan. Running one of them runs all that are connected."""
    processes: dict[str, AbstractProcess] = {}
    spikes: dict[str, Any] = {}  # name -> OutPort
    inputs: dict[str, Any] = {}  # name -> InPort
    extra: list[AbstractProcess] = []
    for source in plan.sources:
        process = ColumnSource(
            path=str(folder / source.file),
            size=source.size,
            window=plan.window,
            shift=source.shift,
            constant=source.constant,
        )
        processes[source.name], spikes[source.name] = process, process.s_out
    for population in plan.populations:
        process = _population(population, plan.window, arrays)
        processes[population.name] = process
        spikes[population.name], inputs[population.name] = process.s_out, process.a_in
    for gate in plan.gates:
        process = SampleGate(limit=arrays[gate.limit], window=plan.window, depth=gate.depth)
        spikes[gate.source].connect(process.s_in)
        processes[gate.name], spikes[gate.name] = process, process.s_out
    for start in range(0, len(plan.recorders), PORTS):
        some = plan.recorders[start : start + PORTS]
        process = FileRecorder(
            paths=[str(folder / recorder.file) for recorder in some],
            sizes=[recorder.size for recorder in some],
            depths=[recorder.depth for recorder in some],
            window=plan.window,
        )
        extra.append(process)
        for index, recorder in enumerate(some):
            inputs[recorder.name] = process.port(index)
            if recorder.source:
                spikes[recorder.source].connect(process.port(index))
    for synapse in plan.synapses:
        extra.append(_synapse(synapse, arrays, [spikes[s] for s in synapse.sources], inputs[synapse.target]))
    for name, target in plan.wires:
        spikes[name].connect(inputs[target])
    for probe in plan.probes:
        process = StateProbe(path=str(folder / probe.file), size=probe.size, window=plan.window, depth=probe.depth)
        process.state.connect_var(getattr(processes[probe.population], probe.state))
        extra.append(process)
    return [*processes.values(), *extra]


def _population(p: PopulationPlan, window: int, arrays: Arrays) -> LIF:
    parameters: dict[str, Any] = {"shape": (p.size,), "du": p.du, "dv": p.dv, "vth": p.vth}
    if p.bias:
        parameters |= {"bias_mant": arrays[p.bias], "bias_exp": p.bias_exp}
    if p.relay:
        return LIF(**parameters)
    # LIFReset counts from 1 and resets before the step: the state is zero when logical step 0 arrives.
    return LIFReset(**parameters, reset_interval=window, reset_offset=1 + p.depth)


def _synapse(s: SynapsePlan, arrays: Arrays, sources: list[Any], target: Any) -> AbstractProcess:
    if s.kind == "conv":
        return _convolution(s, arrays, sources, target)
    data, indices, indptr = (arrays[f"{s.weights}.{part}"] for part in ("data", "indices", "indptr"))
    common: dict[str, Any] = {
        "weights": csr_matrix((data, indices, indptr), shape=s.shape),
        "weight_exp": s.weight_exp,
        "sign_mode": SignMode[s.sign_mode],
        "num_message_bits": s.message_bits,
    }
    if s.kind == "delay":
        # Lava demands int64 delays on the pattern of the weights, zeros written out.
        delays = csr_matrix((arrays[f"{s.weights}.delays"].astype(np.int64), indices, indptr), shape=s.shape)
        process = DelaySparse(**common, delays=delays, max_delay=int(delays.max()))
    else:
        process = Sparse(**common)
    for source in sources:
        source.connect(process.s_in)
    process.a_out.connect(target)
    return process


def _convolution(s: SynapsePlan, arrays: Arrays, sources: list[Any], target: Any) -> AbstractProcess:
    """Populations are flat in torch's (C, H, W) order, Conv speaks (W, H, C): the ports transpose."""
    from lava.proc.conv.process import Conv  # brings scipy.signal, which takes a second to import

    geometry = s.geometry
    channels, height, width = geometry["in_shape"]
    process = Conv(
        weight=arrays[s.weights],
        input_shape=(width, height, channels),
        stride=tuple(geometry["stride"]),
        padding=tuple(geometry["padding"]),
        dilation=tuple(geometry["dilation"]),
        groups=geometry["groups"],
        num_message_bits=s.message_bits,
    )
    for source in sources:
        source.reshape((channels, height, width)).transpose((2, 1, 0)).connect(process.s_in)
    process.a_out.transpose((2, 1, 0)).flatten().connect(target)
    return process
