"""`bertolt completion`: what a real shell completes."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.running import Said

Run = Callable[..., Said]


@pytest.fixture
def script(bertolt: Run, tmp_path: Path) -> Path:
    path = tmp_path / "bertolt.bash"
    path.write_text(bertolt("completion", "bash").out, encoding="utf-8")
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_commands_options_and_choices_are_completed(script: Path) -> None:
    expected = {
        "'fine'": {"finetune"},
        "'data' 'f'": {"fetch"},
        "'completion' ''": {"bash", "zsh", "fish"},
        "'finetune' 'x.csv' '--ep'": {"--epochs"},
        "'finetune' 'data' 'plan' '--class'": {"--class-weights"},
        "'finetune' '--precision' ''": {"auto", "fp32", "bf16"},
        "'predict' 'm' '--format' 'j'": {"jsonl", "json"},
        "'finetune' '--keep' ''": {"best"},
        "'finetune' '--config' ''": set(),
    }
    program = "".join(
        f"COMP_WORDS=('bertolt' {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); COMPREPLY=(); "
        '_bertolt; echo "${COMPREPLY[*]}"\n'
        for words in expected
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", f"source '{script}'\n{program}"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = [set(line.split()) for line in done.stdout.split("\n")]
    assert dict(zip(expected, lines, strict=False)) == expected
    assert not done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_somebody_types_and_presses_tab(script: Path, tmp_path: Path) -> None:
    (tmp_path / "my model").mkdir()
    typed = (
        f"source '{script}'; bertolt() {{ printf '<%s>' \"$@\"; }}\n"
        "bertolt predi\tmy\t --prec\tint\t\n"
        "bertolt pretrain s --conf\tmy\t\nexit\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path,
        env=os.environ | {"TERM": "dumb", "PS1": "$ "},
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, typed.encode())
    output = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the terminal went with the shell
            break
        if not part:
            break
        output += part
    process.wait(timeout=30)
    os.close(ours)
    assert b"<predict><my model/><--precision><int8>" in output
    assert b"<pretrain><s><--config><my model/>" in output


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_theirs(bertolt: Run, tmp_path: Path, shell: str) -> None:
    said = bertolt("completion", shell)
    for word in ("finetune", "epochs", "inverse_sqrt", "--config" if shell == "zsh" else "config"):
        assert word in said.out
    if program := shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(said.out, encoding="utf-8")
        subprocess.run([program, "-n", str(path)], check=True, timeout=60)


def test_another_shell_is_refused(bertolt: Run) -> None:
    said = bertolt("completion", "tcsh")
    assert said.code == 2
    assert "tcsh" in said.err
