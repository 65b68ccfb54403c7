"""Where a data set's files are: an explicit folder, else `SNNKD_DATA`, else the cache folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from snnkd_deploy.errors import DataError, Problem

ENVIRONMENT = "SNNKD_DATA"


@dataclass(frozen=True)
class Place:
    """A folder to look in, and why it was chosen (shown to the user)."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"{self.path} ({self.why})"


@dataclass(frozen=True)
class Layout:
    """One way a data set is stored: the `folders` (below a place, tried in order) that may hold it, and its
    `files`, each given by its alternative names (plain or packed)."""

    folders: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]

    def find(self, folder: Path) -> list[Path] | None:
        """The files in `folder`, in order, or None if any is missing."""
        found = []
        for names in self.files:
            path = next((folder / name for name in names if (folder / name).is_file()), None)
            if path is None:
                return None
            found.append(path)
        return found


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/snnkd_deploy`, by default `~/.cache/snnkd_deploy`. Not created here."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path is to be ignored.
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return root / "snnkd_deploy"


def places(root: Path | None) -> list[Place]:
    """The folders to look in. An explicit folder is looked in alone: the user said where the data is.

    `DataError` if that folder, or the one that SNNKD_DATA names, does not exist.
    """
    if root is not None:
        return [Place(_existing(Path(root).expanduser(), "--data"), "--data")]
    found = []
    if value := os.environ.get(ENVIRONMENT):
        found.append(Place(_existing(Path(value).expanduser(), ENVIRONMENT), ENVIRONMENT))
    return [*found, Place(cache_folder(), "cache")]


def _existing(path: Path, why: str) -> Path:
    if not path.exists():
        raise DataError("no such file or folder", where=f"{path} ({why})", remedy=f"create it, or correct {why}")
    return path


def find_layout(layouts: tuple[Layout, ...], where: list[Place]) -> tuple[int, list[Path]] | None:
    """The first layout found, place by place: (its number in `layouts`, its files)."""
    for place in where:
        for number, layout in enumerate(layouts):
            for folder in layout.folders:
                files = layout.find(place.path / folder)
                if files is not None:
                    return number, files
    return None


def not_found(name: str, layouts: tuple[Layout, ...], where: list[Place], hints: tuple[str, ...] = ()) -> DataError:
    """The error for a data set that is nowhere: where we looked, for what, what to try."""
    looked = ", ".join(map(str, where))
    remedy = f"--data DIR or {ENVIRONMENT}=DIR with the folder that holds these files"
    problems = [Problem(f"data set {name} was not found in {looked}", remedy=remedy)]
    problems += [Problem(f"no {_describe(layout)}", remedy="; or ".join(hints)) for layout in layouts]
    for place in where:
        for layout in layouts:
            for folder in layout.folders:
                problems += _partial(place.path / folder, layout)
    return DataError(problems[0], also=problems[1:])


def _describe(layout: Layout) -> str:
    """The layout's first folder with the first name of every file, long lists shortened."""
    names = [names[0] for names in layout.files]
    if len(names) > 4:
        names = [*names[:2], "...", names[-1]]
    folder = f"{layout.folders[0]}/" if layout.folders[0] else ""
    return f"{folder}{names[0]}" if len(names) == 1 else f"{folder}{{{', '.join(names)}}}"


def _partial(folder: Path, layout: Layout) -> list[Problem]:
    """One problem per missing file of a folder that holds some of the files but not all."""
    missing = [names for names in layout.files if not any((folder / name).is_file() for name in names)]
    if len(missing) == len(layout.files):
        return []
    return [Problem(f"{' or '.join(names)} is missing", where=str(folder)) for names in missing]
