"""The command line in a process that torchrun started, with something that goes wrong on the way.

`command.py HOW RANK STEP WORDS…` runs `bertolt WORDS…`. Before step STEP process RANK is killed
(HOW is `die`; only at the first start), or raises an error (`fail`), or a fault (`crash`), or gets
a signal as from a scheduler (`term`), in the first evaluation where HOW is `term-measuring`; or it
is killed before it has read what it works with (`die-early`; only at the first start); or nothing
happens (`well`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from bertolt import cli
from bertolt.base.distributed import is_restarted
from bertolt.base.errors import DataError
from bertolt.tasks import evaluation
from bertolt.tokenization import BertTokenizer
from bertolt.train import loop

train_step = loop.train_step


def disturbed(how: str, rank: int, at: int) -> Any:
    def step(*args: Any, **named: Any) -> Any:
        if named["step"] == at and named["world"].rank == rank and not is_restarted():
            if how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "fail":
                raise DataError("row 7 cannot be used", place="data.csv", fix="mend it")
            if how == "crash":
                raise AssertionError("a fault of the program")
            if how == "term":
                os.kill(os.getpid(), signal.SIGTERM)
        return train_step(*args, **named)

    return step


def stop_measuring(rank: int) -> None:
    """Small batches, and SIGTERM after the first."""
    predict_batches = evaluation.predict_batches
    evaluation.TOKEN_BUDGET["cpu"] = 64

    def batches(*args: Any, **named: Any) -> Iterator[Any]:
        for number, batch in enumerate(predict_batches(*args, **named)):
            assert number == 0, "the evaluation went on"
            if named["world"].rank == rank:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    evaluation.predict_batches = batches


def die_early(rank: int) -> None:
    """Be killed as the tokenizer is to be read."""
    if int(os.environ["RANK"]) == rank and not is_restarted():
        BertTokenizer.from_pretrained = lambda *given, **named: os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    how, rank, at, *words = sys.argv[1:]
    if how == "term-measuring":
        stop_measuring(int(rank))
    if how == "die-early":
        die_early(int(rank))
    loop.train_step = disturbed(how, int(rank), int(at))
    sys.argv[1:] = words
    cli.main()
