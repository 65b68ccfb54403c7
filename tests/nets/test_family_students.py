"""Students of every chip: what training computed in chip mode is what the exported model gives on `exact`, bit for bit."""

import pytest
import torch
from active import active_student

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips import load_chip
from snnkd_deploy.errors import ChipError, GraphError
from snnkd_deploy.graph.nirfile import read_nir, write_nir
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan, neuron_of

EVENTS = {"encoding": "events", "levels": 1}
MLP = EVENTS | {"net": "mlp", "options": {"hidden": [24, 16]}}
CASES = [
    ("speck2f", {"net": "conv", "width": 0.3} | EVENTS | {"levels": 4}),
    ("speck2f", MLP | {"levels": 9}),
    ("xylo_a2", MLP | {"levels": 15}),
    ("xylo_a3", MLP | {"levels": 3, "steps": 9}),
    ("xylo_a2", MLP | {"net": "rnn", "levels": 4, "steps": 8}),
    ("truenorth", MLP | {"steps": 9}),
    ("truenorth", {"net": "conv", "width": 0.3} | EVENTS),
    ("truenorth", MLP | {"net": "rnn"}),
    ("spinnaker2", {"net": "conv", "width": 0.3}),
    ("spinnaker2", MLP | {"net": "rnn"}),
    ("spinnaker2", MLP | {"current_leak": 0.8, "leak": 0.9}),
    ("generic_int8", {"net": "resnet20", "width": 0.25}),
    ("generic_int8", MLP | {"leak": 0.75}),
    ("float32", {"net": "resnet20", "width": 0.25, "leak": 0.9}),
    ("float32", MLP | {"net": "rnn", "current_leak": 0.3}),
]


def plan_for(chip, options):
    options = dict(options)
    decays = {key: options.pop(key, None) for key in ("leak", "current_leak")}
    defaults = {"input_shape": (2, 8, 8), "classes": 4, "levels": 255, "steps": 5}
    return StudentPlan(**(defaults | options | neuron_of(load_chip(chip), **decays)))


@pytest.mark.parametrize(("chip", "options"), CASES, ids=[f"{c}-{o['net']}-{i}" for i, (c, o) in enumerate(CASES)])
@pytest.mark.parametrize("seed", range(3))
def test_the_exported_model_is_the_student(chip, options, seed, tmp_path):
    student, x = active_student(plan_for(chip, options), samples=6, chip=chip, seed=seed)
    with torch.no_grad():
        out = student(x)
    write_nir(lower_student(student), tmp_path / "m.nir")
    model = read_nir(tmp_path / "m.nir")
    inputs = make_inputs((x[None] if student.encoding == "current" else x).numpy(), model, student.steps)
    trace = ExactBackend().run(model, inputs, Record(states=True))
    for name, spikes in out.spikes.items():
        assert torch.equal(trace.spikes[name].to(spikes.dtype), spikes), name
    assert any(spikes.any() for name, spikes in out.spikes.items())
    if student.readout.lif is None:
        unit = model.bias_unit
        assert torch.equal(trace.v["readout"][-1].to(out.votes.dtype) / unit, out.votes)
    else:
        assert torch.equal(trace.logits.to(out.votes.dtype), out.votes)
    if student.chip.neuron.max_spikes != 1:
        assert max(int(s.max()) for s in out.spikes.values()) > 1, (
            "no neuron sent more than one spike: nothing is shown"
        )


@pytest.mark.parametrize("chip", ["speck2f", "truenorth", "xylo_a2", "generic_int8"])
def test_a_student_of_another_neuron_is_refused(chip):
    student_of_loihi = StudentPlan("mlp", (2, 4, 4), 3, 1, 3, encoding="events", options={"hidden": [8]})
    with pytest.raises(ChipError, match="float neuron is not that of"):
        active_student(student_of_loihi, chip=chip)


def test_what_the_chip_cannot_run_is_refused_with_its_reason():
    plan = plan_for("xylo_a2", {"net": "conv", "width": 0.3} | EVENTS)
    student, _ = active_student(plan, samples=2, chip="xylo_a2")
    with pytest.raises(GraphError, match="no shared weights") as caught:
        lower_student(student)
    assert len(caught.value.problems) == 3  # each convolution


@pytest.mark.parametrize(
    ("chip", "decays", "message"),
    [
        ("speck2f", {"leak": 0.5}, "no decay"),
        ("speck2f", {"current_leak": 0.5}, "no synaptic current"),
        ("xylo_a2", {"current_leak": 0.0}, "every input of"),
    ],
)
def test_decays_that_a_chip_does_not_have(chip, decays, message):
    with pytest.raises(ChipError, match=message):
        neuron_of(load_chip(chip), **decays)


def test_decays_are_rounded_to_the_chips_grid():
    assert neuron_of(load_chip("xylo_a2"), 0.9, 0.7)["leak"] == 0.875
    assert neuron_of(load_chip("xylo_a2"), 0.9, 0.7)["current_leak"] == 0.75
    assert neuron_of(load_chip("generic_int8"), 1.0)["leak"] == 1.0
    assert neuron_of(load_chip("loihi2"), 0.9)["leak"] == round(0.9 * 4096) / 4096
