"""`snnkd completion`: the script works in the shell that it is for."""

import shutil
import subprocess

import pytest

from snnkd_deploy.cli import build_parser, main, verbs_of

ASK = 'COMP_WORDS=({words}); COMP_CWORD={at}; _snnkd; echo "${{COMPREPLY[@]}}"'


@pytest.fixture
def script(capsys):
    def of(shell):
        assert main(["completion", shell]) == 0
        return capsys.readouterr().out

    return of


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("snnkd ev", {"evaluate"}),
        ("snnkd simulate --ba", {"--backend"}),
        ("snnkd simulate m.nir --backend ex", {"exact"}),
        ("snnkd fit m.nir --chip loihi", {"loihi1", "loihi2"}),
        ("snnkd chips loihi2", {"loihi2"}),
        ("snnkd lower m.nir --reset s", {"subtract"}),
        ("snnkd completion f", {"fish"}),
        ("snnkd run recipe.t", set()),  # files are the shell's own business
    ],
)
def test_bash(words, expected, script):
    ask = ASK.format(words=words, at=len(words.split()) - 1)
    done = subprocess.run(["bash", "-c", f"{script('bash')}\n{ask}"], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_others_are_read_without_complaint(shell, script, tmp_path):
    path = tmp_path / "script"
    path.write_text(script(shell))
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    assert subprocess.run([shell, "-n", str(path)], capture_output=True, check=False).returncode == 0


def test_every_verb_and_option_is_in_it(script):
    text = script("fish")
    for verb, parser in verbs_of(build_parser()).items():
        assert f"-a {verb} " in text
        for action in parser._actions:
            assert all(f" -l {flag[2:]}" in text for flag in action.option_strings if flag.startswith("--"))
