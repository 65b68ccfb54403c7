"""What a chip is, as one frozen object: arithmetic, grids, limits, prices. Read from `hardware/*.toml`.

Training, lowering, simulation, fit and energy all read the same `ChipSpec`, so they cannot disagree.
Field meanings and units: `hardware/README.md`.
"""

from __future__ import annotations

from typing import Annotated, Literal

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
    def span(self) -> int:
        """Largest magnitude on the side that is shorter, so that either sign fits."""
        return min(-self.lo, self.hi) if self.lo < 0 else self.hi


class BiasGrid(_Strict):
    """A bias register: `mantissa << exponent`, in units of the membrane."""

    mantissa: IntGrid
    exponent: IntGrid


class NeuronSpec(_Strict):
    """The arithmetic of one timestep of a chip's neuron (the formulas are in `snnkd_deploy.arithmetic`)."""

    family: Literal["cuba_lif"]
    reset: Literal["zero", "subtract"]
    fires: Literal[">", ">="]
    decay_bits: Annotated[int, Field(ge=1, le=16)]
    rounding: Literal["toward_zero", "floor"]
    u_bits: Annotated[int, Field(ge=8, le=32)]
    v_bits: Annotated[int, Field(ge=8, le=32)]
    u_overflow: Literal["wrap", "saturate"]
    v_overflow: Literal["wrap", "saturate"]
    input_shift: Annotated[int, Field(ge=0, le=16)]  # synaptic sums enter u as `sum << input_shift`
    step_latency: Annotated[int, Field(ge=0)] = 1  # timesteps a spike needs to cross one synapse


_CUBA_LIF = {
    "reset": "zero",
    "fires": ">",
    "decay_bits": 12,
    "rounding": "toward_zero",
    "u_bits": 24,
    "v_bits": 24,
    "u_overflow": "wrap",
    "v_overflow": "saturate",
    "input_shift": 6,
}


class Parameters(_Strict):
    """Grids of everything that is stored on the chip."""

    weight: IntGrid
    bias: BiasGrid
    threshold: IntGrid  # in units of `1 << input_shift` of the membrane
    weight_sharing: bool = True  # convolution kernels are stored once


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
        wrong = [
            f"{k} = {getattr(self.neuron, k)!r} (only {v!r})"
            for k, v in _CUBA_LIF.items()
            if getattr(self.neuron, k) != v
        ]
        if wrong:
            raise ValueError(f"[neuron] family cuba_lif does not implement {', '.join(wrong)}")
        return self

    def limit(self, name: str) -> float | None:
        """The value of a limit, or None where it is unknown or not listed."""
        quantity = self.limits.get(name)
        return None if quantity is None else quantity.value
