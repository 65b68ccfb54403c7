"""Every command that README, docs and recipes show: cheap ones run, all others are held to the parser and to files.

A block of code is commands, Python, TOML, or on the list of `LISTINGS`: nothing is passed over in silence.
"""

import ast
import os
import re
import shlex
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from snnkd_deploy.backends.registry import backend_names, get_backend
from snnkd_deploy.cli import _parse, main
from snnkd_deploy.progress import set_quiet
from snnkd_deploy.recipe import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "hardware/README.md", "examples/README.md"]
PAGES += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
RECIPES = [f"examples/{path.name}" for path in sorted((ROOT / "examples").glob("*.toml"))]
PROGRAMS = ("snnkd", "make", "pip", "python", "torchrun", "cp", "source", "uv")
# Blocks that show something else, by the start of their first line.
LISTINGS = ("t_step =", "SNNKD_SANAFE_PYTHON", "snnkd_deploy/   cli", "demo on Intel Loihi 2")
# What a reader puts in place of a name of ours.
NAMES = {"RECIPE.toml": "photos.toml", "DIR": "runs/demo", "TRACE.npz": "trace.npz", "RUN/recipe.toml": "photos.toml"}
# Minutes of training, or all backends: these are parsed, and their recipes and files looked at.
LONG = ("run", "sweep", "demo", "teacher", "distill", "export", "validate", "evaluate", "report")


@dataclass(frozen=True)
class Command:
    page: str
    text: str

    @property
    def words(self) -> list[str]:
        return [NAMES.get(word, word) for word in shlex.split(self.text, comments=True)]


def blocks(text: str) -> list[str]:
    """Code blocks of Markdown: fenced, or indented by four spaces after an empty line (options of mkdocstrings are not)."""
    found = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return found + [re.sub(r"^    ", "", b, flags=re.M) for b in re.findall(r"(?<=\n\n)((?:    .*\n?)+)", rest)]


def is_command(line: str) -> bool:
    return line.split(" ")[0] in PROGRAMS


def commands_of(page: str) -> list[Command]:
    text = (ROOT / page).read_text("utf-8")
    if page.endswith(".toml"):
        lines = [line[1:].strip() for line in text.splitlines() if line.startswith("#   ")]
    else:
        lines = [line for block in blocks(text) if is_command(block) for line in block.splitlines()]
    return [Command(page, line.strip()) for line in lines if line.strip() and not line.startswith("#")]


ALL = [command for page in [*PAGES, *RECIPES] for command in commands_of(page)]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_understood(page):
    for block in blocks((ROOT / page).read_text("utf-8")):
        if is_command(block):
            wrong = [line for line in block.splitlines() if line.strip() and not is_command(line)]
            assert not wrong, f"among commands: {wrong}"
        elif not block.startswith(LISTINGS):
            assert _is_python(block) or _is_toml(block), block


def _is_python(block: str) -> bool:
    try:
        return bool(ast.parse(block).body)
    except SyntaxError:
        return False


def _is_toml(block: str) -> bool:
    try:
        return bool(tomllib.loads(block))
    except tomllib.TOMLDecodeError:
        return False


def test_commands_were_found():
    assert len(ALL) > 60 and {command.page for command in ALL} >= {"README.md", "docs/index.md", "examples/mnist.toml"}


# -- a desk with what the text speaks of ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the files that the commands name: a run, its model, inputs, traces, a foreign graph, pictures."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("desk")
    digits = load_digits()
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name in ("examples", "hardware", "bench", "tests", "Makefile", "docs"):
            (folder / name).symlink_to(ROOT / name)
        for i in range(60):
            place = folder / "photos" / str(digits.target[i])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[i] * 15.9).astype(np.uint8)).save(place / f"{i}.png")
        tiny = ["teacher.epochs=1", "train.epochs=1", "train.chip_epochs=1", "data.options.limit_train=60"]
        tiny += ["student.width=0.25", "validate.samples=5", "data.options.limit_test=5", "student.threshold=0.3"]
        assert main(["run", "examples/digits.toml", *tiny, "--quiet", "--out", "runs/demo"]) == 0
        shutil.copytree("runs/demo", "runs/a")
        shutil.copytree("runs/demo", "runs/b")
        shutil.copy("runs/demo/model.nir", "model.nir")
        shutil.copy("runs/demo/recipe.toml", "recipe.toml")
        x = digits.images[:3].astype(np.int64)[None, :, None]
        np.savez("X.npz", x=x, T=np.array(4), y=digits.target[:3])
        series = np.repeat(digits.images[:40].astype(np.uint8), 4, axis=2)
        np.savez("features.npz", X=series, y=digits.target[:40], speaker=np.arange(40) % 8)
        np.savez("mine.npz", X=series, y=digits.target[:40])
        for trace in ("trace.npz", "board.npz", "exact.npz"):
            main(["simulate", "model.nir", "--input", "X.npz", "-o", trace, "--state", "--quiet"])
        _foreign(folder)
        yield folder
    finally:
        os.chdir(before)
        set_quiet(False)


def _foreign(folder: Path) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("foreign_nir", ROOT / "examples" / "foreign_nir.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.example(folder / "foreign.nir", 1e-4)
    shutil.copy(folder / "foreign.nir", folder / "other.nir")
    rng = np.random.default_rng(0)
    np.savez(folder / "X_other.npz", x=(rng.random((30, 4, 20)) < 0.2).astype(np.int64))


@pytest.fixture
def at_desk(desk, monkeypatch):
    monkeypatch.chdir(desk)
    yield desk
    set_quiet(False)


# -- the commands -----------------------------------------------------------------------------------------------


def line(command: Command) -> str:
    return f"{command.page}: {command.text[:60]}"


def cheap(args) -> bool:
    """Run here and now: no training, no other machine, only backends that are usable here."""
    names = (getattr(args, "backends", None) or getattr(args, "backend", None) or "exact").split(",")
    here = all(name in backend_names() and get_backend(name).availability().usable for name in names)
    elsewhere = getattr(args, "worker", []) or getattr(args, "matrix", False)
    return args.verb not in LONG and here and not elsewhere


@pytest.mark.parametrize("command", ALL, ids=line)
def test_command(command, at_desk, capsys):
    (snnkd if command.words[0] == "snnkd" else other)(command, capsys)


def snnkd(command, capsys):
    words = command.words[1:]
    if any(word in ("other.nir", "foreign.nir") for word in words):
        words = [word.replace("X.npz", "X_other.npz") for word in words]
    args = _parse(words)  # raises where an option or verb does not exist
    assert args is not None
    if args.verb == "new":
        words.append("--force")
    for key in ("folder", "input", "trace", "model", "a", "b", "source", "calibrate"):
        path = getattr(args, key, None)
        if path is not None and (args.verb != "new" or "/" in str(path)) and not getattr(args, "compare", None):
            assert Path(path).exists(), f"{key} = {path} is made by no command of the text"
    if args.verb in ("run", "sweep"):
        if not args.recipe.exists():
            assert main(["new", "photos", "-o", str(args.recipe), "--quiet"]) == 0
        load_recipe(args.recipe, args.overrides)
    if cheap(args):
        assert main(words) == 0, capsys.readouterr().err


def other(command, capsys):
    program, *words = command.words
    if program == "make":
        targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M)
        assert set(words) <= set(targets)
    elif program == "python":
        assert Path(words[2] if words[:2] == ["-m", "pytest"] else words[0]).exists()
    elif program == "torchrun":
        assert _parse(words[words.index("snnkd_deploy.cli") + 1 :]) is not None
    elif program == "cp":
        shutil.copy(*words)
    elif program == "source":
        assert words[0].split("/")[0] == re.search(r"^VENV := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1]
    else:
        from snnkd_deploy.backends.lava.availability import INSTALL
        from snnkd_deploy.backends.registry import backend_names, get_backend
        from snnkd_deploy.backends.simulators.speck import SpeckBackend
        from snnkd_deploy.backends.xylo.backend import INSTALL as XYLO

        # What a page tells to install is what the backend itself says when it is missing.
        hints = [get_backend(name).availability().install for name in backend_names()]
        known = [
            *INSTALL.splitlines(),
            "pip install torch && pip install -e .",
            *hints,
            XYLO.partition(" (")[0],
            SpeckBackend.install,
        ]
        assert " ".join(shlex.split(command.text, comments=True)) in known
