"""Fixtures of the backend tests. Loaded by path: lava-nc owns the top-level name `tests`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_SUPPORT = Path(__file__).parents[1] / "support" / "chip_models.py"


@pytest.fixture(scope="session")
def net_type():
    """The class `Net` of tests/support/chip_models.py: builds models on the chip's grid."""
    if "chip_models" not in sys.modules:
        spec = importlib.util.spec_from_file_location("chip_models", _SUPPORT)
        module = importlib.util.module_from_spec(spec)
        sys.modules["chip_models"] = module
        spec.loader.exec_module(module)
    return sys.modules["chip_models"].Net
