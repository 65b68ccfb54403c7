"""What a reader is asked for, and how it gets its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnkd_deploy.data.download import Remote, fetch
from snnkd_deploy.data.locate import Layout, Place, cache_folder, find_layout, not_found, places
from snnkd_deploy.errors import UsageError


@dataclass(frozen=True)
class Request:
    """One call of `load_dataset`, as its reader sees it."""

    name: str
    root: Path | None
    download: bool
    options: Mapping[str, Any]

    def places(self) -> list[Place]:
        """The folders to look in, in order."""
        return places(self.root)

    def integer(self, key: str, default: int) -> int:
        """Option `key` as an integer; `UsageError` if it is something else."""
        value = self.options.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise UsageError(f"option {key} of data set {self.name} must be an integer", have=repr(value))
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """Option `key` as a truth value; `UsageError` if it is something else."""
        value = self.options.get(key, default)
        if not isinstance(value, bool):
            raise UsageError(f"option {key} of data set {self.name} must be true or false", have=repr(value))
        return value

    def text(self, key: str, default: str | None = None) -> str | None:
        """Option `key` as a string (or None where it is not given)."""
        value = self.options.get(key, default)
        if value is not None and not isinstance(value, (str, Path)):
            raise UsageError(f"option {key} of data set {self.name} must be a text", have=repr(value))
        return None if value is None else str(value)


def obtain(
    request: Request,
    layouts: tuple[Layout, ...],
    remotes: tuple[Remote, ...] = (),
    hints: tuple[str, ...] = (),
) -> tuple[int, list[Path]]:
    """The first layout found (its number and files); else download `remotes` and look again; else `DataError`.

    Downloads go to the explicit folder where one was given, else to the cache folder.
    """
    where = request.places()
    found = find_layout(layouts, where)
    if found is not None:
        return found
    if remotes and request.download and (request.root is None or where[0].path.is_dir()):
        folder = cache_folder() if request.root is None else where[0].path
        for remote in remotes:
            fetch(remote, folder)
        found = find_layout(layouts, [Place(folder, "downloaded")])
        if found is not None:
            return found
    if remotes and not request.download:
        hints = ("allow the download (download=True)", *hints)
    raise not_found(request.name, layouts, where, hints)
