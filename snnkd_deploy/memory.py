"""Keep freed tensors mapped: glibc otherwise returns big blocks to the system at every training step."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_big_blocks() -> None:
    """Raise glibc's mmap and trim thresholds to 1 GiB; does nothing on other C libraries."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)
