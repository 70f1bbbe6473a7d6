"""Starting several processes of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = Path(__file__).with_name("command.py")
TIMEOUT = 240  # seconds, for a machine that is very busy


def torchrun(
    *words: object, count: int = 2, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Start a program in so many processes and wait for them."""
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*started, f"--nproc-per-node={count}", *options, *map(str, words)],
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
