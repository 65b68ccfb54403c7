"""Plots: they follow the page's colours, have words, and survive odd data."""

from __future__ import annotations

import re
from typing import Any

import pytest

from snnkd_deploy.report import Report, plots
from snnkd_deploy.report.plots.style import draw
from snnkd_deploy.report.schema import (
    Confusion,
    CoreMap,
    Curve,
    Energy,
    EnergyTerm,
    LayerInfo,
    Pareto,
    PerStep,
    RasterSample,
)


def test_colours_come_from_the_page(full: Report) -> None:
    plot = plots.plot_sops(full.layers)
    assert plot is not None
    assert not re.findall(r"#[0-9a-f]{6}", plot.svg), "a fixed colour is wrong in dark or in light"
    assert "var(--ink)" in plot.svg
    assert "<text" not in plot.svg, "letters are paths: no font is needed"
    assert plot.svg.count("<svg") == 1
    assert f'aria-label="{plot.alt}"' in plot.svg


def test_alt_texts_say_the_numbers(full: Report) -> None:
    energy = full.energy_j
    overview = plots.plot_energy_overview(energy, "Intel Loihi 2", full.baseline_ann.energy_j, "ANN")
    assert overview is not None
    assert "Intel Loihi 2, estimate: unpriced" in overview.alt
    assert "proxy: prices of loihi1" in overview.alt
    assert full.confusion is not None
    confusion = plots.plot_confusion(full.confusion)
    assert confusion is not None
    assert "8 is taken for 1 (2 times)" in confusion.alt


def test_nothing_to_show_is_no_plot() -> None:
    assert plots.plot_accuracy({"teacher": None}, {}) is None
    assert plots.plot_rates([]) is None
    assert plots.plot_sops([LayerInfo(name="a")]) is None
    assert plots.plot_confusion(Confusion(classes=(), counts=())) is None
    assert plots.plot_cores(CoreMap(items=()), []) is None
    assert plots.plot_energy_overview(Energy(), "c", None, "") is None
    assert plots.plot_energy_terms([], ["x"], "n") is None
    assert plots.plot_pareto(Pareto(cost_name="c", points=())) is None
    empty = Curve(stage="s", epochs=())
    assert plots.plot_losses(empty) is None
    assert plots.plot_learning(empty) is None
    assert plots.plot_firing(empty) is None


def _cases() -> dict[str, Any]:
    big = tuple(tuple(int(i == j) for j in range(40)) for i in range(40))
    flat = Curve(stage="a b/c", epochs=(1,), losses={"ce": (0.0,)}, val_accuracy=(None,), firing_rate=(0.0,))
    core = {"core": 130, "chip": 1, "layers": ["a", "b"]}
    term = EnergyTerm(name="t", low=0.0, mid=0.0, high=1e-9)
    zero = EnergyTerm(name="z", low=0.0, mid=0.0, high=0.0)
    layer = {"name": "l", "neurons_total": 1, "neurons": [0], "times": [[]]}
    points = [{"label": "a", "accuracy": 0.5, "cost": 0.0}, {"label": "b", "accuracy": 0.6, "cost": 2.0}]
    return {
        "one accuracy of 0": lambda: plots.plot_accuracy({"teacher": 0.0}, {}),
        "all accuracies 1": lambda: plots.plot_accuracy({"teacher": 1.0, "student": 1.0}, {}),
        "one step": lambda: plots.plot_per_step(PerStep(cumulative=(0.5,)), None),
        "many classes": lambda: plots.plot_confusion(Confusion(classes=tuple(map(str, range(40))), counts=big)),
        "no samples": lambda: plots.plot_confusion(Confusion(classes=("a", "b"), counts=((0, 0), (0, 0)))),
        "silent layer": lambda: plots.plot_rates([LayerInfo(name="a", rate=0.0)]),
        "flat loss": lambda: plots.plot_losses(flat),
        "flat rate": lambda: plots.plot_firing(flat),
        "two chips": lambda: plots.plot_cores(
            CoreMap.model_validate({"items": [core], "cores_per_chip": 128}), ["a", "b"]
        ),
        "terms with zero": lambda: plots.plot_energy_terms([term, zero], [], "n"),
        "silent raster": lambda: plots.plot_raster(RasterSample.model_validate({"index": 0, "layers": [layer]}), 1, 0),
        "free of cost": lambda: plots.plot_pareto(Pareto.model_validate({"cost_name": "c", "points": points})),
    }


@pytest.mark.parametrize("case", list(_cases()))
@pytest.mark.filterwarnings("error")
def test_odd_data(case: str) -> None:
    plot = _cases()[case]()
    assert plot is not None and "</svg>" in plot.svg


def test_map_colours_and_images() -> None:
    assert plots.heat_png(((0.0, 1.0), (0.5, 2.0))).startswith("data:image/png;base64,")
    grey = ((0.0, 1.0), (0.5, 1.0))
    assert plots.image_png(grey) == plots.image_png((grey, grey, grey))


def test_names_cannot_break_out_of_the_svg() -> None:
    plot = draw("a", '"><script>', 100, lambda ax: ax.set_xlabel("$x$ --> <script> \N{SNOWMAN}"))
    assert "<script" not in plot.svg


def test_rates_of_neurons_that_fire_several_times(full: Report) -> None:
    """A share of neurons cannot exceed 1: where a neuron fires more than once, it is a number of spikes."""
    from snnkd_deploy.report.headline import activity_fact
    from snnkd_deploy.report.schema import ChipInfo

    words = {}
    for most in (1, 0, 31):
        report = full.model_copy(update={"chip_info": ChipInfo(name="chip", max_spikes=most)})
        fact = activity_fact(report)
        assert fact is not None
        words[most] = "".join(str(w) for w in fact.words)
    assert "neurons fire in a timestep" in words[1]
    assert all("spikes per neuron and timestep" in words[most] for most in (0, 31))
