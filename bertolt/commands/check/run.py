"""What `bertolt check` does: look at all rows as finetune would, and train nothing."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertolt.base.console import info
from bertolt.base.errors import DataError
from bertolt.base.files import write_text
from bertolt.base.format import plural, shorten
from bertolt.commands.arguments import require_outputs
from bertolt.commands.check.folds import Take, out_of_fold, read_answers
from bertolt.commands.check.options import CheckOptions
from bertolt.commands.finetune.data import LoadedRows, SharedRows, load_rows
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
    inputs = [*named, *map(str, filter(None, (options.eval, options.answers, options.model)))]
    outputs = {"--html": options.html, "--csv": options.csv}
    require_outputs(outputs, overwrite=options.overwrite, inputs=inputs)
    require_texts(named, options.model)
    settings = options.of_finetune()
    source = choose_model(settings)
    config = read_config(source)
    tokenizer = BertTokenizer.from_pretrained(source)
    tokenizer.check_fits(config.vocab_size)
    shared = SharedRows(options.group) if options.label_errors else None
    data = load_rows(list(train), settings, tokenizer, config, source, shared=shared)
    ranking = None if shared is None else _ranking(data, options, source, shared)
    if ranking is not None and ranking.unranked:
        info(ranking.unranked)
    facts = _facts(data, options, named, started)
    if ranking is not None:
        facts["suspects"] = _table(data, ranking)
        facts["cautions"] += [*_told(data, ranking.doubts, options), *_hardly_learned(ranking)]
    findings = data_cautions(facts)
    facts |= {"verdict": verdict_of(len(findings)), "findings": len(findings)}
    doubts = None if ranking is None else ranking.doubts
    checked = Checked(facts=plain(facts), findings=findings, doubts=doubts)
    _write(checked, data, options)
    return checked


@dataclass(frozen=True, kw_only=True)
class _Ranking:
    """The rows by the trust in their labels.

    Attributes:
        collected: the answers that they were ranked by.
        doubts: the ranked rows, the label most in doubt first.
        unranked: which rows have no answer, in words; empty if all have.
        learned: whether the models that answered were trained, as far as that is known.
    """

    collected: Doubts
    doubts: list[Doubt]
    unranked: str
    learned: bool = True


def _ranking(data: LoadedRows, options: CheckOptions, source: Path, shared: SharedRows) -> _Ranking:
    """Gather answers to all rows, of a file or of models trained here, and rank the rows."""
    collected, table = data.task.doubts(), data.train.table
    labels, learned = table.labels, True

    def take(place: int, answer: Mapping[str, Any]) -> None:
        collected.add(place, answer, labels[place])

    if options.answers is None:
        learned = out_of_fold(data, options, source, shared, take)
    else:
        _take_answers(options.answers, data, take)
    doubts = collected.ranked()
    unranked = _unranked(table, doubts, options)
    return _Ranking(collected=collected, doubts=doubts, unranked=unranked, learned=learned)


def _take_answers(path: Path, data: LoadedRows, take: Take) -> None:
    """Take the answers of a file.

    Raises:
        DataError: it cannot be read, or has other answers than this task's.
    """
    table = data.train.table
    for place, answer in read_answers(path, table):
        try:
            take(place, answer)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            row = table.data["row"][place].as_py()
            raise DataError(
                f"the answer to row {row} is not as {data.task.name} answers",
                place=str(path),
                fix="write it anew from this very file, or leave --answers out",
            ) from error


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


def _hardly_learned(ranking: _Ranking) -> list[dict[str, str]]:
    """That models have not learned, or agree no more often than the most frequent label does."""
    if not ranking.learned:
        return [
            {
                "check": "label_errors",
                "claim": "The models that rank the labels have learned nothing",
                "detail": "No step had a learning rate above 0, so that the ranking says nothing. "
                "Make more steps, by more --epochs or a smaller --batch-size, at an --lr above 0.",
            }
        ]
    doubts = ranking.doubts
    if not isinstance(ranking.collected, ClassDoubts) or not doubts:
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


def _table(data: LoadedRows, ranking: _Ranking) -> dict[str, Any]:
    """The first rows in doubt, for the page."""
    collected = ranking.collected
    flagged = [each for each in ranking.doubts if each.flagged]
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
    lead += f" {ranking.unranked}." * bool(ranking.unranked)
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
