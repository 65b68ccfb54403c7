"""The schema that chip files follow, how a chip is shown, and a file with many mistakes."""

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from snnkd_deploy.chips import hardware_dir, list_chips, load_chip
from snnkd_deploy.chips.load import parse_chip
from snnkd_deploy.chips.schema import SCHEMA_FILE, chip_schema, schema_text
from snnkd_deploy.chips.spec import NeuronSpec, Parameters, Quantity, Scope
from snnkd_deploy.cli import main
from snnkd_deploy.errors import ChipError
from snnkd_deploy.verbs.chips import PRICES


def test_the_shipped_schema_is_current(capsys):
    """Written by `snnkd chips --schema > hardware/chip.schema.json`."""
    assert (hardware_dir() / SCHEMA_FILE).read_text("utf-8") == schema_text()
    assert main(["chips", "--schema"]) == 0
    assert capsys.readouterr().out == schema_text()
    assert main(["chips", "loihi2", "--schema"]) == 2


@pytest.mark.parametrize("name", list_chips())
def test_shipped_files_follow_the_schema(name):
    jsonschema.validate(tomllib.loads((hardware_dir() / f"{name}.toml").read_text("utf-8")), chip_schema())


def test_the_schema_marks_mistakes():
    table = tomllib.loads((hardware_dir() / "loihi2.toml").read_text("utf-8"))
    table["neuron"]["family"] = "lif"
    table["neuron"]["resets"] = "zero"
    table["path"] = "a file does not say where it is"
    del table["parameters"]["weight"]["hi"]
    found = [e.message for e in jsonschema.Draft202012Validator(chip_schema()).iter_errors(table)]
    for part in ("'lif' is not one of", "'resets' was unexpected", "'path' was unexpected", "'hi' is a required"):
        assert any(part in message for message in found), (part, found)


def test_eight_mistakes_are_named_at_once():
    text = (hardware_dir() / "loihi2.toml").read_text("utf-8")
    for old, new in (
        ('reset = "zero"', 'reset = "soft"'),
        ("v_bits = 24", "v_bits = 64"),
        ("decay_bits = 12", "decay_bitz = 12"),
        ("{ lo = -256, hi = 254, step = 2 }", "{ lo = -255, hi = 254, step = 2 }"),
        ("threshold = { lo = 0, hi = 131071 }", "threshold = { lo = 9, hi = 1 }"),
        ("weight_sharing = true", 'weight_sharing = "perhaps"'),
        ('mapping = "loihi2"', 'mapping = "loihi3"'),
        ('kind = "datasheet"', 'kind = "guessed"'),
    ):
        assert old in text, old
        text = text.replace(old, new, 1)
    with pytest.raises(ChipError) as caught:
        parse_chip(text.encode(), "mine.toml")
    where = {problem.where for problem in caught.value.problems}
    assert len(caught.value.problems) == 8
    for key in ("neuron.reset", "neuron.v_bits", "neuron.decay_bitz", "parameters.weight", "parameters.threshold",
                "parameters.weight_sharing", "cores.mapping", "limits.cores_per_chip.kind"):  # fmt: skip
        assert f"mine.toml [{key}]" in where
    assert all(key in str(caught.value) for key in where)


def printed(columns, *words):
    """What `snnkd` shows in a terminal of this width."""
    leader, follower = pty.openpty()
    env = os.environ | {"COLUMNS": str(columns), "TERM": "dumb"}
    child = subprocess.Popen([sys.executable, "-m", "snnkd_deploy.cli", *words], stdout=follower, env=env)
    os.close(follower)
    parts = []
    try:
        while part := os.read(leader, 65536):
            parts.append(part)
    except OSError:  # the terminal's end of file
        pass
    assert child.wait() == 0
    os.close(leader)
    return re.sub(r"\x1b\[[0-9;]*m", "", b"".join(parts).decode()).splitlines()


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", ["speck2f", "loihi1"])
def test_every_number_is_shown_with_kind_and_source(name, columns):
    """Nothing is cut off: names, values, kinds and sources are there in full, folded to the width."""
    lines = printed(columns, "chips", name)
    assert max(len(line) for line in lines if line.startswith(("│", "┃", "┏"))) <= columns
    assert not any("…" in line for line in lines)
    chip = load_chip(name)
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in lines if line[:1] in "│┃"]
    at = next(i for i, row in enumerate(rows) if row[0] == "quantity")
    arithmetic, rows = rows[:at], rows[at:]
    text = [re.sub(r"[\s,]", "", "".join(column)) for column in zip(*rows, strict=True)]
    for quantities in (chip.limits, chip.energy.prices, chip.power, chip.time, chip.cores.memory):
        for key, quantity in quantities.items():
            # A narrow terminal has names, values and kinds in one column.
            assert key in text[0] and quantity.kind in text[-2 if len(text) == 4 else 0]
            assert re.sub(r"[\s,]", "", quantity.source) in text[-1]
            value = getattr(quantity, "value", None)
            if value is not None:
                shown = f"{value:.0f}" if value == int(value) else f"{value:g}"
                assert shown + re.sub(r"\s", "", quantity.unit) in text[min(1, len(text) - 2)]
    told = dict(arithmetic)
    assert told["neuron.family"] == chip.neuron.family and told["neuron.v_bits"] == str(chip.neuron.v_bits)
    assert told["parameters.threshold"] == f"{chip.parameters.threshold.lo}..{chip.parameters.threshold.hi}"
    assert told["cores.mapping"] == chip.cores.mapping


def test_every_scope_of_prices_has_words():
    assert set(PRICES) == set(get_args(Scope))


def test_a_file_of_ones_own_is_shown_as_json(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(Path(hardware_dir() / "xylo_a2.toml").read_text("utf-8").replace('id = "xylo_a2"', 'id = "mine"'))
    assert main(["chips", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["id"] == "mine" and found["parameters"]["decay"] == {"lo": 1, "hi": 15, "step": 1}


def test_the_readme_explains_every_key_and_chip():
    text = (hardware_dir() / "README.md").read_text("utf-8")
    for key in (*NeuronSpec.model_fields, *Parameters.model_fields, *Quantity.model_fields, *list_chips()):
        assert f"`{key}`" in text or f"`{key}." in text, key
