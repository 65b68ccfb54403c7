"""What must not wait for torch does not import it."""

import subprocess
import sys

import pytest

_HELP = "import sys; from snnkd_deploy.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"


@pytest.mark.parametrize("work", [_HELP, "import sys, snnkd_deploy\n"])
def test_help_and_import_leave_torch_alone(work: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", work + "print('HEAVY', sorted({'torch', 'numpy', 'nir'} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines()[-1] == "HEAVY []"
