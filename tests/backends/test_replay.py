"""Recorded traces in place of a board."""

import numpy as np
import pytest
import torch
from chip_models import Net
from fault_models import mlp

from snnkd_deploy import api
from snnkd_deploy.backends.base import Inputs
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.registry import backend_names
from snnkd_deploy.backends.replay import ReplayBackend, sample_hashes
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.errors import BackendError


@pytest.fixture
def recording(tmp_path):
    net, model = mlp(Net, 1)
    inputs = make_inputs(net.spikes(6, 8), model)
    trace = api.run(model, inputs, states=True)
    trace.save(tmp_path / "t.npz")
    return model, inputs, trace, tmp_path / "t.npz"


def test_gives_back_what_was_recorded(recording, monkeypatch):
    model, inputs, trace, path = recording
    monkeypatch.setenv("SNNKD_REPLAY", str(path))
    assert "replay" in backend_names()
    again = api.run(model, inputs, backend="replay", states=True)
    assert torch.equal(again.logits, trace.logits)
    assert all(torch.equal(again.spikes[n], trace.spikes[n]) for n in trace.spikes)
    assert all(torch.equal(again.v[n], trace.v[n]) for n in trace.v)


def test_any_subset_and_order(recording):
    model, inputs, trace, path = recording
    some = Inputs(inputs.x[:, [5, 0, 3]], inputs.steps)
    got = ReplayBackend(path).run(model, some, Record())
    assert torch.equal(got.spikes["lif2"], trace.spikes["lif2"][:, [5, 0, 3]])


def test_refuses_another_model_and_other_inputs(recording):
    model, inputs, _, path = recording
    backend = ReplayBackend(path)
    other = mlp(Net, 2)[1]
    assert "another model" in str(backend.check(other)[0])
    with pytest.raises(BackendError, match="another model"):
        backend.run(other, inputs, Record())
    changed = inputs.x.clone()
    changed[0, 4] = 1 - changed[0, 4]
    with pytest.raises(BackendError, match="sample 4 first"):
        backend.run(model, Inputs(changed, inputs.steps), Record())
    with pytest.raises(BackendError, match="does not hold these inputs"):
        backend.run(model, Inputs(inputs.x[:5], 5), Record())


def test_says_what_is_missing(recording, tmp_path, monkeypatch):
    model, inputs, _, _ = recording
    monkeypatch.delenv("SNNKD_REPLAY", raising=False)
    assert not ReplayBackend().availability().usable
    assert not ReplayBackend(tmp_path / "nothing.npz").availability().usable
    (tmp_path / "broken.npz").write_bytes(b"PK")
    assert not ReplayBackend(tmp_path / "broken.npz").availability().usable
    plain = api.run(model, inputs)
    plain.save(tmp_path / "plain.npz")
    with pytest.raises(BackendError, match="v/lif1"):
        ReplayBackend(tmp_path / "plain.npz").run(model, inputs, Record(states=True))


def test_a_held_image_is_the_same_sample_however_it_is_written():
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (1, 3, 4))).float()
    assert sample_hashes(Inputs(x, 5)) == sample_hashes(Inputs(x.expand(5, 3, 4), 5))
    assert sample_hashes(Inputs(x, 5)) != sample_hashes(Inputs(x, 6))
