"""The rest of the zoo on real Lava, every spike: recurrent, residual, synaptic currents, graded input.

(Convolutional, VGG and ResNet-20 students: tests/backends/test_lava_students.py.)
"""

import pytest
import torch
from active import active_student

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.lava import LavaBackend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan

_STATE = LavaBackend().availability()
pytestmark = [
    pytest.mark.skipif(not _STATE.usable, reason=f"lava: {_STATE.note} ({_STATE.install})"),
    pytest.mark.slow,
]
SERIES = {"input_shape": (6,), "encoding": "graded", "steps": 5, "options": {"hidden": [12, 10]}}
CASES = {
    "rnn graded": ("rnn", SERIES),
    "rnn graded with currents": ("rnn", SERIES | {"current_leak": 0.5}),
    "rnn events": ("rnn", SERIES | {"encoding": "events", "levels": 1}),
    "mlp": ("mlp", {"width": 0.05}),
    "conv graded": ("conv", {"width": 0.3, "encoding": "graded"}),
    "conv with currents": ("conv", {"width": 0.3, "encoding": "events", "levels": 1, "current_leak": 0.5}),
    "resnet18": ("resnet18", {"width": 0.05}),
    "resnet19": ("resnet19", {"width": 0.03}),
}


@pytest.mark.parametrize("case", CASES)
def test_no_spike_differs(case):
    net, options = CASES[case]
    defaults = {"input_shape": (2, 8, 8), "classes": 4, "levels": 255, "steps": 3}
    student, x = active_student(StudentPlan(net=net, **(defaults | options)), samples=3)
    model = lower_student(student)
    inputs = make_inputs((x[None] if student.encoding == "current" else x).numpy(), model, student.steps)
    want = ExactBackend().run(model, inputs, Record())
    got = LavaBackend().run(model, inputs, Record())
    assert want.spikes.keys() == got.spikes.keys()
    assert all(spikes.any() for spikes in want.spikes.values()), "a silent layer compares nothing"
    assert [name for name in want.spikes if not torch.equal(want.spikes[name], got.spikes[name])] == []
    assert torch.equal(want.logits, got.logits)
