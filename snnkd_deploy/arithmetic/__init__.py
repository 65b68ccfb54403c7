"""The chips' integer arithmetic in torch, one file per neuron family.

Training (`nets`) and the exact simulator (`backends.exact`) call these same functions: that is why
what you trained is what runs.
"""

from snnkd_deploy.arithmetic.cuba import CubaParams, CubaState, integrate, run_cuba
from snnkd_deploy.arithmetic.exact import EXACT_FLOAT32, EXACT_FLOAT64, exact_dtype, shift_right_round

__all__ = [
    "EXACT_FLOAT32",
    "EXACT_FLOAT64",
    "CubaParams",
    "CubaState",
    "exact_dtype",
    "integrate",
    "run_cuba",
    "shift_right_round",
]
