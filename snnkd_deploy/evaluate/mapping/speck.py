"""Speck and DYNAP-CNN cores: one layer a core, each core with its own kernel and neuron memory.

    kernel = c 2^(ceil log2(kx ky) + ceil log2 f)     words of 8 bits, f output channels of c input channels
    neuron = f 2^(ceil log2 fy + ceil log2 fx)        words of 16 bits, (fy, fx) the map before pooling
    bias   = f                                        0 without bias

A layer is a convolution, its neurons and a sum pool per destination; a linear layer is a convolution whose
kernel covers the map. The network fits where layers and cores have a matching that covers every layer
(formulas, limits and rule: sinabs 3.1, `memory_summary`, `get_constraints`, `get_valid_mapping`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import nir
import numpy as np

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.chips.units import to_si
from snnkd_deploy.errors import ChipError, Problem
from snnkd_deploy.evaluate.mapping.constraints import known_limits
from snnkd_deploy.evaluate.mapping.cuts import whole
from snnkd_deploy.evaluate.mapping.matching import match
from snnkd_deploy.evaluate.mapping.placement import Placement
from snnkd_deploy.evaluate.mapping.report import FitReport, Tile
from snnkd_deploy.evaluate.wiring import POOLS, Connection, Wiring
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.topology import conv_padding, pair

KERNEL, NEURON, BIAS = "kernel memory", "neuron memory", "bias memory"
_LIMITS = {
    BIAS: "bias_memory_per_core",
    "destinations": "destinations_per_core",
    "channels": "max_channels",
    "input map": "max_input_map",
    "output map": "max_output_map",
    "kernel": "max_kernel",
    "padding": "max_padding",
    "stride": "max_stride",
    "pool": "max_pool",
}
_NARROWER = "a narrower student (student.width)"
_SMALLER_MAP = "stride or pool earlier in the network"


@dataclass(frozen=True)
class Convolution:
    """A layer as one of the chip's convolutions."""

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    map: tuple[int, int]
    bias: bool

    @property
    def need(self) -> dict[str, float]:
        """Words of each memory."""
        taps = math.prod(self.kernel)
        return {
            KERNEL: float(self.inputs * 2 ** (_log2(taps) + _log2(self.outputs))),
            NEURON: float(self.outputs * 2 ** (_log2(self.map[0]) + _log2(self.map[1]))),
            BIAS: float(self.outputs if self.bias else 0),
        }


def _log2(n: int) -> int:
    """ceil(log2 n) of a whole number."""
    return (n - 1).bit_length()


def fit_speck(model: Model, wires: Wiring, chip: ChipSpec) -> FitReport:
    """Layers on cores by bipartite matching. Without one nothing is placed and the violations say why."""
    cores = core_memories(chip)
    limits, unchecked = known_limits(chip, _LIMITS)
    problems = _input_map(model, limits, chip)
    needs: dict[str, dict[str, float]] = {}
    for layer in wires.layers:
        convolution, found = as_convolution(model, wires, layer)
        problems += found
        if convolution is not None:
            problems += _geometry(model, wires, layer, convolution, limits, chip)
            needs[layer] = convolution.need
    allowed = {
        layer: [i for i, core in enumerate(cores) if all(need.get(key, 0.0) <= core[key] for key in core)]
        for layer, need in needs.items()
    }
    problems += _too_large(needs, allowed, cores, chip)
    placed, short = match({layer: found for layer, found in allowed.items() if found})
    if short:
        layers, held = short
        problems.append(
            Problem(
                f"only {len(held)} cores have the memory that these {len(layers)} layers need, one core each",
                where=", ".join(layers),
                need=f"{len(layers)} cores",
                have=f"{len(held)} ({chip.id} cores {', '.join(map(str, held)) or 'none'})",
                remedy="fewer layers, or narrower ones: smaller layers fit more of the cores",
            )
        )
    if problems:
        return FitReport(
            chip=chip.id,
            fits=False,
            cores=0,
            chips=0,
            violations=tuple(problems),
            unchecked=unchecked,
            cores_available=len(cores),
            note="Nothing is placed while something is violated.",
        )
    tiles = tuple(
        replace(Tile(layer, whole(model.shapes[layer]), needs[layer]), core=placed[layer]) for layer in wires.layers
    )
    shares = {t.layer: {key: t.need[key] / cores[t.core][key] for key in cores[t.core]} for t in tiles}
    utilisation = {key: max(share[key] for share in shares.values()) for key in cores[0]}
    return FitReport(
        chip=chip.id,
        fits=True,
        cores=len(tiles),
        chips=1,
        utilisation=utilisation | {"cores": len(tiles) / len(cores)},
        unchecked=unchecked,
        tiles=tiles,
        cores_available=len(cores),
        binding={layer: max(share, key=lambda key: share[key]) for layer, share in shares.items()},
        placement=Placement(model, wires, tiles),
        core_limits=dict(enumerate(cores)),
        note="One layer a core; the vendor's tool may choose other cores.",
    )


def core_memories(chip: ChipSpec) -> list[dict[str, float]]:
    """Capacity of each core in words. Raises ChipError where the chip file does not list them."""
    missing = [key for key in ("kernel", "neuron") if key not in chip.cores.memory]
    if missing:
        what = f"[cores.memory.{missing[0]}] is missing"
        raise ChipError(what, where=chip.path, remedy="one value per core, as in hardware/speck2f.toml")
    words = [
        [to_si(v, m.unit, "words") for v in m.values] for m in (chip.cores.memory[k] for k in ("kernel", "neuron"))
    ]
    if len(words[0]) != len(words[1]):
        raise ChipError("the memories are of different numbers of cores", where=f"{chip.path} [cores.memory]")
    bias = chip.limit("bias_memory_per_core")
    return [{KERNEL: k, NEURON: n} | ({} if bias is None else {BIAS: bias}) for k, n in zip(*words, strict=True)]


def as_convolution(model: Model, wires: Wiring, layer: str) -> tuple[Convolution | None, list[Problem]]:
    """A layer as a convolution of the chip, or why it is none."""
    connections = wires.into(layer)
    if not connections:
        what = "driven by input currents; Speck takes events, and one bias per channel"
        return None, [_no(layer, what, 'student.encoding = "events" or "rate"')]
    if len(connections) != 1:
        return None, [
            _no(layer, f"hears {len(connections)} weight nodes; a core has one kernel", "a net without skips")
        ]
    connection = connections[0]
    if connection.host:
        what = "its input current is computed on the host; Speck takes events, and one bias per channel"
        return None, [_no(layer, what, 'student.encoding = "events" or "rate"')]
    if any(a.signal != "spikes" for a in connection.arrivals):
        return None, [_no(layer, "hears values that are no spikes", 'student.encoding = "events" or "rate"')]
    node = model.nodes[connection.synapse]
    shape = model.shapes[layer]
    bias = bool(np.any(getattr(node, "bias", 0)))
    if isinstance(node, nir.Conv2d) and not connection.post:
        problems = []
        if int(np.asarray(node.groups)) > 1:
            problems.append(_no(layer, "a convolution with groups", "groups = 1"))
        if pair(node.dilation) != (1, 1):
            problems.append(_no(layer, "a dilated convolution", "dilation = 1"))
        channels, inputs, rows, columns = (int(n) for n in node.weight.shape)
        return Convolution(inputs, channels, (rows, columns), (shape[1], shape[2]), bias), problems
    if isinstance(node, nir.Affine | nir.Linear) and len(shape) == 1 and not connection.post:
        maps = {_before_flatten(model, connection, i) for i in range(len(connection.arrivals))}
        if len(maps) > 1:
            return None, [_no(layer, "hears maps of different sizes", "one source")]
        inputs, *kernel = maps.pop()
        return Convolution(inputs, shape[0], (kernel[0], kernel[1]) if kernel else (1, 1), (1, 1), bias), []
    return None, [_no(layer, f"a {type(node).__name__} is no 2-d convolution", "Conv2d or linear layers")]


def _before_flatten(model: Model, connection: Connection, index: int) -> tuple[int, ...]:
    """The shape that a linear layer sees before it was flattened: (C, H, W) or (F,)."""
    arrival = connection.arrivals[index]
    shape = model.shapes[arrival.source]
    for name in arrival.chain:
        if isinstance(model.nodes[name], nir.Flatten):
            return shape
        shape = model.shapes[name]
    return shape


def _no(layer: str, what: str, remedy: str) -> Problem:
    return Problem(what, where=layer, remedy=remedy)


def _input_map(model: Model, limits: dict[str, float], chip: ChipSpec) -> list[Problem]:
    size = max(model.shapes[model.input_name][1:], default=1)
    if size <= limits.get("input map", math.inf):
        return []
    have = f"{limits['input map']:g} ({chip.id})"
    return [Problem("the input map is too large", model.input_name, f"{size} pixels", have, "pool the events first")]


def _geometry(
    model: Model, wires: Wiring, layer: str, layer_conv: Convolution, limits: dict[str, float], chip: ChipSpec
) -> list[Problem]:
    """Kernel, stride, padding, pools, channels and destinations."""
    problems = []

    def over(key: str, used: int, remedy: str) -> None:
        if used > limits.get(key, math.inf):
            have = f"{limits[key]:g} ({chip.id})"
            problems.append(Problem(f"over the limit: {key}", layer, f"{used}", have, remedy))

    connection = wires.into(layer)[0]
    node = model.nodes[connection.synapse]
    if layer_conv.kernel[0] != layer_conv.kernel[1]:
        problems.append(_no(layer, f"kernel {layer_conv.kernel} is not square", "square kernels and maps"))
    over("kernel", max(layer_conv.kernel), "a smaller kernel; before a linear layer, a smaller map")
    over("channels", max(layer_conv.outputs, layer_conv.inputs), _NARROWER)
    over("output map", max(layer_conv.map), _SMALLER_MAP)
    over("destinations", len({c.target for c in wires.out_of(layer)}), "fewer layers that hear it")
    if isinstance(node, nir.Conv2d):
        over("padding", max(conv_padding(node)), "less padding")
        for stride in set(pair(node.stride)):
            if stride.bit_count() != 1 or stride > limits.get("stride", math.inf):
                problems.append(_no(layer, f"stride {stride}; there are 1, 2, 4 and 8", "another stride"))
    for arrival in connection.arrivals:
        problems += _pools(model, layer, [model.nodes[name] for name in arrival.chain], limits)
    return problems


def _pools(model: Model, layer: str, chain: list[nir.NIRNode], limits: dict[str, float]) -> list[Problem]:
    total = 1
    for node in chain:
        if isinstance(node, POOLS):
            size, stride, padding = pair(node.kernel_size), pair(node.stride), pair(node.padding)
            if size[0] != size[1] or stride != size or padding != (0, 0):
                return [
                    _no(layer, f"pool {size} with stride {stride} and padding {padding}", "stride = size, no padding")
                ]
            total *= size[0]
        elif isinstance(node, nir.Delay):
            return [_no(layer, "delays are not possible", "no delays")]
    if total.bit_count() != 1 or total > limits.get("pool", math.inf):
        return [_no(layer, f"pools by {total} in front; there are 1, 2 and 4", "pool by 2 or 4, or use a stride")]
    return []


def _too_large(
    needs: dict[str, dict[str, float]], allowed: dict[str, list[int]], cores: list[dict[str, float]], chip: ChipSpec
) -> list[Problem]:
    """Layers that no core holds: the resource that is over on each of them, or the two that no core has together."""
    problems = []
    for layer, need in needs.items():
        if allowed[layer]:
            continue
        largest = {key: max(core[key] for core in cores) for key in cores[0]}
        alone = [key for key in largest if need[key] > largest[key]]
        for key in alone or [KERNEL]:
            both = "" if alone else f" beside {need[NEURON] / 1024:g} Ki words of neuron memory"
            room = largest[key] if alone else max((c[KERNEL] for c in cores if need[NEURON] <= c[NEURON]), default=0.0)
            problems.append(
                Problem(
                    f"no core has the {key} that the layer needs{both}",
                    where=layer,
                    need=f"{need[key] / 1024:g} Ki words",
                    have=f"{room / 1024:g} ({chip.id})",
                    remedy=_SMALLER_MAP if key == NEURON else _NARROWER,
                )
            )
    return problems
