"""Find and read chip files: `loihi2` or `path/to/mine.toml`. All errors of a file at once."""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from pathlib import Path

from pydantic import ValidationError

from snnkd_deploy.chips.spec import ChipSpec
from snnkd_deploy.chips.units import unit_problems
from snnkd_deploy.errors import ChipError, Problem, UsageError

_PACKAGE = Path(__file__).resolve().parent.parent


def hardware_dir() -> Path:
    """Folder of the shipped chip files: inside the wheel, or beside the package in a checkout."""
    installed = _PACKAGE / "_hardware"
    return installed if installed.is_dir() else _PACKAGE.parent / "hardware"


def list_chips() -> list[str]:
    """Ids of the shipped chips, sorted."""
    return sorted(path.stem for path in hardware_dir().glob("*.toml"))


def load_chip(name: str | Path) -> ChipSpec:
    """Read a shipped chip by id, or a user's file by path (anything with a `.toml` suffix).

    Raises UsageError for an unknown name, ChipError with every problem of a broken file.
    """
    text = str(name)
    if text.endswith(".toml"):
        path = Path(text).expanduser()
        if not path.is_file():
            raise UsageError(f"no chip file at {path}", remedy=f"one of {', '.join(list_chips())}, or a .toml file")
    else:
        path = hardware_dir() / f"{text}.toml"
        if text not in list_chips():
            near = difflib.get_close_matches(text, list_chips(), n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"unknown chip '{text}'",
                where="chip",
                remedy=f"{hint}known: {', '.join(list_chips())}; or the path of your own .toml file",
            )
    return parse_chip(path.read_bytes(), str(path))


def parse_chip(content: bytes, path: str) -> ChipSpec:
    """Parse a chip file's bytes. `path` is used in errors and kept in the result."""
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ChipError(f"not valid TOML: {error}", where=path, remedy="hardware/README.md shows the format") from error
    try:
        chip = ChipSpec.model_validate(table)
    except ValidationError as error:
        raise ChipError.from_problems(validation_problems(error, path, "see hardware/README.md")) from error
    chip = chip.model_copy(update={"path": path, "sha256": hashlib.sha256(content).hexdigest()})
    if problems := unit_problems(chip):
        raise ChipError.from_problems(problems)
    return chip


def validation_problems(error: ValidationError, path: str, remedy: str) -> list[Problem]:
    """Every finding of pydantic as a `Problem` with the key's full path."""
    problems = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"]) or "(whole file)"
        message = str(item["msg"]).removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key"
        elif item["type"] not in ("missing", "value_error"):
            message += f", found {item['input']!r}"
        problems.append(Problem(message, where=f"{path} [{key}]", remedy=remedy))
    return problems
