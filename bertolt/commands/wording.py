"""Messages in the words of the command that was typed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from bertolt.base.console import reworded
from bertolt.base.errors import BertoltError

Names = dict[str, str] | dict[str | re.Pattern[str], str]
"""Options, phrases and patterns in messages, and what stands there instead."""


@contextlib.contextmanager
def options_called(names: Names, *, told: bool = False) -> Iterator[None]:
    """Let errors name the options of this command.

    Reading a table names columns by `--text` and its like; a command in which `--text` is a text
    calls the option for the column otherwise.

    Args:
        names: an option or a phrase as errors have it, or a pattern, and as it is called here.
        told: let what is told in the block name them too.

    Raises:
        BertoltError: the error of the block, in the words of this command.
    """
    try:
        with reworded(lambda words: _renamed(words, names)) if told else contextlib.nullcontext():
            yield
    except BertoltError as error:
        problem, place, fix = (
            _renamed(words, names) for words in (error.problem, error.place, error.fix)
        )
        raise type(error)(problem, place=place, fix=fix) from error


def _renamed(words: str, names: Names) -> str:
    for name, called in names.items():
        pattern = rf"{re.escape(name)}(?![\w-])" if isinstance(name, str) else name
        words = re.sub(pattern, called, words)
    return words
