"""The names that others build on: they may grow, none may go."""

import subprocess
import sys

import pytest
from torch import nn

import snnkd_deploy as sd

FUNCTIONS = "load_chip lower load_model save_model run make_inputs compare diagnose fit count_ops estimate_energy"
VALUES = "Quantity IntGrid NeuronSpec ChipSpec Model Trace Record Divergence ParityReport FitReport OpCounts"


def test_functions_and_value_types():
    for name in f"{FUNCTIONS} estimate_latency".split():
        assert callable(getattr(sd, name)), name
    for name in f"{VALUES} EnergyEstimate LatencyEstimate SnnkdError".split():
        assert isinstance(getattr(sd, name), type), name
    assert set(f"{FUNCTIONS} {VALUES}".split()) <= set(sd.__all__) <= set(dir(sd))


def test_a_path_is_no_model_to_lower():
    with pytest.raises(sd.SnnkdError, match="takes a Student or a Model"):
        sd.lower("foreign.nir", "loihi2")


def test_losses():
    assert issubclass(sd.distill.SeAlKD, nn.Module) and issubclass(sd.distill.CKD, nn.Module)


def test_star_import_gives_all_of_them():
    code = "from snnkd_deploy import *; print(Trace.__name__, SnnkdError.__name__, distill.CKD.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["Trace", "SnnkdError", "CKD"], done.stderr
