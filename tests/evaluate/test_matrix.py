"""The parity matrix: every usable backend on every kind of model. CI's small version; `snnkd compare --matrix` is the large one."""

from __future__ import annotations

import pytest
import torch

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.registry import backend_names, get_backend
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.chips import load_chip
from snnkd_deploy.evaluate.matrix import SLOW, parity_matrix
from snnkd_deploy.evaluate.parity_models import parity_cases

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cases():
    return parity_cases(load_chip("loihi2"))


def test_models_of_every_kind_that_really_fire(cases):
    assert {"mlp", "conv", "residual", "pooled", "recurrent", "events"} <= {case.name for case in cases}
    for case in cases:
        trace = get_backend(case.reference).run(case.model, case.inputs(20), Record())
        for name in case.model.spiking:
            assert 0.005 < float((trace.spikes[name] > 0).float().mean()) < 0.9, (case.name, name)
        assert len(torch.unique(trace.logits, dim=0)) > 1, case.name


def test_fast_backends_are_at_parity_or_say_why_not(cases):
    names = [n for n in backend_names() if n not in (*SLOW, "replay")]
    matrix = parity_matrix(cases, samples=12, backends=names)
    assert matrix.good, matrix.notes()
    for cell in matrix.cells:
        assert cell.reasons or (cell.samples == 12 and cell.fired > 0)
    assert set(matrix.missing) | set(matrix.backends) == set(names)
    assert len(matrix.cell("float", "mlp").reasons) == 1
    for name in {"norse", "snntorch", "sinabs", "spikingjelly"} & set(matrix.backends):
        refused = {c.model for c in matrix.cells if c.backend == name and c.reasons}
        assert refused == {"leaky", "speck", "xylo", "xylo_recurrent"}
    for name, own in (("speck", {"speck"}), ("xylo", {"xylo", "xylo_recurrent"})):
        if name in matrix.backends:
            assert {c.model for c in matrix.cells if c.backend == name and not c.reasons} == own


@pytest.mark.slow
def test_slow_backends_are_at_parity(cases):
    names = [n for n in SLOW if n in backend_names() and get_backend(n).availability().usable]
    if not names:
        pytest.skip("neither lava nor netx is usable here")
    matrix = parity_matrix(cases, samples=6, slow_samples=4, backends=names)
    assert matrix.good, matrix.notes()


def test_a_difference_and_a_failure_are_told(cases, monkeypatch):
    """A backend that is off by one threshold, and one that breaks, spoil the matrix."""
    from snnkd_deploy.evaluate import matrix as module

    class Off(ExactBackend):
        name = "off"

        def run(self, model, inputs, record):
            trace = super().run(model, inputs, record)
            if model is cases[0].model:
                raise module.SnnkdError("out of order")
            trace.spikes[model.spiking[-1]][2, 1] ^= 1
            return trace

    monkeypatch.setattr(module, "usable_backend", lambda name, worker=None: Off())
    monkeypatch.setattr(module, "backend_names", lambda: ["off"])
    monkeypatch.setattr(module, "get_backend", lambda name: ExactBackend() if name == "off" else get_backend(name))
    found = parity_matrix(cases[:2], samples=3)
    assert not found.good and not any(cell.good for cell in found.cells)
    assert str(found.cells[0]) == "failed" and found.cells[1].mismatches > 0
    notes = "\n".join(found.notes())
    assert "out of order" in notes and "step 2, sample 1" in notes
