"""An existing `.net` file (lava-dl's netx) on the exact simulator: spikes, operations, fit, and back to NIR.

python examples/existing_net.py yours.net
"""

import sys
from pathlib import Path

import numpy as np

import snnkd_deploy as sd

SAMPLES = 8


def main(path: str, steps: int = 32, out: str = "from_net.nir") -> sd.OpCounts:
    model = sd.load_model(path)  # input_shape=(C, H, W) for a file that begins with a convolution and lacks its size
    rng = np.random.default_rng(0)
    spikes = (rng.random((steps, SAMPLES, *model.shapes[model.input_name])) < 0.2).astype(np.uint8)
    inputs = sd.make_inputs(spikes, model)
    counts = sd.count_ops(model, sd.run(model, inputs, backend="exact"), inputs)
    for layer in counts.layers:
        print(f"{layer.name:10} rate {100 * layer.rate:5.1f} %   {layer.sop_event:10,.0f} SOP per sample")
    mapping = sd.fit(model, sd.load_chip("loihi2"))
    print(f"{Path(path).name}: {len(model.spiking)} layers of neurons on {mapping.cores} cores of Loihi 2")
    sd.save_model(model, out)
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:2])
