"""Peak memory of one training step: `python bench/memory.py [--workloads W2,W3]`.

Each variant runs in a process of its own, its kernels compiled by a step on a small batch beforehand. Given is the
growth of the resident set during the steps that follow, as Linux counts it (VmHWM); weights are in it, torch is not.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
from pathlib import Path

FLOOR, PEER = "floor (ReLU)", "spikingjelly multi-step"
NAMES = [FLOOR, "ours, float", "ours, chip integers", PEER]


def _status(field: str) -> float:
    """A field of this process's status in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def child(workload: str, name: str) -> None:
    """Print the megabytes that steps of one variant need."""
    from training_step import WORKLOADS, variants

    from snnkd_deploy.nets.neurons import compile_neurons

    compile_neurons(True)
    _, plan, batch = WORKLOADS[workload]
    for size in (4, batch):
        step = variants(plan, size).get(name)
        if step is None:
            print(json.dumps(None))
            return
        if size == 4:
            step()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    for _ in range(3):
        step()
    print(json.dumps(_status("VmHWM") - before))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", default="W2,W3")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    figures: dict[str, dict[str, float]] = {}
    for workload in args.workloads.split(","):
        print(f"\n{workload}")
        rows: dict[str, float] = {}
        for name in NAMES:
            command = [sys.executable, __file__, "--child", workload, name]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
            megabytes = json.loads(found[-1])
            if megabytes is None:
                print(f"  {name:<26} left out: not installed")
                continue
            rows[name] = megabytes
            share = f", {megabytes / rows[FLOOR]:.2f} x floor" if name != FLOOR else ""
            print(f"  {name:<26} {megabytes:7.0f} MB{share}", flush=True)
        if PEER in rows:
            print(f"  ours, float / {PEER}: {rows['ours, float'] / rows[PEER]:.2f}")
        figures[workload] = rows
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
