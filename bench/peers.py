"""The same layers with the neurons of other frameworks: whichever of them are installed."""

from __future__ import annotations

from collections.abc import Callable

import torch

# A neuron over time: drive (T, B, ...) to spikes (T, B, ...), from zero state.
Neurons = Callable[[torch.Tensor], torch.Tensor]


def spikingjelly() -> Neurons:
    """Its multi-step LIFNode, torch backend, hard reset."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(
        tau=2.0, decay_input=False, v_reset=0.0, surrogate_function=surrogate.Sigmoid(4.0), step_mode="m"
    )

    def run(drive: torch.Tensor) -> torch.Tensor:
        functional.reset_net(node)
        return node(drive)

    return run


def snntorch() -> Neurons:
    """Its Leaky, step by step as its tutorials do."""
    import snntorch as snn

    cell = snn.Leaky(beta=0.5, reset_mechanism="zero")

    def run(drive: torch.Tensor) -> torch.Tensor:
        membrane, spikes = torch.zeros_like(drive[0]), []
        for x in drive:
            spike, membrane = cell(x, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def norse() -> Neurons:
    """Its LIFBoxCell (no synaptic current), step by step."""
    from norse.torch.module.lif_box import LIFBoxCell

    cell = LIFBoxCell()

    def run(drive: torch.Tensor) -> torch.Tensor:
        state, spikes = None, []
        for x in drive:
            spike, state = cell(x, state)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def sinabs() -> Neurons:
    """Its LIF layer, which takes (B, T, ...)."""
    from sinabs.layers import LIF

    def run(drive: torch.Tensor) -> torch.Tensor:
        return LIF(tau_mem=1.4427, norm_input=False)(drive.transpose(0, 1)).transpose(0, 1)

    return run


_MAKERS = {
    "spikingjelly multi-step": spikingjelly,
    "snnTorch Leaky": snntorch,
    "norse LIFBoxCell": norse,
    "sinabs LIF": sinabs,
}


def installed() -> dict[str, Callable[[], Neurons]]:
    """Makers of neurons by name; says of the others that they are left out."""
    found = {}
    for name, make in _MAKERS.items():
        try:
            neurons = make()
            neurons(torch.zeros(2, 3, 4, requires_grad=True))
        except ImportError as error:
            print(f"{name}: left out ({error})")
            continue
        found[name] = make
    return found
