"""What a person would want to be told of rows before they are learned or measured.

`finetune` and `evaluate` ask `cautions_of`, which goes through `CHECKS`. A check is one function of
the rows of a file; to add one, write it and put it into that table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.console import tell_caution
from bertolt.base.format import clean, percent, plural, shorten
from bertolt.data import spelling
from bertolt.data.choices import LETTERS, choices_of, readings
from bertolt.data.spelling import quoted
from bertolt.metrics.tags import breaks, is_prefixed
from bertolt.tasks import page
from bertolt.tasks.base import Task
from bertolt.tasks.evaluation import TaskRows
from bertolt.tasks.repeats import (
    near_table,
    texts_in_both_parts,
    texts_nearly_alike_with_several_labels,
    texts_repeated,
)
from bertolt.tasks.row_view import (
    NAMED,
    Integers,
    Repeats,
    RowView,
    each_once,
    first_of,
    parts_of,
    rows_named,
)
from bertolt.tasks.words import text_of
from bertolt.tokenization import BertTokenizer

MANY_DROPPED = 0.1
"""Share of the rows of a file above which those left out are more than odd ones."""
MANY_UNKNOWN = 0.01
"""Share of unknown words above which the vocabulary does not fit; as for a corpus."""
MOSTLY = 0.9
"""Share of the rows with one number above which there is little else to learn."""
FAR = 10.0
"""How far from the middle half of the numbers one is odd, beside the spread of that half."""
FEW = 5
"""Training rows below which a label is hardly learned."""
MANY_OF_SCRIPT = 0.1
"""Share of unknown words of one script above which the vocabulary is of other scripts."""
_OF_SCRIPT = 20  # words of a script, below which a share says little
_MOST_LABELS, _LEAST_TEXTS = 100, 20  # of words that give labels away
_SHOWN = 4  # names, or words, that one of them shows

Told = dict[str, str]
Check = Callable[[RowView], Iterator[Told]]


class Preflight:
    """All checks of the rows of a run.

    Args:
        task: of the rows.
        parts: the rows, encoded, by what they are, as in "Training"; parts of one file are looked
            at together.
        tokenizer: that encoded them; without it nobody looks for unknown words.
        group: the column by whose values rows were kept together, if there is one.

    Attributes:
        repeats: which rows repeat each other; the training rows are of its first file.
    """

    def __init__(
        self,
        task: Task,
        parts: Mapping[str, TaskRows],
        tokenizer: BertTokenizer | None = None,
        group: str | None = None,
    ) -> None:
        self._task, self._parts = task, parts
        files: dict[int, dict[str, TaskRows]] = {}
        for what, part in parts.items():
            files.setdefault(id(part.table), {})[what] = part
        self._views = [RowView(task, rows, tokenizer) for rows in files.values()]
        self.repeats = Repeats(self._views, group)

    @cached_property
    def cautions(self) -> list[Told]:
        """What a person would want to be told: `claim`, `detail` and the `check` each."""
        told = []
        for view in self._views:
            for check in CHECKS:
                told += [_labelled(_file(view), check.__name__, each) for each in check(view)]
        for what, part in self._parts.items():
            own = self._task.cautions(part.table, part.index, part.encoded)
            told += [_labelled(what, self._task.name, each) for each in own]
        return told

    @cached_property
    def blocks(self) -> list[dict[str, Any]]:
        """What the page shows of the checks: each with its result, and what they counted."""
        tables = [_checks_table(self.cautions), *_words_tables(self._views)]
        return [*tables, *near_table(self.repeats)]


def cautions_of(
    task: Task, parts: Mapping[str, TaskRows], tokenizer: BertTokenizer | None = None
) -> list[Told]:
    """The cautions of `Preflight`."""
    return Preflight(task, parts, tokenizer).cautions


def tell_cautions(cautions: Sequence[Mapping[str, str]]) -> None:
    """Say on the terminal what `cautions_of` gave."""
    for each in cautions:
        tell_caution(each["claim"], each["detail"])


def _labelled(what: str, check: str, told: Told) -> Told:
    return {
        "check": check,
        "claim": clean(f"{what}: {told['claim']}"),
        "detail": clean(told["detail"]),
    }


def _file(view: RowView) -> str:
    return shorten(Path(view.table.path).name, 60)


def _checks_table(cautions: Sequence[Told]) -> dict[str, Any]:
    """Each check in words, and how often it has something to say."""
    counts = Counter(each["check"] for each in cautions)
    rows = [[(check.__doc__ or "").strip().rstrip("."), counts[check.__name__]] for check in CHECKS]
    return page.table("What was looked for", {"Rows with": "text", "Findings": "count"}, rows)


def _words_tables(views: Sequence[RowView]) -> Iterator[dict[str, Any]]:
    """Unknown words of each column by script, where there are any."""
    columns = [(view, each) for view in views for each in view.unknown_words]
    rows = [
        [_file(view), ", ".join(each.columns), script, words, unknown, unknown / words]
        for view, each in columns
        for script, (words, unknown) in each.scripts.items()
    ]
    some = any(each.looked_at < len(each.places) for _, each in columns)
    if rows:
        kinds = {"File": "text", "Column": "text", "Script": "text", "Words": "count"}
        kinds |= {"Unknown": "count", "Share": "share"}
        how = ", by the unknown words of some texts" * some
        yield page.table(f"Words that the vocabulary does not have{how}", kinds, rows)


# ---- rows


def rows_left_out(view: RowView) -> Iterator[Told]:
    """So many rows that what is left may be of another kind than the whole."""
    table = view.table
    lost = sum(map(len, table.dropped.values()))
    if lost <= MANY_DROPPED * table.rows_read:
        return
    reasons = ", ".join(
        f"{reason} {len(rows):,} ({rows_named(rows)})" for reason, rows in table.dropped.items()
    )
    yield page.caution(
        f"{plural(lost, 'row')} dropped of {table.rows_read:,}",
        f"That is {percent(lost / table.rows_read, 0)}, and what they have in common is lost with "
        f"them: {reasons}. Mend them first (a text with commas or line breaks stands in quotes); "
        "bertolt finetune FILE --on-bad-row error ends at the first one.",
    )


def texts_with_several_labels(view: RowView) -> Iterator[Told]:
    """Texts that are alike but for case and spaces, and have different labels."""
    if view.labels is None:
        return
    order = np.lexsort((view.labels, view.texts))
    texts, labels = view.texts[order], view.labels[order]
    starts = np.flatnonzero(np.r_[True, texts[1:] != texts[:-1]])
    changes = np.r_[False, (texts[1:] == texts[:-1]) & (labels[1:] != labels[:-1])]
    odd = np.flatnonzero(np.add.reduceat(changes, starts) > 0)
    if not len(odd):
        return
    ends = np.r_[starts[1:], len(order)]
    rows = int((ends - starts)[odd].sum())
    odd = odd[np.argsort(np.minimum.reduceat(order, starts)[odd])]
    groups = (np.sort(order[starts[group] : ends[group]]) for group in odd)

    def words(group: Integers) -> str:
        examples = view.examples(group[each_once(view.labels_of(group.tolist()))][:_SHOWN])
        text = quoted(view.task.shown_text(examples[0]), 60)
        given = [f"{quoted(view.task.truth(each))} in row {each['row']}" for each in examples]
        return f"{text} is {' and '.join(given)}"

    what = "numbers" if view.numbers else "labels"
    yield page.caution(
        f"{plural(len(odd), 'text stands', 'texts stand')} with different {what}",
        f"In {plural(rows, 'row')}, alike but for case and spaces, and nothing can answer all of "
        f"them right: {first_of(map(words, groups), len(odd))}",
    )


# ---- labels


def labels_too_rare(view: RowView) -> Iterator[Told]:
    """Labels with so few rows that they are hardly learned, or not measured."""
    if not view.classed or "Training" not in view.parts:
        return
    counts = {what: view.rows_of_each(part.index) for what, part in view.parts.items()}
    learned, measured = counts["Training"], counts.get("Evaluation")
    rare = [
        (name, rows, None if measured is None else int(measured[code]))
        for code, (name, rows) in enumerate(zip(view.names, learned.tolist(), strict=True))
        if rows < FEW or (measured is not None and not measured[code])
    ]
    if not rare or len(learned) < 2:
        return

    def words(name: str, rows: int, held_out: int | None) -> str:
        held = "" if held_out is None else f", {held_out:,} held out"
        return f"{quoted(name)} has {plural(rows, 'training row')}{held}"

    yield page.caution(
        f"{plural(len(rare), 'label')} {'is' if len(rare) == 1 else 'are'} rare",
        f"{first_of((words(*each) for each in rare), len(rare))} Fewer than {FEW} rows teach "
        "little, and without a held-out row nothing is measured; add rows, or join such labels.",
    )


def words_that_give_labels_away(view: RowView) -> Iterator[Told]:
    """Labels that one word gives away: nearly all of their texts have it and hardly any other."""
    told = [
        f"{quoted(word)} is in {inside:,} of {rows:,} texts of {quoted(name)} and in {outside:,} "
        "others"
        for name, word, rows, inside, outside in view.words_by_label(_MOST_LABELS)
        if rows >= _LEAST_TEXTS and inside >= MOSTLY * rows and outside <= MANY_UNKNOWN * rows
    ]
    if told:
        yield page.caution(
            f"{plural(len(told), 'label')} can be told from one word",
            f"{first_of(told, len(told))} If it is no part of what people will write, such as a "
            "mark of its source, take it out: the score says nothing of texts without it.",
        )


def labels_spelt_alike(view: RowView) -> Iterator[Told]:
    """Labels that people take for one."""
    letters = _letters_of_choices(view)
    groups = spelling.alike([*view.kinds, *letters])
    if not groups:
        return

    def words(group: Sequence[str]) -> str:
        rows = {name: letters[name] if letters else view.rows_of(name) for name in group[:_SHOWN]}
        given = [f"{quoted(name)} ({_in_rows(numbers)})" for name, numbers in rows.items()]
        more = f" and {len(group) - _SHOWN} more" * (len(group) > _SHOWN)
        return f"{', '.join(given)}{more} differ in {' and '.join(spelling.differences(group))}"

    how = "They are read as one choice" if letters else "Each is learned as a label of its own"
    yield page.caution(
        f"{plural(sum(map(len, groups)), 'label')} differ only in their spelling",
        f"{how}: {first_of(map(words, groups), len(groups))} Write each in one way.",
    )


def _letters_of_choices(view: RowView) -> dict[str, Integers]:
    """The numbers of the rows with each letter that says which choice is right."""
    rows: dict[str, list[int]] = {}
    if view.task.several_pairs and view.labels is not None:
        for each in view.table.examples():
            letter = each["label"].strip()
            known = len(letter) == 1 and letter.upper() in LETTERS
            if known and "texts" not in readings(letter, choices_of(each["text_pair"])):
                rows.setdefault(letter, []).append(each["row"])
    return {letter: np.array(numbers) for letter, numbers in rows.items()}


def labels_that_look_empty(view: RowView) -> Iterator[Told]:
    """Labels that stand for a missing value in many tables."""
    names = [name for name in view.kinds if spelling.looks_empty(name)]
    if view.tagged or not names:
        return
    words = (f"{quoted(name)} ({_in_rows(view.rows_of(name))})" for name in names)
    yield page.caution(
        f"{plural(len(names), 'label')} {'looks' if len(names) == 1 else 'look'} like a gap",
        f"Labels are taken as they stand: {first_of(words, len(names))} If no value is meant, "
        "empty these cells, and the rows are left out.",
    )


def several_labels_in_one(view: RowView) -> Iterator[Told]:
    """Labels that look like several with something between them."""
    separator, names = ("", []) if view.tagged else spelling.joined(view.kinds)
    if not names:
        return
    words = (f"{quoted(name)} ({_in_rows(view.rows_of(name))})" for name in names)
    fix = f'To learn each by itself: bertolt finetune FILE --label-separator "{separator}".'
    if view.several:
        fix = "Write each of them as an element of its own."
    yield page.caution(
        f"{plural(len(names), 'label')} {'looks' if len(names) == 1 else 'look'} like several",
        f"They have {quoted(separator)} inside, and are learned whole: "
        f"{first_of(words, len(names))} {fix}",
    )


def labels_that_are_numbers(view: RowView) -> Iterator[Told]:
    """Labels that are numbers with a decimal comma."""
    names = view.kinds
    if view.tagged or not spelling.are_comma_numbers(names):
        return
    odd = [name for name in names if "," in name]
    words = (f"{quoted(name)} ({_in_rows(view.rows_of(name))})" for name in odd)
    yield page.caution(
        f"{plural(len(odd), 'label')} with a decimal comma",
        f"They are learned as names: {first_of(words, len(odd))} If they are numbers, write them "
        "with a point, and add --task regression.",
    )


def tags_in_another_spelling(view: RowView) -> Iterator[Told]:
    """Tags that are BIO but for their spelling, and are read as kinds."""
    if not view.tagged:
        return
    if odd := spelling.odd_prefixes(view.names):
        words = (f"{quoted(tag)} ({_in_rows(view.rows_of(tag))})" for tag in odd)
        yield page.caution(
            f"{plural(len(odd), 'tag')} look like BIO in another spelling",
            f"They are read as plain kinds: {first_of(words, len(odd))} Write B-PER and I-PER.",
        )
    if outside := spelling.odd_outside(view.names):
        yield page.caution(
            f"No tag is 'O', and {quoted(outside)} may stand for it",
            f"It is learned and measured as a kind ({_in_rows(view.rows_of(outside))}). If it "
            "means that a word is in no span, write O, the letter.",
        )


def tags_that_break_their_scheme(view: RowView) -> Iterator[Told]:
    """Tags that cannot stand where they do, such as an inside without a beginning."""
    if not view.tagged or not all(tag == "O" or is_prefixed(tag) for tag in view.names):
        return
    closed = any(tag[0] in "ESLU" for tag in view.names)
    schemes = ("BIOES",) if closed else ("BIO", "IOB1")
    count = dict.fromkeys(schemes, 0)
    first: dict[str, list[tuple[int, int]]] = {scheme: [] for scheme in schemes}
    for place, tags in enumerate(view.tags()):
        for scheme in schemes:
            positions = breaks(tags, scheme)
            count[scheme] += len(positions)
            room = NAMED - len(first[scheme])
            first[scheme] += [(place, position) for position in positions[:room]]
    scheme = min(schemes, key=count.__getitem__)
    if count[scheme]:
        words = (f"{view.row_words(place)}, word {at + 1}" for place, at in first[scheme])
        yield page.caution(
            f"{plural(count[scheme], 'tag breaks', 'tags break')} the scheme {scheme}",
            f"Each begins a span: {first_of(words, count[scheme])}",
        )


def _in_rows(rows: NDArray[np.int64]) -> str:
    numbers: list[int] = rows.tolist()
    named = rows_named(numbers)
    return named if len(numbers) == 1 else f"{len(numbers):,} {named.replace(' ', ': ', 1)}"


# ---- numbers


def numbers_that_are_equal(view: RowView) -> Iterator[Told]:
    """Columns in which nearly all rows have one number."""
    for column, numbers in view.numbers.items():
        values, counts = np.unique(numbers, return_counts=True)
        most = int(counts.argmax())
        if len(numbers) < 2 or counts[most] < max(2, MOSTLY * len(numbers)):
            continue
        others: list[int] = view.row_numbers(np.flatnonzero(numbers != values[most])).tolist()
        rest = f"The others: {rows_named(others)}." if others else "There is no other number."
        yield page.caution(
            f"{counts[most]:,} of {len(numbers):,} numbers in {quoted(column)} are "
            f"{values[most]:g}",
            f"{rest} Always answering it is hard to beat, and correlations say little.",
        )


def numbers_far_from_the_rest(view: RowView) -> Iterator[Told]:
    """Numbers so far from the middle half that they may be slips, and decide mean and error."""
    for column, numbers in view.numbers.items():
        low, high = np.percentile(numbers, [25, 75])
        if not high > low:
            low, high = np.percentile(numbers, [5, 95])
        beyond = np.maximum(low - numbers, numbers - high) > FAR * (high - low)
        places = np.flatnonzero(beyond)
        if not len(places) or not high > low:
            continue
        rows = zip(view.row_numbers(places).tolist(), numbers[places].tolist(), strict=True)
        words = (f"{number:g} in row {row}" for row, number in rows)
        yield page.caution(
            f"{plural(len(places), 'number')} in {quoted(column)} "
            f"{'is' if len(places) == 1 else 'are'} far from the rest",
            f"Most lie from {low:g} to {high:g}: {first_of(words, len(places))} Such numbers "
            "weigh most in the mean, the spread and the error.",
        )


# ---- pairs


def pairs_of_equal_texts(view: RowView) -> Iterator[Told]:
    """Pairs of a text with itself."""
    if view.halves is None:
        return
    first, second = view.halves
    yield from _odd_pairs(
        view,
        np.flatnonzero(first == second),
        ("pair holds one text twice", "pairs hold one text twice"),
        "Alike but for case and spaces",
    )


def pairs_in_both_orders(view: RowView) -> Iterator[Told]:
    """Pairs that stand a second time with their halves exchanged."""
    if view.halves is None:
        return
    first, second = view.halves
    with np.errstate(over="ignore"):
        there, back = first * 31 + second, second * 31 + first
    places = np.flatnonzero(np.isin(there, back) & (first != second))
    lead = "Where one order is held out and the other learned, the result is flattered"
    yield from _odd_pairs(
        view, places, ("pair stands in both orders", "pairs stand in both orders"), lead
    )


def _odd_pairs(view: RowView, places: Integers, what: tuple[str, str], lead: str) -> Iterator[Told]:
    if not len(places):
        return
    words = (
        f"row {each['row']}, {quoted(each['text'])} and {quoted(each['text_pair'])}"
        for each in view.examples(places[:NAMED])
    )
    yield page.caution(plural(len(places), *what), f"{lead}: {first_of(words, len(places))}")


# ---- words


def words_unknown(view: RowView) -> Iterator[Told]:
    """Columns with words that the vocabulary does not have."""
    for counts in view.unknown_words:
        scripts = [
            (script, words, unknown)
            for script, (words, unknown) in counts.scripts.items()
            if words >= _OF_SCRIPT and unknown > MANY_OF_SCRIPT * words
        ]
        if counts.unknown <= MANY_UNKNOWN * counts.words and not scripts:
            continue

        def words(example: Mapping[str, str], role: str = counts.role) -> str:
            text = " ".join(parts_of(example[role])) if role == "text_pair" else text_of(example)
            shown = ", ".join(map(quoted, view.unknown_in(text, _SHOWN)))
            return f"row {example['row']}, {shown}"

        examples = view.examples(counts.places[:NAMED])
        share = percent(counts.unknown / counts.words)
        columns = ", ".join(map(quoted, counts.columns))
        whole = f", {counts.texts_without:,} of them without any other" * bool(counts.texts_without)
        by_script = ", ".join(
            f"{percent(unknown / words, 0)} of {words:,} {script} words"
            for script, words, unknown in scripts[:_SHOWN]
        )
        yield page.caution(
            f"The vocabulary lacks {share} of the words in {columns}",
            f"{counts.unknown:,} of {counts.words:,}, in {plural(len(counts.places), 'text')}"
            f"{whole}: {first_of(map(words, examples), len(counts.places))} "
            f"{f'By script: {by_script}. ' if by_script else ''}To the model they are "
            "all one word; take a --model that was pretrained on such texts.",
        )


CHECKS: tuple[Check, ...] = (
    rows_left_out,
    words_unknown,
    labels_spelt_alike,
    labels_that_look_empty,
    several_labels_in_one,
    labels_that_are_numbers,
    tags_in_another_spelling,
    tags_that_break_their_scheme,
    texts_with_several_labels,
    texts_nearly_alike_with_several_labels,
    texts_in_both_parts,
    texts_repeated,
    labels_too_rare,
    words_that_give_labels_away,
    numbers_that_are_equal,
    numbers_far_from_the_rest,
    pairs_of_equal_texts,
    pairs_in_both_orders,
)
"""All checks, in the order in which they are told."""
