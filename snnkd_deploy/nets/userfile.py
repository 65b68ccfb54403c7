"""Code from a user's own file: `path/to/file.py:function` in a recipe."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snnkd_deploy.errors import SnnkdError, UsageError


def is_user_code(name: str) -> bool:
    """True for `path/to/file.py:function`."""
    path, colon, function = name.rpartition(":")
    return bool(colon) and path.endswith(".py") and function.isidentifier()


def user_function(name: str, where: str) -> Callable[..., Any]:
    """The function that `path/to/file.py:function` names. The file is executed. Raises UsageError."""
    path_text, _, function = name.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise UsageError("no such file", where=f"{where} = '{name}'", remedy="a path from here, or beside the recipe")
    module_name = f"snnkd_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise UsageError(f"{type(error).__name__} while reading it: {error}", where=str(path)) from error
    found = getattr(module, function, None)
    if not callable(found):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UsageError(f"no function '{function}' in it", where=str(path), remedy=f"defined: {', '.join(known)}")
    return found


def call_user(name: str, where: str, *values: Any, **options: Any) -> Any:
    """Call the function that `path/to/file.py:function` names. What it raises becomes a UsageError with its line."""
    function = user_function(name, where)
    try:
        return function(*values, **options)
    except SnnkdError:
        raise
    except Exception as error:  # whatever the user's code raises
        line = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({Path(line.filename).name}, line {line.lineno})"
        raise UsageError(what, where=f"{where} = '{name}'", remedy="--debug shows the whole traceback") from error
