"""Real Lava against `exact`: every spike, u, v and logit, zero mismatches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.lava import LavaBackend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.graph.check import check_model

_STATE = LavaBackend().availability()
pytestmark = pytest.mark.skipif(not _STATE.usable, reason=f"lava: {_STATE.note} ({_STATE.install})")

STEPS, SAMPLES = 6, 4


def assert_parity(model, x, steps=None, record=None, alive=True, **options):
    """Both backends, compared value by value. `alive`: every layer must spike, or nothing was tested."""
    check_model(model)
    inputs = make_inputs(x, model, steps)
    record = record or Record(states=True)
    want = ExactBackend().run(model, inputs, record)
    got = LavaBackend(stall_s=60, **options).run(model, inputs, record)
    wrong = {}
    for group in ("spikes", "u", "v"):
        expected, found = getattr(want, group), getattr(got, group)
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            assert found[name].shape == tensor.shape and found[name].dtype == tensor.dtype
            if not torch.equal(found[name], tensor):
                wrong[group, name] = int((found[name] != tensor).sum())
    assert wrong == {}
    assert got.logits.dtype == torch.float64
    assert torch.equal(got.logits, want.logits)
    if alive:
        for name, spikes in want.spikes.items():
            assert 0 < spikes.float().mean() < 1, name
    assert got.meta["backend"] == "lava" and got.meta["lava_nc"] == "0.10.0"
    return want, got


def dense_after(net, name, source, outputs, **weights):
    return net.dense(name, source, net.weights((outputs, int(np.prod(net.shape(source)))), **weights))


def test_mlp_with_decays_and_biases(net_type):
    net = net_type((30,), seed=1)
    bias = net.rng.integers(-500, 500, 20)
    net.lif("l1", net.dense("d1", "input", net.weights((20, 30)), bias), vth=200, Du=2048, Dv=300)
    bias = net.rng.integers(-40, 41, 12) << 6
    second = net.dense("d2", "l1", net.weights((12, 20), 0, 255), bias, weight_exp=-1)
    net.lif("l2", second, vth=900, Du=1024, Dv=0, bias_exp=6, leak=64)
    net.readout("r", dense_after(net, "d3", "l2", 5, low=-255, high=0), Du=3000, Dv=100, read="v")
    assert_parity(net.model("r"), net.spikes(STEPS, SAMPLES))


@pytest.mark.parametrize("conv", ["sparse", "conv"])
def test_current_encoding_and_convolutions(net_type, conv):
    """Host layer, non-square images, stride, padding, dilation, groups, per-channel biases, Flatten."""
    net = net_type((3, 9, 7), "current", levels=255, seed=2)
    bias = net.rng.integers(-3000, 3000, 4)
    kernel = net.weights((4, 3, 3, 2))
    net.conv("c1", "input", kernel, padding=(1, 0), place="host", shift=3, bias=bias)
    net.lif("l1", "c1", vth=3000, Du=3000)
    bias = net.rng.integers(-30, 30, 6) << 6
    net.conv("c2", "l1", net.weights((6, 2, 3, 2)), stride=(2, 1), padding=1, groups=2, bias=bias)
    net.lif("l2", "c2", vth=150, Dv=1000, bias_exp=6)
    net.conv("c3", "l2", net.weights((5, 6, 2, 2)), dilation=(2, 3))
    net.lif("l3", "c3", vth=100, Dv=2000)
    net.readout("r", dense_after(net, "d", net.flatten("f", "l3"), 10), read="u", Du=0)
    assert_parity(net.model("r"), net.spikes(STEPS, SAMPLES), STEPS, conv=conv)


def test_residual_over_two_synapses_and_pooling(net_type):
    """Skips of different length into one population, a sum pool folded, spike counts as logits."""
    net = net_type((2, 6, 4), seed=3)
    net.lif("l1", net.conv("c1", "input", net.weights((4, 2, 3, 3)), padding=1), vth=60)
    net.lif("l2", net.conv("c2", "l1", net.weights((4, 4, 3, 3)), padding=1), vth=120)
    net.conv("c3", "l2", net.weights((4, 4, 3, 3)), padding=1)
    net.conv("skip", "l1", net.weights((4, 4, 1, 1)))
    net.conv("long", "input", net.weights((4, 2, 1, 1)))
    net.lif("l3", ["c3", "skip", "long"], vth=60, Du=2000)
    net.conv("c4", net.pool("p1", "l3", 2), net.weights((3, 4, 1, 2)), weight_exp=1)
    net.lif("l4", "c4", vth=0)
    net.pool("p2", "l4", (3, 1), 1)
    net.lif("l5", dense_after(net, "d", net.flatten("f", "p2"), 6), vth=20)
    assert_parity(net.model("l5"), net.spikes(STEPS, SAMPLES))


def test_recurrent_layers(net_type):
    """Two loops of one population each, many short samples: nothing leaks from one into the next."""
    net = net_type((20,), seed=4)
    net.dense("d1", "input", net.weights((16, 20)))
    net.lif("l1", "d1", vth=80, Du=2500, Dv=200)
    net.loop("rec1", "l1", net.weights((16, 16)))
    net.lif("l2", dense_after(net, "d2", "l1", 8), vth=60, Dv=100)
    net.loop("rec2", "l2", net.weights((8, 8), 0, 120), delay=(2,))
    net.readout("r", dense_after(net, "d3", "l2", 4))
    assert_parity(net.model("r"), net.spikes(4, 15))


def test_axonal_delays(net_type):
    """Per source and per layer, longer than the window too; a delayed input."""
    net = net_type((18,), seed=5)
    per_source = tuple(int(d) for d in net.rng.integers(0, 9, 18))
    net.lif("l1", net.dense("d1", "input", net.weights((14, 18)), delay=per_source), vth=40, Dv=100)
    per_source = tuple(int(d) for d in net.rng.integers(0, 4, 14))
    net.lif("l2", net.dense("d2", "l1", net.weights((9, 14)), delay=per_source, weight_exp=2), vth=100)
    net.readout("r", net.dense("d3", "l2", net.weights((5, 9)), delay=(1,)), Dv=50)
    assert_parity(net.model("r"), net.spikes(7, 5, rate=0.5))


def test_delays_by_channel_behind_pooling(net_type):
    net = net_type((3, 4, 4), seed=6)
    net.lif("l1", net.conv("c1", "input", net.weights((4, 3, 3, 3)), padding=1), vth=40)
    net.conv("c2", net.pool("p", "l1", 2), net.weights((5, 4, 2, 2)), delay=(0, 2, 1, 0))
    net.lif("l2", "c2", vth=80)
    assert_parity(net.model("l2"), net.spikes(STEPS, SAMPLES))


def test_delay_nodes(net_type):
    """Delay nodes before and behind weights, on the input, and instead of weights."""
    net = net_type((12,), seed=11)
    net.dense("d1", net.delay("late input", "input", 1), net.weights((10, 12)))
    net.dense("d2", "input", net.weights((10, 12)), delay=(1,))
    net.lif("l1", ["d1", "d2"], vth=40)
    net.dense("d3", net.delay("by source", "l1", net.rng.integers(0, 4, 10)), net.weights((8, 10)))
    net.delay("by target", net.dense("d4", "l1", net.weights((8, 10))), net.rng.integers(0, 4, 8))
    net.lif("l2", ["d3", "by target"], vth=50)
    net.lif("l3", ["l2", net.delay("copy", "l2", 2)], vth=0)
    net.delay("late output", "l3", 3)
    assert_parity(net.model("late output", vote_groups=4), net.spikes(STEPS, SAMPLES))


def test_constant_input_on_the_chip_and_a_silent_readout(net_type):
    """The image as bias register and as spikes of every step, elementwise weights, readout of a .net file."""
    net = net_type((9,), "current", levels=40, seed=12)
    net.scale("image", "input", np.full(9, 64), place="host", as_bias=True)
    net.lif("l1", "image", vth=90)
    net.lif("l2", [net.scale("s", "l1", net.weights(9, 0, 200)), dense_after(net, "d", "input", 9)], vth=150)
    net.readout("r", dense_after(net, "d2", "l2", 4), silent=True)
    want, _ = assert_parity(net.model("r", vote_groups=None), net.spikes(STEPS, SAMPLES), STEPS, alive=False)
    assert want.spikes["l1"].any() and want.spikes["l2"].any()


def test_graded_input_through_conv_and_dense(net_type):
    net = net_type((2, 5, 5), "graded", levels=15, bits=4, seed=7)
    net.lif("l1", net.conv("c1", "input", net.weights((3, 2, 3, 3)), message_bits=4), vth=500)
    dense_after(net, "d1", net.flatten("f1", "l1"), 8)
    net.dense("d2", net.flatten("f2", "input"), net.weights((8, 50)), message_bits=4)
    net.lif("l2", ["d1", "d2"], vth=900, Du=2048)
    assert_parity(net.model("l2"), net.spikes(STEPS, SAMPLES))


def test_ties_wrap_and_saturation(net_type):
    """v exactly at the threshold must not fire; u wraps at 2^23 and v saturates, as in Lava."""
    net = net_type((4,), seed=8)
    ties = np.array([[2, 0, 0, 0], [0, 4, 0, 0], [0, 0, 6, 0], [0, 0, 0, 8]])
    net.lif("ties", net.dense("d1", "input", ties), vth=6, Dv=0)
    heavy = np.full((6, 4), 254) * np.array([[1], [-1], [1], [-1], [1], [-1]])
    net.lif("wrap", net.dense("d2", "input", heavy, weight_exp=7), vth=131071, Du=64, Dv=0)
    net.lif("never", net.dense("d3", "input", heavy, weight_exp=6), vth=131072, Du=4096, Dv=1)
    net.readout("r", net.dense("d4", "ties", net.weights((3, 4))))
    net.dense("d5", "wrap", net.weights((3, 6)))
    net.dense("d6", "never", net.weights((3, 6)))
    net.edges += [("d5", "r"), ("d6", "r")]
    x = np.ones((12, 3, 4))
    x[:, 1, ::2] = 0
    want, _ = assert_parity(net.model("r"), x, alive=False)
    assert want.u["wrap"].max() > 2**22 and want.u["wrap"].min() < -(2**22)
    assert want.v["never"].abs().max() == 2**23 - 1
    assert want.spikes["ties"].any()


def test_sums_beyond_32_bits_wrap_as_in_lava(net_type):
    """Large graded spikes: one step's input exceeds what a single wrap brings back into 24 bits."""
    net = net_type((3,), "graded", levels=2**28, bits=28, seed=3)
    net.lif("l1", net.dense("d1", "input", net.weights((6, 3), -256, 254), message_bits=28), Du=100, Dv=0)
    net.readout("r", dense_after(net, "d2", "l1", 2))
    want, _ = assert_parity(net.model("r"), net.spikes(STEPS, SAMPLES, rate=0.9))
    assert want.u["l1"].abs().max() > 2**24


def test_spikes_of_two_populations_meet_in_one_synapse(net_type):
    """A residual add of spikes in front of weights: binary inputs are or-ed, as `exact` does."""
    net = net_type((10,), seed=9)
    net.lif("l1", dense_after(net, "d1", "input", 8), vth=40)
    net.lif("l2", dense_after(net, "d2", "l1", 8), vth=40)
    net.lif("l3", net.dense("d3", ["l1", "l2"], net.weights((6, 8))), vth=50)
    net.dense("d4", "l3", net.weights((4, 6)))
    assert_parity(net.model("d4"), net.spikes(STEPS, SAMPLES))


def test_record_keeps_only_what_is_asked_for(net_type):
    net = net_type((8,), seed=10)
    net.lif("l1", dense_after(net, "d1", "input", 6), vth=40)
    net.lif("l2", dense_after(net, "d2", "l1", 5), vth=40)
    net.readout("r", dense_after(net, "d3", "l2", 3))
    record = Record(readout=True, nodes=frozenset({"l1"}))
    _, got = assert_parity(net.model("r"), net.spikes(1, 3, rate=0.9), record=record, alive=False)
    assert set(got.spikes) == {"l1"} and set(got.v) == {"r"} and not got.u


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_random_networks(net_type, seed):
    """Random depth, decays, sign modes, exponents, biases, skips, loops and delays."""
    net = net_type((int(np.random.default_rng(seed).integers(4, 25)),), seed=seed)
    rng, layers = net.rng, ["input"]
    ranges = [(-256, 254), (-40, 60), (0, 255), (-255, 0)]
    for number in range(int(rng.integers(1, 5))):
        size, incoming = int(rng.integers(3, 20)), []
        for source in {layers[-1], str(rng.choice(layers))}:
            low, high = ranges[int(rng.choice(4, p=[0.4, 0.4, 0.15, 0.05]))]
            width = net.shape(source)[0]
            name = f"d{number}_{source}"
            delay = tuple(int(d) for d in rng.integers(0, 5, width)) if rng.random() < 0.3 else ()
            exponent = int(rng.integers(0, 3)) if delay else int(rng.integers(-2, 3))
            bias = (rng.integers(-50, 50, size) << 6) if rng.random() < 0.5 else None
            weight = net.weights((size, width), low, high, density=float(rng.random()))
            net.dense(name, source, weight, bias, weight_exp=exponent, delay=delay)
            incoming.append(name)
        Du, Dv = (int(rng.choice([0, 1, 700, 2048, 4095, 4096])) for _ in range(2))
        loop = rng.random() < 0.3
        layer = net.lif(f"l{number}", incoming, vth=int(rng.integers(0, 1500)), Du=Du, Dv=Dv, bias_exp=6)
        if loop:
            net.loop(f"rec{number}", layer, net.weights((size, size)))
        layers.append(layer)
    net.readout("r", dense_after(net, "out", layers[-1], 4))
    assert_parity(net.model("r"), net.spikes(int(rng.integers(1, 9)), 8), alive=False)


@pytest.mark.slow
@pytest.mark.parametrize("conv", ["sparse", "conv"])
@pytest.mark.parametrize("seed", range(12))
def test_random_convolutions(net_type, seed, conv):
    """Random kernels, strides, paddings, groups, biases, decays, pools, and a residual over two synapses."""
    channels = 2 * int(np.random.default_rng(seed).integers(1, 3))
    net = net_type((channels, 8, 8), seed=seed)
    rng, source = net.rng, "input"
    for number in range(int(rng.integers(1, 3))):
        c = net.shape(source)[0]
        out, kernel = 2 * int(rng.integers(1, 4)), int(rng.integers(1, 4))
        stride, padding = int(rng.integers(1, 3)), int(rng.integers(0, kernel))
        groups = int(rng.choice([1, 2]))
        bias = (rng.integers(-30, 31, out) << 6) if rng.random() < 0.6 else None
        weight = net.weights((out, c // groups, kernel, kernel), *((-120, 126) if rng.random() < 0.7 else (0, 127)))
        name = net.conv(f"c{number}", source, weight, stride, padding, groups=groups, bias=bias)
        Du, Dv = int(rng.choice([1024, 4096])), int(rng.choice([0, 300, 2048, 4096]))
        layer = net.lif(f"l{number}", name, vth=int(rng.integers(10, 300)), Du=Du, Dv=Dv, bias_exp=6)
        if rng.random() < 0.6:  # conv and identity meet in one population
            again = net.conv(f"r{number}a", layer, net.weights((out, out, 3, 3)), padding=1)
            identity = np.full((out, 1, 1, 1), 2 * int(rng.integers(1, 60)))
            skip = net.conv(f"r{number}b", layer, identity, groups=out)
            layer = net.lif(f"s{number}", [again, skip], vth=int(rng.integers(10, 200)), Du=4096, Dv=Dv)
        source = layer
    if min(net.shape(source)[1:]) >= 4 and rng.random() < 0.5:
        source = net.pool("pool", source, 2)
    net.readout("r", dense_after(net, "out", net.flatten("flat", source), 4))
    inputs = net.spikes(int(rng.integers(2, 7)), 4, rate=0.4)
    assert_parity(net.model("r"), inputs, alive=False, conv=conv)
