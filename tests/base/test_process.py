"""A process from its first moment to its last: signals, and a torchrun that is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bertolt.base.process import TERMINATED

ROOT = Path(__file__).parents[2]

PROCESS = """
import os, signal, sys
from bertolt.base.console import ended_by_sigterm
from bertolt.base.process import whole_process

def kill(number):
    os.kill(os.getpid(), number)

with whole_process(), ended_by_sigterm():
    {body}
{after}
"""


def ended(body: str, after: str = "") -> subprocess.CompletedProcess[str]:
    """A process of its own, with Ctrl-C as a terminal has it."""
    return subprocess.run(
        [sys.executable, "-c", PROCESS.format(body=body, after=after)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_an_interrupt_in_an_import_that_swallows_it_ends_the_process(tmp_path: Any) -> None:
    swallows = "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    [0] * 9\n"
    (tmp_path / "swallows.py").write_text(swallows + "except KeyboardInterrupt:\n    pass\n")
    said = ended(f"sys.path.insert(0, {str(tmp_path)!r}); import swallows; print('went on')")
    assert (said.returncode, said.stdout, said.stderr) == (130, "", "bertolt: interrupted\n")


def test_a_second_interrupt_while_the_first_is_told_ends_the_process() -> None:
    body = """
    try:
        kill(signal.SIGINT); [0] * 9
    except KeyboardInterrupt:
        kill(signal.SIGINT); print("went on")
    """
    said = ended(body)
    assert (said.returncode, said.stdout, said.stderr) == (130, "", "")


def test_an_interrupt_that_nobody_answers_is_told() -> None:
    said = ended("kill(signal.SIGINT); [0] * 9; print('went on')")
    assert (said.returncode, said.stdout, said.stderr) == (130, "", "bertolt: interrupted\n")


@pytest.mark.parametrize("number", ["signal.SIGINT", "signal.SIGTERM"])
def test_a_signal_after_the_end_does_not_change_the_exit_code(number: str) -> None:
    assert ended("pass", f"kill({number}); sys.exit(7)").returncode == 7


def test_a_sigterm_is_an_exit() -> None:
    assert ended("kill(signal.SIGTERM); print('went on')").returncode == TERMINATED


def started(program: str, **environment: str) -> subprocess.Popen[str]:
    """A process of its own that runs a program, with Ctrl-C as a terminal has it."""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_a_thread_at_work_does_not_change_the_end_of_a_command(tmp_path: Path) -> None:
    """Whoever comes for something of Python's from C++ would abort the process."""
    done = tmp_path / "done"
    program = f"""
import atexit, sys, threading, time
import torch
from bertolt.commands.process import whole_command

def work():
    values = torch.rand(300, 300)
    while True:
        torch.autograd.functional.jacobian(lambda x: (x @ x).sum(), values)

atexit.register(lambda: open({str(done)!r}, "w").close())
with whole_command():
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.5)
    print("told")
    raise SystemExit(3)
"""
    process = started(program)
    assert process.communicate(timeout=60)[0] == "told\n"
    assert process.returncode == 3
    assert done.exists()


def test_little_is_imported_before_signals_are_minded() -> None:
    program = (
        "import sys; before = set(sys.modules); import bertolt.__main__;"
        "print(*sorted(set(sys.modules) - before))"
    )
    names = started(program).communicate(timeout=60)[0].split()
    large = {"cyclopts", "dataclasses", "inspect", "pathlib", "bertolt.cli", "numpy", "torch"}
    assert "bertolt.base.process" in names
    assert not large & set(names)
    assert len(names) < 25


def test_an_interrupt_before_the_command_line_is_imported() -> None:
    program = """
import os, signal, sys

class Early:
    def find_spec(self, name, *rest):
        if name == "cyclopts":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Early())
from bertolt.__main__ import main
main()
"""
    process = started(program)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "bertolt: interrupted\n")


CHILD = "from bertolt.base.process import end_with_torchrun as e; e(); import os, time; "
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r} + "os.write(1, b'1'); time.sleep(9)"],
                         stdout=subprocess.PIPE)
child.stdout.read(1)
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(os.name == "nt", reason="has no orphans")
@pytest.mark.parametrize("torchruns", [True, False])
def test_a_process_of_a_torchrun_that_is_killed_ends(torchruns: bool) -> None:
    parent = started(PARENT, **({"TORCHELASTIC_RUN_ID": "none"} if torchruns else {}))
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    end = time.monotonic() + 5
    while torchruns and is_alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    try:
        assert is_alive(child) != torchruns
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    said = parent.communicate(timeout=60)[1]
    assert ("torchrun is gone, and its processes end with it" in said) == torchruns


def is_alive(number: int) -> bool:
    """Whether there is such a process, other than one that has ended and waits for its parent."""
    try:
        state = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return False
    return state[0] != "Z"
