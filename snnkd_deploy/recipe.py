"""What a run is: a recipe, read from TOML, every key known and every value checked before any work."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from snnkd_deploy.errors import Problem, RecipeError

# Strict: a recipe's `true` is no 1 and its "5" no 5. Upper bounds catch slips of the keyboard only.
Flag = Annotated[bool, Field(strict=True)]
Real = Annotated[float, Field(strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
NonNegative = Annotated[float, Field(ge=0, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Decay = Annotated[float, Field(ge=0, lt=1, strict=True)]
Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Width = Annotated[float, Field(gt=0, le=64, strict=True)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataRecipe(_Section):
    """Which samples. `name` is a data set, `options` go to its reader (limit_train, size, ...)."""

    name: str = "digits"
    validation: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.1
    options: dict[str, Any] = {}


class TeacherRecipe(_Section):
    """The ANN that teaches. `lr` falls along a cosine to 0.

    `net`: cnn, resnet18/19/20/34, torchvision:NAME, timm:NAME, file.py:factory (with `options`), file.onnx. One
    with `weights` (a local file) is used as it is, unless `finetune`. `mean`, `std`: per channel of pixels 0..1.
    """

    net: str = "cnn"
    weights: str = ""
    finetune: Flag = False
    mean: tuple[Real, ...] = ()
    std: tuple[Positive, ...] = ()
    options: dict[str, Any] = {}
    width: Width = 1.0
    epochs: Count = 10
    batch: Count = 128
    lr: Positive = 2e-3
    weight_decay: NonNegative = 1e-2
    optimizer: Literal["adamw", "sgd"] = "adamw"
    augment: tuple[str, ...] = ()


class StudentRecipe(_Section):
    """The spiking network. `leak` is the share of the membrane kept from step to step, `current_leak` that of
    the synaptic current; "chip" is what suits the chip (on Loihi 0.5 and 0). `learn_leak` trains one membrane
    decay a layer, starting from `leak`. Encodings: see `distill.feed`; `counts` is the largest number of events a
    pixel sends in one step. `net` may be file.py:function."""

    net: str = "conv"
    width: Width = 1.0
    steps: Annotated[int, Field(ge=1, le=4096, strict=True)] = 4
    encoding: Literal["current", "events", "graded", "rate", "latency", "counts"] = "current"
    counts: Annotated[int, Field(ge=1, le=255, strict=True)] = 4
    leak: Share | Literal["chip"] = "chip"
    current_leak: Decay | Literal["chip"] = "chip"
    learn_leak: Flag = False
    threshold: Positive = 1.0
    surrogate: str = "sigmoid4"
    pool: Literal["stride", "max"] = "stride"
    options: dict[str, Any] = {}


class TrainRecipe(_Section):
    """How the student learns: `epochs` in float, then `chip_epochs` in the chip's integers.

    `device`: auto (a GPU where there is one), cpu, cuda, cuda:1. `mixed`: bfloat16 products in the float phase
    on a GPU. `ema`: decay of a moving average of the weights, which is then what is validated and deployed.
    """

    epochs: Count = 10
    chip_epochs: Count = 5
    batch: Count = 128
    lr: Positive = 2e-3
    chip_lr: Positive = 5e-4
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: NonNegative = 1e-2
    momentum: Decay = 0.9
    grad_clip: NonNegative = 0.0
    ema: Decay = 0.0
    mixed: Flag = False
    device: str = "auto"
    augment: tuple[str, ...] = ()
    rate_target: Share = 0.0
    rate_weight: NonNegative = 0.0


class ValidateRecipe(_Section):
    """Which backends must agree spike for spike, over how many samples, evenly spaced in the test split.

    `workers`: backend -> command behind which it lives, e.g. `workers.lava = "ssh board snnkd-python"`.
    """

    backends: tuple[str, ...] = ("exact", "lava")
    samples: Count = 300
    workers: dict[str, str] = {}


class Recipe(_Section):
    """A whole run. `method` names one or several distillation losses, `loss` their options by name."""

    name: Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f]*[^/\\.\x00-\x1f][^/\\\x00-\x1f]*$")] = "run"
    chip: str = "loihi2"
    method: tuple[str, ...] = ("seal", "ckd")
    loss: dict[str, dict[str, Any]] = {}
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    dt_s: Positive = 1e-3
    data: DataRecipe = DataRecipe()
    teacher: TeacherRecipe = TeacherRecipe()
    student: StudentRecipe = StudentRecipe()
    train: TrainRecipe = TrainRecipe()
    validate_: ValidateRecipe = Field(default=ValidateRecipe(), alias="validate")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _one_method(cls, value: Any) -> Any:
        # method = "seal" is what people write for one.
        if isinstance(value, dict) and isinstance(value.get("method"), str):
            return {**value, "method": [value["method"]]}
        return value

    def dump(self) -> dict[str, Any]:
        """Plain values with every default spelled out."""
        return self.model_dump(mode="json", by_alias=True)

    def public(self) -> dict[str, Any]:
        """As `dump`, files by their names alone: for what leaves this machine, and for what must not depend on it."""
        table = self.dump()
        _each_file(table, lambda _, text: _file_part(text, os.path.basename))
        return table


# What may name a file of the user's. All but the last three may be a name of ours as well.
_FILES = (
    "chip",
    "teacher.net",
    "teacher.weights",
    "student.net",
    "data.options.file",
    "data.options.test_file",
    "data.options.path",
)


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe and apply `key=value` overrides (values as in TOML). All mistakes in one RecipeError."""
    path = Path(path)
    if not path.is_file():
        raise RecipeError(
            "no such recipe", where=str(path), remedy=f"snnkd new DATA -o {path} writes one; examples/ has more"
        )
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"not valid TOML: {error}", where=str(path), remedy="snnkd new DATA writes a good one"
        ) from error
    return make_recipe(table, overrides, where=str(path))


def make_recipe(table: dict[str, Any], overrides: list[str] | tuple[str, ...] = (), where: str = "recipe") -> Recipe:
    """A recipe from plain values, `where` the file that they are from.

    Relative files (a chip, networks, weights, own data) are taken from the recipe's folder, those of overrides
    from the current one, and are absolute from then on: a run directory must not depend on where one stands.
    """
    table = json.loads(json.dumps(table, default=str))
    folder = Path(where).parent
    _each_file(table, partial(_located, folder=folder))
    for text in overrides:
        _override(table, text)
    for place in (Path(), folder):
        _each_file(table, partial(_located, folder=place))
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise RecipeError.from_problems(_problems(error.errors(include_url=False), where)) from error


def _each_file(table: dict[str, Any], change: Callable[[str, str], str]) -> None:
    """Replace every text that may name a file by `change(key, text)`."""
    for key in _FILES:
        *parents, last = key.split(".")
        place: Any = table
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict) and isinstance(place.get(last), str):
            place[last] = change(key, place[last])


def _file_part(text: str, change: Callable[[str], str]) -> str:
    """Apply to the file of `file.py:function`, or to the whole text."""
    file, colon, function = text.rpartition(":") if ".py:" in text else (text, "", "")
    return f"{change(file)}{colon}{function}"


def _located(key: str, text: str, folder: Path) -> str:
    """A file that exists in `folder` by its absolute path; everything else as it is."""

    def absolute(file: str) -> str:
        path = folder / Path(file).expanduser()
        # "conv" is a student even where a folder of that name lies about.
        named = bool(path.suffix) or key.startswith("data.")
        return os.path.abspath(path) if file and named and path.exists() else file

    return _file_part(text, absolute)


def _override(table: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    key = key.strip().removeprefix("--")
    if not equals or not key:
        raise RecipeError(f"'{text}' is not key=value", where="overrides", remedy="e.g. student.width=0.75")
    try:
        parsed: Any = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string, as everybody expects on a command line
    *parents, last = key.split(".")
    place = table
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise RecipeError(f"'{parent}' is not a section", where=text, remedy=f"give {parent} a value of its own")
    place[last] = parsed


# What pydantic appends to the key of a value that may be a number or a word.
_KIND = re.compile(r"constrained-float|literal\[.*\]")


def _problems(errors: Iterable[Any], where: str) -> list[Problem]:
    """One problem a value: one that may be of two kinds fails once for each of them."""
    found: dict[tuple[Any, ...], list[Problem]] = {}
    for item in errors:
        place = tuple(part for part in item["loc"] if not _KIND.fullmatch(str(part)))
        found.setdefault(place, []).append(_problem({**item, "loc": place}, where))
    return [
        replace(kinds[0], need=" or ".join(p.need for p in kinds), remedy="".join(p.remedy for p in kinds))
        if len(kinds) > 1
        else kinds[0]
        for kinds in found.values()
    ]


def _problem(item: Any, where: str) -> Problem:
    keys = [str(part) for part in item["loc"]]
    place = f"{where} [{'.'.join(keys)}]"
    if item["type"] == "extra_forbidden":
        section: Any = Recipe
        for key in keys[:-1]:
            field = next((f for n, f in section.model_fields.items() if (f.alias or n) == key), None)
            section = field.annotation if field is not None else Recipe
        known = [f.alias or n for n, f in section.model_fields.items()] if hasattr(section, "model_fields") else []
        return Problem("unknown key", place, remedy=f"{_nearest(keys[-1], known)}known here: {', '.join(known)}")
    have = json.dumps(item["input"], default=str)
    if item["type"] in ("model_type", "dict_type"):
        return Problem("this is a section, not a value", place, f"[{keys[-1]}]", have)
    if item["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        return Problem("not one of the choices", place, " | ".join(known), have, _nearest(item["input"], known).strip())
    if item["type"] == "string_pattern_mismatch":
        return Problem("the name becomes a folder's name", place, "a text without /, \\ and line breaks", have)
    need = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("a valid ")
    return Problem("wrong value", place, need.replace("tuple", "list"), have)


def _nearest(word: object, known: list[str]) -> str:
    near = difflib.get_close_matches(str(word), known, n=1)
    return f"did you mean {near[0]}? " if near else ""


def recipe_toml(recipe: Recipe) -> str:
    """The resolved recipe as TOML, every default spelled out."""
    return toml_text(recipe.dump())


def toml_text(table: dict[str, Any], prefix: str = "") -> str:
    """Plain values as TOML."""
    lines = [f"{_key(k)} = {toml_value(v)}" for k, v in table.items() if not isinstance(v, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            name = f"{prefix}{_key(key)}"
            if not value or any(not isinstance(v, dict) for v in value.values()):
                lines += ["", f"[{name}]"]
            lines.append(toml_text(value, name + ".").rstrip("\n"))
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def toml_value(value: Any) -> str:
    """A text, number, truth value or list as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)
