"""A population: the synapses that end in it, its bias, its LIF neurons; float first, then chip integers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from snnkd_deploy.arithmetic.cuba import DECAY_ONE, INPUT_SHIFT, STATE_MAX, CubaParams
from snnkd_deploy.arithmetic.exact import exact_dtype
from snnkd_deploy.chips.spec import ChipSpec, IntGrid
from snnkd_deploy.errors import TrainingError
from snnkd_deploy.nets.neurons import ChipNeuron, Lif, lif_over_time
from snnkd_deploy.nets.rounding import shift_right_round_ste, to_grid
from snnkd_deploy.nets.scales import population_scale, weight_scale
from snnkd_deploy.nets.synapse import Synapse

# The host multiplies 8-bit weights with pixel integers, like any int8 first layer.
HOST_WEIGHTS = IntGrid(lo=-127, hi=127)
# The encoder's currents get about this many levels per threshold.
HOST_LEVELS_PER_THRESHOLD = 256
# netx writes every bias with this exponent; one bias unit is then one synaptic unit.
BIAS_EXP = INPUT_SHIFT


class Population(nn.Module):
    """LIF neurons of one shape with all their inputs, or (`lif` None) the non-spiking readout.

    `inputs` are pairs (name of the source population or "input", synapse). `host_levels` > 0 marks the
    encoder: its one synapse sees integers 0..host_levels once, on the host.
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
    ) -> None:
        super().__init__()
        self.name, self.shape, self.lif, self.host_levels = name, shape, lif, host_levels
        self.sources = [source for source, _ in inputs]
        self.synapses = nn.ModuleList([synapse for _, synapse in inputs])
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        self.mode: Literal["float", "chip"] = "float"
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("host_scale", torch.ones((), dtype=torch.float64))
        self.shift = 0
        self.chip: ChipSpec | None = None

    # -- float ------------------------------------------------------------------------------------

    def drive(self, arriving: list[Tensor], steps: int) -> Tensor:
        """Synaptic sums plus bias: real units in float mode, integers in chip mode.

        (T, B, *shape), or (1, B, *shape) for the encoder's constant current.
        """
        if self.host_levels:
            return self._host_current(arriving[0]).unsqueeze(0)
        total: Tensor | None = None
        for x, synapse in zip(arriving, self.synapses, strict=True):
            assert isinstance(synapse, Synapse)
            flat = x.flatten(0, 1)
            if self.mode == "float":
                part = synapse(flat)
            else:
                part = synapse.apply_weight(flat, synapse.weight_int(self.scale_value, self.grids.weight))
            total = part if total is None else total + part
        assert total is not None
        if self.bias is not None:
            total = total + self._broadcast(self.bias if self.mode == "float" else self.bias_mantissa())
        return total.reshape(steps, -1, *total.shape[1:])

    def spikes(self, drive: Tensor, steps: int) -> Tensor:
        """Run the neurons for T steps: spikes (T, B, *shape) in 0/1."""
        assert self.lif is not None
        return lif_over_time(drive, self.lif, self.chip_neuron() if self.mode == "chip" else None, steps)

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
    def vth(self) -> int:
        """Threshold mantissa (the register is shifted left by 6)."""
        assert self.lif is not None
        return round(self.scale_value * self.lif.threshold)

    @property
    def Du(self) -> int:  # noqa: N802  (the chip's name)
        return DECAY_ONE if self.lif is None else round(DECAY_ONE * (1.0 - self.lif.leak_u))

    @property
    def Dv(self) -> int:  # noqa: N802
        return 0 if self.lif is None else round(DECAY_ONE * (1.0 - self.lif.leak_v))

    def chip_neuron(self) -> ChipNeuron:
        # Bias travels in the drive: with exponent 6 and no u memory both add the same integers.
        params = CubaParams(Du=self.Du, Dv=self.Dv, vth=self.vth, bias=None, u_in_range=True)
        return ChipNeuron(params, self.scale_value)

    def bias_mantissa(self) -> Tensor:
        """Bias register mantissas (exponent 6) per channel, straight-through."""
        assert self.bias is not None
        return to_grid(self.bias, self.scale_value, self.grids.bias.mantissa)

    def _host_current(self, pixels: Tensor) -> Tensor:
        """The encoder's current for one image batch (B, C, H, W) of integers 0..levels."""
        (synapse,) = self.synapses
        assert isinstance(synapse, Synapse)
        if self.mode == "float":
            out = synapse(pixels / self.host_levels)
            return out if self.bias is None else out + self._broadcast(self.bias)
        host_scale = float(self.host_scale)
        weight = synapse.weight_int(host_scale, HOST_WEIGHTS)
        bias = self.host_bias() if self.bias is not None else None
        bound = float(weight.detach().abs().flatten(1).sum(1).max()) * self.host_levels + 2.0**self.shift
        bound += float(bias.detach().abs().max()) if bias is not None else 0.0
        dtype = exact_dtype(bound)
        total = synapse.apply_weight(pixels.to(dtype), weight.to(dtype))
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
        """Fold BatchNorm, choose the scales, and compute in the chip's integers from now on."""
        self.fold()
        self.chip, self.mode = chip, "chip"
        weights = [synapse.weight for synapse in self._synapses()]
        if self.host_levels:
            self._choose_host_scale(weights[0])
        else:
            threshold = self.lif.threshold if self.lif is not None else 0.0
            chosen = population_scale(weights, self.bias, threshold or 1.0, self.Du, chip)
            # A whole threshold keeps vth / scale equal to the real threshold.
            if self.lif is not None and chosen * threshold >= 8:
                chosen = int(chosen * threshold) / threshold
            self.scale.fill_(chosen)

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
        self.shift = max(0, round(float(torch.log2(torch.tensor(units / HOST_LEVELS_PER_THRESHOLD)))))
        self.host_scale.fill_(scale)
        self.scale.fill_(units / 2.0**self.shift)

    def resume_chip(self, chip: ChipSpec, shift: int) -> None:
        """Bring a freshly built population into the shape that `to_chip` leaves, before loading weights."""
        self.fold()
        self.chip, self.mode, self.shift = chip, "chip", shift

    def _synapses(self) -> list[Synapse]:
        return [synapse for synapse in self.synapses if isinstance(synapse, Synapse)]

    @torch.no_grad()
    def check_headroom(self) -> None:
        """Raise TrainingError if the worst case could leave the current register (then u would wrap)."""
        if self.mode != "chip" or self.host_levels:
            return
        reach = sum(
            float(synapse.weight_int(self.scale_value, self.grids.weight).abs().flatten(1).sum(1).max())
            for synapse in self._synapses()
        )
        if self.bias is not None:
            reach += float(self.bias_mantissa().abs().max())
        limit = STATE_MAX * self.Du / DECAY_ONE / (1 << INPUT_SHIFT)
        if reach >= limit:
            raise TrainingError(
                "weights grew until the worst-case current no longer fits the register",
                where=self.name,
                need=f"sum |w| < {limit:.0f}",
                have=f"{reach:.0f}",
                remedy="more weight decay, or a smaller learning rate in the chip phase",
            )
