"""Which column holds the texts and which the labels, where nobody said so."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bertolt.base.errors import DataError, UsageError, nearest
from bertolt.data.formats import BadRow, Source, listing

# The plain names of a role come before its other names: `text` is the text though there is a
# `title`, `label` the label though there is a `rating`.
PLAIN_NAMES = {"text": ("text", "文本"), "label": ("label", "labels", "标签")}
OTHER_NAMES = {
    "text": (
        *("sentence", "review", "content", "comment", "body", "message", "tweet", "document"),
        *("title", "headline", "review_text", "review_body", "内容", "评论", "句子", "正文"),
    ),
    "label": (
        *("sentiment", "class", "category", "target", "rating", "stars", "y", "polarity"),
        *("intent", "emotion", "类别", "情感"),
    ),
}
OTHER_ROLE = {"text": "label", "label": "text"}

SAMPLE = 1000  # rows looked at to tell labels from texts
FEW_LABELS = 50  # no more different values than this are labels by themselves


class Choice(NamedTuple):
    """The columns to read, and the reason for each that was found."""

    text: str
    label: str | None
    found: dict[str, str]


def choose_columns(
    source: Source,
    path: Path,
    *,
    text: str | None,
    label: str | None,
    need_label: bool,
    prefer: Mapping[str, str],
) -> Choice:
    """Take the columns that are named; find the others by their names, then by what they hold.

    A column that `prefer` gives for a role is taken before any search, if it is there.

    Raises:
        DataError: a column that is named is not there, or one that is not named could be several
            or none.
        UsageError: both roles name the same column.
    """
    chosen = {role: name for role, name in (("text", text), ("label", label)) if name is not None}
    _check_named(chosen, source.columns, path)
    wanted = ["text", "label"] if need_label or label is not None else ["text"]
    found = dict(source.found)
    for role in wanted:
        if role not in chosen and prefer.get(role) in source.columns:
            chosen[role], found[role] = prefer[role], "as in training"
    for search in (_by_name, _by_content):
        for role in wanted:
            hit = None if role in chosen else search(role, chosen, source, path)
            if hit is not None:
                chosen[role], found[role] = hit
    for role in wanted:
        if role not in chosen:
            raise _none_found(role, source.columns, path)
    return Choice(chosen["text"], chosen.get("label"), found)


def _check_named(chosen: dict[str, str], columns: list[str], path: Path) -> None:
    for role, name in chosen.items():
        if name not in columns:
            near = nearest(name, columns)
            raise DataError(
                f"there is no column {name!r}; there are {listing(columns)}",
                place=str(path),
                fix=f"--{role} {near!r}, perhaps" if near else f"name one of them with --{role}",
            )
    if len(chosen) == 2 and chosen["text"] == chosen["label"]:
        raise UsageError(
            f"the column {chosen['text']!r} cannot be both the text and the label",
            place="--text, --label",
            fix=f"choose two of {listing(columns)}",
        )


def _by_name(
    role: str, chosen: dict[str, str], source: Source, path: Path
) -> tuple[str, str] | None:
    free = [name for name in source.columns if name not in chosen.values()]
    plain = [name for name in free if name.strip().lower() in PLAIN_NAMES[role]]
    others = [name for name in free if name.strip().lower() in OTHER_NAMES[role]]
    matches = plain or others
    if len(matches) > 1:
        raise DataError(
            f"several columns could be the {role}: {listing(matches)}",
            place=str(path),
            fix=f"name one of them with --{role}, for instance --{role} {matches[0]!r}",
        )
    if not matches:
        return None
    return matches[
        0
    ], f"by its name, before {listing(others)}" if plain and others else "by its name"


def _by_content(
    role: str, chosen: dict[str, str], source: Source, path: Path
) -> tuple[str, str] | None:
    """The only column as the text; the second of two if what it holds fits the role."""
    free = [name for name in source.columns if name not in chosen.values()]
    if len(source.columns) == 1 and role == "text" and free:
        return free[0], "the only column"
    if len(source.columns) != 2 or len(free) != 1:
        return None
    sample = itertools.islice(source.rows(free), SAMPLE)
    values = [str(row[0]).strip() for _, row in sample if not isinstance(row, BadRow)]
    count, different = len(values), len(set(values))
    if role == "label":
        fits = different <= min(FEW_LABELS, count / 2)
    else:  # words, and neither numbers nor keys
        fits = 2 * sum(" " in value or not value.isascii() for value in values) > count
    reason = f"the other of two columns, {different} different values in {count} rows"
    return (free[0], reason) if fits else None


def _none_found(role: str, columns: list[str], path: Path) -> DataError:
    return DataError(
        f"no column is surely the {role}; there are {listing(columns)}",
        place=str(path),
        fix=f"name one of them with --{role} (a CSV file must begin with a line of column names)",
    )
