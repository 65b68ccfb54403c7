"""The options that each named student takes, and what their values must be."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from snnkd_deploy.errors import Problem

# What an option holds: ("list", lowest, highest) of integers, or ("flag",).
_SIZES = ("list", 1, 1 << 16)
_STRIDES = ("list", 1, 16)
_OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "conv": {"channels": _SIZES, "strides": _STRIDES},
    "mlp": {"hidden": _SIZES},
    "rnn": {"hidden": _SIZES},
    "vgg": {"channels": _SIZES, "global_pool": ("flag",)},
    "resnet18": {},
    "resnet19": {},
    "resnet20": {},
}


def option_problems(net: str, options: Mapping[str, Any], where: str = "student.options") -> list[Problem]:
    """Everything wrong with the options of a named student; nothing of a user's own, which takes what it likes."""
    if net not in _OPTIONS:
        return []
    known, problems = _OPTIONS[net], []
    for key, value in options.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            remedy = f"{hint}known here: {', '.join(known)}" if known else "it has none; student.width scales it"
            problems.append(Problem(f"student '{net}' has no such option", f"{where}.{key}", remedy=remedy))
        elif known[key] == ("flag",):
            if not isinstance(value, bool):
                problems.append(Problem("wrong value", f"{where}.{key}", "true or false", repr(value)))
        else:
            _, low, high = known[key]
            good = isinstance(value, (list, tuple)) and len(value) > 0
            if not good or not all(type(v) is int and low <= v <= high for v in value):
                need = f"a list of integers {low}..{high}"
                problems.append(Problem("wrong value", f"{where}.{key}", need, repr(value)))
    return problems
