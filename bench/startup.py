"""Start-up times: `snnkd --help`, and `import snnkd_deploy` against `import torch`: `python bench/startup.py`."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "import torch": [sys.executable, "-c", "import torch"],
    "import snnkd_deploy": [sys.executable, "-c", "import snnkd_deploy"],
    "snnkd_deploy.run": [sys.executable, "-c", "from snnkd_deploy import run, distill"],
    "snnkd --help": [str(Path(sys.executable).with_name("snnkd")), "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write every time here")
    args = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(args.repeats):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    for name, values in times.items():
        print(f"  {name:<22} {statistics.median(values):6.2f} s ({min(values):.2f}..{max(values):.2f})")
    if args.json:
        args.json.write_text(json.dumps(times, indent=1))


if __name__ == "__main__":
    main()
