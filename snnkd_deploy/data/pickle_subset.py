"""Read the pickled batches of CIFAR without unpickling.

A pickle is a program and loading one runs it. The official batches need only twenty-odd of its instructions:
dictionaries, lists, integers, byte strings, and one numpy array. This file reads the instruction list with
`pickletools` (which runs nothing) and builds those values itself; anything else is refused.
"""

from __future__ import annotations

import pickletools
from typing import Any

import numpy as np

from snnkd_deploy.errors import DataError

# The only callables that the official files name; none of them is called, `_reduce` and `_build` stand in.
_GLOBALS = {
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
}
_MARK = object()


class _Name(str):
    """A callable that the pickle names."""


class _Dtype:
    """A numpy dtype under construction; only unsigned bytes are accepted."""


class _Array:
    """A numpy array under construction."""

    value: np.ndarray | None = None


def read_batch(raw: bytes, where: str) -> dict[str, Any]:
    """The dictionary in `raw`, its keys as text: values are ints, bytes, text, lists, or uint8 arrays.

    `DataError` for any instruction that such a file does not need, and for damaged ones.
    """
    try:
        result = _run(raw)
    except DataError as error:
        raise DataError(error.problems[0].what, where=where, remedy="the official archive") from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"damaged batch file: {error}", where=where, remedy="the official archive") from error
    if not isinstance(result, dict):
        raise DataError("damaged batch file: no dictionary", where=where, remedy="the official archive")
    plain = {}
    for key, value in result.items():
        name = key.decode("latin-1") if isinstance(key, bytes) else str(key)
        plain[name] = value.value if isinstance(value, _Array) else value
    return plain


def _run(raw: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    arg: Any
    for opcode, arg, _ in pickletools.genops(raw):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack[-1]
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[arg] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif name in ("BININT", "BININT1", "BININT2"):
            stack.append(arg)
        elif name in ("BINSTRING", "SHORT_BINSTRING"):
            stack.append(arg.encode("latin-1"))  # genops shows Python 2 strings as latin-1 text
        elif name in ("BINBYTES", "SHORT_BINBYTES", "BINUNICODE", "SHORT_BINUNICODE"):
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in _TUPLE_SIZES:
            size = _TUPLE_SIZES[name]
            items = tuple(stack[len(stack) - size :]) if size else ()
            del stack[len(stack) - size :]
            stack.append(items)
        elif name == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif name == "APPEND":
            item = stack.pop()
            _expect(stack[-1], list).append(item)
        elif name == "APPENDS":
            items_ = _since_mark(stack)
            _expect(stack[-1], list).extend(items_)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _expect(stack[-1], dict)[key] = value
        elif name == "SETITEMS":
            pairs = _since_mark(stack)
            _expect(stack[-1], dict).update(zip(pairs[::2], pairs[1::2], strict=True))
        elif name == "GLOBAL":
            if arg not in _GLOBALS:
                raise DataError(f"refused: the file asks for {arg!r}, which no CIFAR batch needs")
            stack.append(_Name(arg))
        elif name == "REDUCE":
            args, function = stack.pop(), stack.pop()
            stack.append(_reduce(function, args))
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        else:
            raise DataError(f"refused: the file uses {name}, which no CIFAR batch needs")
    raise ValueError("no end")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLE_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _since_mark(stack: list[Any]) -> list[Any]:
    for i in range(len(stack) - 1, -1, -1):
        if stack[i] is _MARK:
            items = stack[i + 1 :]
            del stack[i:]
            return items
    raise ValueError("no mark")


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{kind.__name__} expected")
    return value


def _reduce(function: Any, args: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(args, tuple):
        raise ValueError("call of something that is not a name")
    if function.endswith("_reconstruct"):
        return _Array()
    if function == "numpy dtype" and args and args[0] in (b"u1", "u1"):
        return _Dtype()
    raise DataError(f"refused: the file builds {function!r} with {str(args)[:40]}, which no CIFAR batch needs")


def _build(target: Any, state: Any) -> None:
    if isinstance(target, _Dtype):
        return  # byte order and flags mean nothing for single bytes
    if not isinstance(target, _Array):
        raise ValueError("state for something that has none")
    _, shape, dtype, fortran, data = state
    if not isinstance(dtype, _Dtype) or fortran or not isinstance(data, bytes):
        raise DataError("refused: an array that is not C-ordered unsigned bytes")
    target.value = np.frombuffer(data, dtype=np.uint8).reshape(shape)
