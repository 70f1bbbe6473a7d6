"""`torchrun` whose processes are forks of one that has imported everything.

An interpreter needs longer to import PyTorch than a test's run takes. Each line of the standard
input is a list: the words of `torchrun`, and the files for its output and for what it says; each
line of the standard output is its exit code. The workers have sessions, environments, signals and
exit codes of their own; of the agent's they have the imports, and its open descriptors.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any


class Forked:
    """A forked process, with what torchrun's agent asks of `subprocess.Popen`."""

    def __init__(self, run: Callable[[], None], *, own_session: bool) -> None:
        self.args: list[str] = []
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(exit_code(run, own_session))

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (1e9 if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.02)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def exit_code(run: Callable[[], None], own_session: bool) -> int:
    """Of an interpreter that does this and ends."""
    code: int | str | None = 0
    try:
        if own_session:
            os.setsid()
        run()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as an interpreter tells it
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


def start(handler: Any, words: tuple[str, ...], environment: Mapping[str, str]) -> Forked:
    """What torchrun starts: `python -u PROGRAM WORDS…`."""
    program = words.index("-u") + 1

    def run() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = list(words[program:])
        runpy.run_path(words[program], run_name="__main__")

    return Forked(run, own_session=True)


def agent(words: list[str], output: str, said: str) -> Callable[[], None]:
    def run() -> None:
        for path, number in ((output, 1), (said, 2)):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, number)
        torch.distributed.run.main(words)

    return run


if __name__ == "__main__":
    import torch.distributed.run
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

    import bertolt.commands.finetune.run
    import bertolt.pretrain.run
    import bertolt.report.figures  # noqa: F401 - forked runs find all imported
    from bertolt.pretrain import setup
    from bertolt.pretrain.plan import Device

    peak = Device(name="this machine", count=1, peak=1e11, memory=None, on_cpu=True)
    setup.this_device = lambda precision: peak  # which takes seconds to measure
    SubprocessHandler._popen = start
    for line in sys.stdin:
        # In the session of the nursery, with which it is killed; its end is that of its workers.
        print(Forked(agent(*json.loads(line)), own_session=False).wait(), flush=True)
