"""Every bench in turn, one JSON file: `python bench/all.py [--out bench.json] [--growth]`.

Training with glibc's default and with raised malloc thresholds. `--growth` adds T from 1 to 64 and widths x1 to x8.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SHORT = {
    "start-up": ["startup.py"],
    "training": ["training_step.py"],
    "training, default malloc": ["training_step.py", "--default-malloc", "--workloads", "W1,W2"],
    "memory": ["memory.py"],
    "epoch": ["epoch.py"],
    "exact and Lava": ["exact_vs_lava.py"],
}
GROWTH = {
    "growth with T": ["training_step.py", "--workloads", "W1,W2", "--steps", "1,4,16,64", "--repeats", "3"],
    "growth with width": ["training_step.py", "--workloads", "W1,W2", "--widths", "1,2,4,8", "--repeats", "3"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    parser.add_argument("--growth", action="store_true")
    args = parser.parse_args()
    report: dict[str, object] = {"load_before": os.getloadavg(), "cores": os.cpu_count()}
    for title, command in (SHORT | (GROWTH if args.growth else {})).items():
        print(f"\n== {title}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "found.json"
            subprocess.run([sys.executable, str(HERE / command[0]), *command[1:], "--json", str(found)], check=True)
            report[title] = json.loads(found.read_text())
    report["load_after"] = os.getloadavg()
    args.out.write_text(json.dumps(report, indent=1))
    print(f"\nwritten: {args.out}")


if __name__ == "__main__":
    main()
