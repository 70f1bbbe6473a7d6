"""What the user is told about a file and its texts, the same words for every command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bertolt.base.console import say
from bertolt.base.format import clean, plural, shorten
from bertolt.data.encode import EncodedTexts
from bertolt.data.load import Table

SHOWN_ROWS = 5
SHOWN_LABELS = 12


def shown(name: str, limit: int = 40) -> str:
    """A name from a file made fit for one line: no control characters, not too long."""
    return clean(shorten(name, limit))


def tell_table(table: Table, flags: Mapping[str, str] | None = None) -> None:
    """Say how many rows were read, from which columns, and which were left out and why.

    Args:
        table: as it was read.
        flags: the option that names a column, by role, where it is not `--text` or `--label`.
    """
    say(f"{table.path}: {plural(table.rows_read, 'row')} read")
    for role, column in (("text", table.text_column), ("label", table.label_column)):
        if column is not None:
            flag = (flags or {}).get(role, f"--{role}")
            how = table.found.get(role, f"named by {flag}")
            say(f"  {role}s from the column '{shown(column)}' ({how})")
    if "delimiter" in table.found:
        say(f"  cells parted by {table.found['delimiter']}")
    for reason, rows in table.dropped.items():
        say(f"  dropped {plural(len(rows), 'row')}: {reason} ({_row_numbers(rows)})")


def _row_numbers(rows: Sequence[int]) -> str:
    numbers = ", ".join(map(str, rows[:SHOWN_ROWS])) + (", …" if len(rows) > SHOWN_ROWS else "")
    return f"row {numbers}" if len(rows) == 1 else f"rows {numbers}"


def tell_rows(what: str, rows: EncodedTexts, labels: Sequence[str] = ()) -> None:
    """Say how many texts there are, with which labels, how long they are, and what is cut.

    Args:
        what: they are, as in "Training".
        rows: the encoded texts, with classes if `labels` is given.
        labels: names of the classes.
    """
    counts = f" ({_label_counts(rows, labels)})" if labels else ""
    say(f"{what}: {plural(len(rows), 'text')}{counts}")
    middle, most = np.percentile(rows.full_lengths, [50, 95], method="nearest")
    say(f"  tokens a text: median {middle}, 95% up to {most}, longest {rows.full_lengths.max()}")
    say(f"  {rows.account}")


def _label_counts(rows: EncodedTexts, labels: Sequence[str]) -> str:
    counts = np.bincount(np.asarray(rows.labels), minlength=len(labels))
    if len(labels) <= SHOWN_LABELS:
        pairs = zip(labels, counts, strict=True)
        return ", ".join(f"{count:,} {shown(name)}" for name, count in pairs)
    order = np.argsort(-counts, kind="stable")
    most, least = order[0], order[-1]
    return (
        f"{len(labels)} labels, from {counts[most]:,} {shown(labels[most])} "
        f"down to {counts[least]:,} {shown(labels[least])}"
    )
