"""Lines for the user: printed as they are, one a line."""

from snnkd_deploy.progress import say, set_quiet


def test_brackets_are_no_markup_and_long_lines_are_not_folded(capsys):
    text = "pip install 'snnkd_deploy[xylo]' :warning: " + "word " * 40 + "end"
    say(text)
    say(text, style="yellow")
    assert capsys.readouterr().err == f"{text}\n" * 2


def test_quiet_says_nothing(capsys):
    set_quiet(True)
    try:
        say("something")
    finally:
        set_quiet(False)
    assert capsys.readouterr().err == ""
