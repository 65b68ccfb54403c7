"""Backend `xylo`: `exact` equals xylosim step by step, in spikes, currents and membranes, clipped ones included."""

import gc

import numpy as np
import pytest
import torch
from chip_models import Net
from family_nets import FamilyNet, random_xylo

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import EVENT_ORDER, Record
from snnkd_deploy.backends.xylo import XyloBackend
from snnkd_deploy.chips import load_chip
from snnkd_deploy.errors import BackendError, DataError
from snnkd_deploy.lower import lower_student
from snnkd_deploy.nets.builder import StudentPlan, neuron_of
from snnkd_deploy.nets.zoo import build_student

torch.set_num_threads(1)
needs_xylosim = pytest.mark.skipif(not XyloBackend().availability().usable, reason="xylosim is not installed")


def assert_same(a, b):
    assert torch.equal(a.logits, b.logits)
    for group in ("spikes", "u", "v"):
        have, want = getattr(b, group), getattr(a, group)
        assert list(have) == list(want)
        for name, tensor in want.items():
            assert have[name].dtype == tensor.dtype
            assert torch.equal(have[name], tensor), (group, name)


def compare(seeds, moderate):
    """(most spikes in one step, neuron-steps that the order of events changed) over all nets."""
    most = changed = 0
    for seed in seeds:
        model, inputs = random_xylo(seed, moderate=moderate)
        exact = ExactBackend().run(model, inputs, Record(states=True))
        assert_same(exact, XyloBackend().run(model, inputs, Record(states=True)))
        most = max(most, *(int(s.max()) for s in exact.spikes.values()))
        changed += sum(c for _, c in exact.meta.get(EVENT_ORDER, {}).values())
    return most, changed


@needs_xylosim
@pytest.mark.parametrize("block", range(4))
def test_strong_random_nets(block):
    """Currents that clip, all shifts and dashes, 31 spikes in a step."""
    most, changed = compare(range(16 * block, 16 * block + 16), False)
    assert most == 31 and changed > 0


@needs_xylosim
@pytest.mark.parametrize("block", range(4))
def test_moderate_random_nets(block):
    most, _ = compare(range(16 * block, 16 * block + 16), True)
    assert most > 1


@needs_xylosim
@pytest.mark.slow
@pytest.mark.parametrize("moderate", [False, True])
def test_many_random_nets(moderate):
    compare(range(1000, 1500), moderate)


@needs_xylosim
@pytest.mark.parametrize(("chip", "net"), [("xylo_a2", "mlp"), ("xylo_a3", "mlp"), ("xylo_a2", "rnn")])
def test_lowered_students(chip, net):
    """Training's forward pass == exact == xylosim."""
    torch.manual_seed(0)
    spec = load_chip(chip)
    plan = StudentPlan(net, (1, 4, 4), 5, 15, 8, encoding="events", width=0.1, **neuron_of(spec))
    student = build_student(plan)
    x = torch.randint(0, 4, (8, 12, 1, 4, 4))
    student.train()
    for _ in range(3):
        student(x)
    student.eval().to_chip(spec)
    with torch.no_grad():
        out = student(x)
    model = lower_student(student)
    inputs = make_inputs(x.numpy(), model)
    exact = ExactBackend().run(model, inputs, Record(states=True))
    xylo = XyloBackend()
    assert xylo.check(model) == []
    assert_same(exact, xylo.run(model, inputs, Record(states=True)))
    assert sum(int(s.sum()) for s in exact.spikes.values()) > 100
    for name, spikes in out.spikes.items():
        assert torch.equal(exact.spikes[name].float(), spikes), name


@needs_xylosim
def test_one_backend_for_many_models():
    """It keeps the layer of the last model, whose synapses xylosim holds by raw pointers."""
    xylo = XyloBackend()
    for seed in (1, 2, 1, 2):
        model, inputs = random_xylo(seed)
        gc.collect()
        assert_same(
            ExactBackend().run(model, inputs, Record(states=True)), xylo.run(model, inputs, Record(states=True))
        )


@needs_xylosim
def test_inputs_beyond_the_chips_are_refused():
    model, inputs = random_xylo(3)
    x = inputs.x.clone()
    x[0, 0] = 16
    with pytest.raises(DataError, match="events of a channel"):
        XyloBackend().run(model, type(inputs)(x, inputs.steps), Record())


def small(**changes):
    """One hidden population and an output, both as the chip has them; `changes` spoil it."""
    net = FamilyNet((changes.get("channels", 4),), levels=15, chip=changes.get("chip", "xylo_a2"))
    hidden, width = changes.get("hidden", 6), net.shape("input")[0]
    net.dense("fc", "input", net.integers((hidden, width)), delay=changes.get("first_delay", ()))
    net.population("h", "fc", vth=100, dash_mem=changes.get("dash_mem", 2), dash_syn=changes.get("dash_syn", 1))
    weights = net.integers((changes.get("classes", 3), hidden)) * changes.get("gain", 1)
    net.dense("fc_out", "h", weights, delay=changes.get("delay", (1,)))
    net.population("out", "fc_out", vth=100, dash_mem=2, dash_syn=1, max_spikes=changes.get("cap", 1))
    return net.model("out", **({"reset": "subtract", "fires": ">="} | changes.get("profile", {})))


def test_a_sound_model_is_accepted():
    assert XyloBackend().check(small()) == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"channels": 17}, "xylo_a2"),
        ({"classes": 9}, "xylo_a2"),
        ({"hidden": 200, "chip": "xylo_a3"}, "xylo_a3"),
        ({"delay": ()}, "fc_out"),
        ({"delay": (2,)}, "fc_out"),
        ({"first_delay": (1,)}, "fc"),
        ({"dash_mem": 0}, "h"),
        ({"dash_syn": None}, "h"),
        ({"cap": None}, "out"),
        ({"gain": 3}, "weights"),
        ({"profile": {"reset": "zero"}}, "profile"),
        ({"chip": "speck2f"}, "chip"),
    ],
)
def test_what_the_chip_does_not_have_is_refused(changes, where):
    problems = XyloBackend().check(small(**changes))
    assert where in {p.where for p in problems} and all(p.remedy for p in problems), [str(p) for p in problems]


def test_all_reasons_at_once():
    problems = XyloBackend().check(small(dash_mem=0, cap=31, gain=3, classes=9, channels=20))
    assert {"h", "out", "weights", "xylo_a2"} <= {p.where for p in problems}
    assert sum(p.where == "xylo_a2" for p in problems) == 2


def test_convolutions_pools_and_other_families():
    net = Net((2, 6, 6), chip="loihi2")
    h = net.lif("h", net.conv("c", "input", net.weights((3, 2, 3, 3))))
    net.flatten("f", net.pool("p", h, 2))
    model = net.model(net.lif("out", net.dense("fc", "f", net.weights((4, 12)))))
    problems = XyloBackend().check(model)
    assert {"chip", "c", "p"} <= {p.where for p in problems}
    with pytest.raises(BackendError):
        XyloBackend().run(model, make_inputs(np.zeros((3, 1, 2, 6, 6)), model), Record())
