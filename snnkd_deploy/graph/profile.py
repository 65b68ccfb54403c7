"""The profile: what a deployed model means and NIR cannot say, as one versioned JSON string.

It travels in the `metadata` of the NIR graph, so that a backend needs nothing but the `.nir` file.

Integers are not stored twice. A synapse node keeps its float weights, and the profile says
`weight_scale`: the integer on the chip is `rint(weight * weight_scale)`, which the checker holds to
be on the chip's grid. With the scales of `lower` the float graph is the same network in NIR's
forward-Euler semantics (LIF: r = 1, tau = dt * 4096 / Dv).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from snnkd_deploy.chips.spec import NeuronSpec, Parameters

PROFILE_KEY = "snnkd_deploy_profile"
PROFILE_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Encoding(_Part):
    """How the input tensor is meant. Declared, never guessed from values.

    events: spikes per step, 0/1, or 0..levels on chips that hear counts. graded: integers of `bits` bits per
    step. current: one constant image of integers low..levels, whose first layer is computed on the host and
    injected as bias.
    """

    kind: Literal["events", "graded", "current", "float"]
    levels: Annotated[int, Field(ge=1)] = 1
    low: int = 0  # smallest integer of a `current` image; negative for the bias mantissas of a `.net` file
    bits: Annotated[int, Field(ge=0, le=32)] = 0


class SynapseParams(_Part):
    """Integers of a weight node. `w_int = rint(weight * weight_scale)`.

    place "host": computed outside the chip on integers, `bias_mantissa = (acc + 2^(shift-1)) >> shift`
    with `acc = conv(x, w_int) + rint(bias * bias_scale)`, clipped to the bias register and injected with
    exponent 6. place "chip": the node's bias is added to its population's bias register,
    `rint(bias * bias_scale)` in units of v.
    """

    role: Literal["synapse"] = "synapse"
    place: Literal["chip", "host"] = "chip"
    weight_scale: Annotated[float, Field(gt=0)]
    bias_scale: Annotated[float, Field(gt=0)] = 1.0
    weight_exp: Annotated[int, Field(ge=-8, le=7)] = 0
    shift: Annotated[int, Field(ge=0, le=30)] = 0
    message_bits: Annotated[int, Field(ge=0, le=32)] = 0
    # Axonal delay in steps per source, or one number for all (the .net format's `delay`).
    delay: tuple[int, ...] = ()
    # Host values that enter the bias register of their population: its u stays 0.
    as_bias: bool = False


class _Dynamics(_Part):
    """Integers of a membrane, those that its chip's neuron family has (`arithmetic.family`).

    cuba_lif: `Du`, `Dv`, decays of 4096. iaf: `v_min`, the floor, and `leak`, a constant one toward zero.
    shift_lif: `dash_syn` (None: no synaptic current), `dash_mem` (0: no decay). float_lif: `alpha`, `alpha_syn`,
    the shares kept per step.
    """

    Du: Annotated[int, Field(ge=0, le=4096)] = 4096
    Dv: Annotated[int, Field(ge=0, le=4096)] = 0
    v_min: Annotated[int, Field(le=0)] | None = None
    leak: Annotated[int, Field(ge=0)] = 0
    dash_syn: Annotated[int, Field(ge=1, le=31)] | None = None
    dash_mem: Annotated[int, Field(ge=0, le=31)] = 0
    alpha: Annotated[float, Field(ge=0, le=1)] = 1.0
    alpha_syn: Annotated[float, Field(ge=0, lt=1)] | None = None
    leak_scale: Annotated[float, Field(ge=0)] = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0  # synaptic integers per real unit of the membrane

    def numbers(self) -> dict[str, Any]:
        """All of them, as `arithmetic.make_neuron` takes them."""
        return self.model_dump(exclude={"role"})


class NeuronParams(_Dynamics):
    """Integers of a population. The threshold is `vth << input_shift` of the chip (6 on Loihi).

    The bias register adds to v every step: `rint(v_leak * leak_scale)` of the node itself, plus the biases
    of the weight nodes that feed it; together they must be a legal `mantissa << bias_exp`.
    """

    role: Literal["neuron"] = "neuron"
    vth: Annotated[int, Field(ge=0, lt=2**24)]
    bias_exp: Annotated[int, Field(ge=0, le=16)] = 6
    max_spikes: Annotated[int, Field(ge=0, le=255)] | None = None  # where it is not the chip's


class ReadoutParams(_Dynamics):
    """The non-spiking integrator that adds up the logits on the chip.

    `scale` is integers per real logit of one step: logits = v / (2^input_shift * scale * T).
    """

    role: Literal["readout"] = "readout"
    read: Literal["u", "v"] = "v"
    silent: bool = False  # Lava runs it as a LIF that cannot fire: its trace holds a spike train of zeros


NodeParams = Annotated[SynapseParams | NeuronParams | ReadoutParams, Field(discriminator="role")]


class ChipStamp(_Part):
    """Which chip the integers are for, with its arithmetic: enough to simulate without the chip file."""

    id: str
    sha256: str
    neuron: NeuronSpec
    parameters: Parameters


class Profile(_Part):
    """See the module text. `chip` is None for a model in NIR's float semantics."""

    version: Literal[1] = 1
    dt_s: Annotated[float, Field(gt=0)]
    reset: Literal["zero", "subtract"]
    fires: Literal[">", ">="] = ">"
    v0: float = 0.0
    encoding: Encoding = Encoding(kind="float")
    steps: Annotated[int, Field(ge=1)] | None = None  # timesteps it was trained for
    chip: ChipStamp | None = None
    nodes: dict[str, NodeParams] = {}
    # The last population votes in this many groups of neighbours; logits are mean spike counts of a group.
    vote_groups: Annotated[int, Field(ge=1)] | None = None
    classes: tuple[str, ...] = ()
    provenance: dict[str, Any] = {}
