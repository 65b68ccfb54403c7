"""From a trained student, or a foreign graph, to one NIR model on the chip's grid."""

from snnkd_deploy.lower.student import lower_student

__all__ = ["lower_student"]
