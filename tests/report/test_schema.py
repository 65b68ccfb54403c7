"""report.json: the contract's keys, round trips, honest nulls, and the schema file that ships."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from snnkd_deploy.report import Report, report_schema
from snnkd_deploy.report.schema import Interval, schema_text, shipped_schema

# The public contract, written out: a key that goes missing or changes its place breaks other people's scripts.
TOP = {"schema", "chip", "model_hash", "dataset", "accuracy", "parity", "layers", "totals", "fit"}
TOP |= {"latency_s", "energy_j", "baseline_ann", "provenance"}
COUNTS = {"neurons", "rate", "spikes_per_sample", "sop_event", "sop_nonzero", "sop_dense", "macs_analog"}
COUNTS |= {"updates_active", "updates_idle"}
INSIDE = {
    "dataset": {"name", "split", "samples"},
    "accuracy": {"teacher", "student_float", "student"},
    "totals": COUNTS,
    "fit": {"fits", "cores", "chips", "utilisation", "violations"},
    "latency_s": {"low", "mid", "high", "excludes"},
    "energy_j": {"low", "mid", "high", "terms", "unpriced", "scope"},
    "baseline_ann": {"macs", "energy_j"},
    "provenance": {"command", "versions", "seeds", "hashes", "hardware_file"},
}


@pytest.mark.parametrize("which", ["full", "minimal", "priced"])
def test_contract_keys_are_always_there(which: str, request: pytest.FixtureRequest) -> None:
    document = json.loads(request.getfixturevalue(which).to_json())
    assert set(document) >= TOP
    for part, keys in INSIDE.items():
        assert set(document[part]) >= keys, part
    assert set(document["baseline_ann"]["energy_j"]) >= INSIDE["energy_j"]
    for layer in document["layers"]:
        assert set(layer) >= COUNTS | {"name"}
    for parity in document["parity"].values():
        assert set(parity) >= {"samples", "spikes_compared", "mismatches", "first_divergence"}


@pytest.mark.parametrize("which", ["full", "minimal", "priced"])
def test_round_trip_and_json_schema(which: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(which)
    text = report.to_json()
    assert Report.from_json(text) == report
    assert Report.from_json(text).to_json() == text
    jsonschema.Draft202012Validator(report_schema()).validate(json.loads(text))


def test_shipped_schema_is_in_step() -> None:
    assert shipped_schema() == json.loads(schema_text()), (
        "write schema_text() to snnkd_deploy/report/report.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(report_schema())


def test_json_schema_refuses_what_the_types_refuse(minimal: Report) -> None:
    document = json.loads(minimal.to_json())
    for change in ({"surprise": 1}, {"schema": "other/1"}, {"accuracy": {"teacher": 2.0}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document | change, report_schema())
        with pytest.raises(ValidationError):
            Report.model_validate(document | change)


def test_unknown_is_null_not_zero(minimal: Report) -> None:
    document = json.loads(minimal.to_json())
    assert document["energy_j"]["mid"] is None
    assert document["latency_s"]["low"] is None
    assert document["accuracy"] == {"teacher": None, "student_float": None, "student": None}
    assert all(document["totals"][key] is None for key in COUNTS)
    assert document["fit"]["fits"] is None


@pytest.mark.parametrize(
    "values", [{"low": 1.0}, {"low": 2.0, "mid": 1.0, "high": 3.0}, {"low": -1.0, "mid": 0.0, "high": 1.0}]
)
def test_an_interval_is_whole_ordered_and_not_negative(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Interval.model_validate(values)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("curves", [{"stage": "s", "epochs": [1, 2], "losses": {"ce": [1.0]}}]),
        ("curves", [{"stage": "s", "epochs": [1], "losses": {"ce": [float("nan")]}}]),
        ("confusion", {"classes": ["a", "b"], "counts": [[1, 0]]}),
        (
            "raster",
            {
                "steps": 1,
                "samples": [{"index": 0, "layers": [{"name": "a", "neurons_total": 1, "neurons": [0], "times": []}]}],
            },
        ),
        ("accuracy", {"teacher": 1.2, "student_float": None, "student": None}),
        ("accuracy", {"teacher": 1.0, "student_float": None, "student": None, "lava": 97.0}),
    ],
)
def test_impossible_parts_are_refused(part: str, value: Any, edited: Any) -> None:
    with pytest.raises(ValidationError):
        edited(**{part: value})


def test_short_forms(edited: Any) -> None:
    report = edited(accuracy_per_step=[0.5, 0.9], energy_j={"unpriced": ["hops"]})
    assert report.accuracy_per_step.cumulative == (0.5, 0.9)
    assert report.energy_j.unpriced[0].name == "hops"


def test_backends_keep_their_order(full: Report) -> None:
    assert list(full.accuracy.backends()) == ["exact", "lava"]
    assert list(full.accuracy.items()) == ["teacher", "student_float", "student", "exact", "lava"]


def test_nothing_compared_is_not_equal(full: Report) -> None:
    parity = full.parity["lava"]
    assert parity.equal
    assert not parity.model_copy(update={"spikes_compared": 0}).equal
    assert not parity.model_copy(update={"mismatches": 1}).equal
    assert not parity.model_copy(update={"logits_mismatches": 1}).equal
