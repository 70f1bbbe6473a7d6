"""What machine this is and what runs on it, for reports."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from bertolt.base.version import __version__

KERNELS = "64"
"""Prepared CPU kernels to keep, each of which takes up to some megabytes."""

PACKAGES = ("torch", "tokenizers", "safetensors", "pyarrow", "numpy")


def cpu_name() -> str:
    """The processor's own name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Main memory, where the system tells it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def resident_bytes() -> int:
    """Memory of this process; where the system does not tell it, the most that it ever had."""
    try:
        with open("/proc/self/statm", encoding="ascii") as numbers:  # noqa: PTH123 - no file
            return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return peak_bytes() or 0


def peak_bytes() -> int | None:
    """Most memory that this process has held; None where the system does not tell it."""
    try:
        # What `getrusage` counts is the most of the parent too, where it is what began a process.
        with open("/proc/self/status", encoding="ascii") as lines:  # noqa: PTH123 - no file
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, ValueError, StopIteration):
        if sys.platform == "win32":
            return None
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the processor or of a GPU, could not be had."""
    told = isinstance(error, RuntimeError) and "allocate memory" in str(error)  # torch, on a CPU
    return told or type(error).__name__ in ("MemoryError", "OutOfMemoryError")


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result; Bertolt may run from a clone as well."""
    return {"bertolt": __version__, **{name: metadata.version(name) for name in PACKAGES}}


@functools.cache
def survive_forks() -> None:
    """Let processes that are forked from this one compute with one thread.

    Those of PyTorch's pool are not forked along, and a process would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_compute_alone)


def _compute_alone() -> None:
    import torch

    torch.set_num_threads(1)


@functools.cache
def keep_freed_memory() -> bool:
    """Let the process keep the memory that it frees, for the next step to take; whether it does.

    A step frees and takes tens of megabytes in large pieces. The C library gives each back to the
    system, which has to clear it page by page when it is taken again, in each step of fine-tuning
    on a CPU. Only glibc can be told to keep it (`mallopt`). What was freed before, as by reading a
    file, goes back first: no step would take all of it.
    """
    trim_threshold, mmap_threshold = -1, -3
    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    trim(0)
    largest = 2**31 - 1
    return bool(mallopt(mmap_threshold, 2**30) and mallopt(trim_threshold, largest))


def give_back_memory() -> None:
    """Give the system what was freed and the C library keeps, after something large has gone.

    Each thread frees into a part of the heap of its own, from which little goes back by itself: a
    server that takes over version after version would hold many times what one of them needs. Only
    glibc can be told to give it back (`malloc_trim`).
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def bound_kernel_caches() -> None:
    """Keep fewer prepared CPU kernels than PyTorch's default, unless the user chose a number.

    A kernel is prepared and kept for each distinct shape, 1,024 of them in each of two caches. With
    texts of every length that is about a megabyte for each new mix of lengths, so the memory of an
    evaluation would grow with its rows. A step needs a few dozen. The caches read their size when
    the first product is computed, so this has to come before it.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, KERNELS)
