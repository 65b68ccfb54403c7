"""Backend `lava`: real lava-nc processes, spike for spike equal with `exact`.

Nothing of Lava is imported here: it runs in a child interpreter (`child.py`).
"""

from snnkd_deploy.backends.lava.backend import LavaBackend

__all__ = ["LavaBackend"]
