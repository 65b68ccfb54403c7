"""The calibration points of docs/energy.md: what the definitions give beside what was measured.

These hold the page to the code. They are no targets: no constant is tuned to them.
"""

import pytest

from snnkd_deploy.evaluate import OpCounts, estimate_energy, expected_counts, layer_from_rates

KEYWORD_SLOPE_J = 16.75e-6  # Loihi 1, one more branch: Blouw et al. 2019, abr/power_benchmarks
PILOTNET_J = 1.094e-3  # Loihi 2, dynamic, per inference: lava-dl benchmark notebook


def branch(rate):
    """Ten hidden layers of 256 and the branch's slice of the output layer, 10 steps, one common rate."""
    layers = [layer_from_rates(f"h{i}", 256, 10, rate=rate, inputs=256, input_rate=rate) for i in range(10)]
    last = layer_from_rates("out", 256, 10, inputs=256, input_rate=rate, spiking=False)
    # The output neurons exist anyway: the branch adds their synapses only.
    synapses = last.sop_event
    more = layer_from_rates("slice", 1, 10, inputs=1, input_rate=0.0, spiking=False)
    from dataclasses import replace

    more = replace(more, neurons=0, updates_active=0.0, updates_idle=0.0, sop_event=synapses, sop_dense=last.sop_dense)
    return OpCounts((*layers, more), steps=10)


@pytest.mark.parametrize(("rate", "profile"), [(0.088, "published"), (0.059, "fit")])
def test_keyword_spotting_slope(rate, profile):
    """C1: the rates that the published slope implies (rates themselves were not published)."""
    counts = branch(rate)
    assert counts.total.sop_dense == pytest.approx(7.21e6, rel=1e-3)
    assert counts.total.updates == pytest.approx(25600)
    dynamic = estimate_energy(counts, "loihi1", profile=profile).dynamic
    assert dynamic is not None
    assert dynamic["mid"] == pytest.approx(KEYWORD_SLOPE_J, rel=0.1, abs=0)


@pytest.mark.parametrize(("rate", "ratio"), [(0.02, 0.25), (0.05, 0.40), (0.1, 0.66), (0.2, 1.16)])
def test_pilotnet_on_loihi1_prices(make, rate, ratio):
    """C2: Loihi 1's published prices as a proxy for PilotNet-LIF on Loihi 2, over what was measured."""
    counts = expected_counts(make.pilotnet(), rate, 16)
    assert counts.total.neurons == 158_509
    dynamic = estimate_energy(counts, "loihi1", profile="published").dynamic
    assert dynamic is not None
    assert dynamic["mid"] / PILOTNET_J == pytest.approx(ratio, abs=0.02)


def test_pilotnet_bound_is_its_own_measurement(make):
    counts = expected_counts(make.pilotnet(), 0.1, 16)
    bound = estimate_energy(counts, "loihi2").bound
    assert bound is not None
    assert bound.mid == pytest.approx(PILOTNET_J, rel=0.01, abs=0)
