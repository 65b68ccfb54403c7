"""A chip's population as a NIR node: the same dynamics in NIR's equations, and the integers for the profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir
import numpy as np

from snnkd_deploy.arithmetic import kept
from snnkd_deploy.chips.spec import NeuronSpec
from snnkd_deploy.graph.cuba_nodes import membrane_node
from snnkd_deploy.graph.profile import NeuronParams, ReadoutParams
from snnkd_deploy.graph.topology import Shape


def chip_membrane(
    spec: NeuronSpec,
    shape: Shape,
    numbers: Mapping[str, Any],
    *,
    scale: float,
    bias_exp: int,
    dt_s: float,
    bias: np.ndarray | None = None,
) -> tuple[nir.NIRNode, NeuronParams | ReadoutParams]:
    """`numbers` as `arithmetic.family` names them; without `vth` an integrator. `bias`: in units of v, per neuron."""
    keep_v, keep_u = kept(spec, numbers)
    vth = numbers.get("vth")
    node, leak_scale = membrane_node(
        shape,
        keep_v=keep_v,
        keep_u=keep_u,
        threshold=None if vth is None else vth / scale,
        dt_s=dt_s,
        unit=scale * (1 << bias_exp),
        bias=bias,
        gain_u=keep_u if spec.family == "shift_lif" and keep_u > 0 else 1.0,
    )
    kind = {"leak_scale": leak_scale, "scale": scale, **numbers}
    return node, ReadoutParams(**kind) if vth is None else NeuronParams(**kind, bias_exp=bias_exp)


def input_gain(keep_v: float, keep_u: float) -> float:
    """What the node multiplies its input with (b of a LIF): weights are written as `w_int / (scale * gain)`."""
    return 1.0 - keep_v if keep_u == 0 and keep_v < 1.0 else 1.0
