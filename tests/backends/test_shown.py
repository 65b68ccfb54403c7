"""What a notebook shows of a model and of a trace: a line, not the numbers."""

import runpy
from pathlib import Path

import torch

import snnkd_deploy as sd
from snnkd_deploy.backends.trace import Trace


def test_a_trace_is_one_line():
    trace = Trace(torch.zeros(2, 3), {"lif0": torch.zeros(4, 2, 5)}, v={"lif0": torch.zeros(4, 2, 5)})
    assert repr(trace) == "Trace(backend unknown; logits (2, 3); lif0 (4, 2, 5), with states)"


def test_a_model_is_one_line(tmp_path):
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "foreign_nir.py"))["example"]
    path = example(tmp_path / "foreign.nir", 1e-4)
    model = sd.load_model(path, dt_s=1e-4, reset="zero")
    assert repr(model) == f"Model({path}; no chip; input (20,); lif1 (30,), lif2 (5,))"
    assert repr(sd.lower(model, "loihi2")).startswith("Model(in memory; loihi2; input (20,); ")
