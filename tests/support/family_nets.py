"""Random networks in the arithmetic of Xylo and of Speck, built node by node: what their simulators are compared on."""

from __future__ import annotations

import nir
import numpy as np
from chip_models import DT, SCALE, Net

from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.graph.profile import NeuronParams


class FamilyNet(Net):
    """`Net` with the neurons of any family. Nodes say nothing that the profile does not."""

    def population(self, name, sources, bias=None, **numbers):
        shape = self.shape(sources if isinstance(sources, str) else sources[0])
        ones = np.ones(shape)
        leak = ones * 0 if bias is None else np.broadcast_to(bias, shape).astype(float)
        node = nir.LIF(tau=ones * DT * 2, r=ones, v_leak=leak, v_threshold=ones * numbers["vth"] / SCALE)
        scale = 0.0 if bias is None else 1.0
        return self.add(name, node, sources, NeuronParams(bias_exp=0, leak_scale=scale, **numbers))

    def integers(self, shape, low=-128, high=127, density=1.0):
        return self.rng.integers(low, high + 1, shape) * (self.rng.random(shape) < density)


def random_xylo(seed, *, moderate=False):
    """(model, inputs): 1 to 3 hidden layers, loops, skips, biases; strong enough to clip unless `moderate`."""
    rng = np.random.default_rng(seed)
    net = FamilyNet((int(rng.integers(1, 9)),), levels=15, seed=seed, chip="xylo_a2")
    shift = int(rng.integers(0, 8))
    net.chip = with_shift(net.chip, shift)
    reach = 127 if not moderate else 20
    top = 32767 >> shift
    layers, sources = [], ["input"]

    def add(name, size, heard, loop, **more):
        bias = rng.integers(-2000, 2001, size) >> (7 - shift if moderate else 0) if rng.random() < 0.5 else None
        density = float(rng.choice([0.3, 0.7, 1.0]))
        fed = []
        for source in heard:
            delay = () if source == "input" else (1,)
            shape = (size, int(np.prod(net.shape(source))))
            fed.append(
                net.dense(f"{source}_{name}", source, net.integers(shape, -reach - 1, reach, density), delay=delay)
            )
        vth = int(np.exp(rng.uniform(0 if not moderate else np.log(min(64, top)), np.log(top))))
        dash_syn, dash_mem = (int(d) for d in rng.integers(1, 16 if not moderate else 6, 2))
        net.population(name, fed, bias, vth=max(1, min(vth, top)), dash_syn=dash_syn, dash_mem=dash_mem, **more)
        if loop:
            net.loop(f"loop_{name}", name, net.integers((size, size), -reach - 1, reach, density))

    for k in range(int(rng.integers(1, 4))):
        heard = [sources[-1]]
        if k and rng.random() < 0.6:  # a skip: from the input or from any earlier layer
            heard.append(sources[int(rng.integers(0, len(sources) - 1))])
        add(f"h{k}", int(rng.integers(1, 13)), heard, rng.random() < 0.4)
        sources.append(f"h{k}")
        layers.append(f"h{k}")
    heard = [layers[-1]] if len(layers) == 1 or rng.random() < 0.6 else [layers[-1], layers[0]]
    add("out", int(rng.integers(1, 9)), heard, False, max_spikes=1)
    model = net.model("out", reset="subtract", fires=">=")
    steps = int(rng.integers(1, 25))
    strength = rng.choice([1, 4, 15]) if not moderate else 3
    x = rng.integers(0, strength + 1, (steps, 3, *net.shape("input"))) * (rng.random((steps, 3, 1)) < 0.7)
    return model, make_inputs(x, model)


def with_shift(chip, shift):
    """The chip with another weight shift, one of the registers that its file fixes."""
    return chip.model_copy(update={"neuron": chip.neuron.model_copy(update={"input_shift": shift})})


def random_speck(seed):
    """(model, inputs): convolutions, dense layers, sum pools, merged sources, biases, several spikes a step."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), *(int(n) for n in rng.choice([4, 6, 8], 1).repeat(2)))
    net = FamilyNet(shape, levels=3, seed=seed, chip="speck2f")
    at, flat = ["input"], False

    def neurons(name, synapse):
        vth = int(rng.choice([128, 200, 500, 2000]))
        v_min = int(rng.choice([-vth, 0, -32640]))
        size = net.shape(synapse)
        bias = rng.integers(-30, 31, size[:1]).reshape(-1, *[1] * (len(size) - 1)) if rng.random() < 0.3 else None
        return net.population(name, synapse, bias, vth=vth, v_min=v_min)

    for k in range(int(rng.integers(1, 4))):
        channels, side = net.shape(at[0])[:2]
        sign = int(rng.choice([-128, 0]))
        if rng.random() < 0.4 and k and not flat:  # a layer of the same shape, merged with what it heard
            weight = net.integers((channels, channels, 3, 3), sign)
            at = [neurons(f"n{k}", net.conv(f"c{k}", at, weight, padding=1)), at[0]]
            continue
        kernel = int(rng.integers(1, min(4, side) + 1))
        weight = net.integers((int(rng.integers(1, 5)), channels, kernel, kernel), sign)
        stride, padding = int(rng.integers(1, 3)), int(rng.integers(0, kernel))
        at = [neurons(f"n{k}", net.conv(f"c{k}", at, weight, stride=stride, padding=padding))]
        side = net.shape(at[0])[1]
        if side >= 2 and rng.random() < 0.4:
            at = [net.pool(f"p{k}", at[0], 2)]
    flat = [net.flatten(f"flat{i}", name) for i, name in enumerate(at)]
    inputs = net.shape(flat[0])[0]
    last = neurons("out", net.dense("fc", flat, net.integers((int(rng.integers(1, 6)), inputs))))
    model = net.model(last, reset="subtract", fires=">=")
    x = rng.integers(0, 4, (int(rng.integers(1, 9)), 3, *shape)) * (rng.random((1, 3, *shape)) < 0.6)
    return model, make_inputs(x, model)
