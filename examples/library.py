"""The library in 30 lines: a deployed model, two backends, parity, operations, fit, energy.

snnkd demo --out runs/demo
python examples/library.py runs/demo/model.nir
"""

import sys

import snnkd_deploy as sd
from snnkd_deploy.data import load_dataset


def main(path: str, backend: str = "lava", samples: int = 20) -> sd.ParityReport:
    model = sd.load_model(path)
    images = load_dataset("digits").test.x[:samples]
    x = images[None]  # (1, B, C, H, W): one constant image a sample, held for the model's steps

    exact = sd.run(model, x, backend="exact")
    other = sd.run(model, x, backend=backend)
    parity = sd.compare(exact, other)
    print(f"{backend}: {parity.mismatches} of {parity.spikes_compared:,} spikes differ")

    counts = sd.count_ops(model, exact)
    for layer in counts.layers:
        print(f"{layer.name:10} rate {100 * layer.rate:5.1f} %   {layer.sop_event:10,.0f} SOP per sample")
    for name in ("loihi1", "loihi2"):
        chip = sd.load_chip(name)
        mapping = sd.fit(model, chip)
        energy = sd.estimate_energy(counts, chip, fit=mapping)
        joules = "unpriced" if energy.mid is None else f"{energy.low:.1e} to {energy.high:.1e} J"
        print(f"{name}: {'fits' if mapping.fits else 'does not fit'} on {mapping.cores} cores, {joules}")
    return parity


if __name__ == "__main__":
    main(*sys.argv[1:3])
