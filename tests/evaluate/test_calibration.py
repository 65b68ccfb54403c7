"""The calibration points of docs/energy.md: what the definitions give beside what was measured.

These hold the page to the code. They are no targets: no constant is tuned to them.
"""

from pathlib import Path

import pytest

from bench import calibration
from snnkd_deploy.evaluate import estimate_energy, expected_counts

ROOT = Path(calibration.__file__).parent.parent


def test_the_page_holds_what_the_command_prints():
    assert calibration.table() in (ROOT / "docs" / "energy.md").read_text("utf-8")


def test_ratios():
    """Specified: 1 at the rates that the slope implies; 0.25 to 1.16; 69.8 of 72 mW; 1181 of 2560 operations."""
    ratios = [row.ratio for row in calibration.rows()]
    assert ratios[:2] == pytest.approx([1, 1], rel=0.1)
    assert ratios[2:6] == pytest.approx([0.25, 0.40, 0.66, 1.16], abs=0.02)
    assert ratios[6] == pytest.approx(69.8 / 72, rel=1e-3)
    assert ratios[7] == pytest.approx(2560 / 1181, rel=1e-3)


def test_sizes_of_the_points():
    branch = calibration.keyword_branch(0.1).total
    assert branch.sop_dense == pytest.approx(7.21e6, rel=1e-3)
    assert branch.updates == pytest.approx(25600)
    assert expected_counts(calibration.pilotnet(), 0.1, 16).total.neurons == 158_509


def test_pilotnet_bound_is_its_own_measurement():
    bound = estimate_energy(expected_counts(calibration.pilotnet(), 0.1, 16), "loihi2").bound
    assert bound is not None
    assert bound.mid == pytest.approx(calibration.PILOTNET_J, rel=0.01, abs=0)
