"""Foreign graphs onto chips of every neuron family: equal where nothing is rounded, close and told where it is."""

import json
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from lowering_graphs import DT, affine, cuba, events, integrate, lif, model_of, weights

from snnkd_deploy.backends.calibrate import deviation, lower_measured
from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.float_reference import FloatBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips import list_chips, load_chip
from snnkd_deploy.chips.load import parse_chip
from snnkd_deploy.cli import main
from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.load import load_model
from snnkd_deploy.lower import lower_model

CHIPS = ["speck2f", "truenorth", "generic_int8", "spinnaker2", "float32"]


def as_on(chip):
    """The conventions that the file of another tool would be declared with."""
    return {"reset": chip.neuron.reset, "fires": chip.neuron.fires}


def compared(model, lowered, report, x):
    late = {layer.name: layer.late for layer in report.layers}
    return deviation(model, lowered, make_inputs(x, model), late=late)


def integers(rng, out, inputs, chip):
    """Whole weights of the chip's resolution, mostly positive, so that no membrane falls to a floor."""
    low, high = (0, 2) if chip.parameters.weight.step > 2 else (-1, 6)
    return nir.Affine(rng.integers(low, high, (out, inputs)).astype(float), rng.integers(0, 2, out).astype(float))


def integer_net(seed, chip):
    """Two layers of IF neurons whose thresholds no single step can pass twice."""
    rng = np.random.default_rng(seed)
    a, b = integers(rng, 9, 6, chip), integers(rng, 4, 9, chip)
    level = [float(np.maximum(w.weight, 0).sum(1).max() + w.bias.max() + 1) for w in (a, b)]
    layers = {"a": a, "l1": integrate(9, threshold=level[0]), "b": b, "l2": integrate(4, threshold=level[1])}
    return model_of((6,), layers, **as_on(chip))


@pytest.mark.parametrize("name", CHIPS)
def test_integer_nets_lose_nothing(name):
    """IF neurons and whole weights: the integers are there already, so not one spike differs, over 25 networks."""
    chip = load_chip(name)
    fired = 0
    for seed in range(25):
        model = integer_net(seed, chip)
        lowered, report = lower_model(model, chip)
        x = events(model, rate=0.6, seed=seed)
        found = compared(model, lowered, report, x)
        assert found.spikes == {"l1": 0, "l2": 0} and found.same_class == 1, (seed, found)
        assert all(layer.weight_error_max < 1e-12 and layer.weights_saturated == 0 for layer in report.layers)
        fired += int(ExactBackend().run(lowered, make_inputs(x, lowered), Record()).spikes["l2"].sum())
    assert fired > 100


@pytest.mark.parametrize("name", CHIPS)
def test_integer_nets_through_the_command_line(name, tmp_path, capsys):
    chip = load_chip(name)
    model = integer_net(3, chip)
    nir.write(tmp_path / "f.nir", model.graph)
    x = events(model, rate=0.6)
    y = FloatBackend().run(model, make_inputs(x, model), Record()).predictions.numpy()
    np.savez(tmp_path / "x.npz", x=x, y=y)
    words = ["lower", tmp_path / "f.nir", "--chip", name, "-o", tmp_path / "m.nir", "--dt", DT, "--json"]
    words += ["--reset", chip.neuron.reset, "--fires", chip.neuron.fires, "--data", tmp_path / "x.npz"]
    assert main([str(word) for word in words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["deviation"]["spikes"].values()) == {0.0}
    assert found["deviation"]["accuracy"] == {"float": 1.0, "lowered": 1.0}
    assert load_model(tmp_path / "m.nir").profile.chip.id == name


# Share of spikes that may differ: how coarse the chip is. Ternary weights are a different network.
CLOSE = {"generic_int8": 0.05, "spinnaker2": 0.05, "float32": 0.01, "xylo_a2": 0.08, "speck2f": 0.1, "truenorth": 0.25}


def random_net(seed, chip):
    """A chain, or a skip where hops do not part it, of the neuron that the chip has."""
    rng = np.random.default_rng(seed)
    neuron = cuba if chip.neuron.hop_delay else integrate if chip.neuron.family == "iaf" else lif
    levels = {cuba: (7.0, 2.5, 1.0), integrate: (3.0, 3.0, 3.0), lif: (0.8, 0.8, 0.8)}[neuron]
    linear = [nir.Linear(np.abs(weights(rng, out, inputs)) * 0.6 + weights(rng, out, inputs) * 0.4)
              for out, inputs in ((14, 10), (14, 14), (5, 14))]  # fmt: skip
    nodes = {
        "a": linear[0],
        "l1": neuron(14, threshold=levels[0]),
        "b": linear[1],
        "l2": neuron(14, threshold=levels[1]),
    }
    nodes |= {"c": linear[2], "l3": neuron(5, threshold=levels[2])}
    names = ["input", *nodes, "output"]
    edges = list(zip(names, names[1:], strict=False))
    if seed % 2 and not chip.neuron.hop_delay:
        edges.append(("l1", "l2") if chip.lacks("residual") is None else ("a", "l1"))
    return model_of((10,), nodes, list(dict.fromkeys(edges)), **as_on(chip))


@pytest.mark.parametrize("name", CLOSE)
def test_random_nets_stay_close_and_the_report_says_how_close(name):
    chip = load_chip(name)
    shares, fired = [], 0
    for seed in range(8):
        model = random_net(seed, chip)
        lowered, report = lower_model(model, chip)
        assert all(step.error < 1e-9 for step in report.passes) and len(report.passes) == 2
        x = events(model, seed=seed)
        found = compared(model, lowered, report, x)
        shares.append(found.spikes)
        fired += int(FloatBackend().run(model, make_inputs(x, model), Record()).spikes["l3"].sum())
        assert report.render() and json.dumps(report.to_dict())
    assert fired > 10
    assert np.mean([list(each.values()) for each in shares]) < CLOSE[name], shares


def test_xylo_hops_are_reported_and_compared_in_step():
    """Every population runs one step later than the one in front of it; what waits cannot be aligned."""
    chip = load_chip("xylo_a2")
    model = random_net(0, chip)
    lowered, report = lower_model(model, chip)
    assert {layer.name: layer.late for layer in report.layers} == {"l1": 0, "l2": 1, "l3": 2}
    assert [lowered.synapse(name).delay for name in "abc"] == [(), (1,), (1,)]
    assert any("2 steps behind" in note for note in report.layers[2].notes)
    assert lowered.neuron("l3").max_spikes == 1 and lowered.neuron("l2").max_spikes is None
    rng = np.random.default_rng(0)
    nodes = {"a": affine(rng, 9, 6), "l1": cuba(9), "b": affine(rng, 9, 9), "l2": cuba(9), "c": affine(rng, 9, 9)}
    nodes |= {"d": affine(rng, 9, 9), "l3": cuba(9)}
    edges = [("input", "a"), ("a", "l1"), ("l1", "b"), ("b", "l2"), ("l2", "c"), ("c", "l3"), ("l1", "d"), ("d", "l3")]
    skip = model_of((6,), nodes, [*edges, ("l3", "output")], **as_on(chip))
    with pytest.raises(GraphError, match="cannot run 'delay'"):
        lower_model(skip, chip)


def test_groups_and_dilation_are_written_out_where_the_chip_has_none():
    rng = np.random.default_rng(0)
    conv = nir.Conv2d((9, 9), rng.integers(0, 4, (4, 1, 3, 3)).astype(float), 1, 2, 2, 4, np.zeros(4))
    for name in ("speck2f", "spinnaker2"):
        chip = load_chip(name)
        nodes = {"c": conv, "l": integrate(4, 9, 9, threshold=40.0)}
        model = model_of((4, 9, 9), nodes, **as_on(chip))
        lowered, report = lower_model(model, chip)
        node = lowered.nodes["c"]
        assert node.weight.shape == (4, 4, 5, 5) and int(np.asarray(node.groups)) == 1
        assert compared(model, lowered, report, events(model)).spikes == {"l": 0}


def test_all_that_a_chip_lacks_at_once_with_its_reasons():
    rng = np.random.default_rng(0)
    chip = load_chip("speck2f")
    nodes = {
        "c": nir.Conv1d(8, weights(rng, 4, 2, 3), 1, 1, 1, 1, np.zeros(4)),
        "l1": lif(4, 8),
        "f": nir.Flatten(None, 0, -1),
        "a": affine(rng, 5, 32),
        "wait": nir.Delay(np.full(5, 2 * DT)),
        "l2": cuba(5),
        "back": affine(rng, 5, 5),
        "b": affine(rng, 3, 5),
    }
    names = ["input", "c", "l1", "f", "a", "wait", "l2", "b", "output"]
    edges = [*zip(names, names[1:], strict=False), ("l2", "back"), ("back", "l2")]
    with pytest.raises(GraphError) as caught:
        lower_model(model_of((2, 8), nodes, edges), chip)
    text = str(caught.value)
    refused = chip.operations.refused
    for operation in ("conv1d", "lif", "cuba_lif", "delay", "recurrent", "integrator"):
        assert f"cannot run '{operation}': {refused[operation]}" in text, operation
    for other in ("reset to zero has no counterpart", "threshold test differs"):
        assert other in text
    assert all(p.remedy for p in caught.value.problems if "lif'" in p.what or "integrator'" in p.what)


NEURONS = {"lif": lif, "cuba_lif": cuba, "if": integrate}


@pytest.mark.parametrize("operation", NEURONS)
@pytest.mark.parametrize("name", list_chips())
def test_a_remedy_names_a_neuron_that_the_chip_has(name, operation):
    """The lowering of the remedy's neuron is not refused for its kind, and the other chips named do have it."""
    chip = load_chip(name)

    def refusal(kind):
        nodes = {"a": affine(np.random.default_rng(0), 4, 8), "l": NEURONS[kind](4)}
        try:
            lower_model(model_of((8,), nodes, **as_on(chip)), chip)
        except GraphError as error:
            return next((p for p in error.problems if f"cannot run '{kind}'" in p.what), None)
        return None

    refused = refusal(operation)
    assert (refused is None) == (chip.lacks(operation) is None)
    if refused is None:
        return
    kind = refused.remedy.split()[0]
    assert refusal({"LIF": "lif", "CubaLIF": "cuba_lif", "IF": "if"}[kind]) is None
    others = refused.remedy.split("(")[-1].strip(")").split(", ")
    assert others and all(load_chip(other).lacks(operation) is None for other in others)


def test_what_the_weights_allow_to_differ_is_noted():
    """A floor that is met, steps that bring several thresholds: named, and seen to happen."""
    chip = load_chip("speck2f")
    matrix = np.array([[9.0, 8.0], [-7.0, 5.0]])
    model = model_of((2,), {"a": nir.Linear(matrix), "l": integrate(2, threshold=6.0)}, **as_on(chip))
    lowered, report = lower_model(model, chip)
    notes = " ".join(report.layers[0].notes)
    assert "several spikes" in notes and "minus its threshold" in notes
    x = np.ones((12, 1, 2))
    x[:6, :, 1] = 0
    trace = ExactBackend().run(lowered, make_inputs(x, lowered), Record(states=True))
    assert int(trace.spikes["l"].max()) > 1 and int(trace.v["l"].min()) == -lowered.neuron("l").vth
    tight = load_chip("truenorth")
    heavy = model_of((300,), {"a": nir.Linear(np.ones((2, 300))), "l": integrate(2, threshold=1.0)}, **as_on(tight))
    _, report = lower_model(heavy, tight)
    assert any("bears the worst input for" in note for note in report.layers[0].notes)


def test_decays_that_no_shift_comes_near_are_refused():
    chip = load_chip("generic_int8")
    rng = np.random.default_rng(0)
    short = model_of((4,), {"a": affine(rng, 3, 4), "l": lif(3, steps=1.0)}, **as_on(chip))
    with pytest.raises(GraphError, match="too short for the decays of generic_int8"):
        lower_model(short, chip)
    _, report = lower_model(model_of((4,), {"a": affine(rng, 3, 4), "l": lif(3, steps=11.0)}, **as_on(chip)), chip)
    assert report.layers[0].numbers["dash_mem"] == 4 and report.layers[0].decay_error == pytest.approx(1 / 11 - 1 / 16)


def test_a_current_on_ones_own_int8_chip():
    """generic_int8 with a synaptic current and hard resets: CubaLIF graphs lower, the bias through an extra neuron."""
    text = Path(load_chip("generic_int8").path).read_text("utf-8")
    text = text.replace('reset = "subtract"', 'reset = "zero"').replace("u_bits = 0", "u_bits = 24")
    text = text.replace('"lif", "if"', '"cuba_lif", "if"').replace("\ncuba_lif = ", "\nlif = ")
    chip = parse_chip(text.encode(), "mine.toml")
    rng = np.random.default_rng(0)
    model = model_of((12,), {"a": affine(rng, 20, 12), "l": cuba(20, threshold=2.0)}, **as_on(chip))
    lowered, report = lower_model(model, chip)
    assert "always" in lowered.nodes
    assert compared(model, lowered, report, events(model)).spikes["l"] < 0.03


def test_accuracy_is_told_where_there_are_labels(tmp_path):
    chip = load_chip("truenorth")
    model = random_net(2, chip)
    x = events(model)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(x.shape[1]))
    lowered, _, found = lower_measured(model, chip, data=tmp_path / "x.npz")
    for name, backend, of in (("float", FloatBackend(), model), ("lowered", ExactBackend(), lowered)):
        right = backend.run(of, make_inputs(x, of), Record()).predictions == torch.arange(x.shape[1])
        assert found.accuracy[name] == float(right.double().mean())
    assert "points" in found.render()
