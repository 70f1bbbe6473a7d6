"""Starting several processes of a test."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = Path(__file__).with_name("command.py")
TIMEOUT = 240  # seconds, for a machine that is very busy
Ended = subprocess.CompletedProcess[str]


def torchrun(
    *words: object, count: int = 2, options: Sequence[str] = (), anew: bool = False
) -> Ended:
    """Start a program in so many processes and wait for them.

    Args:
        words: the program's file, and what it gets.
        count: of processes.
        options: of torchrun.
        anew: by interpreters that import everything, as a user does it; else they are forked
            from one that has, which saves many seconds of each.
    """
    asked = ["--standalone", f"--nproc-per-node={count}", *options, *map(str, words)]
    return interpreted(asked) if anew or os.name == "nt" else forked(asked)


def interpreted(words: list[str]) -> Ended:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words],
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )


def forked(words: list[str]) -> Ended:
    with tempfile.TemporaryDirectory() as folder:
        output, said = (Path(folder) / name for name in ("output", "said"))
        output.touch()
        said.touch()
        try:
            code = asked_of(nursery(), [words, str(output), str(said)])
        except BaseException:  # its answer, if one comes, would be taken for that to the next
            with contextlib.suppress(ProcessLookupError):
                os.killpg(nursery().pid, signal.SIGTERM)
            nursery.cache_clear()
            print(said.read_text(encoding="utf-8"))
            raise
        texts = (path.read_text(encoding="utf-8") for path in (output, said))
        return Ended(words, code, *texts)


def asked_of(process: subprocess.Popen[str], request: list[object]) -> int:
    """The exit code that a nursery gives."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    if not select.select([process.stdout], [], [], TIMEOUT)[0]:
        raise subprocess.TimeoutExpired(str(request), TIMEOUT)
    line = process.stdout.readline()
    assert line, "the nursery has ended"
    return int(line)


@functools.cache
def nursery() -> subprocess.Popen[str]:
    """The process that forks; it ends with its standard input, and so with the tests."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.nursery"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
