"""Units are checked when a chip file is read, not when the first estimate needs them."""

from pathlib import Path

import pytest

from snnkd_deploy.chips import hardware_dir, list_chips, load_chip
from snnkd_deploy.chips.load import parse_chip
from snnkd_deploy.chips.units import span_text
from snnkd_deploy.errors import ChipError


def test_every_wrong_unit_at_once():
    text = Path(hardware_dir() / "loihi1.toml").read_text("utf-8")
    for old, new in (('unit = "pJ"', 'unit = "pj"'), ('unit = "KiB"', 'unit = "Kib"'), ('unit = "mW"', 'unit = "mJ"')):
        assert old in text
        text = text.replace(old, new, 1)
    with pytest.raises(ChipError) as caught:
        parse_chip(text.encode(), "mine.toml")
    found = {problem.where: problem.what for problem in caught.value.problems}
    assert len(found) == 3
    assert any(where.startswith("mine.toml [energy.prices.") and "'pj'" in what for where, what in found.items())
    assert any(where.startswith("mine.toml [limits.") and "'Kib'" in what for where, what in found.items())
    assert any(where.startswith("mine.toml [power.") and "energy" in what for where, what in found.items())


@pytest.mark.parametrize("name", list_chips())
def test_shipped_files_load_and_name_their_sources(name):
    chip = load_chip(name)
    quantities = [*chip.limits.values(), *chip.energy.prices.values(), *chip.power.values(), *chip.time.values()]
    assert all(q.source for q in quantities)
    assert all(q.kind == "unknown" or q.value is not None for q in quantities)


def test_grids_that_their_registers_do_not_hold():
    source = (hardware_dir() / "generic_int8.toml").read_text("utf-8")
    narrow = source.replace("v_bits = 24", "v_bits = 16").replace("input_shift = 4", "input_shift = 9")
    with pytest.raises(ChipError, match=r"no membrane of 16 bits reaches: threshold.hi is at most 63") as caught:
        parse_chip(narrow.encode(), "mine.toml")
    assert "bias.exponent 0..7 lacks the biases' own, input_shift = 9" in str(caught.value)


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        (1.4e-5, 3.8e-5, "J", "14 to 38 µJ"),
        (3.3e-4, 3.5e-4, "s", "330 to 350 µs"),
        (9.5e-8, 1.9e-6, "J", "0.095 to 1.9 µJ"),
        (0.0, 0.0, "J", "0 to 0 J"),
    ],
)
def test_a_span_is_written_with_one_prefix(low, high, unit, text):
    assert span_text(low, high, unit) == text
