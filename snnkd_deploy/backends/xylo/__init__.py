"""Xylo's own simulator, xylosim, as a backend."""

from snnkd_deploy.backends.xylo.backend import XyloBackend

__all__ = ["XyloBackend"]
