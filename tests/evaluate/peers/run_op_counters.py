"""Count one layer's operations with NeuroBench and spikingjelly. Started by a test in another interpreter.

`python run_op_counters.py FILE.npz`: x (N, ...) spikes, weight, and for convolutions geometry (stride y x,
padding y x, dilation y x, groups). Prints JSON. Needs nothing of this package.
"""

import json
import sys

import numpy as np
import torch
from neurobench.metrics.utils.layers import single_layer_MACs
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter


def main(path: str) -> None:
    arrays = np.load(path)
    x, weight = torch.from_numpy(arrays["x"]).float(), torch.from_numpy(arrays["weight"]).float()
    if weight.ndim == 2:
        layer: torch.nn.Module = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    else:
        g = [int(n) for n in arrays["geometry"]]
        layer = torch.nn.Conv2d(
            weight.shape[1] * g[6],
            weight.shape[0],
            tuple(weight.shape[2:]),
            (g[0], g[1]),
            (g[2], g[3]),
            (g[4], g[5]),
            g[6],
            bias=False,
        )
    layer.weight.data = weight
    with torch.no_grad():
        effective, spiking = single_layer_MACs(x, layer)
        dense, _ = single_layer_MACs(x, layer, total=True)
        counter = SynOpCounter()
        with DispatchCounterMode([counter]):
            layer(x)
    found = {
        "neurobench_effective": float(effective),
        "neurobench_dense": float(dense),
        "neurobench_spiking": bool(spiking),
        "spikingjelly_synops": int(counter.get_total()),
    }
    print(json.dumps(found))


main(sys.argv[1])
