"""A population: the synapses that end in it, its bias, its LIF neurons; float first, then chip integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snnkd_deploy.arithmetic import Neuron, ShiftNeuron, decay_numbers, kept, make_neuron
from snnkd_deploy.arithmetic.cuba import DECAY_ONE, STATE_MAX
from snnkd_deploy.arithmetic.events import EventByEvent
from snnkd_deploy.arithmetic.exact import EXACT_FLOAT32, exact_dtype
from snnkd_deploy.chips.spec import ChipSpec, IntGrid
from snnkd_deploy.errors import ChipError, TrainingError
from snnkd_deploy.nets.events import event_order
from snnkd_deploy.nets.learned_leak import learned_lif_over_time, raw_of
from snnkd_deploy.nets.neurons import ChipNeuron, Lif, lif_over_time
from snnkd_deploy.nets.recurrent import recurrent_lif
from snnkd_deploy.nets.rounding import round_ste, shift_right_floor_ste, shift_right_round_ste, to_grid
from snnkd_deploy.nets.scales import population_scale, weight_scale
from snnkd_deploy.nets.synapse import Synapse

# The host multiplies 8-bit weights with pixel integers, like any int8 first layer.
HOST_WEIGHTS = IntGrid(lo=-127, hi=127)
# The encoder's currents get about this many levels per threshold.
HOST_LEVELS_PER_THRESHOLD = 256
# The largest right shift of a weight exponent.
MAX_SHIFT = 8


def _whole(sums: Tensor) -> Tensor:
    """Integer sums as integers: a GPU's fast convolutions may be off by a fraction, the CPU's are not."""
    return round_ste(sums) if sums.is_cuda else sums


class Population(nn.Module):
    """LIF neurons of one shape with all their inputs, or (`lif` None) the non-spiking readout.

    `inputs` are pairs (name of the source population or "input", synapse); one whose source is the population
    itself carries its spikes of the last step. `host_levels` > 0 marks the encoder: its one synapse sees integers
    0..host_levels once, on the host. Biases go straight to the membrane, as on the chip; that differs from a
    bias in the current only where there is a synaptic current state (lif.leak_u > 0). `learn_leak`: the membrane's
    decay is trained in the float phase.
    """

    scale: Tensor
    host_scale: Tensor

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        inputs: list[tuple[str, Synapse]],
        lif: Lif | None,
        *,
        bias: bool,
        host_levels: int = 0,
        learn_leak: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.shape, self.lif, self.host_levels = name, shape, lif, host_levels
        self.sources = [source for source, _ in inputs]
        self.synapses = nn.ModuleList([synapse for _, synapse in inputs])
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        self.raw_leak = nn.Parameter(raw_of(lif.leak_v)) if learn_leak and lif is not None else None
        self.mode: Literal["float", "chip"] = "float"
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("host_scale", torch.ones((), dtype=torch.float64))
        self.shift = 0
        self.ranks: dict[str, int] = {}  # of all populations, which the student tells
        self.chip: ChipSpec | None = None

    # -- float ------------------------------------------------------------------------------------

    def drive(self, arriving: list[Tensor], steps: int) -> Tensor:
        """Synaptic sums plus bias: real units in float mode, integers in chip mode.

        (T, B, *shape), or (1, B, *shape) for the encoder's constant current.
        """
        if self.host_levels:
            return self._host_current(arriving[0]).unsqueeze(0)
        total, bias = self._sums(arriving, apart=False)
        if bias is not None:
            total = total + self._broadcast(bias)
        return total.reshape(steps, -1, *total.shape[1:])

    def run(self, arriving: list[Tensor], steps: int) -> Tensor:
        """Spikes (T, B, *shape) from what the sources send, each (T, B, ...), own spikes left out."""
        return self.respond(arriving, steps)[0]

    def respond(self, arriving: list[Tensor], steps: int) -> tuple[Tensor, Tensor]:
        """The spikes of `run`, and what drove them: (T or 1, B, *shape), bias included."""
        lif = self.lif_now()
        assert lif is not None
        loop = self.recurrent
        chip = self.chip_neuron() if self.mode == "chip" else None
        if loop is None and (not self._bias_apart or self.host_levels):
            drive = self._exact(self.drive(arriving, steps))
            return self._over_time(drive, lif, chip, steps, None), drive
        total, bias = self._sums(arriving, apart=lif.leak_u > 0)
        drive = total.reshape(steps, -1, *total.shape[1:])
        if not self._bias_apart and bias is not None:
            drive, bias = drive + self._broadcast(bias), None
        order = None if chip is None else self.event_order(arriving, chip.neuron)
        if order is not None and loop is None:
            # The zero carries the gradient; the sum of rounded differences would not be the value.
            drive = order.effective(drive.detach()) + (drive - drive.detach())
        row = None if bias is None else self._broadcast(bias)
        driven = drive if row is None else drive + row
        if loop is None:
            return self._over_time(drive, lif, chip, steps, row), driven
        weight = loop.weight if self.mode == "float" else self.weight_int(loop)
        return self._sent(recurrent_lif(drive, weight.to(drive.dtype), lif, chip, bias, order)), driven

    def event_order(self, arriving: list[Tensor], neuron: Neuron) -> EventByEvent | None:
        """The chip's order of adding events to `neuron`, the population's own, where it can matter."""
        if not isinstance(neuron, ShiftNeuron):
            return None
        fed = [(self._rank(s), y) for s, y in zip(self.sources, self._synapses(), strict=True) if s != self.name]
        heard = list(arriving)
        if self.recurrent is not None:
            most = self.lif.max_spikes if self.lif is not None else 1
            if most == 0:  # no limit but the register's
                most = int((2 ** (neuron.bits - 1)) // neuron.level) + 1
            fed.append((self._rank(self.name), self.recurrent))
            heard.append(torch.full((1, 1), float(most)))
        synapses = [synapse for _, synapse in fed]
        weights = [self.weight_int(synapse) for synapse in synapses]
        return event_order(neuron, synapses, weights, [rank for rank, _ in fed], heard)

    def _rank(self, source: str) -> int:
        """Place of a source in the student, -1 for the input: chips add events in this order."""
        return self.ranks.get(source, -1)

    def _over_time(self, drive: Tensor, lif: Lif, chip: ChipNeuron | None, steps: int, bias: Tensor | None) -> Tensor:
        if self.raw_leak is not None and self.mode == "float":
            return learned_lif_over_time(drive, lif, torch.sigmoid(self.raw_leak), steps, bias)
        return self._sent(lif_over_time(drive, lif, chip, steps, bias))

    def lif_now(self) -> Lif | None:
        """The neuron with its decay: the given one, or on a chip the learned one on the chip's grid."""
        if self.lif is None or self.raw_leak is None or self.chip is None:
            return self.lif
        numbers = decay_numbers(self.chip, float(torch.sigmoid(self.raw_leak.detach())), self.lif.leak_u)
        return replace(self.lif, leak_v=kept(self.chip.neuron, numbers)[0])

    @property
    def _bias_apart(self) -> bool:
        """The bias must not pass the current: it has a memory, or the chip clips the two one after the other."""
        assert self.lif is not None
        return self.lif.leak_u > 0 or (self.chip is not None and self.chip.neuron.family == "shift_lif")

    @property
    def recurrent(self) -> Synapse | None:
        """The synapse of the population onto itself."""
        loops = (y for s, y in zip(self.sources, self._synapses(), strict=True) if s == self.name)
        return next(loops, None)

    @property
    def feeders(self) -> list[str]:
        """Sources other than the population itself, in the order of `drive`."""
        return [source for source in self.sources if source != self.name]

    def _sums(self, arriving: list[Tensor], *, apart: bool) -> tuple[Tensor, Tensor | None]:
        """Weighted sums on the merged batch and the bias (C,). `apart`: normalisation shifts belong to the bias."""
        total: Tensor | None = None
        bias = None
        if self.bias is not None:
            bias = self.bias if self.mode == "float" else self.bias_mantissa()
        fed = [synapse for synapse in self._synapses() if synapse is not self.recurrent]
        for x, synapse in zip(arriving, fed, strict=True):
            flat = x.flatten(0, 1)
            if synapse.shortcut and total is not None and not (self.mode == "chip" and self._hears_counts):
                total = torch.add(total, flat, alpha=self._shortcut_weight(synapse))
                continue
            if self.mode == "chip":
                part = self._integer_sum(synapse, flat)
            elif apart:
                part, shift = synapse.apart(flat)
                bias = shift if bias is None else bias if shift is None else bias + shift
            else:
                part = synapse(flat)
            total = part if total is None else total + part
        assert total is not None
        if total.dtype in (torch.bfloat16, torch.float16):
            total = total.float()  # mixed precision is for the products: membranes add up in float32
        return total, bias

    def _integer_sum(self, synapse: Synapse, x: Tensor) -> Tensor:
        weight = self.weight_int(synapse)
        if synapse.payload:
            bound = float(weight.detach().abs().flatten(1).sum(1).max()) * synapse.payload
            dtype = exact_dtype(bound)
            total = synapse.apply_weight(x.to(dtype), weight.to(dtype))
            return self._exact(shift_right_floor_ste(_whole(total), self.shift))
        # One weight of a pooled synapse is heard from every position of its map.
        heard = max(1, synapse.pool_area)
        if self._hears_counts or weight[0].numel() * heard * self.grids.weight.largest >= EXACT_FLOAT32:
            row = float(weight.detach().abs().flatten(1).sum(1).max()) * heard
            dtype = exact_dtype(row * float(x.detach().max()) if x.numel() else 0.0)
            return self._exact(_whole(synapse.apply_weight(x.to(dtype), weight.to(dtype))))
        return self._exact(_whole(synapse.apply_weight(x, weight)))

    @torch.no_grad()
    def _shortcut_weight(self, synapse: Synapse) -> float:
        """What a spike on an identity shortcut adds: no product needs to be computed for it."""
        return 1.0 if self.mode == "float" else float(self.weight_int(synapse).flatten()[0])

    def weight_int(self, synapse: Synapse) -> Tensor:
        """The chip's integers of one synapse as floats, straight-through.

        Graded spikes bring up to `payload` where a spike brings 1: their weights are finer, and the sum is
        shifted right by `shift` (the weight exponent) into the scale of the population.
        """
        scale = self.scale_value
        if synapse.payload:
            scale *= 2.0**self.shift / synapse.payload
        return synapse.weight_int(scale, self.grids.weight)

    def _broadcast(self, per_channel: Tensor) -> Tensor:
        return per_channel.view(-1, *[1] * (len(self.shape) - 1))

    # -- chip -------------------------------------------------------------------------------------

    @property
    def grids(self):
        assert self.chip is not None
        return self.chip.parameters

    @property
    def scale_value(self) -> float:
        """Synaptic integers per real unit."""
        return float(self.scale)

    @property
    def _hears_counts(self) -> bool:
        """Sources may send more than one spike a step."""
        return self.chip is not None and (self.chip.neuron.max_spikes != 1 or self.chip.neuron.max_input != 1)

    def _exact(self, x: Tensor) -> Tensor:
        """Integer sums in floats that are exact for the registers of the chip; float mode as it is."""
        if self.chip is None or self.mode == "float":
            return x
        wide = self.chip.neuron.family in ("iaf", "shift_lif")
        return x.to(exact_dtype(2.0**self.chip.neuron.v_bits) if wide else torch.float32)

    def _sent(self, spikes: Tensor) -> Tensor:
        """Spikes of a chip in float32, whatever its states needed."""
        return spikes.to(torch.float32) if self.mode == "chip" else spikes

    @property
    def bias_exp(self) -> int:
        """One bias mantissa is then one synaptic integer."""
        assert self.chip is not None
        return self.chip.neuron.input_shift

    def numbers(self) -> dict[str, Any]:
        """The integers of the neurons as `arithmetic.family` names them; a readout's without a threshold."""
        assert self.chip is not None
        spec, lif = self.chip.neuron, self.lif_now()
        if lif is None:
            return decay_numbers(self.chip, 1.0, 0.0)
        found = decay_numbers(self.chip, lif.leak_v, lif.leak_u)
        # The threshold mantissa; the register is shifted left by the chip's input_shift.
        found["vth"] = round(self.scale_value * lif.threshold)
        if spec.family == "iaf":
            found["v_min"] = -found["vth"] if spec.floor == "threshold" else None
        if lif.max_spikes != spec.max_spikes:
            found["max_spikes"] = lif.max_spikes
        return found

    def chip_neuron(self) -> ChipNeuron:
        # Without u memory the bias travels in the drive: one mantissa is one synaptic integer.
        assert self.chip is not None
        neuron = make_neuron(self.chip.neuron, self.numbers(), u_in_range=True)
        return ChipNeuron(neuron, self.scale_value, self.chip.neuron.input_shift)

    def bias_mantissa(self) -> Tensor:
        """Bias register mantissas (exponent `bias_exp`) per channel, straight-through."""
        assert self.bias is not None
        return to_grid(self.bias, self.scale_value, self.grids.bias.mantissa)

    def _host_current(self, pixels: Tensor) -> Tensor:
        """The encoder's current for one image batch (B, C, H, W) of integers 0..levels."""
        (synapse,) = self.synapses
        assert isinstance(synapse, Synapse)
        if self.mode == "float":
            out = synapse(pixels / self.host_levels).float()  # float32 also under mixed precision
            return out if self.bias is None else out + self._broadcast(self.bias)
        host_scale = float(self.host_scale)
        weight = synapse.weight_int(host_scale, HOST_WEIGHTS)
        bias = self.host_bias() if self.bias is not None else None
        bound = float(weight.detach().abs().flatten(1).sum(1).max()) * self.host_levels + 2.0**self.shift
        bound += float(bias.detach().abs().max()) if bias is not None else 0.0
        dtype = exact_dtype(bound)
        total = _whole(synapse.apply_weight(pixels.to(dtype), weight.to(dtype)))
        if bias is not None:
            total = total + self._broadcast(bias.to(dtype))
        grid = self.grids.bias.mantissa
        return shift_right_round_ste(total, self.shift).clamp(grid.lo, grid.hi).to(torch.float32)

    def host_bias(self) -> Tensor:
        """Accumulator bias of the encoder, straight-through integers per channel."""
        assert self.bias is not None
        return to_grid(self.bias, float(self.host_scale) * self.host_levels, IntGrid(lo=-(2**22), hi=2**22))

    # -- from float to chip -------------------------------------------------------------------------

    @torch.no_grad()
    def to_chip(self, chip: ChipSpec) -> None:
        """Fold BatchNorm, choose the scales, and compute in the chip's integers from now on.

        Raises ChipError where the float neuron is not the chip's, or no scale fits.
        """
        self._check_neuron(chip)
        self.fold()
        self._settle(chip)
        weights = [synapse.weight for synapse in self._synapses()]
        if self.host_levels:
            self._choose_host_scale(weights[0])
        else:
            threshold = self.lif.threshold if self.lif is not None else 0.0
            chosen = self._choose_scale(threshold or 1.0, chip)
            # A whole threshold keeps vth / scale equal to the real threshold.
            if self.lif is not None and chosen * threshold >= 8:
                chosen = int(chosen * threshold + 1e-9) / threshold
            self.scale.fill_(chosen)

    def _check_neuron(self, chip: ChipSpec) -> None:
        lif, spec = self.lif, chip.neuron
        if lif is None:
            return
        wrong: list[tuple[str, object, object]] = []
        if lif.reset_kind != spec.reset:
            wrong.append(("reset", spec.reset, lif.reset_kind))
        if lif.fires != spec.fires:
            wrong.append(("fires", spec.fires, lif.fires))
        if lif.max_spikes not in (spec.max_spikes, spec.max_output_spikes):
            wrong.append(("spikes per step", spec.max_spikes, lif.max_spikes))
        if lif.floored != (spec.floor == "threshold"):
            wrong.append(("floor", spec.floor, "threshold" if lif.floored else "none"))
        if spec.u_bits == 0 and lif.leak_u > 0:
            wrong.append(("synaptic current", "none", f"keeps {lif.leak_u:g}"))
        if spec.family == "iaf" and lif.leak_v != 1.0:
            wrong.append(("leak", "1 (no decay)", f"{lif.leak_v:g}"))
        if lif.filtered != (spec.family == "shift_lif" and spec.u_bits > 0):
            wrong.append(("filtered current", spec.family == "shift_lif" and spec.u_bits > 0, lif.filtered))
        if wrong:
            raise ChipError(
                f"the student's float neuron is not that of {chip.id}",
                where=self.name,
                need=", ".join(f"{key} {need}" for key, need, _ in wrong),
                have=", ".join(f"{key} {have}" for key, _, have in wrong),
                remedy=f"build it for the chip: StudentPlan(..., **neuron_of(load_chip('{chip.id}')))",
            )

    def fold(self) -> None:
        """BatchNorms into weights and one bias per channel; idempotent."""
        for synapse in self._synapses():
            left = synapse.fold()
            if left is not None:
                if self.bias is None:
                    self.bias = nn.Parameter(torch.zeros_like(left))
                self.bias.data.add_(left)

    def _choose_host_scale(self, weight: Tensor) -> None:
        scale = weight_scale([weight.double().cpu().numpy()], HOST_WEIGHTS)
        units = scale * self.host_levels  # accumulator integers per real unit
        assert self.lif is not None
        self.shift = max(0, round(math.log2(units * self.lif.threshold / HOST_LEVELS_PER_THRESHOLD)))
        self.host_scale.fill_(scale)
        self.scale.fill_(units / 2.0**self.shift)
        # The host's scale follows weights and pixels: the threshold has to fit at that scale.
        vth, largest = self.numbers()["vth"], self.grids.threshold.hi
        if not 1 <= vth <= largest:
            raise ChipError(
                "the threshold does not fit the chip's register",
                where=self.name,
                need=f"1..{largest}",
                have=f"{vth}",
                remedy="a student.threshold nearer to 1",
            )

    def _choose_scale(self, threshold: float, chip: ChipSpec) -> float:
        synapses = self._synapses()
        graded = [s for s in synapses if s.payload]
        if graded:
            fine = weight_scale([s.weight.double().cpu().numpy() for s in graded], chip.parameters.weight)
            units = fine * max(s.payload for s in graded)  # sums per real unit before the shift
            self.shift = min(MAX_SHIFT, max(0, round(math.log2(units / HOST_LEVELS_PER_THRESHOLD))))
        gain = [2.0**self.shift / s.payload if s.payload else 1.0 for s in synapses]
        weights = [s.weight * g for s, g in zip(synapses, gain, strict=True)]
        # One weight of a pooled synapse is heard from every position of its map.
        each = [max(1, s.pool_area) / g for s, g in zip(synapses, gain, strict=True)]
        return population_scale(
            weights, self.bias, threshold, chip, largest_sum=self._largest_sum(chip), unit_input=each
        )

    def _largest_sum(self, chip: ChipSpec) -> float:
        """The synaptic sum that Loihi's current register bears for ever without a wrap; other families saturate."""
        if chip.neuron.family != "cuba_lif":
            return math.inf
        Du = DECAY_ONE if self.lif is None else decay_numbers(chip, 1.0, self.lif.leak_u)["Du"]
        return STATE_MAX * Du / DECAY_ONE / (1 << chip.neuron.input_shift)

    def resume_chip(self, chip: ChipSpec, shift: int) -> None:
        """Bring a freshly built population into the shape that `to_chip` leaves, before loading weights."""
        self.fold()
        self._settle(chip)
        self.shift = shift

    def _settle(self, chip: ChipSpec) -> None:
        """From here on integers; a learned decay stays what it is on the chip's grid."""
        self.chip, self.mode = chip, "chip"
        if self.raw_leak is not None:
            self.raw_leak.requires_grad_(False)

    def _synapses(self) -> list[Synapse]:
        return [synapse for synapse in self.synapses if isinstance(synapse, Synapse)]

    @torch.no_grad()
    def check_headroom(self, steps: int, sent: Mapping[str, float]) -> float:
        """Raise TrainingError if the worst case could leave a register whose overflow the training does not see.

        Loihi's current wraps; Speck's and TrueNorth's membranes do what nobody documents. `sent`: the most events
        of a neuron of each source in one step; returns the same of this population.
        """
        assert self.chip is not None, "registers are a chip's"
        spec = self.chip.neuron
        vth = max(1, self.numbers().get("vth", 1))
        most = float(self.lif.max_spikes if self.lif is not None else 1)
        if self.host_levels:
            return most or 1.0 + self.grids.bias.mantissa.largest // vth
        loop = most or 2.0 ** (spec.v_bits - 1) // vth
        reach = sum(
            float(self.weight_int(synapse).abs().flatten(1).sum(1).max())
            * (synapse.payload / 2.0**self.shift if synapse.payload else sent.get(source, loop))
            * max(1, synapse.pool_area)
            for source, synapse in zip(self.sources, self._synapses(), strict=True)
        )
        if self.bias is not None:
            reach += float(self.bias_mantissa().abs().max())
        limit, sum_of_events = self._largest_sum(self.chip), reach
        if spec.v_overflow == "refuse" and self.lif is not None:
            register = 2.0 ** (spec.v_bits - 1) - 1 - vth
            if spec.max_spikes == 0 and spec.floor == "threshold":
                # Events come one by one, each fires at once what it can, and nothing piles up below the floor.
                reach, limit = float(max(self.weight_int(s).abs().max() for s in self._synapses())), register
            else:  # what is above the thresholds of a step piles up, or what is below zero
                limit = register / steps
        if reach >= limit:
            raise TrainingError(
                "weights grew until the worst case no longer fits the chip's state register",
                where=self.name,
                need=f"sum |w| < {limit:.0f}",
                have=f"{reach:.0f}",
                remedy="more weight decay, or a smaller learning rate in the chip phase",
            )
        return most or 1.0 + sum_of_events // vth
