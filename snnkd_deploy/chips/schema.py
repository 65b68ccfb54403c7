"""JSON Schema of chip files, from the same models that read them: editors complete keys and mark mistakes."""

from __future__ import annotations

import json
from typing import Any

from snnkd_deploy.chips.spec import ChipSpec

SCHEMA_FILE = "chip.schema.json"
# What the loader adds and no file says.
_NOT_IN_FILES = ("path", "sha256")


def chip_schema() -> dict[str, Any]:
    """Draft 2020-12. What depends on several keys (a family's arithmetic, units) is checked by the loader alone."""
    found = ChipSpec.model_json_schema()
    for key in _NOT_IN_FILES:
        del found["properties"][key]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "snnkd_deploy chip file"}


def schema_text() -> str:
    """The content of `hardware/chip.schema.json`."""
    return json.dumps(chip_schema(), indent=1) + "\n"
