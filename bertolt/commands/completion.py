"""What lets a shell complete the words of a command line."""

from __future__ import annotations

from typing import Literal

from cyclopts import App

_FILES = 'COMPREPLY=( $(compgen -f -- "${cur}") )'
_IS_COMMAND = 'if [[ " $all_commands " =~ " $word " ]]; then'
_DEFINED = "complete -F _bertolt bertolt"


def completion_script(app: App, shell: Literal["bash", "zsh", "fish"]) -> str:
    """A script for a shell to read; it completes by itself, without starting Python.

    Args:
        app: the table of commands.
        shell: that reads it.
    """
    script = app.generate_completion(prog_name="bertolt", shell=shell)
    if shell != "bash":
        return script
    # Readline itself completes names of files, with spaces in them and a slash behind folders, and
    # also where a text may be the name of one, as behind --model.
    script = script.replace(_FILES, "COMPREPLY=()").replace(
        _DEFINED, "complete -o bashdefault -o default -F _bertolt bertolt"
    )
    # A file may be called like a command: only the first word is one, and what follows a group.
    groups = " ".join(name for name in app if not name.startswith("-") and _has_commands(app[name]))
    first = f'${{#cmd_path[@]}} -eq 0 || " {groups} " == " ${{cmd_path[*]}} "'
    return script.replace(_IS_COMMAND, _IS_COMMAND.replace(" ]]", f" && ( {first} ) ]]"))


def _has_commands(app: App) -> bool:
    return any(not name.startswith("-") for name in app)
