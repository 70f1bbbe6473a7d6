"""Killing `bertolt` again and again: the driver in the tests' process, and the nursery beside it.

The nursery is a process that has imported everything once and forks each run, so that one takes a
second. Each line of its standard input is a list: the words of the command, the file for what it
says, and where to kill it; each line of its standard output is how that process ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

Bertolt = Callable[..., int]
"""Runs words, telling a file, killed at a place after so much; gives how it ended."""
Place = Callable[[int], None]
"""Lets a process be killed there, after so many steps, batches or file operations."""

MOST_KILLS = 4  # of one run, which then comes to its end
KILLS = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="forks")]
"""Marks of a file that kills."""


# ---- the driver ----


@pytest.fixture(scope="module")
def bertolt(request: pytest.FixtureRequest) -> Iterator[Bertolt]:
    """Of the nursery beside the test."""
    with nursery(request.path.with_name("nursery.py")) as run:
        yield run


@contextlib.contextmanager
def nursery(program: Path) -> Iterator[Bertolt]:
    """A program that calls `serve`; the function that lets it run a command."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "PYTHONUTF8": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(words: list[str], said: Path, place: str = "", number: int = 0) -> int:
            process.stdin.write(json.dumps([words, str(said), place, number]) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield run
        process.stdin.close()


class Killed(NamedTuple):
    """Runs that were killed and came to their end.

    Attributes:
        folders: of each run, with what it wrote in `out` and what it said in `said.txt`.
        kills: how many there were at each place.
    """

    folders: list[Path]
    kills: Counter[str]

    def require_same(self, is_same: Callable[[Path], bool]) -> None:
        """Hold the result of each run to that of one that was never killed."""
        count = len(self.folders)
        same = sum(is_same(folder / "out") for folder in self.folders)
        told = ", ".join(f"{found} {place}" for place, found in sorted(self.kills.items()) if found)
        print(f"\n{self.kills.total()} kills ({told}); {same} of {count} ends identical")
        assert same == count
        assert self.kills.total() >= count
        said = ((folder / "said.txt").read_text(encoding="utf-8") for folder in self.folders)
        resumed = sum(each.count("Resumed from") for each in said)
        assert resumed >= count // 2, "a run that begins anew each time would end so too"


def kill_again_and_again(
    bertolt: Bertolt, words: list[str], places: Mapping[str, int], folder: Path, *, runs: int
) -> Killed:
    """Make runs, each killed up to four times somewhere and then left alone.

    Args:
        bertolt: as `nursery` gives it.
        words: of a command that resumes.
        places: where to kill, with about as many steps, batches or operations as there are.
        folder: for the folders of the runs.
        runs: how many.
    """
    draw, done = random.Random(0), Killed([], Counter())
    for number in range(runs):
        own = folder / str(number)
        own.mkdir()
        done.folders.append(own)
        for attempt in range(MOST_KILLS + 1):
            place = draw.choice(sorted(places)) if attempt < MOST_KILLS else ""
            until = draw.randrange(places[place]) if place else 0
            code = bertolt([*words, "--out", str(own / "out")], own / "said.txt", place, until)
            assert code in (0, -signal.SIGKILL), (own / "said.txt").read_text(encoding="utf-8")
            done.kills[place] += code != 0
            if code == 0:
                break
    return done


# ---- the nursery ----


def serve(places: Mapping[str, Place]) -> None:
    """Run what the driver asks for, until it asks for no more."""
    from bertolt.cli import main

    for line in sys.stdin:
        words, said, place, number = json.loads(line)
        child = os.fork()
        if child == 0:
            with open(said, "a", buffering=1) as log:  # noqa: PTH123
                sys.stderr = sys.stdout = log
                if place:
                    places[place](number)
                try:
                    main(words)
                except SystemExit as end:
                    log.flush()
                    os._exit(int(end.code or 0))
                except BaseException:  # noqa: BLE001
                    import traceback

                    traceback.print_exc()
                os._exit(99)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def counted(allowed: int) -> Callable[[], None]:
    """A function that kills the process when it is called once more than that."""
    left = allowed

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            kill()

    return count


def after_steps(number: int) -> None:
    """Kill right after a step, before anything is made of it."""
    from bertolt.train import loop

    train_step, count = loop.train_step, counted(number)

    def step(*given: Any, **named: Any) -> Any:
        log = train_step(*given, **named)
        count()
        return log

    loop.train_step = step


def at_any_time(milliseconds: int) -> None:
    """Kill that long after the first step has begun, wherever the run is by then."""
    from bertolt.train import loop

    train_step = loop.train_step

    def step(*given: Any, **named: Any) -> Any:
        loop.train_step = train_step
        threading.Timer(milliseconds / 1000, kill).start()
        return train_step(*given, **named)

    loop.train_step = step


def at_file(name: str) -> Place:
    """Kill before so many-th operation on a file or folder with this in its name."""

    def install(number: int) -> None:
        count = counted(number)

        def watch(event: str, given: tuple[Any, ...]) -> None:
            if event in ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod"):
                path = os.fsdecode(given[0]) if isinstance(given[0], str | os.PathLike) else ""
                if name in path:
                    count()

        sys.addaudithook(watch)

    return install


EVERYWHERE: Mapping[str, Place] = {
    "after a step": after_steps,
    "at any time": at_any_time,
    "in a save": at_file("checkpoint-"),
}
