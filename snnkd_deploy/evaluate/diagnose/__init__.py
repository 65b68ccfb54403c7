"""The first divergence explained: where it is, the state around it, which layers cause it, and why.

Method: cut the network at its populations, give the first diverging layer what the other trace says it heard,
and re-run it with one thing changed at a time. A cause is named when it reproduces the other side's spikes.
"""

from snnkd_deploy.evaluate.diagnose.explain import Cause, Diagnosis, diagnose
from snnkd_deploy.evaluate.diagnose.hypothesis import CAUSES
from snnkd_deploy.evaluate.diagnose.isolate import LayerVerdict, isolate
from snnkd_deploy.evaluate.diagnose.reproducer import Reproducer, reduce_case
from snnkd_deploy.evaluate.diagnose.state import NeuronState

__all__ = [
    "CAUSES",
    "Cause",
    "Diagnosis",
    "LayerVerdict",
    "NeuronState",
    "Reproducer",
    "diagnose",
    "isolate",
    "reduce_case",
]
