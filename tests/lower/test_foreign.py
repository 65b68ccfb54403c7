"""Foreign graphs on the chip's grid: what the report says is what happened, and what cannot be said is refused."""

import json

import nir
import numpy as np
import pytest
import torch
from lowering_graphs import DT, affine, conv, cuba, events, integrate, lif, model_of, pool, weights
from random_nir import RandomGraph

from snnkd_deploy.arithmetic.cuba import STATE_MAX
from snnkd_deploy.backends.calibrate import calibrate, lower_measured
from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.float_reference import FloatBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips import load_chip
from snnkd_deploy.cli import main
from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.load import load_model
from snnkd_deploy.graph.nirfile import write_nir
from snnkd_deploy.graph.profile import NeuronParams
from snnkd_deploy.lower import lower_model

CHIP = load_chip("loihi2")
SAMPLES = 3


def chain_lif(rng):
    return model_of(
        (12,), {"a": affine(rng, 20, 12), "l1": lif(20), "b": affine(rng, 6, 20), "l2": lif(6, threshold=0.3)}
    )


def chain_if(rng):
    return model_of((12,), {"a": affine(rng, 20, 12), "l1": integrate(20), "b": affine(rng, 6, 20), "l2": integrate(6)})


def chain_cuba(rng):
    return model_of((12,), {"a": affine(rng, 20, 12), "l1": cuba(20), "b": affine(rng, 6, 20), "l2": cuba(6)})


def maps(kind):
    def build(rng):
        nodes = {"c1": conv(rng, 4, 2), "l1": integrate(4, 8, 8), "p": pool(kind, 2), "c2": conv(rng, 4, 4)}
        nodes |= {"l2": lif(4, 4, 4, threshold=0.5), "f": nir.Flatten(None, 0, -1), "fc": affine(rng, 5, 64)}
        return model_of((2, 8, 8), nodes | {"out": nir.I(np.ones(5) / DT)})

    return build


def skip(rng):
    nodes = {"a": affine(rng, 9, 12), "l1": lif(9), "b": affine(rng, 9, 9), "l2": lif(9)}
    edges = [("input", "a"), ("a", "l1"), ("l1", "b"), ("b", "l2"), ("l1", "l2"), ("l2", "output")]
    return model_of((12,), nodes, edges)


def recurrent(rng):
    nodes = {"a": affine(rng, 10, 12), "l1": lif(10), "back": nir.Linear(0.5 * weights(rng, 10, 10))}
    edges = [("input", "a"), ("a", "l1"), ("l1", "back"), ("back", "l1"), ("l1", "output")]
    return model_of((12,), nodes, edges)


KINDS = {
    "lif": chain_lif, "if": chain_if, "cuba": chain_cuba, "sum pool": maps(nir.SumPool2d), "average": maps(nir.AvgPool2d),
    "skip": skip, "recurrent": recurrent,
}  # fmt: skip


def share(model, lowered, x):
    """Largest share of differing spikes of any layer."""
    a = FloatBackend().run(model, make_inputs(x, model), Record())
    b = ExactBackend().run(lowered, make_inputs(x, lowered), Record())
    assert all(a.spikes[n].any() for n in a.spikes)
    return max(float((a.spikes[n] != b.spikes[n]).double().mean()) for n in a.spikes)


# -- what comes out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_close_to_the_float_graph(kind):
    """Eight-bit weights and rounded decays cost few spikes; the layer names and the answer stay."""
    model = KINDS[kind](np.random.default_rng(0))
    lowered, report = lower_model(model, CHIP)
    assert lowered.on_chip_grid and set(model.spiking) <= set(lowered.spiking)
    assert share(model, lowered, events(model)) < 0.03
    assert all(step.error < 1e-9 for step in report.passes)


@pytest.mark.parametrize("kind", ["if", "cuba", "recurrent", "sum pool"])
def test_saving_and_reading_keeps_the_lowered_model(kind, tmp_path):
    lowered, _ = lower_model(KINDS[kind](np.random.default_rng(0)), CHIP)
    write_nir(lowered, tmp_path / "m.nir")
    assert load_model(tmp_path / "m.nir").sha256 == lowered.sha256


def on_grid(rng, out, inputs):
    return nir.Affine(rng.integers(-60, 61, (out, inputs)) * 2 / 64, rng.integers(-9, 10, out) * 2 / 64)


def test_what_is_on_a_grid_already_loses_nothing():
    """Even integers over 64 and no decay: no rounding anywhere, so not one spike may differ, over 40 networks."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        nodes = {
            "a": on_grid(rng, 10, 8),
            "l1": integrate(10, threshold=90 / 64),
            "b": on_grid(rng, 5, 10),
            "l2": integrate(5, threshold=2),
        }
        model = model_of((8,), nodes)
        lowered, report = lower_model(model, CHIP)
        for layer in report.layers:
            assert (layer.weight_error_max, layer.threshold_error, layer.decay_error) == (0, 0, 0), (seed, layer)
            assert layer.bias_error < 1e-12
        assert share(model, lowered, events(model, seed=seed)) == 0, seed


@pytest.mark.parametrize(("kernel", "dilation"), [((2, 4), 1), ((3, 2), 1), ((4, 3), (1, 2))])
def test_same_padding_of_an_even_kernel_loses_nothing(kernel, dilation):
    """It pads one more behind than in front, which chips do not: on the grid, so not one spike may differ."""
    rng = np.random.default_rng(7)
    weight, bias = rng.integers(-30, 31, (3, 2, *kernel)) * 2 / 64, rng.integers(-9, 10, 3) * 2 / 64
    same = nir.Conv2d(None, weight, 1, "same", dilation, 1, bias)
    nodes = {"c": same, "l1": integrate(3, 6, 7, threshold=90 / 64), "f": nir.Flatten(None, 0, -1)}
    model = model_of((2, 6, 7), nodes | {"b": on_grid(rng, 5, 126), "l2": integrate(5, threshold=2)})
    lowered, _ = lower_model(model, CHIP)
    assert share(model, lowered, events(model)) == 0


# -- the report -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lif", "if", "cuba", "sum pool"])
def test_the_report_says_what_was_rounded(kind):
    """Every error of the report, computed again from the lowered model's integers and the float graph."""
    model = KINDS[kind](np.random.default_rng(3))
    lowered, report = lower_model(model, CHIP)
    for layer in report.layers:
        params = lowered.profile.nodes[layer.name]
        assert layer.numbers == {"Du": params.Du, "Dv": params.Dv}
        node = model.nodes[layer.name]
        if isinstance(params, NeuronParams):
            wanted = float(np.asarray(node.v_threshold).flat[0])
            assert layer.vth == params.vth
            assert layer.threshold_error == pytest.approx(abs(params.vth / layer.scale - wanted) / wanted, abs=1e-12)
        decays = [getattr(node, key) for key in ("tau", "tau_syn", "tau_mem") if hasattr(node, key)]
        exact = [DT / float(np.asarray(tau).flat[0]) for tau in decays]
        registers = [params.Dv] if len(exact) == 1 else [params.Du, params.Dv]
        errors = [abs(r / 4096 - e) for r, e in zip(registers, exact, strict=False)]
        assert layer.decay_error == pytest.approx(max([0.0, *errors]), abs=1e-12)
        for synapse in layer.synapses:
            integers = lowered.weight_int(synapse)
            real = np.asarray(model.nodes[synapse].weight) if synapse in model.nodes else np.zeros(0)
            if real.size != integers.size:
                continue  # a pool was multiplied into it
            gain = integers.ravel() @ real.ravel() / (real.ravel() @ real.ravel())  # integers of one real unit
            worst = np.abs(integers / gain - real).max() / np.abs(real).max()
            assert worst <= layer.weight_error_max * 1.5 + 1e-3
            assert layer.weight_error_rms <= layer.weight_error_max
    text = report.render()
    assert all(layer.name in text for layer in report.layers) and "headroom" in text
    json.dumps(report.to_dict())


def test_notes_name_what_deviates():
    rng = np.random.default_rng(0)
    _, report = lower_model(chain_cuba(rng), CHIP)
    notes = " ".join(note for layer in report.layers for note in layer.notes)
    assert "extra neuron 'always'" in notes, "a bias that a current filters comes as spikes"
    shifted = model_of((4,), {"a": affine(rng, 6, 4), "l": lif(6, v_reset=-0.5 * np.ones(6))})
    _, report = lower_model(shifted, CHIP)
    assert "starts at v_reset" in report.layers[0].notes[0]
    spread = model_of((4,), {"a": affine(rng, 6, 4), "l": lif(6, v_threshold=np.linspace(0.3, 0.6, 6))})
    lowered, report = lower_model(spread, CHIP)
    assert "folded into the weights" in report.layers[0].notes[0]
    assert share(spread, lowered, events(spread)) < 0.05


# -- headroom and calibration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lif", "cuba", "recurrent"])
def test_proven_headroom_holds_for_the_worst_input(kind):
    """Input that drives one neuron as hard as its weights allow: the current stays below the register's end."""
    model = KINDS[kind](np.random.default_rng(0))
    lowered, report = lower_model(model, CHIP)
    first = report.layers[0] if report.layers[0].name != "always" else report.layers[1]
    assert not first.headroom_measured and first.headroom >= 1
    integers = lowered.weight_int(first.synapses[0])
    row = integers[np.abs(integers).sum(1).argmax()]
    for sign in (1, -1):
        x = np.broadcast_to((sign * row > 0).astype(np.float64), (200, 1, len(row)))
        trace = ExactBackend().run(lowered, make_inputs(x, lowered), Record(states=True))
        assert int(trace.u[first.name].abs().max()) <= STATE_MAX / first.headroom + 1


def test_calibration_gives_larger_scales_and_fewer_wrong_spikes():
    """Many inputs that never come together: the worst case is far away, what was measured is not."""
    rng = np.random.default_rng(0)
    wide = 20 * np.abs(weights(rng, 30, 3000))
    model = model_of((3000,), {"a": nir.Linear(wide), "l1": cuba(30, threshold=4.0)})
    x = events(model, rate=0.003)
    proven, cautious = lower_model(model, CHIP)
    measured, bold = lower_model(model, CHIP, calibrate(model, make_inputs(x, model)))
    assert bold.layers[0].headroom_measured and not cautious.layers[0].headroom_measured
    assert bold.layers[0].scale >= cautious.layers[0].scale
    assert "measured on the calibration inputs" in bold.render()
    assert share(model, measured, x) <= share(model, proven, x)


def test_the_deviation_is_what_both_backends_say(tmp_path):
    model = chain_lif(np.random.default_rng(5))
    x = events(model)
    np.savez(tmp_path / "x.npz", x=x)
    lowered, _, deviation = lower_measured(model, CHIP, calibrate_with=tmp_path / "x.npz")
    a = FloatBackend().run(model, make_inputs(x, model), Record())
    b = ExactBackend().run(lowered, make_inputs(x, lowered), Record())
    assert deviation.spikes == {n: float((a.spikes[n] != b.spikes[n]).double().mean()) for n in a.spikes}
    assert deviation.samples == SAMPLES
    assert deviation.same_class == float((a.predictions == b.predictions).double().mean())


def test_through_the_command_line(tmp_path, capsys):
    model = chain_lif(np.random.default_rng(5))
    nir.write(tmp_path / "f.nir", model.graph)
    np.savez(tmp_path / "x.npz", x=events(model))
    words = ["lower", str(tmp_path / "f.nir"), "--chip", "loihi2", "-o", str(tmp_path / "m.nir"), "--dt", str(DT)]
    assert main([*words, "--reset", "zero", "--calibrate", str(tmp_path / "x.npz")]) == 0
    text = capsys.readouterr().out
    assert "lowered onto loihi2" in text and "% of the spikes differ" in text
    assert load_model(tmp_path / "m.nir").profile.chip.id == "loihi2"
    assert main([*words, "--reset", "subtract"]) == 1
    assert "no counterpart on the chip" in capsys.readouterr().err


# -- what cannot be lowered ---------------------------------------------------------------------------------------------


def refused(model, **options):
    with pytest.raises(GraphError) as caught:
        lower_model(model, CHIP, **options)
    return str(caught.value)


def test_every_obstacle_at_once():
    rng = np.random.default_rng(0)
    one = np.ones(6)
    nodes = {
        "a": affine(rng, 6, 4),
        "l1": lif(6, tau=DT * np.linspace(2, 9, 6)),
        "b": affine(rng, 6, 6),
        "li": nir.LI(DT * 4 * one, one, 0 * one),
        "c": affine(rng, 6, 6),
        "l2": lif(6, tau=DT * 20_000 * one),
        "d": affine(rng, 6, 6),
        "l3": lif(6, v_threshold=-one),
    }
    text = refused(model_of((4,), nodes, reset="subtract", fires=">=", v0=0.5))
    for part in (
        "reset by subtraction", "threshold test differs", "starts at v = 0", "tau differs between neurons",
        "LI inside the network sends no spikes", "too long for a 12-bit decay", "below v_reset",
    ):  # fmt: skip
        assert part in text, part


def test_pools_that_are_no_single_convolution():
    rng = np.random.default_rng(0)
    overlap = nir.AvgPool2d(np.array([3, 3]), np.array([1, 1]), np.array([1, 1]))
    nodes = {"c": conv(rng, 2, 2), "p": overlap, "d": conv(rng, 2, 2), "l": lif(2, 6, 6)}
    text = refused(model_of((2, 6, 6), nodes))
    assert "single convolution" in text or "padding" in text


def test_a_lowered_model_is_not_lowered_again():
    lowered, _ = lower_model(chain_if(np.random.default_rng(0)), CHIP)
    assert "on a chip's grid already" in refused(lowered)


def test_another_family_of_neurons():
    family = CHIP.neuron.model_copy(update={"reset": "subtract"})
    chip = CHIP.model_copy(update={"neuron": family})
    with pytest.raises(GraphError, match="reset"):
        lower_model(chain_lif(np.random.default_rng(0)), chip)


def test_random_graphs_are_lowered_or_refused_with_a_reason():
    """60 random graphs of everything that a chip might do: whatever lowers stays close, layer by layer."""
    done, shares = 0, []
    for seed in range(60):
        net = RandomGraph(seed, uniform=True)
        model = net.model()
        try:
            lowered, _ = lower_model(model, CHIP)
        except GraphError as error:
            assert error.problems
            continue
        done += 1
        x = net.input(12, 4)
        a = FloatBackend().run(model, make_inputs(x, model), Record())
        b = ExactBackend().run(lowered, make_inputs(x, lowered), Record())
        shares += [float((a.spikes[n] != b.spikes[n]).double().mean()) for n in a.spikes]
    assert done >= 20 and torch.tensor(shares).median() < 0.01
