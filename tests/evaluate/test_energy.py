"""Prices: the closed form of SANA-FE, scopes that may not be mixed, units, intervals, comparisons."""

from functools import partial

import pytest

from snnkd_deploy.chips import Quantity, load_chip
from snnkd_deploy.chips.units import si_range, to_si
from snnkd_deploy.errors import ChipError, UsageError
from snnkd_deploy.evaluate import (
    LayerCounts,
    OpCounts,
    ann_baseline,
    compare_energy,
    count_ops,
    estimate_energy,
    estimate_latency,
    expected_counts,
    fit,
    layer_from_rates,
)
from snnkd_deploy.evaluate.terms import EnergyTerm, Sum
from snnkd_deploy.report.schema import BaselineANN, Energy

# pytest's absolute tolerance of 1e-12 is huge beside a picojoule.
close = partial(pytest.approx, rel=1e-9, abs=0)


def quantity(value, unit="pJ", **more):
    return Quantity(value=value, unit=unit, kind="measured", source="made up", **more)


def chip_with(scope, prices, **more):
    chip = load_chip("loihi1")
    energy = chip.energy.model_copy(update={"scope": scope, "prices": prices, "proxy": ""})
    return chip.model_copy(update={"id": "made_up", "energy": energy, **more})


@pytest.fixture
def counts():
    return OpCounts(
        (
            layer_from_rates("h", 64, 10, rate=0.1, inputs=100, input_rate=0.05),
            layer_from_rates("o", 10, 10, inputs=64, input_rate=0.1, spiking=False),
        ),
        steps=10,
        input_spikes=50.0,
    )


def test_sanafe_closed_form(make, golden):
    model, trace, inputs = make.toy(steps=22, strict=True, lag=True)
    counts = count_ops(model, trace, inputs)
    peer = golden["peers"]["sanafe 2.2.9 loihi.yaml, T=22, 1 core, dense synapse, force_update"]
    spikes = golden["peers"]["sanafe_conformance"]["spikes_T22"]
    assert (counts.input_spikes, counts.exact["h"]["spikes"], counts.exact["o"]["spikes"]) == (
        spikes["input"],
        spikes["h"],
        spikes["o"],
    )
    assert counts.total.sop_event == peer["SOPs"]
    estimate = estimate_energy(counts, "loihi1", profile="sanafe")
    by_name = {t.name: t.mid_j for t in estimate.terms}
    assert f"{estimate.mid:.6e}" == f"{peer['total_J']:.6e}"
    assert f"{by_name['synaptic operations']:.5e}" == f"{peer['synapse_J']:.5e}"
    assert f"{by_name['neuron updates'] + by_name['spike generation']:.6e}" == f"{peer['soma_J']:.6e}"
    assert f"{by_name['spike messages']:.4e}" == f"{peer['network_J']:.4e}"
    assert next(t for t in estimate.terms if t.name == "spike messages").count == peer["packets"]
    assert estimate.static is None


def test_published_list_alone(counts):
    """Davies 2018, Table 2, summed by hand."""
    estimate = estimate_energy(counts, "loihi1", profile="published")
    total = counts.total
    joules = total.sop_event * 23.6 + total.updates_active * 81 + total.updates_idle * 52
    joules += (total.spikes_per_sample + 50) * 1.7
    assert estimate.dynamic is not None
    assert estimate.dynamic["mid"] == close(joules * 1e-12)


def test_terms_add_up_and_bars_stay_apart(counts):
    estimate = estimate_energy(counts, "loihi1")
    assert estimate.low is not None
    assert estimate.low <= estimate.mid <= estimate.high
    assert estimate.low <= estimate.p5 <= estimate.p95 <= estimate.high
    for corner in ("low", "mid", "high"):
        parts = estimate.dynamic[corner] + estimate.static[corner]
        assert getattr(estimate, corner) == close(parts)
    host = estimate.group("host")
    assert host is not None
    assert host["mid"] > 0
    names = [item.name for item in estimate.unpriced]
    assert "host input and output" in names
    assert all(t.low_j <= t.mid_j <= t.high_j for t in estimate.terms)


def test_intervals_are_reproducible(counts):
    first, again = (estimate_energy(counts, "loihi1", seed=3) for _ in range(2))
    assert (first.p5, first.p95) == (again.p5, again.p95)


def test_all_in_is_the_whole_total(counts):
    prices = {"synop": quantity(26, low=2.5, high=26), "hop": quantity(2.3), "neuron_update_active": quantity(72)}
    estimate = estimate_energy(counts, chip_with("all_in", prices))
    assert estimate.mid == close(counts.total.sop_event * 26e-12)
    assert [t.name for t in estimate.terms] == ["synaptic operations, all in"]
    assert estimate.static is None


@pytest.mark.parametrize("scope", ["all_in", "all_in_and_incremental"])
def test_nothing_can_be_added_to_an_all_in_price(scope):
    total = Sum(scope)
    total.add(EnergyTerm("all", 1, 1, 1, 1, "x", "measured"))
    with pytest.raises(ChipError, match="contains it"):
        total.add(EnergyTerm("hops", 1, 1, 1, 1, "x", "measured"))
    with pytest.raises(ChipError, match="contains it"):
        total.add(EnergyTerm("static", 1, 1, 1, 1, "x", "measured", group="static"))


@pytest.mark.parametrize("scope", ["system_only", "none", "all_in_bound_only"])
def test_no_total_without_per_operation_prices(scope):
    with pytest.raises(ChipError, match="no per-operation total"):
        Sum(scope).add(EnergyTerm("synop", 1, 1, 1, 1, "x", "measured"))


def test_system_only_gives_counts(counts):
    estimate = estimate_energy(counts, chip_with("system_only", {}))
    assert (estimate.low, estimate.mid, estimate.high) == (None, None, None)
    assert {i.name: i.count for i in estimate.unpriced}["synaptic operations"] == counts.total.sop_event


def test_loihi2_is_unpriced_with_bound_and_proxy(counts):
    estimate = estimate_energy(counts, "loihi2")
    assert (estimate.low, estimate.mid, estimate.high, estimate.terms) == (None, None, None, ())
    assert estimate.bound is not None
    assert estimate.bound.mid == close(74 * 10 * 431e-12)
    assert estimate.proxy is not None
    assert estimate.proxy.chip == "loihi1"
    found = estimate.to_dict()
    assert "not loihi2" in found["proxy"]["label"]
    assert found["mid"] is None


def test_unknown_price_is_named_never_zero(counts):
    unknown = Quantity(unit="unknown", kind="unknown", source="nobody published it")
    estimate = estimate_energy(counts, chip_with("per_term", {"synop": quantity(10), "neuron_update_active": unknown}))
    assert estimate.mid is not None
    missing = {i.name: i for i in estimate.unpriced}["neuron update active"]
    assert missing.count == counts.total.updates_active
    assert missing.reason == "nobody published it"


def test_units():
    assert to_si(23.6, "pJ", "energy") == close(23.6e-12)
    assert to_si(5.94, "uJ", "energy") == close(5.94e-6)
    assert to_si(47, "fJ/bit", "energy") == close(47e-15)
    assert to_si(72, "pJ/neuron/tick", "energy") == close(72e-12)
    assert to_si(113, "ns", "time") == close(113e-9)
    assert to_si(104.4, "mW", "power") == close(0.1044)
    assert to_si(128, "KiB", "bytes") == 131072
    with pytest.raises(ChipError, match="not understood"):
        to_si(1, "pJ/furlong", "energy")
    with pytest.raises(ChipError, match="not understood"):
        to_si(1, "bananas", "energy")
    with pytest.raises(ChipError, match="is time"):
        to_si(1, "ns", "energy")
    with pytest.raises(ChipError, match="no published value"):
        si_range(Quantity(unit="unknown", kind="unknown", source="-"), "energy")


def test_a_price_in_the_wrong_unit_is_refused(counts):
    with pytest.raises(ChipError, match=r"made_up \[energy.prices.synop\]"):
        estimate_energy(counts, chip_with("per_term", {"synop": quantity(10, "ns")}))


def test_every_price_and_time_of_the_shipped_chips_has_a_known_unit():
    for chip in (load_chip("loihi1"), load_chip("loihi2")):
        for table, dimension in ((chip.energy.prices, "energy"), (chip.power, "power"), (chip.time, "time")):
            for key, value in table.items():
                if value.known:
                    low, mid, high = si_range(value, dimension, key)
                    assert 0 < low <= mid <= high < 1


def test_comparison_of_two_nets_on_one_chip(counts):
    half = OpCounts(
        tuple(
            LayerCounts(
                name=layer.name,
                neurons=layer.neurons,
                rate=layer.rate / 2,
                spikes_per_sample=layer.spikes_per_sample / 2,
                sop_event=layer.sop_event / 2,
                updates_active=layer.updates_active / 2,
                updates_idle=layer.updates_idle / 2,
                spikes_in=layer.spikes_in / 2,
            )
            for layer in counts.layers
        ),
        steps=10,
        input_spikes=25.0,
    )
    small, large = estimate_energy(half, "loihi1"), estimate_energy(counts, "loihi1")
    found = compare_energy(small, large)
    assert found.verdict == "a uses less"
    assert found.ratio_min <= found.ratio_mid <= found.ratio_max < 1
    assert compare_energy(large, small).verdict == "b uses less"
    assert compare_energy(large, large).verdict == "undecided"


def test_a_trade_of_operations_is_undecided():
    """Fewer synapses for more updates: which is cheaper depends on prices inside their ranges."""
    synapses = OpCounts((LayerCounts("a", 100, sop_event=1000.0, updates_idle=100.0),), steps=10)
    updates = OpCounts((LayerCounts("a", 100, sop_event=0.0, updates_idle=600.0),), steps=10)
    chip = chip_with("per_term", load_chip("loihi1").energy.prices, power={})
    a, b = estimate_energy(synapses, chip), estimate_energy(updates, chip)
    assert compare_energy(a, b).verdict == "undecided"


def test_only_one_chip_can_be_compared(counts):
    loihi1 = estimate_energy(counts, "loihi1")
    with pytest.raises(UsageError, match="one chip"):
        compare_energy(loihi1, estimate_energy(counts, "loihi2"))
    with pytest.raises(UsageError, match="no per-operation total"):
        compare_energy(*[estimate_energy(counts, "loihi2")] * 2)


def test_latency_is_barrier_and_slowest_core(counts):
    found = estimate_latency(counts, "loihi1")
    assert found.low is not None
    assert found.low <= found.mid <= found.high
    assert found.steps == 10 + 1
    assert any("host" in text for text in found.excludes)
    real_time = estimate_latency(counts, "loihi1", dt_s=1e-3)
    assert real_time.mid == close(11e-3)
    empty = OpCounts((LayerCounts("a", 1),), steps=1)
    assert estimate_latency(empty, "loihi1").low == close(113e-9)


def test_unknown_times_give_none_and_a_proxy(counts):
    found = estimate_latency(counts, "loihi2")
    assert (found.low, found.mid, found.high) == (None, None, None)
    assert any("barrier" in text for text in found.excludes)
    assert found.proxy is not None
    assert found.proxy.chip == "loihi1"
    real_time = estimate_latency(counts, "loihi2", dt_s=1e-3)
    assert real_time.mid == close(11e-3)
    assert "keeps up" in real_time.note


def test_energy_of_a_model_and_trace(make):
    model = make.Net((1, 6, 6)).conv("c", 4, 3, padding=1).lif("n").flatten("f").linear("w", 5).lif("o").build()
    trace, inputs = make.random_run(model, 4, 3)
    estimate = estimate_energy(model, "loihi1", trace=trace, inputs=inputs)
    assert estimate.mid is not None
    assert "hops between tiles" in [t.name for t in estimate.terms]
    counted = count_ops(model, trace, inputs)
    assert {t.name: t.count for t in estimate.terms}["synaptic operations"] == counted.total.sop_event
    with pytest.raises(UsageError, match="trace"):
        estimate_energy(model, "loihi1")


def test_literature_formula(make):
    """E = 4.6 pJ x MACs of the first layer x T + 0.9 pJ x rate x T x MACs of the others."""
    net = make.Net((1, 4, 4), encoding="current").conv("c1", 2, 3, padding=1).lif("n1").flatten("f").linear("w", 3)
    model = net.lif("n2").build()
    counts = expected_counts(model, 0.25, 8)
    estimate = estimate_energy(counts, "loihi1", profile="literature_45nm")
    assert estimate.mid == close((4.6 * 16 * 9 * 2 * 8 + 0.9 * 0.25 * 8 * 32 * 3) * 1e-12)
    assert estimate.scope == "arithmetic_only"


def test_ann_baseline(make):
    import torch

    model = make.Net((1, 4, 4), encoding="current").conv("c1", 2, 3, padding=1).lif("n1").build()
    baseline = ann_baseline(model)
    assert (baseline.macs, baseline.macs_framework) == (200, 288)
    module = torch.nn.Conv2d(1, 2, 3, padding=1)
    same = ann_baseline(module, torch.zeros(1, 1, 4, 4))
    assert (same.macs, same.macs_framework) == (200, 288)
    assert same.joules("int8") == close(200 * 0.23e-12)
    assert same.joules("fp32") == close(200 * 4.6e-12)
    BaselineANN.model_validate(same.to_dict())


def test_json_is_what_the_report_takes(counts):
    for chip in ("loihi1", "loihi2"):
        Energy.model_validate(estimate_energy(counts, chip).to_dict())


def test_static_power_is_of_whole_chips_and_the_share_is_kept(make):
    model = make.Net((8,)).linear("w", 5).lif("o").build()
    counts = expected_counts(model, 0.1, 10, input_rate=0.1)
    mapping = fit(model, "loihi1")
    estimate = estimate_energy(counts, "loihi1", fit=mapping)
    assert estimate.static is not None
    assert estimate.static_share_j is not None
    assert estimate.static_share_j[1] == close(estimate.static["mid"] / 128)


def test_an_all_in_price_is_flagged_with_the_networks_own_operating_point():
    layer = layer_from_rates("o", 10, 4, rate=0.25, inputs=64, input_rate=0.5)
    estimate = estimate_energy(OpCounts((layer,), steps=4), "truenorth")
    assert estimate.mid == close(64 * 10 * 0.5 * 4 * 26e-12)
    assert any("0.25 spikes per neuron and step, 10 operations per spike" in note for note in estimate.notes)
    assert not estimate.unpriced


@pytest.mark.parametrize(("chip", "scope"), [("speck2f", "all_in_bound_only"), ("xylo_a2", "system_only")])
def test_chips_without_a_price_have_no_total(chip, scope, counts):
    estimate = estimate_energy(counts, chip)
    assert (estimate.scope, estimate.low, estimate.mid, estimate.high) == (scope, None, None, None)
    assert {item.name for item in estimate.unpriced} >= {"synaptic operations", "neuron updates", "static power"}
    if chip == "speck2f":
        assert (estimate.bound.low, estimate.bound.high) == close(
            (counts.total.sop_event * 10e-12, counts.total.sop_event * 26e-12)
        )


def test_fixed_ticks_are_the_latency_of_truenorth(counts):
    latency = estimate_latency(counts, "truenorth")
    assert latency.steps == 10 + 2 - 1
    assert latency.mid == close(11e-3)
    assert estimate_latency(counts, "xylo_a2").mid is None
