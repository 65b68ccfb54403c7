"""Every test here runs without the user's data folders; those on real data ask for `real_data`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read before the fixture below hides it.
REAL_DATA = os.environ.get("SNNKD_DATA")


@pytest.fixture(autouse=True)
def no_user_data(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delenv("SNNKD_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def real_data() -> Path:
    """The folder with original data sets, or skip."""
    if not REAL_DATA:
        pytest.skip("SNNKD_DATA is not set: no original data sets to read")
    return Path(REAL_DATA)
