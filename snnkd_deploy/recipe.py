"""What a run is: a recipe, read from TOML, every key known and every value checked before any work."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from snnkd_deploy.errors import Problem, RecipeError

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataRecipe(_Section):
    """Which samples. `name` is a data set, `options` go to its reader (limit_train, size, ...)."""

    name: str = "digits"
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    options: dict[str, Any] = {}


class TeacherRecipe(_Section):
    """The ANN that teaches. `lr` falls along a cosine to 0.

    `net`: cnn, resnet18/19/20/34, torchvision:NAME, timm:NAME, file.py:factory (with `options`), file.onnx. One
    with `weights` (a local file) is used as it is, unless `finetune`. `mean`, `std`: per channel of pixels 0..1.
    """

    net: str = "cnn"
    weights: str = ""
    finetune: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[Positive, ...] = ()
    options: dict[str, Any] = {}
    width: Positive = 1.0
    epochs: Count = 10
    batch: Count = 128
    lr: Positive = 2e-3
    weight_decay: NonNegative = 1e-2
    optimizer: Literal["adamw", "sgd"] = "adamw"
    augment: tuple[str, ...] = ()


class StudentRecipe(_Section):
    """The spiking network. `leak` is the share of the membrane kept from step to step, `current_leak` that of
    the synaptic current. Encodings: see `distill.feed`. `net` may be file.py:function."""

    net: str = "conv"
    width: Positive = 1.0
    steps: Annotated[int, Field(ge=1, le=4096)] = 4
    encoding: Literal["current", "events", "graded", "rate", "latency"] = "current"
    leak: Annotated[float, Field(ge=0, le=1)] = 0.5
    current_leak: Annotated[float, Field(ge=0, lt=1)] = 0.0
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
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    grad_clip: NonNegative = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixed: bool = False
    device: str = "auto"
    augment: tuple[str, ...] = ()
    rate_target: Annotated[float, Field(ge=0, le=1)] = 0.0
    rate_weight: NonNegative = 0.0


class ValidateRecipe(_Section):
    """Which backends must agree spike for spike, over how many test samples.

    `workers`: backend -> command behind which it lives, e.g. `workers.lava = "ssh board snnkd-python"`.
    """

    backends: tuple[str, ...] = ("exact", "lava")
    samples: Count = 300
    workers: dict[str, str] = {}


class Recipe(_Section):
    """A whole run. `method` names one or several distillation losses, `loss` their options by name."""

    name: str = "run"
    chip: str = "loihi2"
    method: tuple[str, ...] = ("seal", "ckd")
    loss: dict[str, dict[str, Any]] = {}
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
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


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe and apply `key=value` overrides (values as in TOML). All mistakes in one RecipeError."""
    path = Path(path)
    if not path.is_file():
        raise RecipeError("no such recipe", where=str(path), remedy="snnkd new writes one; examples/ has more")
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"not valid TOML: {error}", where=str(path)) from error
    return make_recipe(table, overrides, where=str(path))


def make_recipe(table: dict[str, Any], overrides: list[str] | tuple[str, ...] = (), where: str = "recipe") -> Recipe:
    """A recipe from plain values. Relative files (a chip, networks, weights) are looked for beside it as well."""
    table = json.loads(json.dumps(table, default=str))
    for text in overrides:
        _override(table, text)
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise RecipeError.from_problems([_problem(item, where) for item in error.errors(include_url=False)]) from error
    folder = Path(where).parent
    teacher, student = recipe.teacher, recipe.student
    return recipe.model_copy(
        update={
            "chip": _beside(recipe.chip, folder),
            "teacher": teacher.model_copy(
                update={"net": _beside(teacher.net, folder), "weights": _beside(teacher.weights, folder)}
            ),
            "student": student.model_copy(update={"net": _beside(student.net, folder)}),
        }
    )


def _beside(name: str, folder: Path) -> str:
    """A file that lies beside the recipe and not here, with its folder; everything else as it is."""
    file, colon, function = name.rpartition(":") if ".py:" in name else (name, "", "")
    if not Path(file).suffix or Path(file).is_file() or not (folder / file).is_file():
        return name
    return f"{folder / file}{colon}{function}"


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
            raise RecipeError(f"'{parent}' is not a section", where=text)
    place[last] = parsed


def _problem(item: Any, where: str) -> Problem:
    keys = [str(part) for part in item["loc"]]
    path = ".".join(keys)
    if item["type"] == "extra_forbidden":
        section: Any = Recipe
        for key in keys[:-1]:
            field = next((f for n, f in section.model_fields.items() if (f.alias or n) == key), None)
            section = field.annotation if field is not None else Recipe
        known = [f.alias or n for n, f in section.model_fields.items()] if hasattr(section, "model_fields") else []
        near = difflib.get_close_matches(keys[-1], known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return Problem("unknown key", f"{where} [{path}]", remedy=f"{hint}known here: {', '.join(known)}")
    message = str(item["msg"]).removeprefix("Value error, ")
    return Problem(f"{message}, found {item['input']!r}", f"{where} [{path}]")


def recipe_toml(recipe: Recipe) -> str:
    """The resolved recipe as TOML, every default spelled out."""
    return _toml(recipe.dump())


def _toml(table: dict[str, Any], prefix: str = "") -> str:
    lines = [f"{_key(k)} = {_value(v)}" for k, v in table.items() if not isinstance(v, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            name = f"{prefix}{_key(key)}"
            if not value or any(not isinstance(v, dict) for v in value.values()):
                lines += ["", f"[{name}]"]
            lines.append(_toml(value, name + ".").rstrip("\n"))
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)
