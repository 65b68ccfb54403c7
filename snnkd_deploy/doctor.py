"""`snnkd doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from snnkd_deploy.backends.registry import backend_names, get_backend
from snnkd_deploy.chips import hardware_dir, list_chips
from snnkd_deploy.manifest import versions


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it stands, what to do."""

    what: str
    ok: bool
    state: str
    remedy: str = ""


@dataclass(frozen=True)
class Examination:
    findings: tuple[Finding, ...]

    def render(self) -> Table:
        table = Table("what", "", "state", "to do")
        for f in self.findings:
            table.add_row(f.what, "ok" if f.ok else "--", f.state, f.remedy)
        return table

    def to_dict(self) -> dict[str, Any]:
        return {"findings": [vars(f) for f in self.findings], "ok": all(f.ok for f in self.findings)}


def examine() -> Examination:
    """Look at Python, torch, each backend, data folders, disk and compiler. Changes nothing."""
    findings = [_python(), _torch(), _compiler(), _chips(), *_backends(), _data(), _disk()]
    return Examination(tuple(findings))


def _python() -> Finding:
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("python", ok, platform.python_version(), "" if ok else "use Python 3.11 to 3.13")


def _torch() -> Finding:
    import torch

    cuda = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "CPU"
    return Finding("torch", True, f"{torch.__version__}, {cuda}, {torch.get_num_threads()} threads")


def _compiler() -> Finding:
    found = next((name for name in (os.environ.get("CXX"), "g++", "clang++") if name and shutil.which(name)), None)
    if found:
        return Finding("C++ compiler", True, f"{found}: long trainings fuse their neurons")
    return Finding("C++ compiler", False, "none: long trainings run about 2x slower", "install g++ or clang++")


def _chips() -> Finding:
    return Finding("chips", True, f"{', '.join(list_chips())} in {hardware_dir()}")


def _backends() -> list[Finding]:
    findings = []
    for name in backend_names():
        state = get_backend(name).availability()
        text = state.version if state.usable else state.note or "not installed"
        findings.append(Finding(f"backend {name}", state.usable, text, "" if state.usable else state.install))
    return findings


def _data() -> Finding:
    folder = os.environ.get("SNNKD_DATA")
    if folder is None:
        return Finding("data", True, "SNNKD_DATA is not set: data sets are downloaded to the cache")
    if not Path(folder).is_dir():
        return Finding("data", False, f"SNNKD_DATA = {folder} is no folder", "set it to a folder with data sets")
    return Finding("data", True, f"SNNKD_DATA = {folder}")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    ok = free > 1
    shown = ", ".join(f"{k} {v}" for k, v in versions().items() if k in ("numpy", "nir"))
    return Finding("disk", ok, f"{free:.0f} GiB free here; {shown}", "" if ok else "free at least 1 GiB")
