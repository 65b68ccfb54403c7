"""Is Lava usable here? Looked up in metadata only: importing Lava takes seconds and sets a start method."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from dataclasses import replace

from snnkd_deploy.backends.base import Availability

INSTALL = "pip install scipy networkx asteval\npip install --no-deps --ignore-requires-python lava-nc==0.10.0"
TESTED = "0.10.0"
PYTHON_VARIABLE = "SNNKD_LAVA_PYTHON"
_NEEDS = ("lava", "scipy", "networkx", "asteval")
_PROBE = (
    "import importlib.metadata as m, importlib.util as u, json, sys;"
    f"print(json.dumps([m.version('lava-nc'), [n for n in {_NEEDS!r} if u.find_spec(n) is None]]))"
)


def interpreter(python: str | None) -> str:
    """The Python that runs Lava: the argument, else $SNNKD_LAVA_PYTHON, else this one."""
    return python or os.environ.get(PYTHON_VARIABLE) or sys.executable


def lava_availability(python: str | None = None) -> Availability:
    """Never raises. For another interpreter it is asked once per process (about 0.1 s)."""
    chosen = interpreter(python)
    if chosen != sys.executable:
        return _elsewhere(chosen)
    if sys.version_info[:2] not in ((3, 10), (3, 11)):
        return Availability(
            usable=False,
            install=f"python3.11 -m venv lava-env; lava-env/bin/pip install numpy scipy networkx asteval; "
            "lava-env/bin/pip install --no-deps --ignore-requires-python lava-nc==0.10.0; "
            f"export {PYTHON_VARIABLE}=$PWD/lava-env/bin/python",
            note=f"lava-nc {TESTED} runs on Python 3.10 and 3.11, this is {sys.version_info[0]}.{sys.version_info[1]}",
        )
    try:
        version = importlib.metadata.version("lava-nc")
        missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return Availability(usable=False, install=INSTALL, note="lava-nc is not installed")
    return _judge(version, missing)


def _judge(version: str, missing: list[str]) -> Availability:
    if missing:
        return Availability(False, version, INSTALL, f"lava-nc lacks {', '.join(missing)}")
    if version != TESTED:
        return Availability(False, version, INSTALL, f"lava-nc {version} is not {TESTED}, the last release")
    return Availability(usable=True, version=f"lava-nc {version}")


@functools.cache
def _elsewhere(python: str) -> Availability:
    where = f"{python} (${PYTHON_VARIABLE})"
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return Availability(usable=False, install=INSTALL, note=f"cannot run {where}: {error}")
    if done.returncode != 0:
        return Availability(usable=False, install=INSTALL, note=f"lava-nc is not installed for {where}")
    import json

    version, missing = json.loads(done.stdout)
    state = _judge(version, missing)
    return replace(state, version=f"{state.version} in {where}")
