"""Makes `import lava` work on Python 3.11 and later, without touching an installed file.

lava-nc 0.10.0 uses instances of the unhashable dataclass `ByteEncoder` as field defaults, which Python
3.11 refuses ("mutable default ... is not allowed: use default_factory"). The shim gives that one class a
hash while its module is imported, and leaves nothing behind.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

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
