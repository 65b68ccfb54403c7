"""Distillation: losses for anyone's loop, and our own training of teachers and chip-exact students."""

from snnkd_deploy.distill import losses
from snnkd_deploy.distill.losses import *  # noqa: F403

__all__ = list(losses.__all__)
