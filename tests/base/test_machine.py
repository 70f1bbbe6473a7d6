"""What the library asks of the machine."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time

import pytest
import torch

from bertolt.base import machine

GLIBC = platform.libc_ver()[0] == "glibc"

_FAULTS = """
import resource, sys, torch
from bertolt.base.machine import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(10):
    torch.ones(12_000_000).sum()
before = faults()
for _ in range(10):
    torch.ones(12_000_000).sum()
print(faults() - before)
"""


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told")
def test_memory_that_is_kept_is_not_cleared_by_the_system_again() -> None:
    def faults(how: str) -> int:
        told = subprocess.run(
            [sys.executable, "-c", _FAULTS, how], check=True, capture_output=True, text=True
        )
        return int(told.stdout)

    # A small piece may take the place of a large one, which is then cleared once more elsewhere.
    assert faults("keep") < faults("usual") / 3


def test_the_caches_of_kernels_are_bounded_unless_the_user_chose() -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    program = f"import os, bertolt.models; print(os.environ[{name!r}])"
    for given, wanted in (({}, "64"), ({name: "9"}, "9")):
        clean = {key: value for key, value in os.environ.items() if key != name}
        told = subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env={**clean, **given},
        )
        assert told.stdout.strip() == wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_does_not_wait_for_threads_that_it_lacks() -> None:
    machine.survive_forks()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(600, 600) @ torch.ones(600, 600)
        child = os.fork()
        if not child:
            torch.ones(600, 600) @ torch.ones(600, 600)
            os._exit(torch.get_num_threads())
        deadline = time.monotonic() + 20
        while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        if not ended[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(ended[1]) == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_a_process_is_not_its_parents() -> None:
    """`getrusage` counts the parent's too: each engine seemed to hold what all before it held."""
    held = bytearray(200 << 20)
    words = "from bertolt.base.machine import peak_bytes; print(peak_bytes())"
    child = subprocess.run([sys.executable, "-c", words], capture_output=True, check=True)
    assert 1 << 20 < int(child.stdout) < len(held) < (machine.peak_bytes() or 0)
