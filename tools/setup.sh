#!/usr/bin/env bash
# Make the environment: torch first and pinned, then the package, then what installs cleanly of the rest.
set -euo pipefail
PYTHON=${PYTHON:-python3.11}
VENV=${VENV:-.venv}
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"
if ! command -v "$PYTHON" >/dev/null; then
  PYTHON=python3
fi
"$PYTHON" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13)))' || {
  echo "error: Python 3.11 to 3.13 is needed, $($PYTHON --version) was found; try: make setup PYTHON=/path/to/python3.11" >&2
  exit 2
}
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
export PIP_CONSTRAINT="$here/constraints.txt" PIP_DISABLE_PIP_VERSION_CHECK=1
pip() { "$VENV/bin/python" -m pip "$@"; }
# Minutes pass, most of them in downloads: say what for.
echo "environment $VENV: torch"
pip install --quiet "torch==2.13.0" ||
  pip install --quiet "torch==2.13.0" --index-url https://download.pytorch.org/whl/cpu
echo "environment $VENV: the package and its tools"
pip install --quiet --editable ".[dev]"

# Optional simulators: installed where they install cleanly, reported where they do not.
skipped="" name=""
try() { # name, pip arguments
  [ "$name" = "$1" ] || echo "environment $VENV: $1"
  name=$1; shift
  pip install --quiet "$@" || skipped="$skipped $name"
}
# lava-nc declares Python < 3.11, and its pins are older than what it works with (see docs/backends.md).
try lava networkx asteval scipy
try lava --no-deps --ignore-requires-python "lava-nc==0.10.0"
try netx --no-deps --ignore-requires-python "lava-dl==0.6.0"
try onnx onnx onnxruntime onnxscript
# Each asks for more than it imports here: torchvision and torchaudio (which may replace torch), an older nir, and
# samna, whose import installs packages. Hence --no-deps and what they really import.
try snntorch snntorch nirtorch
try norse --no-deps norse
# Built from source: needs g++ and the headers of Python.
try xylo "xylosim==0.1.3"
try sinabs pbr
try sinabs --no-deps sinabs
try spikingjelly loguru requests SciencePlots tensorboard tqdm
try spikingjelly --no-deps spikingjelly
[ -z "$skipped" ] || echo "not installed here (the backends stay off, the rest works):$skipped" >&2
"$VENV/bin/python" -c 'import torch; assert torch.__version__.startswith("2.13.0"), torch.__version__'
