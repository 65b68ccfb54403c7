"""One direction, top to bottom: a file imports only from rooms below its own."""

import ast
from pathlib import Path

import pytest

import snnkd_deploy

ROOT = Path(snnkd_deploy.__file__).parent
# Top to bottom. A room may import itself and every room further down.
ROOMS = [
    "cli",
    "verbs",
    "doctor",
    "demo",
    "pipeline",
    "starter",
    "assess",
    "preflight",
    "api",
    "runlock",
    "recipe",
    "manifest",
    "report",
    "evaluate",
    "backends",
    "lower",
    "distill",
    "nets",
    "data",
    "graph",
    "arithmetic",
    "chips",
    "memory",
    "progress",
    "files",
    "errors",
]
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def room(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_rooms(path: Path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import, line {node.lineno}"
            names = (
                [node.module or ""] if node.module != "snnkd_deploy" else [f"snnkd_deploy.{a.name}" for a in node.names]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "snnkd_deploy" and len(parts) > 1 and parts[1] != "__version__":
                yield parts[1], node.lineno


def test_every_file_is_in_a_known_room():
    assert {room(p) for p in FILES} <= set(ROOMS) | {"__main__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path):
    own = ROOMS.index(room(path))
    upward = [f"line {line}: {name}" for name, line in imported_rooms(path) if ROOMS.index(name) < own]
    assert not upward, f"{path.relative_to(ROOT)} imports from above: {upward}"


@pytest.mark.parametrize("module", ["lava", "samna", "sinabs", "norse", "snntorch", "spikingjelly", "onnx", "xylosim"])
def test_simulators_are_imported_on_use_only(module):
    """No optional package may be imported at module level anywhere in the package."""
    for path in FILES:
        if "processes" in path.parts or path.stem in ("child", "network"):
            continue  # run inside the simulator's own interpreter
        for node in ast.parse(path.read_text("utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert module not in [n.split(".")[0] for n in names], f"{path}: imports {module} at module level"
