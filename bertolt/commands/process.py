"""A command as a process: its streams, and what becomes of the errors that nobody caught.

Only light modules are imported.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from io import TextIOBase, TextIOWrapper
from typing import NoReturn

from cyclopts import CycloptsError

from bertolt.base.console import info, report_error, set_output_role
from bertolt.base.errors import BertoltError, UsageError
from bertolt.base.format import shorten
from bertolt.base.process import INTERRUPTED, end_at_once, end_with_torchrun, whole_process
from bertolt.commands.mistyped import problem_and_fix

_BROKEN_PIPE = 141


@contextlib.contextmanager
def whole_command() -> Iterator[None]:
    """Around all of a command that is a process of its own: signals, and how the process ends.

    Raises:
        SystemExit: as the block does, where no thread is at work; else the process ends here.
    """
    try:
        with whole_process():
            yield
    except SystemExit as ended:
        if _has_threads_at_work():
            code = ended.code or 0
            end_at_once(code if isinstance(code, int) else 1)
        raise


def _has_threads_at_work() -> bool:
    """Whether threads may outlive the interpreter: those that it does not wait for, as one that
    loads a model for a server which has ended, and those of a run in several processes."""
    if any(thread.daemon for thread in threading.enumerate()):
        return True
    if "bertolt.base.distributed" not in sys.modules:
        return False
    from bertolt.base.distributed import is_joined

    return is_joined()


@contextlib.contextmanager
def told_plainly(usage_of: Callable[[Sequence[str]], str]) -> Iterator[None]:
    """Turn what a person can mend into one message and an exit code, without a traceback.

    Args:
        usage_of: how a command is typed, without the word before it.

    Raises:
        SystemExit: such an end of the block.
    """
    try:
        yield
    except BertoltError as error:
        _fail(str(error), error.exit_code)
    except CycloptsError as error:
        problem, fix = problem_and_fix(error, usage_of(error.command_chain or ()))
        _fail(f"{problem}\n  fix: {fix}", BertoltError.exit_code)
    except KeyboardInterrupt:
        info("bertolt: interrupted")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read the output has gone; there is nobody left to tell.
        _discard_output()
        raise SystemExit(_BROKEN_PIPE) from None
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:
            _discard_output()
            _fail("standard output: no space left\n  fix: free some space", BertoltError.exit_code)
        if error.filename is None:
            raise
        fix = "look at the path, and at who may read and write there"
        problem = f"{shorten(str(error.filename), 200)}: {error.strerror or error}"
        _fail(f"{problem}\n  fix: {fix}", BertoltError.exit_code)
    except Exception as error:
        if "bertolt.base.distributed" not in sys.modules:
            _fail_without_memory(error)
            raise
        from bertolt.base.distributed import join, report_crash

        if join().alone:
            _fail_without_memory(error)
            raise
        report_crash(error)
        raise SystemExit(1) from None


def _fail_without_memory(error: Exception) -> None:
    from bertolt.base.machine import is_out_of_memory

    if is_out_of_memory(error):
        why = next(iter(str(error).splitlines()), "")
        _fail(
            "there is not enough memory" + (f" ({shorten(why, 200)})" if why else "") + "\n"
            "  fix: take smaller batches or shorter texts, a smaller model, or a machine with more",
            BertoltError.exit_code,
        )


def _fail(message: str, code: int) -> NoReturn:
    report_error(f"bertolt: error: {message}")
    raise SystemExit(code) from None


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that Python does not stumble over it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def speak_for_all() -> None:
    """Of the processes that torchrun starts, let the first one say what each would say."""
    end_with_torchrun()
    if os.environ.get("WORLD_SIZE", "1") != "1":  # what is no number is told when they meet
        first = os.environ.get("RANK", "0") == "0"
        set_output_role(silent=not first, may_report_error=lambda: first)


class _NoOutput(TextIOBase):
    """Stands for a standard output that was closed: what is to be printed is lost, and told."""

    def write(self, text: str) -> int:
        raise UsageError(
            "there is no standard output", fix="let it go to a file, or to /dev/null, by >"
        )


def fill_closed_streams() -> None:
    """Let no file that is opened later take the number of a standard stream that was closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python has None for them.
    sys.stdout = sys.stdout or _NoOutput()
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def speak_utf8() -> None:
    """Write UTF-8 whatever the locale says: texts and labels may be in any script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
