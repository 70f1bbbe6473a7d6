"""What a task does with texts beyond the limit: as the user, the contract or the task says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertolt.base.checks import is_whole
from bertolt.base.console import info
from bertolt.base.errors import CheckpointError, UsageError
from bertolt.data.encode import Encode
from bertolt.data.long import LONGS, LongTexts, most_stride
from bertolt.tasks.base import Example, Task
from bertolt.tokenization import BertTokenizer

_LEAST = 8
"""Least limit with which a window holds more of a text than what stands around it."""
_WHOLE = 1 << 40
"""A limit in tokens that no text reaches."""
_NAMED = 3  # texts of an example whose tokens are told


def chosen(
    task: Task | type[Task],
    how: str | None,
    stride: int | None,
    limit: int,
    before: LongTexts | None = None,
) -> LongTexts:
    """What is done with longer texts.

    Args:
        task: whose texts they are.
        how: as the user says; None: as `before`.
        stride: likewise.
        limit: most tokens of a window.
        before: as in training; None: as the task does.

    Raises:
        UsageError: the task cannot do it, or windows would not move on.
    """
    before = before or LongTexts(how=task.longs[0])
    how = how or before.how
    if how not in task.longs:
        known = how in LONGS
        raise UsageError(
            f"{task.name} cannot do that: {task.why_not_long}" if known else f"there is no {how!r}",
            place=f"--long {how}",
            fix=f"use {_listed(task.longs)}",
        )
    if how != "window":
        if stride is not None:
            raise UsageError(
                "it says how windows overlap, and longer texts are not read in windows",
                place="--stride",
                fix="use --long window, or leave --stride out"
                if "window" in task.longs
                else "leave it out: there are no windows",
            )
        if how == "head-tail":
            _require_room(how, limit)
        return LongTexts(how=how)
    if how != task.longs[0]:
        _require_room(how, limit)
    stride = before.stride if stride is None and before.how == how else stride
    most = most_stride(limit - 2)
    if stride is not None and stride > most:
        raise UsageError(
            f"windows of {limit} tokens may share {most} at most, and {stride} were asked for",
            place="--stride",
            fix=f"give {most} or less",
        )
    return LongTexts(how=how, stride=stride)


def _require_room(how: str, limit: int) -> None:
    if limit < _LEAST:
        raise UsageError(
            f"a window of {limit} tokens holds hardly any text",
            place=f"--long {how}",
            fix=f"give {_LEAST} or more with --max-length, or leave --long out",
        )


def _listed(names: tuple[str, ...]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def encode_by(task: Task, tokenizer: BertTokenizer, limit: int, long: LongTexts) -> Encode:
    """A function that gives the windows of some examples; "error" reads them as usual."""
    usual = long.how == "error" or long == LongTexts(how=task.longs[0])

    def encode(chunk: list[Any]) -> Any:
        if usual:
            return task.encode(chunk, tokenizer, limit)
        return task.encode_long(chunk, tokenizer, limit, long)

    return encode


def encoding_name(task: Task, long: LongTexts) -> str:
    """All that decides how `encode_by` works, beside tokenizer and limit; names cache entries."""
    usual = long.how == "error" or long == LongTexts(how=task.longs[0])
    return task.encoding if usual else f"{task.encoding}, {long.how} {long.stride}"


def longer_texts(
    task: Task, tokenizer: BertTokenizer, example: Example, limit: int
) -> tuple[str, str | None]:
    """Which texts of an example are longer than the limit, with their tokens, and the role of the
    first of them; of an example that is encoded as one text, nothing."""
    if not task.several_documents:
        return "", None
    (whole,) = task.encode([example], tokenizer, _WHOLE)
    tokens = [len(window.ids) for window in whole.windows]
    if len(tokens) < 2:
        return "", None
    names = [task.document_name(place) for place in range(len(tokens))]
    longer = [place for place, count in enumerate(tokens) if count > limit]
    words = [f"{names[place]} has {tokens[place]:,}" for place in longer[:_NAMED]]
    more = len(longer) - len(words)
    return ", ".join(words) + f", and {more:,} more" * bool(more), task.document_role(longer[0])


def kept(task: Task, long: LongTexts) -> dict[str, Any]:
    """What a contract keeps of it."""
    values: dict[str, Any] = {"how": long.how}
    if long.how == "window":
        values["stride"] = long.stride
        if task.head.reads_documents:
            values["answer"] = task.head.windows_answer
    return values


def read(task: Task, values: Mapping[str, Any], limit: int) -> LongTexts | None:
    """What a contract keeps; None where it keeps nothing.

    Raises:
        CheckpointError: nobody here can do that.
    """
    if not values:
        return None
    how, stride = values.get("how"), values.get("stride")
    known = task.head.windows_answer
    fine = isinstance(how, str) and (stride is None or (is_whole(stride) and stride >= 0))
    try:
        if not fine or values.get("answer", known) != known:
            raise UsageError(f"long is {dict(values)!r}")
        return chosen(task, how, stride, limit)
    except UsageError as error:
        raise CheckpointError(
            f"its texts beyond the limit were prepared in a way that is unknown here "
            f"({error.problem})",
            place="bertolt.json, long",
            fix="save the model again, or answer with the Bertolt that wrote it",
        ) from error


def tell(task: Task, long: LongTexts, limit: int, before: LongTexts | None) -> None:
    """Say that longer texts are read otherwise than in training."""
    before = before or LongTexts(how=task.longs[0])
    if long == before:
        return
    told = f"Longer texts are {long.words(limit)}; in training they were {before.words(limit)}"
    other = ": scores and answers are of another model than the one that was measured"
    info(told if long.how == "error" else told + other)
