"""The chips' integer arithmetic in torch, one file per neuron family.

Training (`nets`) and the exact simulator (`backends.exact`) call these same functions: that is why
what you trained is what runs.
"""

from snnkd_deploy.arithmetic.cuba import CubaNeuron
from snnkd_deploy.arithmetic.exact import EXACT_FLOAT32, EXACT_FLOAT64, exact_dtype, shift_right_round
from snnkd_deploy.arithmetic.family import decay_numbers, kept, make_neuron
from snnkd_deploy.arithmetic.floating import FloatNeuron
from snnkd_deploy.arithmetic.iaf import IafNeuron
from snnkd_deploy.arithmetic.neuron import Neuron, State, integrate, run
from snnkd_deploy.arithmetic.shift import ShiftNeuron

__all__ = [
    "EXACT_FLOAT32",
    "EXACT_FLOAT64",
    "CubaNeuron",
    "FloatNeuron",
    "IafNeuron",
    "Neuron",
    "ShiftNeuron",
    "State",
    "decay_numbers",
    "exact_dtype",
    "integrate",
    "kept",
    "make_neuron",
    "run",
    "shift_right_round",
]
