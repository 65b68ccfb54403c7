"""`report.json` as types: the public contract's keys, and what the page shows beside them.

Every figure on the page comes from here, so a script never has to read the HTML. Rules that hold everywhere:

- a number that nobody knows is `null`, never zero;
- fractions (accuracy, rates, utilisation) are 0..1, physical names end in their unit;
- counts of operations and spikes are means per inference (one sample, all timesteps), so they are floats;
- keys of the contract never change meaning; new ones are added with a default, and `schema` says which version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from snnkd_deploy.chips.spec import Kind

SCHEMA_ID: Literal["snnkd_deploy.report/1"] = "snnkd_deploy.report/1"

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Mean = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        populate_by_name=True,
        # Every key is always written, so the schema may promise every key to its readers.
        json_schema_serialization_defaults_required=True,
    )


class Interval(_Part):
    """`low <= mid <= high`, or all three null where no honest number exists."""

    low: Mean | None = None
    mid: Mean | None = None
    high: Mean | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        values = [v for v in (self.low, self.mid, self.high) if v is not None]
        if len(values) not in (0, 3):
            raise ValueError("low, mid and high are either all numbers or all null")
        if values != sorted(values):
            raise ValueError(f"low <= mid <= high does not hold: {values}")
        return self

    @property
    def known(self) -> bool:
        return self.mid is not None


# ---- what ran ------------------------------------------------------------------------------------


class DatasetInfo(_Part):
    """The samples that the accuracies are about. `classes` are display names, in label order."""

    name: str
    split: str
    samples: Count
    classes: tuple[str, ...] = ()
    source: str = ""


class Network(_Part):
    """One network of the run, in words. `parameters` counts trainable numbers."""

    name: str
    parameters: Count | None = None
    about: str = ""


class Networks(_Part):
    teacher: Network | None = None
    student: Network | None = None


class Method(_Part):
    """How the student was taught: recipe names ("seal", "ckd"), a title for people, and their options."""

    names: tuple[str, ...] = ()
    title: str = ""
    options: dict[str, JsonValue] = {}


class EncodingInfo(_Part):
    """How the input reaches the network; operation counts and energy depend on it."""

    kind: str
    steps: Count
    dt_s: Annotated[float, Field(gt=0)] | None = None
    levels: Count | None = None
    bits: Count | None = None
    about: str = ""


class ChipInfo(_Part):
    """What the chip file says about itself, for the page's heading. `max_spikes`: of a neuron in one timestep, 0 for
    any number; what a rate means follows from it."""

    name: str
    process: str = ""
    about: str = ""
    max_spikes: int = 1


class Stage(_Part):
    """Wall-clock time of one stage of the run. `cached`: taken from an earlier call."""

    name: str
    seconds: Mean | None = None
    cached: bool = False


# ---- accuracy and parity ---------------------------------------------------------------------------


class Accuracy(BaseModel):
    """Fractions. `student` is the chip-exact student as training reported it; every other key is a backend."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Fraction | None] = Field(init=False)

    teacher: Fraction | None
    student_float: Fraction | None
    student: Fraction | None

    def backends(self) -> dict[str, float | None]:
        """Accuracy on each backend, in the order it was given."""
        return dict(self.__pydantic_extra__ or {})

    def items(self) -> dict[str, float | None]:
        """All of it: the three stages of training, then the backends."""
        stages = {"teacher": self.teacher, "student_float": self.student_float, "student": self.student}
        return stages | self.backends()


class AccuracyDetail(_Part):
    """What one accuracy was measured on, where that is not the whole split.

    `student_same_samples` is the student's accuracy on exactly these samples: the fair number to hold beside
    a slow backend that ran only some of them.
    """

    samples: Count
    student_same_samples: Fraction | None = None


class DivergenceInfo(_Part):
    """The first spike (or state) at which a backend differs, and what may explain it."""

    layer: str
    step: Count
    sample: Count
    neuron: Count | tuple[Count, ...]
    expected: float
    got: float
    quantity: str = "spike"
    causes: tuple[str, ...] = ()


class LayerParity(_Part):
    layer: str
    spikes_compared: Count
    mismatches: Count


class Parity(_Part):
    """One backend against `reference`: every spike value (0 or 1) of every layer, timestep and sample.

    `logits_mismatches` counts samples whose logits differ. `identical`: something was compared, nothing differed.
    """

    samples: Count
    spikes_compared: Count
    mismatches: Count
    first_divergence: DivergenceInfo | None = None
    reference: str = "exact"
    layers: tuple[LayerParity, ...] = ()
    logits_mismatches: Count | None = None
    identical: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """What the badge says: spikes were compared, and neither they nor the logits differ."""
        return self.spikes_compared > 0 and self.mismatches == 0 and not self.logits_mismatches


# ---- operations, fit, latency, energy ---------------------------------------------------------------


class Counts(_Part):
    """Operations per inference. `rate` is spikes per neuron and timestep."""

    neurons: Count | None = None
    rate: Mean | None = None
    spikes_per_sample: Mean | None = None
    sop_event: Mean | None = None
    sop_nonzero: Mean | None = None
    sop_dense: Mean | None = None
    macs_analog: Mean | None = None
    updates_active: Mean | None = None
    updates_idle: Mean | None = None
    # With taps in the padding, as frameworks and papers count: MACs of one step, and SOPs from them.
    macs_framework: Mean | None = None
    sop_framework: Mean | None = None
    # Parts of sop_event that some chips price differently: through a convolution, and carrying a value.
    sop_conv: Mean | None = None
    sop_graded: Mean | None = None
    messages: Mean | None = None
    parameters: Count | None = None


class _Named(_Part):
    name: str


class LayerInfo(Counts, _Named):  # the order of the bases puts the name first in the file
    """One layer of the deployed network. `place` "host": computed outside the chip."""

    op: str = ""
    shape: tuple[int, ...] = ()
    place: Literal["chip", "host"] = "chip"
    spiking: bool = True
    messages_in: Mean | None = None


class Totals(Counts):
    """Sums over the layers, and what belongs to the whole: the input, and where messages travel once mapped.

    `samples` and `steps` say what the means were taken over.
    """

    input_spikes: Mean | None = None
    input_messages: Mean | None = None
    messages_intra_tile: Mean | None = None
    messages_offchip: Mean | None = None
    hops_ew: Mean | None = None
    hops_ns: Mean | None = None
    steps: Count | None = None
    samples: Count | None = None


class Violation(_Part):
    """One limit that the network exceeds."""

    what: str
    where: str = ""
    need: str = ""
    have: str = ""
    remedy: str = ""


class Fit(_Part):
    """Whether the network fits. `utilisation` is per resource, the share of the fullest core (or of the chip).

    `binding` is the resource nearest to its limit.
    """

    fits: bool | None = None
    cores: Count | None = None
    chips: Count | None = None
    utilisation: dict[str, Mean] = {}
    violations: tuple[Violation, ...] = ()
    cores_available: Count | None = None
    binding: str = ""
    unknown_limits: tuple[str, ...] = ()
    note: str = ""


class Latency(Interval):
    """Seconds per inference. `excludes` says what is not in it."""

    excludes: tuple[str, ...] = ()
    kind: Kind = "unknown"
    source: str = ""
    note: str = ""


Group = Literal["dynamic", "static", "io", "host"]


class EnergyTerm(Interval):
    """One line of an energy sum, in joules per inference: `count` operations at `price` each.

    `group` keeps static power and host work apart from the chip's dynamic energy.
    """

    name: str
    group: Group = "dynamic"
    kind: Kind = "unknown"
    source: str = ""
    count: Mean | None = None
    count_unit: str = ""
    price: str = ""
    note: str = ""


class Unpriced(_Part):
    """Something that happens on the chip and for which nobody has published a price."""

    name: str
    count: Mean | None = None
    reason: str = ""

    @model_validator(mode="before")
    @classmethod
    def _name_only(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Bound(Interval):
    """An all-in number from one published system: a bound or an anchor, not a prediction."""

    label: str
    kind: Kind = "derived"
    source: str = ""
    note: str = ""


class Estimate(Interval):
    """Joules per inference, with what it is made of and what is missing from it."""

    terms: tuple[EnergyTerm, ...] = ()
    unpriced: tuple[Unpriced, ...] = ()
    scope: str = "none"
    note: str = ""


class ProxyEstimate(Estimate):
    """The same operations at another chip's prices. A proxy: never the energy of this run's chip."""

    chip: str
    label: str = ""


class Energy(Estimate):
    """The chip's own estimate; `proxy` and `bound` stand beside it and are never added to it."""

    proxy: ProxyEstimate | None = None
    bound: Bound | None = None


class BaselineANN(_Part):
    """The teacher as an ordinary network. `energy_j` is literature arithmetic (45 nm), no memory, no chip."""

    macs: Mean | None = None
    energy_j: Estimate = Estimate()
    name: str = ""
    precision: str = ""
    macs_framework: Mean | None = None


# ---- pictures ----------------------------------------------------------------------------------------


class Curve(_Part):
    """One training stage, one value per epoch; null where an epoch did not measure it.

    `losses` has one series per loss term by name. `picked_epoch` is the epoch whose weights were kept,
    chosen on validation, in the numbers of `epochs`.
    """

    stage: str
    epochs: tuple[int, ...]
    losses: dict[str, tuple[float | None, ...]] = {}
    train_accuracy: tuple[Fraction | None, ...] = ()
    val_accuracy: tuple[Fraction | None, ...] = ()
    firing_rate: tuple[Mean | None, ...] = ()
    picked_epoch: int | None = None

    @model_validator(mode="after")
    def _same_length(self) -> Curve:
        series = {f"losses.{name}": values for name, values in self.losses.items()}
        for name in ("train_accuracy", "val_accuracy", "firing_rate"):
            if getattr(self, name):
                series[name] = getattr(self, name)
        wrong = [name for name, values in series.items() if len(values) != len(self.epochs)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: need one value per epoch ({len(self.epochs)})")
        return self


class Confusion(_Part):
    """`counts[true][predicted]` over the samples of `subject` ("student", or a backend)."""

    classes: tuple[str, ...]
    counts: tuple[tuple[Count, ...], ...]
    subject: str = "student"

    @model_validator(mode="after")
    def _square(self) -> Confusion:
        n = len(self.classes)
        if len(self.counts) != n or any(len(row) != n for row in self.counts):
            raise ValueError(f"counts must be {n} x {n}, one row and one column per class")
        return self


class PerStep(_Part):
    """Accuracy by timestep, t = 1..T: `cumulative` reads the sum of steps 1..t, `single` step t alone."""

    cumulative: tuple[Fraction, ...]
    single: tuple[Fraction, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _cumulative_only(cls, value: Any) -> Any:
        return {"cumulative": value} if isinstance(value, list | tuple) else value


class RasterLayer(_Part):
    """Spike times of the shown neurons: `times[row]` are the steps (from 0) at which `neurons[row]` fired."""

    name: str
    neurons_total: Count
    neurons: tuple[Count, ...]
    times: tuple[tuple[Count, ...], ...]

    @model_validator(mode="after")
    def _one_row_each(self) -> RasterLayer:
        if len(self.neurons) != len(self.times):
            raise ValueError("times needs one row per shown neuron")
        return self


class RasterSample(_Part):
    index: Count
    label: str = ""
    predicted: str = ""
    layers: tuple[RasterLayer, ...]


class Raster(_Part):
    """A few samples' spikes, thinned to what an eye can tell apart."""

    steps: Count
    samples: tuple[RasterSample, ...]
    source: str = "exact"


Grid2D = tuple[tuple[float, ...], ...]


class MapPair(_Part):
    """The teacher's class activation map beside the student's spike activation map, each scaled to 0..1."""

    image: Grid2D | tuple[Grid2D, ...] | None = None  # (H, W), or (3, H, W) in 0..1
    cam: Grid2D
    sam: Grid2D
    index: Count | None = None
    label: str = ""
    predicted: str = ""


class CoreUse(_Part):
    """What one core holds. `utilisation` per resource, 0..1."""

    core: Count
    chip: Count = 0
    layers: tuple[str, ...] = ()
    neurons: Count | None = None
    utilisation: dict[str, Mean] = {}


class CoreMap(_Part):
    """Where the network sits. `columns` is the width of the chip's core grid, for drawing only."""

    items: tuple[CoreUse, ...]
    cores_per_chip: Count | None = None
    columns: Count | None = None


class ParetoPoint(_Part):
    """One trained network of a sweep. Cost in the unit of the plot."""

    label: str
    accuracy: Fraction
    cost: Mean
    cost_low: Mean | None = None
    cost_high: Mean | None = None
    this_run: bool = False


class Pareto(_Part):
    cost_name: str
    cost_unit: str = ""
    points: tuple[ParetoPoint, ...]


# ---- where it came from --------------------------------------------------------------------------------


class Provenance(_Part):
    """Enough to run it again. `command` reproduces the report; `hashes` are sha256 by file or stage."""

    command: str
    versions: dict[str, str] = {}
    seeds: dict[str, int] = {}
    hashes: dict[str, str] = {}
    hardware_file: str = ""
    created: str = ""
    machine: str = ""
    recipe: str = ""


class Report(_Part):
    """Everything that is known about one run. See the module text for the rules."""

    schema_: Literal["snnkd_deploy.report/1"] = Field(SCHEMA_ID, alias="schema")
    chip: str
    model_hash: str
    dataset: DatasetInfo
    accuracy: Accuracy
    parity: dict[str, Parity] = {}
    layers: tuple[LayerInfo, ...]
    totals: Totals
    fit: Fit
    latency_s: Latency
    energy_j: Energy
    baseline_ann: BaselineANN
    provenance: Provenance

    name: str = ""
    chip_info: ChipInfo | None = None
    networks: Networks = Networks()
    method: Method = Method()
    encoding: EncodingInfo | None = None
    accuracy_detail: dict[str, AccuracyDetail] = {}
    accuracy_per_step: PerStep | None = None
    curves: tuple[Curve, ...] = ()
    confusion: Confusion | None = None
    raster: Raster | None = None
    maps: tuple[MapPair, ...] = ()
    cores: CoreMap | None = None
    pareto: Pareto | None = None
    stages: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()  # how the numbers were counted
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The text of `report.json`. Keys in the order of the contract, UTF-8, no NaN."""
        plain = self.model_dump(mode="json", by_alias=True)
        return _readable(plain) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Read `report.json`. Raises pydantic's ValidationError with every problem."""
        return cls.model_validate_json(text)


def _readable(value: Any, indent: str = "") -> str:
    """JSON with one key per line, but with a row of numbers on one line: a raster is a table, not a column."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        rows = [f"{json.dumps(str(k), ensure_ascii=False)}: {_readable(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner + row for row in rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, dict | list) and v for v in value):
        return "[\n" + ",\n".join(inner + _readable(v, inner) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def report_schema() -> dict[str, Any]:
    """The JSON Schema of `report.json` (draft 2020-12), built from the types."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    return head | schema


def schema_text() -> str:
    """`report.schema.json` as it must stand in the package."""
    return json.dumps(report_schema(), indent=1) + "\n"


def shipped_schema() -> Mapping[str, Any]:
    """The JSON Schema as shipped in the package (`report/report.schema.json`)."""
    text = resources.files(__package__).joinpath("report.schema.json").read_text(encoding="utf-8")
    return json.loads(text)
