"""Splitting the slowest core: shorter steps, every neuron still once, no more chips."""

import math

import pytest

from snnkd_deploy.chips import load_chip
from snnkd_deploy.evaluate import balance, estimate_latency, expected_counts, fit
from snnkd_deploy.evaluate.latency import slowest_core


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_the_step_gets_shorter(make, chip):
    net = make.Net((2, 20, 20)).conv("c1", 8, 3, 1, 1).lif("n1").conv("c2", 16, 3, 2, 1).lif("n2")
    model = net.flatten("f").linear("w", 10).lif("o").build()
    counts = expected_counts(model, 0.1, 8, input_rate=0.1)
    plain, even = fit(model, chip), balance(model, chip, counts)
    spec = load_chip(chip)
    slow, fast = (slowest_core(f.placement.route(counts), spec, f) for f in (plain, even))
    assert even.fits
    assert even.cores > plain.cores
    assert fast[1] < slow[1]
    for layer, shape in model.shapes.items():
        placed = sum(t.neurons for t in even.tiles if t.layer == layer)
        assert placed in (0, math.prod(shape))
    times = [estimate_latency(f.placement.route(counts), spec, fit=f) for f in (plain, even)]
    times = [t if t.mid is not None else t.proxy for t in times]
    assert times[1].mid < times[0].mid


def test_free_cores_are_the_limit(make):
    """All cores of the chip in use: nothing is split."""
    model = make.Net((1,)).linear("w", 1024 * 127).lif("h").linear("v", 2).lif("o").build()
    counts = expected_counts(model, 0.001, 2, input_rate=0.5)
    assert balance(model, "loihi1", counts).chips == fit(model, "loihi1").chips
