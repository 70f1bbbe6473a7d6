"""What `bertolt check` does: look at all rows as finetune would, and train nothing."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertolt.base.console import info
from bertolt.base.errors import DataError
from bertolt.base.files import write_text
from bertolt.base.format import plural, shorten
from bertolt.commands.arguments import require_output
from bertolt.commands.check.folds import out_of_fold, read_answers
from bertolt.commands.check.options import CheckOptions
from bertolt.commands.finetune.data import LoadedRows, load_rows
from bertolt.commands.finetune.record import data_facts, title_of
from bertolt.commands.finetune.run import require_texts
from bertolt.commands.finetune.starting import choose_model
from bertolt.commands.wording import options_called
from bertolt.data.load import Table
from bertolt.data.spelling import quoted
from bertolt.models.families.base import read_config
from bertolt.report import plain
from bertolt.report.build import render_check
from bertolt.report.findings import Caution, data_cautions
from bertolt.report.shown import listed
from bertolt.tasks import page
from bertolt.tasks.doubts import ClassDoubts, Doubt, Doubts
from bertolt.tasks.row_view import NAMED, first_of
from bertolt.tokenization import BertTokenizer
from bertolt.train.job import command_line
from bertolt.train.record import run_head

_SHOWN = 50  # labels in doubt on the page
_SHOWN_TEXT = 300


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found.

    Attributes:
        facts: all of it in plain values.
        findings: what is worth a look.
        doubts: all rows, the label most in doubt first; None if nobody looked.
    """

    facts: dict[str, Any]
    findings: list[Caution]
    doubts: list[Doubt] | None

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        return self.facts

    def __str__(self) -> str:
        lines = [f"- {each.claim}. {each.detail}" for each in self.findings]
        lines.append(verdict_of(len(self.findings)))
        return "\n".join(lines)


def verdict_of(count: int) -> str:
    """How many findings there are, in words."""
    return f"{plural(count, 'finding')} worth a look" if count else "Nothing to look at"


def check(train: Sequence[Path], options: CheckOptions | None = None) -> Checked:
    """Look at the rows of a file, or several, and write what was found.

    Args:
        train: the files, as finetune takes them.
        options: settings.

    Raises:
        BertoltError: the rows, the model or an option cannot be used; nothing has been written.
    """
    options = options or CheckOptions()
    started = time.monotonic()
    named = [str(path) for path in train]
    for path, option in ((options.html, "--html"), (options.csv, "--csv")):
        if path is not None:
            inputs = [*named, *map(str, filter(None, (options.eval, options.answers)))]
            require_output(path, option, overwrite=options.overwrite, inputs=inputs)
    require_texts(named, options.model)
    settings = options.of_finetune()
    source = choose_model(settings)
    config = read_config(source)
    tokenizer = BertTokenizer.from_pretrained(source)
    tokenizer.check_fits(config.vocab_size)
    data = load_rows(list(train), settings, tokenizer, config, source)
    doubts, unranked = None, ""
    collected = data.task.doubts() if options.label_errors else None
    if collected is not None:
        doubts = _doubts(collected, data, options, tokenizer, source)
        unranked = _unranked(data.train.table, doubts, options)
        if unranked:
            info(unranked)
    facts = _facts(data, options, named, started)
    if collected is not None and doubts is not None:
        facts["suspects"] = _table(data, collected, doubts)
        facts["suspects"]["lead"] += f" {unranked}." * bool(unranked)
        facts["cautions"] += [*_told(data, doubts, options), *_hardly_learned(collected, doubts)]
    findings = data_cautions(facts)
    facts |= {"verdict": verdict_of(len(findings)), "findings": len(findings)}
    checked = Checked(facts=plain(facts), findings=findings, doubts=doubts)
    _write(checked, data, options)
    return checked


def _doubts(
    collected: Doubts,
    data: LoadedRows,
    options: CheckOptions,
    tokenizer: BertTokenizer,
    source: Path,
) -> list[Doubt]:
    table = data.train.table
    labels = data.train.table.labels
    answers = (
        read_answers(options.answers, table)
        if options.answers is not None
        else out_of_fold(
            type(data.task),
            table,
            options,
            tokenizer,
            source,
            data.train.encoded.max_length,
            data.long,
            data.repeats,
        )
    )
    for place, answer in answers:
        try:
            collected.add(place, answer, labels[place])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if options.answers is None:
                raise
            row = table.data["row"][place].as_py()
            raise DataError(
                f"the answer to row {row} is not as {data.task.name} answers",
                place=str(options.answers),
                fix="write it anew from this very file, or leave --answers out",
            ) from error
    return collected.ranked()


def _unranked(table: Table, doubts: Sequence[Doubt], options: CheckOptions) -> str:
    """Which rows have no answer of a model that has not seen them, in words; empty if all have."""
    numbers = table.data["row"].to_numpy()
    left = np.delete(numbers, [each.place for each in doubts]).tolist()
    if not left:
        return ""
    why = f"without an answer in {options.answers}" if options.answers else "always in training"
    named = listed([*map(table.row_words, left)])
    return f"{plural(len(left), 'row')} {why}, not ranked: {named}"


def _facts(
    data: LoadedRows, options: CheckOptions, named: Sequence[str], started: float
) -> dict[str, Any]:
    train, held_out = data.train, data.eval or data.train
    index = held_out.index if data.eval else train.index[:0]
    head = run_head(
        "check",
        title_of(train.table),
        started=started,
        command=command_line(["check", *named], options),
        arguments=asdict(options),
    )
    return head | {
        "task": data.task.name,
        "data": data_facts(data),
        "cautions": list(data.cautions),
        "checks": data.checks,
        "data_blocks": data.task.data_blocks(train.table, train.index, held_out.table, index),
    }


def _told(data: LoadedRows, doubts: Sequence[Doubt], options: CheckOptions) -> list[dict[str, str]]:
    """What there is to say of labels in doubt."""
    flagged = [each for each in doubts if each.flagged]
    if not flagged:
        return []
    file, folds = options.answers, options.folds
    how = f"by models that wrote {file} and" if file else f"by models of {folds} folds that"
    table = data.train.table
    examples = table.examples([each.place for each in flagged[:NAMED]])
    words = (
        f"{table.row_words(example['row'])}, {quoted(data.task.shown_text(example), 60)}, "
        f"is {quoted(each.given)}, rather {quoted(each.answer)}"
        for each, example in zip(flagged, examples, strict=False)
    )
    lists = "" if options.csv or options.html else " --csv or --html lists more of them."
    return [
        {
            "check": "label_errors",
            "claim": f"{plural(len(flagged), 'label')} may be wrong",
            "detail": f"Of {plural(len(doubts), 'row')}, {how} have not seen them, the least "
            f"trusted first: {first_of(words, len(flagged))} The further down, the more are "
            f"right.{lists}",
        }
    ]


def _hardly_learned(collected: Doubts, doubts: Sequence[Doubt]) -> list[dict[str, str]]:
    """That models agree with the labels no more often than the most frequent label does."""
    if not isinstance(collected, ClassDoubts) or not doubts:
        return []
    agreed = sum(each.given == each.answer for each in doubts)
    most = Counter(each.given for each in doubts).most_common(1)[0][1]
    if agreed > most:
        return []
    return [
        {
            "check": "label_errors",
            "claim": "The models that rank the labels know no more than the most frequent one",
            "detail": f"Their answers agree with {agreed:,} of {len(doubts):,} labels, and the "
            f"most frequent label makes {most:,}, so that the ranking says little. Train longer "
            "(--epochs), or with another --lr or --model.",
        }
    ]


def _table(data: LoadedRows, collected: Doubts, doubts: Sequence[Doubt]) -> dict[str, Any]:
    """The first rows in doubt, for the page."""
    flagged = [each for each in doubts if each.flagged]
    some = flagged[:_SHOWN]
    examples = data.train.table.examples([each.place for each in some])
    kinds = {"Row": "count", "Given": "text", "Rather": "text", "Trust": "number", "Text": "text"}
    rows = [
        [
            example["row"],
            each.given,
            each.answer,
            each.trust,
            data.task.shown_text(example)[:_SHOWN_TEXT],
        ]
        for each, example in zip(some, examples, strict=True)
    ]
    caption = (
        f"{len(some):,} of {len(flagged):,} labels in doubt" if flagged else "No label in doubt"
    )
    block = page.table(caption, kinds, rows)
    lead = f"{collected.how} Trust: {collected.measure[0].lower()}{collected.measure[1:]}."
    return block | {
        "id": "suspects",
        "title": "Labels that may be wrong",
        "nav": "Labels in doubt",
        "lead": lead,
        "noun": "row",
        "most": _SHOWN,
    }


def _write(checked: Checked, data: LoadedRows, options: CheckOptions) -> None:
    if options.csv is not None and checked.doubts is not None:
        with options_called({"--out": "--csv"}):
            write_text(options.csv, _as_csv(data, checked.doubts), replace=options.overwrite)
        info(f"Saved to {options.csv}: {plural(len(checked.doubts), 'row')}")
    if options.html is not None:
        with options_called({"--out": "--html"}):
            write_text(options.html, render_check(checked.facts), replace=options.overwrite)
        info(f"Saved to {options.html}: {shorten(checked.facts['verdict'], 60)}")


def _as_csv(data: LoadedRows, doubts: Sequence[Doubt]) -> str:
    """All rows, the label most in doubt first."""
    table, text = data.train.table, io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "row", "given", "rather", "trust", "in_doubt", "text"])
    examples = table.examples([each.place for each in doubts])
    for each, example in zip(doubts, examples, strict=True):
        name, row = table.origin(example["row"])
        shown = data.task.shown_text(example)
        doubt = "yes" if each.flagged else "no"
        writer.writerow([name, row, each.given, each.answer, f"{each.trust:.6g}", doubt, shown])
    return text.getvalue()
