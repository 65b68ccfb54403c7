"""Would an event-driven path pay? `python bench/event_driven.py [--rates 2,8,30]`

The weighted sums of a dense layer from spikes at given rates, three ways that give the same integers: a product of
dense matrices, as the exact simulator does it; a product with the spikes as a sparse matrix (CSR), made from the dense
ones; and int8 products where torch has them. Medians; the sparse time is given with and without its conversion.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

ROWS = 2048  # steps times samples of a chunk


def median_ms(work: Callable[[], object], repeats: int) -> float:
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return 1000 * statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", default="2,8,30", help="firing rates in percent")
    parser.add_argument("--sizes", default="512x512,2312x512,2048x2048", help="inputs x outputs of the layer")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sparse CSR")
    generator = torch.Generator().manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {ROWS} rows; ms")
    for size in args.sizes.split(","):
        inputs, outputs = map(int, size.split("x"))
        weight = torch.randint(-127, 128, (outputs, inputs), generator=generator).float()
        columns, small_weight = weight.T.contiguous(), weight.T.to(torch.int8)
        for rate in map(float, args.rates.split(",")):
            spikes = (torch.rand(ROWS, inputs, generator=generator) < rate / 100).float()
            sparse, small = spikes.to_sparse_csr(), spikes.to(torch.int8)
            ways = {
                "dense": partial(F.linear, spikes, weight),
                "sparse": partial(torch.matmul, sparse, columns),
                "sparse, made from dense": lambda x=spikes, w=columns: x.to_sparse_csr() @ w,
            }
            if rate == float(args.rates.split(",")[0]):
                ways["int8"] = lambda x=small, w=small_weight: torch._int_mm(x, w).float()
            assert all(torch.equal(way(), ways["dense"]()) for way in ways.values())
            found = ", ".join(f"{name} {median_ms(way, args.repeats):.1f}" for name, way in ways.items())
            print(f"  {size}, {rate:g} %: {found}", flush=True)


if __name__ == "__main__":
    main()
