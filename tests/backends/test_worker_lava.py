"""Lava in another interpreter, through the worker: the same bytes as from here."""

from __future__ import annotations

import os
import sys

import fault_models
import pytest
import torch
from chip_models import Net

from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.lava import LavaBackend
from snnkd_deploy.backends.stream import stream
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.backends.worker import WorkerBackend

_STATE = LavaBackend().availability()
pytestmark = pytest.mark.skipif(not _STATE.usable, reason=f"lava: {_STATE.note} ({_STATE.install})")
# Another environment with lava-nc and this package; this one again where none is named.
OTHER = os.environ.get("SNNKD_TEST_PYTHON", sys.executable)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", "recurrent"])
def test_same_bytes(kind):
    net, model = fault_models.MODELS[kind](Net, seed=5)
    inputs = make_inputs(fault_models.inputs_for(net, steps=6, samples=10), model)
    record = Record(states=True)
    here = LavaBackend().run(model, inputs, record)
    with WorkerBackend("lava", OTHER) as backend:
        state = backend.availability()
        assert state.usable, state.note
        there = stream(backend, model, inputs, record, chunk=5)
        assert backend.hello["pid"] != os.getpid() and backend.chunk_samples == LavaBackend.chunk_samples
    assert torch.equal(here.logits, there.logits)
    for group in ("spikes", "u", "v"):
        a, b = getattr(here, group), getattr(there, group)
        assert a.keys() == b.keys() and a
        for name in a:
            assert a[name].dtype == b[name].dtype and a[name].numpy().tobytes() == b[name].numpy().tobytes()
