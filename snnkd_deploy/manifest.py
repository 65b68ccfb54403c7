"""`manifest.json`: which stages of a run are done, from what, and what they wrote."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from snnkd_deploy.errors import DataError
from snnkd_deploy.files import replacing

_PACKAGES = ("snnkd_deploy", "torch", "numpy", "nir", "h5py", "lava-nc", "scikit-learn")


def digest(value: Any) -> str:
    """sha256 of plain values, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def versions() -> dict[str, str]:
    """Python and the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


class Manifest:
    """The record of a run directory. A stage is up to date if its key and its outputs are what they were."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "manifest.json"
        self.data: dict[str, Any] = _read(self.path) if self.path.is_file() else {"stages": {}}

    def stage(self, name: str) -> dict[str, Any]:
        return self.data["stages"].get(name, {})

    def up_to_date(self, name: str, key: str) -> bool:
        entry = self.stage(name)
        if entry.get("key") != key:
            return False
        return bool(entry["outputs"]) and not self.damaged(name)

    def damaged(self, name: str) -> list[str]:
        """Outputs of a finished stage that are missing or not what it wrote, by their paths in the folder."""
        outputs: dict[str, str] = self.stage(name)["outputs"]
        return [
            path
            for path, sha in outputs.items()
            if not (self.folder / path).is_file() or file_digest(self.folder / path) != sha
        ]

    def interrupted(self, name: str, key: str, seconds: float) -> None:
        """Remember the time that an unfinished try took; its checkpoints are used, so its time counts."""
        unfinished = self.data.setdefault("unfinished", {})
        earlier = unfinished.get(name, {})
        before = earlier.get("seconds", 0.0) if earlier.get("key") == key else 0.0
        unfinished[name] = {"key": key, "seconds": round(before + seconds, 3)}
        self.save()

    def finish(self, name: str, key: str, outputs: list[Path], seconds: float, facts: dict[str, Any]) -> None:
        """Record a finished stage. `seconds` adds to what interrupted tries of the same work took."""
        earlier = self.data.get("unfinished", {}).pop(name, {})
        before = earlier.get("seconds", 0.0) if earlier.get("key") == key else 0.0
        self.data["stages"][name] = {
            "key": key,
            "outputs": {str(p.relative_to(self.folder)): file_digest(p) for p in outputs},
            "seconds": round(before + seconds, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "facts": facts,
        }
        self.save()

    def save(self) -> None:
        write_text(self.path, json.dumps(self.data, indent=1) + "\n")


_ENTRY: dict[str, Any] = {"key": str, "outputs": dict, "seconds": (int, float), "facts": dict}


def _read(path: Path) -> dict[str, Any]:
    """A manifest's content. DataError for anything else: doing every stage again, unasked, may cost days."""
    try:
        data = json.loads(path.read_text("utf-8"))
        stages = data.setdefault("stages", {})
        sound = all(isinstance(entry[k], t) for entry in stages.values() for k, t in _ENTRY.items())
    except (ValueError, AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise DataError("the run's manifest is damaged", where=str(path), remedy="delete it to do every stage again")
    return data
