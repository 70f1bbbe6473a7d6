"""This process from its first moment to its last: signals, and a torchrun that is gone.

Only small modules are imported here: until they are there, Ctrl-C is answered by Python.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from bertolt.base.errors import UsageError

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as a shell counts."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM."""
ORPHANED = 1
"""Exit code of a process whose torchrun is gone; nobody reads it."""

_PAUSE = 0.5  # seconds between looks at the parent


@contextlib.contextmanager
def whole_process() -> Iterator[None]:
    """Around all that a process does: whichever signal ends it, and when, its exit code is right.

    A Ctrl-C while a module is imported ends the process at once: what an import raises is often
    swallowed, and the program would go on with half a module. So does a second one, which would
    interrupt the message about the first. After the block neither signal changes the exit code.

    Raises:
        SystemExit: after a Ctrl-C that nothing inside has answered.
    """
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted or _is_importing(frame):
            _write("" if interrupted else "bertolt: interrupted\n")
            os._exit(INTERRUPTED)
        interrupted = True
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        _write("bertolt: interrupted\n")
        raise SystemExit(INTERRUPTED) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def end_at_once(code: int) -> None:
    """End the process after all that an exit does but for the interpreter's own end.

    A thread that comes for something of Python's during that end, as one in a pass of PyTorch or of
    its networks does, aborts the process, whose work is done.

    Args:
        code: the exit code.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):  # nobody listens any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def kept_hangups() -> Iterator[Callable[[], bool]]:
    """Note SIGHUP and do not end by it; the function that is given tells whether one came.

    For a process that is to begin anew at that signal, until it is ready to.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    if os.name == "nt" or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGHUP, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGHUP, before)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether some caller of this frame is an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def number_of(variable: str, default: int, least: int = 0) -> int:
    """The number in an environment variable that torchrun sets.

    Raises:
        UsageError: it holds something else, or less than `least`.
    """
    text = os.environ.get(variable, str(default))
    if text.strip().isdecimal() and int(text) >= least:
        return int(text)
    raise UsageError(
        f"{text!r} is no number of {least} or more",
        place=f"the environment variable {variable}",
        fix=f"unset {variable}, or let torchrun set it: torchrun --nproc-per-node 2 PROGRAM",
    )


@functools.cache
def end_with_torchrun() -> None:
    """Watch the parent if it is torchrun, from a thread; further calls do nothing.

    torchrun ends its processes when it is asked to end. Where it is killed it cannot, and they
    would wait for each other, with all their memory. The earlier this is called the better: a
    parent that was gone before is not known.
    """
    # Without torchrun a parent may go as it likes: a shell that its user leaves, for instance.
    if "TORCHELASTIC_RUN_ID" in os.environ and os.name != "nt":
        threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PAUSE)
    if os.environ.get("LOCAL_RANK", "0") == "0":  # in a thread, where nothing may be raised
        _write(
            "bertolt: error: torchrun is gone, and its processes end with it\n"
            "  fix: start it again; a run with checkpoints goes on with --resume\n"
        )
    # At once, as by a kill, which a run survives: the main thread may be where no signal reaches.
    os._exit(ORPHANED)


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody listens any more
        sys.stderr.write(text)
        sys.stderr.flush()
