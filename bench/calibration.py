"""The calibration table of docs/energy.md: estimates beside published measurements. `python bench/calibration.py`

No constant is tuned to these points. The networks' rates were mostly not published, so a row says what the definitions
give at a rate, not that the rate was this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import nir
import numpy as np

from snnkd_deploy.chips import ChipSpec, Quantity, load_chip
from snnkd_deploy.evaluate import OpCounts, estimate_energy, expected_counts, layer_from_rates
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import Encoding, Profile
from snnkd_deploy.graph.topology import infer_shapes

KEYWORD_J = 16.75e-6
PILOTNET_J = 1.094e-3
TRUENORTH_W = 72e-3
ODIN_J = 15e-9


@dataclass(frozen=True)
class Row:
    """One estimate over its published value, both in `unit` of `scale`."""

    point: str
    published: float
    estimate: float
    what: str
    excluded: str
    unit: str = "µJ"
    scale: float = 1e-6

    @property
    def ratio(self) -> float:
        return self.estimate / self.published

    def __str__(self) -> str:
        shown = [f"{value / self.scale:.4g} {self.unit}" for value in (self.published, self.estimate)]
        return f"| {self.point} | {shown[0]} | {shown[1]} | {self.ratio:.2f} | {self.what} | {self.excluded} |"


def keyword_branch(rate: float) -> OpCounts:
    """One more branch: ten hidden layers of 256, the branch's synapses into the output layer; 10 steps."""
    hidden = [layer_from_rates(f"h{i}", 256, 10, rate=rate, inputs=256, input_rate=rate) for i in range(10)]
    last = layer_from_rates("output", 256, 10, inputs=256, input_rate=rate, spiking=False)
    # The output neurons are there anyway: the branch adds their synapses only.
    synapses = replace(last, neurons=0, updates_active=0.0, updates_idle=0.0, spikes_in=0.0)
    return OpCounts((*hidden, synapses), steps=10)


def pilotnet() -> Model:
    """PilotNet-LIF as lava-dl's benchmark notebook prints it; its input layer is a bias-driven population."""
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array((3, 66, 200))})}
    edges: list[tuple[str, str]] = []

    def add(name: str, node: nir.NIRNode) -> None:
        edges.append((list(nodes)[-1], name))
        nodes[name] = node

    def here() -> tuple[int, ...]:
        return infer_shapes(nir.NIRGraph(nodes, edges, type_check=False))[list(nodes)[-1]]

    def population(name: str) -> None:
        ones = np.ones(here())
        add(name, nir.LIF(tau=ones, r=ones, v_leak=0 * ones, v_threshold=ones))

    population("in")
    strides = ((2, 2), (2, 2), (2, 2), (2, 1), (1, 1))
    for i, (channels, stride) in enumerate(zip((24, 36, 48, 64, 64), strides, strict=True), 1):
        padding = (1, 0) if i == 4 else (0, 0)
        weight = np.ones((channels, here()[0], 3, 3))
        add(f"conv{i}", nir.Conv2d(here()[1:], weight, stride, padding, (1, 1), 1, np.zeros(channels)))
        population(f"n{i}")
    add("flat", nir.Flatten({"input": np.array(here())}, 0, -1))
    for i, outputs in enumerate([100, 50, 10, 1], 6):
        add(f"dense{i}", nir.Linear(weight=np.ones((outputs, here()[0]))))
        population(f"n{i}")
    add("output", nir.Output({"output": np.array(here())}))
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    return Model(graph, Profile(dt_s=1e-3, reset="zero", encoding=Encoding(kind="current", levels=255)))


def all_in(name: str, pj: float, source: str) -> ChipSpec:
    """A chip that has no file here, for its one all-in price."""
    price = Quantity(value=pj, unit="pJ", kind="measured", source=source)
    chip = load_chip("loihi1")
    energy = chip.energy.model_copy(update={"scope": "all_in", "prices": {"synop": price}, "proxy": ""})
    return chip.model_copy(update={"id": name, "energy": energy})


def _dynamic(counts: OpCounts, chip: str, profile: str) -> float:
    dynamic = estimate_energy(counts, chip, profile=profile).dynamic  # type: ignore[arg-type]
    assert dynamic is not None
    return dynamic["mid"]


def rows() -> Iterator[Row]:
    """All points, in the order of the page."""
    keyword = "Loihi 1, keyword spotting: one more branch of 10 x 256, 10 steps (Blouw et al. 2019)"
    for rate, profile in ((0.088, "published"), (0.059, "fit")):
        joules = _dynamic(keyword_branch(rate), "loihi1", profile)
        what = f"{profile} prices; mean rate {rate} (rates unpublished)"
        yield Row(keyword, KEYWORD_J, joules, what, "messages between cores, static power, host")
    drive = "Loihi 2, PilotNet-LIF, T = 16, dynamic (lava-dl notebook)"
    for rate in (0.02, 0.05, 0.1, 0.2):
        joules = _dynamic(expected_counts(pilotnet(), rate, 16), "loihi1", "published")
        what = f"*proxy*: Loihi 1's published prices; mean rate {rate} (rates unpublished)"
        yield Row(drive, PILOTNET_J, joules, what, "another chip's prices, static power, host", "mJ", 1e-3)
    neurons = 4096 * 256
    second = layer_from_rates("all", neurons, 1000, rate=0.02, inputs=neurons, input_rate=0.02, synapses=128 * neurons)
    watts = estimate_energy(OpCounts((second,), steps=1000), "truenorth").mid
    assert watts is not None
    point = "TrueNorth, whole chip for one second, 20 Hz x 128 synapses (Merolla et al. 2014)"
    yield Row(point, TRUENORTH_W, watts, "circular: the price was derived from it", "nothing: all-in price", "mW", 1e-3)
    digits = layer_from_rates("digits", 10, 1, inputs=256, input_rate=1.0)
    joules = estimate_energy(OpCounts((digits,), steps=1), all_in("odin", 12.7, "Frenkel et al. 2019")).mid
    assert joules is not None
    point = "ODIN, 16x16 digits, rank order (Frenkel et al. 2019)"
    what = f"every input spikes once; equal if {ODIN_J / joules:.2f} of them do (share unpublished)"
    yield Row(point, ODIN_J, joules, what, "nothing: all-in price", "nJ", 1e-9)


def table() -> str:
    """The rows as Markdown."""
    head = "| point | published | estimate | ratio | of what | excluded |\n|---|---|---|---|---|---|"
    return "\n".join([head, *map(str, rows())])


if __name__ == "__main__":
    print(table())
