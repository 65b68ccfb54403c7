"""`snnkd completion SHELL`: words for the Tab key, made from the parser itself."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_snnkd() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} words="" begun=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words={verbs}
        [ "${{cur#-}}" != "$cur" ] && words="--help --version"
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
        return
    fi
    # --option=value: bash cuts it into three words.
    if [ "$cur" = "=" ]; then cur=""
    elif [ "$prev" = "=" ]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    case "${{COMP_WORDS[1]}} $prev" in
{values}
    esac
    if [ -z "$words" ] && [ "${{cur#-}}" != "$cur" ]; then
        case "${{COMP_WORDS[1]}}" in
{options}
        esac
    fi
    [ -n "$words" ] && COMPREPLY=($(compgen -P "$begun" -W "$words" -- "$cur"))
    return 0
}}
complete -o default -F _snnkd snnkd
"""
# Options that take several values, with commas between: the last one is completed.
_LISTS = ("--backends",)
_LAST = '; case "$cur" in *,*) begun="${cur%,*}," cur="${cur##*,}" ;; esac'


def completion(verbs: Mapping[str, argparse.ArgumentParser], shell: str, names: Mapping[str, list[str]]) -> str:
    """The script for `shell` to read. `names`: option -> its values, where the parser does not list them."""
    if shell == "fish":
        return _fish(verbs, names)
    options, values = [], []
    for verb, parser in verbs.items():
        options.append(f"            {verb}) words={shlex.quote(' '.join(_options(parser)))} ;;")
        for action in parser._actions:
            known = _values(action, names)
            if known:
                # A positional comes after the verb itself.
                before = [f"'{verb} {flag}'" for flag in action.option_strings or [verb]]
                last = _LAST if set(action.option_strings) & set(_LISTS) else ""
                values.append(f"        {'|'.join(before)}) words={shlex.quote(' '.join(known))}{last} ;;")
    text = _BASH.format(verbs=shlex.quote(" ".join(verbs)), values="\n".join(values), options="\n".join(options))
    return f"autoload -U +X bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings]


def _values(action: argparse.Action, names: Mapping[str, list[str]]) -> list[str]:
    if action.choices is not None:
        # A bare ">" on the command line would be the shell's own: it is left to be typed, in quotes.
        return [str(choice) for choice in action.choices if shlex.quote(str(choice)) == str(choice)]
    keys = action.option_strings or [action.dest]
    return next((names[key] for key in keys if key in names), [])


def _fish(verbs: Mapping[str, argparse.ArgumentParser], names: Mapping[str, list[str]]) -> str:
    lines = []
    for verb, parser in verbs.items():
        about = (parser.description or "").splitlines()[0]
        lines.append(f"complete -c snnkd -n __fish_use_subcommand -f -a {verb} -d {shlex.quote(about)}")
        when = f"-n '__fish_seen_subcommand_from {verb}'"
        for action in parser._actions:
            flags = "".join(f" -l {f[2:]}" if f.startswith("--") else f" -s {f[1:]}" for f in action.option_strings)
            known = _values(action, names)
            wanted = "" if action.nargs == 0 or not flags else " -r"
            listed = f" -f -a {shlex.quote(' '.join(known))}" if known else ""
            if flags or listed:
                about = f" -d {shlex.quote(action.help)}" if action.help and "%" not in action.help else ""
                lines.append(f"complete -c snnkd {when}{flags}{wanted}{listed}{about}")
    return "\n".join(lines) + "\n"
