"""Which columns play which role (text, second text, label), where nobody said so."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bertolt.base.errors import DataError, UsageError, nearest
from bertolt.base.format import plural
from bertolt.data.choices import find_columns
from bertolt.data.table_file import (
    BadRow,
    TableFile,
    is_missing,
    listing,
    numbered_columns,
    title_fix,
)

# The plain names of a role come before its other names: `text` is the text though there is a
# `title`, `label` the label though there is a `rating`.
PLAIN_NAMES = {"text": ("text", "文本"), "label": ("label", "labels", "标签")}
OTHER_NAMES = {
    "text": (
        *("sentence", "review", "content", "comment", "body", "message", "tweet", "document"),
        *("title", "headline", "review_text", "review_body", "内容", "评论", "句子", "正文"),
        "tokens",
    ),
    "label": (
        *("sentiment", "class", "category", "target", "rating", "stars", "y", "polarity"),
        *("intent", "emotion", "score", "类别", "情感"),
        *("tags", "ner_tags", "pos_tags", "spans", "entities"),
        *("answers", "answer", "is_next", "next_sentence_label"),
    ),
}
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("text", "text_pair"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "context"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("anchor", "positive"),
)
"""Columns that hold two texts which belong together."""
TRIPLET = ("anchor", "positive", "negative")
"""Columns of two texts that belong together, and of a third that does not; it may be missing."""
FLAGS = {"text": "--text", "text_pair": "--text-pair", "label": "--label"}

SAMPLE = 1000  # rows looked at to tell labels from texts
FEW_LABELS = 50  # no more different values than this are labels by themselves


_BELOW_TITLE = 20  # lines that are looked at for column names


class NoColumnError(DataError):
    """A role that no column of a file, or more than one, could play."""


class Choice(NamedTuple):
    """The columns to read, by role in the order text, text_pair, label; why each was taken."""

    columns: dict[str, list[str]]
    found: dict[str, str]

    @property
    def text(self) -> str:
        """The column of the texts."""
        return self.columns["text"][0]


def choose_columns(
    source: TableFile,
    path: Path,
    *,
    text: str | None,
    label: str | None,
    need_label: bool,
    text_pair: str | None = None,
    prefer: Mapping[str, Sequence[str]],
    layout: bool = True,
    label_optional: bool = False,
    pair_names: Sequence[tuple[str, str]] = (),
) -> Choice:
    """Take the columns that are named; find the others by their names, then by what they hold.

    Columns that `prefer` gives for a role are taken before any search, if all are there. Labels may
    be in several columns, named with commas between them. `layout` says whether the command has
    options for the layout of a table, which a fix may name. With `label_optional`, and beside two
    texts that belong together by their names, a label is taken where there is one. `pair_names` are
    further names of columns with pairs.

    Raises:
        DataError: a column that is named is not there, or one that is not named could be several
            or none.
        UsageError: two roles name the same column.
    """
    named = {"text": text, "text_pair": text_pair, "label": label}
    chosen = {
        role: [names] if role == "text" else _parted(names, source.columns)
        for role, names in named.items()
        if names is not None
    }
    chosen = {
        role: [by_number(name, source.columns) for name in names] for role, names in chosen.items()
    }
    _check_named(chosen, source, path)
    roles = ["text", "label"] if need_label or label is not None else ["text"]
    reasons = dict(source.found)
    for role in [*roles, *(["text_pair"] if "text_pair" in prefer else [])]:
        names = list(prefer.get(role, ()))
        if role not in chosen and names and set(names) <= set(source.columns):
            chosen[role], reasons[role] = names, "as in training"
    _choose_choices(chosen, reasons, source, roles)
    _choose_pair(chosen, reasons, source, (*pair_names, *PAIR_NAMES))
    label_optional |= _choose_third(chosen, reasons, source, "label" in roles)
    for search in (_usual, _by_name, _by_content):
        for role in roles:
            hit = None if role in chosen else search(role, chosen, source, path)
            if hit is not None:
                chosen[role], reasons[role] = [hit[0]], hit[1]
    for role in roles:
        if role not in chosen and not (role == "label" and label_optional):
            raise _none_found(role, source, path, layout)
    return Choice({role: chosen[role] for role in FLAGS if role in chosen}, reasons)


def rows_of_title(header: Sequence[object], below: Iterable[tuple[int, Sequence[object]]]) -> int:
    """How many lines are above what could be the column names, where a title may stand above them.

    A title is the first cell and the only one with something in it, and no usual name of a column;
    a line with several different names is somewhere below. What parts cells may stand in the title
    too; then the names are more than its pieces, and one of them is a usual one.

    Args:
        header: the first line.
        below: the lines that follow, with their numbers from 1.
    """
    title = _filled(header)
    if not title or not str(header[0]).strip() or _has_usual(title):
        return 0
    for number, cells in itertools.islice(below, _BELOW_TITLE):
        names = _filled(cells)
        more = len(names) > len(title) and len(set(names)) == len(names)
        if more and (len(title) == 1 or _has_usual(names)):
            return number - 1
    return 0


def _filled(cells: Sequence[object]) -> list[str]:
    return [name for cell in cells if (name := str(cell).strip())]


def _has_usual(names: Sequence[str]) -> bool:
    usual = {*itertools.chain(*PLAIN_NAMES.values(), *OTHER_NAMES.values(), *PAIR_NAMES)}
    return any(name.lower() in usual for name in names)


def _parted(names: str, columns: Sequence[str]) -> list[str]:
    """Names with commas between them; one column may have a comma in its own name."""
    if names in columns:
        return [names]
    parts = [name for each in names.split(",") if (name := each.strip())]
    return list(dict.fromkeys(parts)) or [names]


def by_number(name: str, columns: Sequence[str]) -> str:
    """A column by its name; of a table without a header by its number alone too."""
    named = f"column{name}"
    numbered = columns[:1] == numbered_columns(1)
    return named if numbered and name not in columns and named in columns else name


def _check_named(chosen: Mapping[str, Sequence[str]], source: TableFile, path: Path) -> None:
    columns = source.columns
    for role, names in chosen.items():
        for name in names:
            if name not in columns:
                near, flag = nearest(name, columns), FLAGS[role]
                if name.isdigit() and columns[:1] != numbered_columns(1):
                    raise DataError(
                        f"there is no column {name!r}; the first line has {listing(columns)}",
                        place=str(path),
                        fix=title_fix(
                            source.title,
                            "if that is a row already, add --no-header; "
                            f"else name a column with {flag}",
                        ),
                    )
                raise DataError(
                    f"there is no column {name!r}; there are {listing(columns)}",
                    place=str(path),
                    fix=f"{flag} {near!r}, perhaps"
                    if near
                    else title_fix(source.title, f"name one of them with {flag}"),
                )
    for (role, names), (other, others) in itertools.combinations(chosen.items(), 2):
        for name in names:
            if name in others:
                raise UsageError(
                    f"the column {name!r} cannot be both the {_role_words(role)} and the "
                    f"{_role_words(other)}",
                    place=f"{FLAGS[role]}, {FLAGS[other]}",
                    fix=f"choose two of {listing(columns)}",
                )


def _role_words(role: str) -> str:
    return "second text" if role == "text_pair" else role


def _choose_choices(
    chosen: dict[str, list[str]],
    found: dict[str, str],
    source: TableFile,
    roles: Sequence[str],
) -> None:
    """Columns that usually hold a question and its choices, where nothing is said of pairs."""
    if "text_pair" in chosen:
        return

    def first(name: str) -> object:
        rows = itertools.islice(source.rows([name]), SAMPLE)
        cells = (row[0] for _, row in rows if not isinstance(row, BadRow))
        return next((cell for cell in cells if not is_missing(cell)), None)

    text = chosen["text"][0] if "text" in chosen else None
    for role, names in find_columns(source.columns, first, text).items():
        if names and role not in chosen and (role != "label" or role in roles):
            chosen[role], found[role] = names, "by their names, choices"


def _choose_pair(
    chosen: dict[str, list[str]],
    found: dict[str, str],
    source: TableFile,
    names: Sequence[tuple[str, str]],
) -> None:
    """Two columns that usually hold pairs, where nothing is said of texts; if one is plainly called
    a text, the other has to be plainly the second one."""
    if "text" in chosen or "text_pair" in chosen:
        return
    lower = {name.strip().lower(): name for name in source.columns}
    plain = {name for name in PLAIN_NAMES["text"] if name in lower}
    for first, second in names:
        if first in lower and second in lower and (not plain or first in plain):
            chosen |= {"text": [lower[first]], "text_pair": [lower[second]]}
            found |= dict.fromkeys(("text", "text_pair"), "by their names, a pair")
            return


def _choose_third(
    chosen: dict[str, list[str]], found: dict[str, str], source: TableFile, wanted: bool
) -> bool:
    """Whether the two texts belong together by their names; then take the text that does not."""
    texts = [chosen.get(role, [""])[0].strip().lower() for role in ("text", "text_pair")]
    if texts != list(TRIPLET[:2]):
        return False
    third = next((name for name in source.columns if name.strip().lower() == TRIPLET[2]), None)
    if wanted and third is not None and "label" not in chosen:
        chosen["label"], found["label"] = [third], "by its name, a triplet"
    return True


def _free(chosen: Mapping[str, Sequence[str]], source: TableFile) -> list[str]:
    taken = {name for names in chosen.values() for name in names}
    return [name for name in source.columns if name not in taken]


def _usual(
    role: str, chosen: Mapping[str, Sequence[str]], source: TableFile, path: Path
) -> tuple[str, str] | None:
    """The column that plays the role in every file of this kind."""
    return source.usual.get(role)


def _by_name(
    role: str, chosen: Mapping[str, Sequence[str]], source: TableFile, path: Path
) -> tuple[str, str] | None:
    free = _free(chosen, source)
    plain = [name for name in free if name.strip().lower() in PLAIN_NAMES[role]]
    others = [name for name in free if name.strip().lower() in OTHER_NAMES[role]]
    matches = plain or others
    if len(matches) > 1:
        raise NoColumnError(
            f"several columns could be the {role}: {listing(matches)}",
            place=str(path),
            fix=f"name one of them with --{role}, for instance --{role} {matches[0]!r}",
        )
    if not matches:
        return None
    before = f", before {listing(others)}" if plain and others else ""
    return matches[0], f"by its name{before}"


def _by_content(
    role: str, chosen: Mapping[str, Sequence[str]], source: TableFile, path: Path
) -> tuple[str, str] | None:
    """The only column as the text; the second of two if what it holds fits the role."""
    free = _free(chosen, source)
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
    reason = f"the other of two columns, {different} different values in {plural(count, 'row')}"
    return (free[0], reason) if fits else None


def _none_found(role: str, source: TableFile, path: Path, layout: bool) -> DataError:
    columns = source.columns
    fix = f"name one of them with --{role}"
    if columns[:1] == numbered_columns(1):
        fix = "name it by its number, as --text 2 --label 1"
    elif layout:
        without = (
            f"{fix} (where a file does not begin with a line of column names, add --no-header, "
            "and name columns by number, as --text 2)"
        )
        fix = title_fix(source.title, without)
    return NoColumnError(
        f"no column is surely the {role}; there are {listing(columns) or 'none'}",
        place=str(path),
        fix=fix,
    )
