"""`snnkd completion`: the script works in the shell that it is for."""

import os
import pty
import select
import shlex
import shutil
import subprocess
import time

import pytest

from snnkd_deploy.chips import list_chips
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
        ("snnkd -", {"--help", "--version"}),
        ("snnkd fit m.nir --chip = loihi", {"loihi1", "loihi2"}),  # as bash cuts --chip=loihi
        ("snnkd fit m.nir --chip =", {*list_chips(), "all"}),
        ("snnkd compare m.nir --backends onn", {"onnx"}),
        ("snnkd compare m.nir --backends exact,lav", {"exact,lava"}),
        ("snnkd lower m.nir --fires >", set()),  # it would be the shell's own ">"
        ("snnkd run recipe.t", set()),  # files are the shell's own business
    ],
)
def test_bash(words, expected, script):
    ask = ASK.format(words=shlex.join(words.split()), at=len(words.split()) - 1)
    done = subprocess.run(["bash", "-c", f"{script('bash')}\n{ask}"], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("snnkd sim", "snnkd simulate "),
        ("snnkd simulate --ba", "snnkd simulate --backend "),
        ("snnkd simulate my", "snnkd simulate my\\ model.nir "),
        ("snnkd simulate m.nir --input x", "snnkd simulate m.nir --input x.npz "),
        ("snnkd fit m.nir --chip=speck", "snnkd fit m.nir --chip=speck2f "),
        ("snnkd run rec", "snnkd run recipe.toml "),
        ("snnkd report ru", "snnkd report runs/"),
    ],
)
def test_the_tab_key_in_a_terminal(typed, line, script, tmp_path):
    """What stands on the line after Tab: names of files and folders as well, which are the shell's part."""
    for name in ("my model.nir", "x.npz", "recipe.toml"):
        (tmp_path / name).touch()
    (tmp_path / "runs").mkdir()
    (tmp_path / "rc").write_text(script("bash") + "PS1=\nbind 'set enable-bracketed-paste off'\necho 'ready'\n")
    terminal, its_end = pty.openpty()
    command = ["bash", "--noprofile", "--rcfile", "rc", "-i"]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), its_end)
    shell = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "TERM": "dumb"}, start_new_session=True, **streams
    )
    os.close(its_end)
    try:
        assert read_until(terminal, "ready")
        os.write(terminal, typed.encode() + b"\t")
        assert read_until(terminal, line)
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


def read_until(terminal, text, patience_s=60):
    """Whether the terminal shows `text` before patience ends."""
    seen, end = "", time.monotonic() + patience_s
    while text not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            seen += os.read(terminal, 4096).decode(errors="replace")
    return text in seen


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
