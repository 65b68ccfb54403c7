"""Small models for fault injection: an MLP, a conv net, a residual one and a recurrent one, all event-driven."""

from __future__ import annotations

import numpy as np


class Recipe:
    """Integers of one variant. `hot`: currents that overflow. `ties`: no decay, so that v meets thresholds exactly."""

    def __init__(self, net, hot=False, ties=False):
        self.net = net
        self.exponent = {"weight_exp": 7} if hot else {}
        self.lif_values = {"vth": 50, "Du": 1300, "Dv": 400}
        if hot:
            self.lif_values = {"vth": 100_000, "Du": 300, "Dv": 300}
        if ties:
            self.lif_values = {"vth": 60, "Du": 4096, "Dv": 0}
        self.unit = 64 if ties else 1
        self.reach = 120 if hot else 20

    def weight(self, *shape):
        return self.net.weights(shape, -self.reach, self.reach)

    def bias(self, count):
        return self.net.rng.integers(2, 9, count) * (self.unit if self.unit > 1 else 37) * 1.0

    def conv(self, name, source, channels, **more):
        weight = self.weight(channels, self.net.shape(source)[0], 3, 3)
        return self.net.conv(name, source, weight, padding=1, bias=self.bias(channels), **self.exponent, **more)

    def dense(self, name, source, count):
        weight = self.weight(count, self.net.shape(source)[-1])
        return self.net.dense(name, source, weight, bias=self.bias(count), **self.exponent)

    def lif(self, name, sources):
        return self.net.lif(name, sources, **self.lif_values)


def mlp(net_type, seed, **variant):
    net = net_type((2, 8, 6), seed=seed)
    r = Recipe(net, **variant)
    flat = net.flatten("flat", net.pool("pool", "input", 2))
    h1 = r.lif("lif1", r.dense("fc1", flat, 24))
    h2 = r.lif("lif2", r.dense("fc2", h1, 24))
    return net, net.model(net.readout("readout", net.dense("out", h2, net.weights((5, 24)))))


def conv(net_type, seed, **variant):
    net = net_type((2, 8, 8), seed=seed)
    r = Recipe(net, **variant)
    h1 = r.lif("lif1", r.conv("conv1", "input", 4))
    h2 = r.lif("lif2", r.conv("conv2", net.pool("pool", h1, 2), 5))
    flat = net.flatten("flat", h2)
    return net, net.model(net.readout("readout", net.dense("out", flat, net.weights((5, 80)))))


def residual(net_type, seed, **variant):
    net = net_type((2, 8, 8), seed=seed)
    r = Recipe(net, **variant)
    h1 = r.lif("lif1", r.conv("conv1", net.pool("pool", "input", 2), 4))
    h2 = r.lif("lif2", r.conv("conv2", h1, 4))
    h3 = r.lif("lif3", [r.conv("conv3", h2, 4), r.conv("shortcut", h1, 4)])
    flat = net.flatten("flat", h3)
    return net, net.model(net.readout("readout", net.dense("out", flat, net.weights((5, 64)))))


def recurrent(net_type, seed, **variant):
    net = net_type((2, 6, 8), seed=seed)
    r = Recipe(net, **variant)
    flat = net.flatten("flat", net.pool("pool", "input", 2))
    h1 = r.lif("lif1", r.dense("fc1", flat, 20))
    net.loop("rec", h1, net.weights((20, 20), -12, 12), **r.exponent)
    h2 = r.lif("lif2", r.dense("fc2", h1, 16))
    return net, net.model(net.readout("readout", net.dense("out", h2, net.weights((5, 16)))))


MODELS = {"mlp": mlp, "conv": conv, "residual": residual, "recurrent": recurrent}
# Where a fault goes: the layer behind a pool for pooling, else the deepest that has what it breaks.
LAYERS = {"mlp": "lif2", "conv": "lif2", "residual": "lif3", "recurrent": "lif1"}
BEHIND_POOL = {"mlp": "lif1", "conv": "lif2", "residual": "lif1", "recurrent": "lif1"}
BEHIND_MAP = {"mlp": "lif1", "conv": "lif2", "residual": "lif3", "recurrent": "lif1"}


def place(kind: str, fault: str) -> str:
    """The layer that a fault is planted in."""
    if fault == "average_pool":
        return BEHIND_POOL[kind]
    if fault == "transposed":
        return BEHIND_MAP[kind]
    return "lif1" if fault == "double_dt" else LAYERS[kind]


def variant(fault: str) -> dict[str, bool]:
    return {"hot": fault == "saturating_current", "ties": fault == "fires_on_equal"}


def inputs_for(net, steps=24, samples=32):
    return net.spikes(steps, samples, rate=0.15).astype(np.uint8)
