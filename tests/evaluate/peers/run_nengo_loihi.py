"""Print nengo-loihi's `block.utilization()` for single layers. Started by a test in another interpreter.

Reads a JSON list from stdin: {"kind": "dense", "inputs", "outputs"} or {"kind": "conv", "shape": [C, H, W],
"filters", "kernel": [y, x], "strides": [y, x]}. Needs nothing of this package.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")

import nengo  # noqa: E402
import numpy as np  # noqa: E402
from nengo_loihi.block import LoihiBlock, Synapse  # noqa: E402
from nengo_loihi.conv import conv2d_loihi_weights  # noqa: E402


def utilization(job: dict) -> dict:
    if job["kind"] == "dense":
        block = LoihiBlock(job["outputs"])
        synapse = Synapse(job["inputs"])
        synapse.set_weights(np.ones((job["inputs"], job["outputs"]), dtype=np.float32))
    else:
        channels, rows, columns = job["shape"]
        kernel = np.ones((*job["kernel"], channels, job["filters"]))
        transform = nengo.Convolution(
            job["filters"],
            nengo.transforms.ChannelShape((channels, rows, columns), channels_last=False),
            kernel_size=job["kernel"],
            strides=job["strides"],
            padding="valid",
            channels_last=False,
            init=kernel,
        )
        weights, indices, mapping, offsets = conv2d_loihi_weights(transform)
        block = LoihiBlock(transform.output_shape.size)
        synapse = Synapse(rows * columns)
        synapse.set_population_weights(weights, indices, mapping, offsets, pop_type=32)
    block.add_synapse(synapse)
    return {key: [int(used), int(limit)] for key, (used, limit) in block.utilization().items()}


print(json.dumps([utilization(job) for job in json.load(sys.stdin)]))
