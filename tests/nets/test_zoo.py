"""Every student in the zoo lowers, and `exact` runs it as the training forward pass does."""

import pytest
import torch
from active import active_student

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import RecipeError, UsageError
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan
from snnkd_deploy.nets.zoo import STUDENTS, build_student


def plan(net, **kwargs):
    small = {"conv": 1.0, "mlp": 0.1, "rnn": 0.3, "vgg": 0.1, "resnet18": 0.06, "resnet19": 0.05, "resnet20": 0.25}
    defaults = {"input_shape": (3, 12, 12), "classes": 5, "levels": 255, "steps": 3, "width": small[net]}
    return StudentPlan(net=net, **(defaults | kwargs))


def active(net, **kwargs):
    return active_student(plan(net, **kwargs))


CASES = [
    (net, encoding, 0.0)
    for net in STUDENTS
    for encoding in ("current", "events")
    if (net, encoding) != ("rnn", "current")
]
CASES += [("mlp", "graded", 0.0), ("rnn", "graded", 0.0), ("conv", "graded", 0.0)]
# With a synaptic current (CubaLIF).
CASES += [("conv", "current", 0.25), ("conv", "events", 0.5), ("rnn", "graded", 0.5), ("resnet20", "events", 0.3)]


@pytest.mark.parametrize(("net", "encoding", "current_leak"), CASES)
def test_lowered_student_equals_its_forward_pass(net, encoding, current_leak):
    levels = 1 if encoding == "events" else 255
    student, x = active(net, encoding=encoding, levels=levels, current_leak=current_leak)
    student.check_headroom()
    with torch.no_grad():
        out = student(x)
    model = lower_student(student)
    inputs = make_inputs(x[None].numpy(), model, 3) if encoding == "current" else make_inputs(x.numpy(), model)
    trace = ExactBackend().run(model, inputs, Record(readout=True))
    for name, spikes in out.spikes.items():
        assert torch.equal(trace.spikes[name], spikes.to(torch.uint8)), name
        assert spikes.any(), f"{name} never fires: nothing was compared"
    assert torch.equal(trace.v["readout"][-1], (out.votes * 64).to(torch.int32))


@pytest.mark.parametrize(
    ("net", "encoding", "leak"), [("rnn", "graded", 0.0), ("rnn", "events", 0.4), ("conv", "events", 0.4)]
)
def test_folding_keeps_the_float_spikes(net, encoding, leak):
    """Also with a synaptic current, where a normalisation's shift goes to the membrane and not to the current."""
    torch.manual_seed(2)
    levels = 255 if encoding == "graded" else 1
    student = build_student(plan(net, encoding=encoding, levels=levels, current_leak=leak))
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.bias.data.fill_(0.5)
    x = (
        torch.randint(0, 256, (3, 16, 3, 12, 12))
        if encoding == "graded"
        else (torch.rand(3, 16, 3, 12, 12) < 0.3).float()
    )
    student.train()
    with torch.no_grad():
        for _ in range(10):
            student(x)
        student.eval()
        before = student(x)
        for population in student:
            population.fold()
        after = student(x)
    for name, spikes in before.spikes.items():
        assert spikes.any()
        assert (spikes != after.spikes[name]).float().mean() < 1e-3, name


def test_folding_keeps_the_float_function():
    torch.manual_seed(1)
    student = build_student(plan("resnet20"))
    x = torch.randint(0, 256, (16, 3, 12, 12))
    student.train()
    with torch.no_grad():
        for _ in range(10):
            student(x)
    student.eval()
    population = student.hidden[3]  # a residual sum: two normalisations fold into one bias
    arriving = [
        (torch.rand(3, 16, *next(p for p in student if p.name == s).shape) < 0.3).float() for s in population.sources
    ]
    with torch.no_grad():
        before = population.drive(arriving, 3)
        population.fold()
        after = population.drive(arriving, 3)
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "options"),
    [
        ("resnet20", {}),
        ("rnn", {"encoding": "graded", "current_leak": 0.5}),
        ("conv", {"encoding": "events", "current_leak": 0.2}),
    ],
)
def test_chip_students_get_gradients_everywhere(net, options):
    student, x = active(net, **options)
    student.train()
    student(x).logits.square().sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_recurrent_encoder_is_refused():
    with pytest.raises(RecipeError, match="cannot hear itself"):
        build_student(plan("rnn", encoding="current"))


def test_unknown_student_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean resnet20"):
        build_student(StudentPlan("resnet2", (1, 8, 8), 10, 255, 2))


def test_a_saturating_readout_saturates_in_training_too():
    """More steps than the integrator's register holds: training must report what the chip answers."""
    student, x = active("conv", steps=40, width=0.5)
    readout = student.readout
    readout.scale.fill_(60 * float(readout.scale))  # far beyond what the search would choose
    with torch.no_grad():
        votes = student(x).votes
    trace = ExactBackend().run(
        lower_student(student), make_inputs(x[None].numpy(), lower_student(student), 40), Record(readout=True)
    )
    assert trace.v["readout"].abs().max() == 2**23 - 1, "nothing saturated: the test would mean nothing"
    assert torch.equal(trace.v["readout"][-1], (votes * 64).to(torch.int32))


def test_library_call_lower_is_callable_after_other_calls():
    import snnkd_deploy as sd

    assert callable(sd.load_model)
    student, _ = active("mlp")
    assert sd.lower(student).on_chip_grid
