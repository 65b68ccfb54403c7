"""What a chip is, as one frozen object: arithmetic, grids, limits, prices. Read from `hardware/*.toml`.

Training, lowering, simulation, fit and energy all read the same `ChipSpec`, so they cannot disagree.
Field meanings and units: `hardware/README.md`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["measured", "simulated", "datasheet", "derived", "architectural", "unknown"]
Scope = Literal[
    "per_term",
    "all_in",
    "all_in_and_incremental",
    "all_in_bound_only",
    "system_only",
    "arithmetic_only",
    "none",
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Quantity(_Strict):
    """A number with its provenance. `value` is None where nothing was published (never zero instead).

    `low` and `high` bound `value`; they default to it. `kind` says how the number was obtained.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str
    kind: Kind
    source: str = Field(min_length=1)
    note: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Quantity:
        if self.value is None:
            if self.kind != "unknown" or self.low is not None or self.high is not None:
                raise ValueError("a quantity without a value must have kind = 'unknown' and no bounds")
        elif self.kind == "unknown":
            raise ValueError("kind = 'unknown' must not carry a value")
        elif not self.lo <= self.value <= self.hi:
            raise ValueError(f"low <= value <= high does not hold: {self.lo} <= {self.value} <= {self.hi}")
        return self

    @property
    def lo(self) -> float:
        return self._need(self.low)

    @property
    def hi(self) -> float:
        return self._need(self.high)

    def _need(self, bound: float | None) -> float:
        number = bound if bound is not None else self.value
        if number is None:
            raise ValueError("unknown quantity has no number; test `known` first")
        return number

    @property
    def known(self) -> bool:
        return self.value is not None


class IntGrid(_Strict):
    """The integers a hardware register can hold: lo, lo + step, ..., hi."""

    lo: int
    hi: int
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _aligned(self) -> IntGrid:
        if self.lo > self.hi:
            raise ValueError(f"lo = {self.lo} exceeds hi = {self.hi}")
        if self.lo % self.step or self.hi % self.step:
            raise ValueError(f"lo and hi must be multiples of step = {self.step}")
        return self

    def __contains__(self, value: int) -> bool:
        return self.lo <= value <= self.hi and value % self.step == 0

    @property
    def largest(self) -> int:
        """Largest magnitude of all."""
        return max(abs(self.lo), abs(self.hi))

    @property
    def span(self) -> int:
        """Largest magnitude on the side that is shorter, so that either sign fits."""
        return min(-self.lo, self.hi) if self.lo < 0 else self.hi


class BiasGrid(_Strict):
    """A bias register: `mantissa << exponent`, in units of the membrane."""

    mantissa: IntGrid
    exponent: IntGrid


class NeuronSpec(_Strict):
    """The arithmetic of one timestep of a chip's neuron (the formulas are in `snnkd_deploy.arithmetic`).

    What a family computes is fixed; the values here that it leaves open are the chip's choice, and what it does
    not implement is refused.
    """

    family: Literal["cuba_lif", "iaf", "shift_lif", "float_lif"]
    reset: Literal["zero", "subtract"]
    fires: Literal[">", ">="]
    max_spikes: Annotated[int, Field(ge=0, le=255)] = 1  # of a neuron in one step; 0: as many as thresholds fit
    max_output_spikes: Annotated[int, Field(ge=0, le=255)] | None = None  # of the last population, where it differs
    floor: Literal["none", "threshold"] = "none"  # "threshold": the membrane never falls below -threshold
    decay_bits: Annotated[int, Field(ge=0, le=16)] = 0  # decays are parts of 2^decay_bits; 0: none, or no such parts
    rounding: Literal["toward_zero", "floor", "float32", "none"] = "none"
    u_bits: Annotated[int, Field(ge=0, le=32)] = 0  # 0: no synaptic current
    v_bits: Annotated[int, Field(ge=8, le=32)]
    u_overflow: Literal["wrap", "saturate", "none"] = "none"
    # "refuse": what happens is not documented, so a network that could reach it is refused.
    v_overflow: Literal["wrap", "saturate", "refuse", "none"]
    input_shift: Annotated[int, Field(ge=0, le=16)] = 0  # synaptic sums enter the membrane as `sum << input_shift`
    step_latency: Annotated[int, Field(ge=0)] = 1  # timesteps a spike needs to cross one synapse
    # Steps by which a spike of a population is heard late while everybody's biases run from step 0. 0: the latency
    # is a mere shift of each layer in time, which results do not show.
    hop_delay: Annotated[int, Field(ge=0, le=1)] = 0
    max_input: Annotated[int, Field(ge=0)] = 1  # events of one input channel in a step; 0: any number
    promise: str = ""  # what agreement with the simulator says about the chip, where it is less than equality


# What the arithmetic of a family has: a value, a tuple of the values it may have, or a predicate in words.
_CUBA: dict[str, object] = {
    "reset": "zero",
    "fires": ">",
    "max_spikes": 1,
    "floor": "none",
    "decay_bits": 12,
    "rounding": "toward_zero",
    "u_bits": 24,
    "v_bits": 24,
    "u_overflow": "wrap",
    "v_overflow": "saturate",
    "input_shift": 6,
    "hop_delay": 0,
}
_IMPLEMENTED: dict[str, dict[str, object]] = {
    "cuba_lif": _CUBA,
    "iaf": {
        "fires": ">=",
        "decay_bits": 0,
        "rounding": "none",
        "u_bits": 0,
        "u_overflow": "none",
        "v_overflow": "refuse",
        "input_shift": 0,
    },
    "shift_lif": {
        "fires": ">=",
        "floor": "none",
        "decay_bits": 0,
        "rounding": "floor",
        "u_overflow": ("saturate", "none"),
        "v_overflow": "saturate",
    },
    "float_lif": {
        "fires": ">",
        "max_spikes": 1,
        "floor": "none",
        "decay_bits": 0,
        "rounding": "float32",
        "u_bits": (0, 32),
        "v_bits": 32,
        "u_overflow": "none",
        "v_overflow": "none",
        "input_shift": 0,
    },
}


def _not_implemented(neuron: NeuronSpec) -> list[str]:
    """Every value of `neuron` that its family's arithmetic does not have."""
    wrong = []
    for key, allowed in _IMPLEMENTED[neuron.family].items():
        have = getattr(neuron, key)
        values = allowed if isinstance(allowed, tuple) else (allowed,)
        if have not in values:
            wrong.append(f"{key} = {have!r} (only {' or '.join(repr(v) for v in values)})")
    if neuron.family == "shift_lif" and neuron.u_bits not in (0, neuron.v_bits):
        wrong.append(f"u_bits = {neuron.u_bits} (only 0 or v_bits)")
    return wrong


class Parameters(_Strict):
    """Grids of everything that is stored on the chip."""

    weight: IntGrid
    bias: BiasGrid
    threshold: IntGrid  # in units of `1 << input_shift` of the membrane
    # What a decay may be: parts of 2^decay_bits (cuba_lif), bit shifts (shift_lif), a constant leak (iaf).
    decay: IntGrid | None = None
    weight_sharing: bool = True  # convolution kernels are stored once


def _contradictions(neuron: NeuronSpec, parameters: Parameters) -> list[str]:
    """Grids that do not fit the registers which hold them."""
    wrong, shift = [], neuron.input_shift
    top, highest = 2 ** (neuron.v_bits - 1) - 1, parameters.threshold.hi << shift
    if neuron.family != "float_lif" and highest > top:
        what = f"threshold.hi << input_shift is {highest}, which no membrane of {neuron.v_bits} bits reaches"
        wrong.append(f"[parameters] {what}: threshold.hi is at most {top >> shift}")
    exponent = parameters.bias.exponent
    if shift not in exponent:  # biases are stored as mantissa << input_shift
        what = f"bias.exponent {exponent.lo}..{exponent.hi} lacks the biases' own, input_shift = {shift}"
        wrong.append(f"[parameters] {what}")
    return wrong


class ChipArithmetic(Protocol):
    """What of a chip decides integers: a `ChipSpec`, or the stamp that a model carries of one."""

    @property
    def neuron(self) -> NeuronSpec: ...

    @property
    def parameters(self) -> Parameters: ...


class Operations(_Strict):
    """Which parts of a network the chip can run, and the reason and remedy where it cannot."""

    supported: tuple[str, ...]
    refused: dict[str, str] = {}


class Energy(_Strict):
    """Prices per operation. `scope` says what a price contains, so that nothing is counted twice."""

    scope: Scope
    prices: dict[str, Quantity] = {}
    proxy: str = ""  # id of a chip whose prices may be shown beside, labelled as a proxy


class PerCore(_Strict):
    """A capacity that differs from core to core, with its provenance."""

    values: tuple[float, ...] = Field(min_length=1)
    unit: str
    kind: Kind
    source: str = Field(min_length=1)
    note: str = ""


class Cores(_Strict):
    """How networks are laid out on the chip's cores; the capacities themselves are limits.

    `mapping` names the rules (`evaluate/mapping`): "" takes those of the neuron family, "none" says that there is
    nothing to fit. `memory`: what differs from core to core.
    """

    mapping: Literal["", "none", "loihi1", "loihi2", "speck", "xylo", "truenorth", "spinnaker2"] = ""
    memory: dict[str, PerCore] = {}


class ChipSpec(_Strict):
    """One chip file. `path` and `sha256` say which file was read."""

    id: str
    name: str
    process: str
    clock: str
    about: str = ""
    neuron: NeuronSpec
    parameters: Parameters
    operations: Operations
    cores: Cores = Cores()
    limits: dict[str, Quantity]
    energy: Energy
    power: dict[str, Quantity] = {}
    time: dict[str, Quantity] = {}
    path: str = ""
    sha256: str = ""

    @model_validator(mode="after")
    def _implemented(self) -> ChipSpec:
        # What a chip file says must be what runs: values that the family's arithmetic does not have are refused.
        wrong = _not_implemented(self.neuron)
        if wrong:
            raise ValueError(f"[neuron] family {self.neuron.family} does not implement {', '.join(wrong)}")
        wrong = _contradictions(self.neuron, self.parameters)
        if wrong:
            raise ValueError("; ".join(wrong))
        if self.neuron.family == "shift_lif" and self.parameters.decay is None:
            raise ValueError("[parameters] decay is missing: the bit shifts that a decay may have")
        return self

    def lacks(self, operation: str) -> str | None:
        """Why the chip cannot run an operation, or None where it can."""
        if operation in self.operations.supported:
            return None
        return self.operations.refused.get(operation, f"'{operation}' is not in [operations] supported of its file")

    def limit(self, name: str) -> float | None:
        """The value of a limit, or None where it is unknown or not listed."""
        quantity = self.limits.get(name)
        return None if quantity is None else quantity.value
