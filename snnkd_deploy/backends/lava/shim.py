"""Makes lava-nc 0.10.0 work on Python 3.11 and numpy 2.4, without touching an installed file.

- Python 3.11 refuses `import lava`: instances of the unhashable dataclass `ByteEncoder` are defaults of
  fields ("mutable default ... is not allowed: use default_factory"). That one class gets a hash while its
  module is imported.
- numpy 2.4 has no `newshape` in `np.reshape`, which every reshaped or flattened port calls. Those two
  methods are replaced by the same call with a positional shape.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

_BROKEN_MODULE = "lava.magma.compiler.var_model"


def import_lava() -> None:
    """Import Lava's core so that any later `import lava...` works. Call it before the first one.

    Raises ImportError where Lava is not installed. Calling it again does nothing.
    """
    if _BROKEN_MODULE in sys.modules:
        return
    original = dataclasses.dataclass

    def hashable_byte_encoder(cls: type | None = None, /, **options: Any) -> Any:
        def decorate(target: type) -> type:
            if target.__name__ == "ByteEncoder" and target.__module__.startswith("lava."):
                options["unsafe_hash"] = True
            decorated: Callable[[type], type] = original(**options)
            return decorated(target)

        return decorate if cls is None else decorate(cls)

    dataclasses.dataclass = hashable_byte_encoder  # type: ignore[assignment]
    try:
        import_module(_BROKEN_MODULE)
    finally:
        dataclasses.dataclass = original
    _mend_reshape()


def _mend_reshape() -> None:
    port = import_module("lava.magma.core.process.ports.ports").ReshapePort
    port.get_transform_func_fwd = lambda self: functools.partial(_reshape, self.shape)
    port.get_transform_func_bwd = lambda self: functools.partial(_reshape, self.old_shape)


def _reshape(shape: tuple[int, ...], data: np.ndarray) -> np.ndarray:
    return np.reshape(data, shape)
