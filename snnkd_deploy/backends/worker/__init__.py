"""A backend in another process: another interpreter here, or a machine that holds a board.

`python -m snnkd_deploy.backends.worker` serves any backend of its own environment over stdin and stdout; behind
`ssh board ...` that is a remote board, with ssh's authentication and encryption. Neither ports nor pickles.
"""

from snnkd_deploy.backends.worker.client import WorkerBackend
from snnkd_deploy.backends.worker.connection import LostWorkerError

__all__ = ["LostWorkerError", "WorkerBackend"]
