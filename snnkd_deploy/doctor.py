"""`snnkd doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import Any

from rich.markup import escape
from rich.table import Table

from snnkd_deploy.backends.registry import backend_names, get_backend
from snnkd_deploy.chips import hardware_dir, list_chips
from snnkd_deploy.data.locate import ENVIRONMENT, places
from snnkd_deploy.errors import SnnkdError
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
        table = Table("what", "")
        for column in ("state", "to do"):
            table.add_column(column, overflow="fold")  # half a path, or half a command, is of no use
        for f in self.findings:
            # "[onnx]" is an extra, not a style.
            table.add_row(f.what, "ok" if f.ok else "--", escape(f.state), escape(f.remedy))
        return table

    def to_dict(self) -> dict[str, Any]:
        return {"findings": [vars(f) for f in self.findings], "ok": all(f.ok for f in self.findings)}


def examine() -> Examination:
    """Look at Python, torch, compiler, each backend, data folders and disk. Changes nothing, never raises."""
    findings = [_python(), _torch(), _packages(), _compiler(), _images(), _chips()]
    findings += [*_backends(), *_data(), _disk()]
    return Examination(tuple(findings))


def _python() -> Finding:
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("python", ok, platform.python_version(), "" if ok else "use Python 3.11 to 3.13")


def _torch() -> Finding:
    import torch

    threads = torch.get_num_threads()
    state = f"{torch.__version__}, CPU, {threads} thread{'s' * (threads > 1)}"
    if torch.cuda.is_available():
        state = f"{torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}"
    elif torch.version.cuda:
        state += "; built for CUDA, but no GPU can be used"
    return Finding("torch", True, state)


def _packages() -> Finding:
    shown = ", ".join(f"{k} {v}" for k, v in versions().items() if k not in ("python", "torch"))
    return Finding("packages", True, shown)


def _compiler() -> Finding:
    # torch takes $CXX, else g++: a compiler of another name helps only where CXX names it.
    named = os.environ.get("CXX")
    found = shutil.which(named or "g++")
    if found:
        return Finding("C++ compiler", True, f"{found}: long trainings on the CPU fuse their neurons")
    remedy = "install g++" if named is None else f"set CXX to a compiler; {named} was not found"
    if named is None and (other := shutil.which("clang++")):
        remedy = f"export CXX={other}, or install g++"
    return Finding("C++ compiler", False, "none: long trainings on the CPU run about 2x slower", remedy)


def _chips() -> Finding:
    return Finding("chips", True, f"{', '.join(list_chips())} in {hardware_dir()}")


def _backends() -> list[Finding]:
    """Every registered backend, also those that strangers registered and that cannot even be imported."""
    findings = []
    for name in backend_names():
        try:
            state = get_backend(name).availability()
        except Exception as error:  # somebody else's code: whatever it raises is what there is to say
            what = f"cannot be loaded: {type(error).__name__}: {error}"
            findings.append(Finding(f"backend {name}", False, what, "ask whoever registered it"))
            continue
        text = state.version if state.usable else state.note or "not installed"
        findings.append(Finding(f"backend {name}", state.usable, text, "" if state.usable else state.install))
    return findings


def _images() -> Finding:
    try:
        return Finding("pillow", True, f"{version('pillow')}: folders of images can be read")
    except PackageNotFoundError:
        return Finding("pillow", False, "none: folders of images cannot be read", "pip install pillow")


def _data() -> list[Finding]:
    """The folders that are looked in, and the known sets that they hold."""
    try:
        folders = places(None)
    except SnnkdError as error:
        first = error.problems[0]
        return [Finding("data", False, f"{ENVIRONMENT} = {os.environ.get(ENVIRONMENT)}: {first.what}", first.remedy)]
    findings = []
    for place in folders:
        if not place.path.is_dir():
            findings.append(Finding("data", True, f"{place}: empty; sets are downloaded to it where they may be"))
            continue
        found = ", ".join(sorted(child.name for child in place.path.iterdir() if child.is_dir())) or "empty"
        findings.append(Finding("data", True, f"{place}: {shorten(found, 200)}"))
    return findings


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    writable = os.access(Path.cwd(), os.W_OK)
    remedy = "" if free > 1 else "free at least 1 GiB"
    if not writable:
        remedy = "go to a folder of yours, or give --out"
    state = f"{free:.0f} GiB free here" + ("" if writable else ", but this folder cannot be written to")
    return Finding("disk", not remedy, state, remedy)
