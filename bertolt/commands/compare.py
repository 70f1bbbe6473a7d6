"""What `bertolt compare` does: hold fine-tuned models against the first of them, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from bertolt.base.errors import BertoltError, CheckpointError, UsageError
from bertolt.base.format import clean, padded, plural, shorten
from bertolt.base.format import columns as wide
from bertolt.base.json_files import JsonError, read_json
from bertolt.checkpoint.contract import Contract
from bertolt.commands.changed_rows import Change, ChangedRows, Texts
from bertolt.commands.evaluate import evaluate_file, read_rows
from bertolt.commands.evaluate_options import EvaluateOptions
from bertolt.commands.file_options import FileOptions
from bertolt.data.arrow import pa
from bertolt.data.load import Table
from bertolt.metrics.bootstrap import SHUFFLES, PairedTest, holm
from bertolt.metrics.counts import Interval
from bertolt.models.families.base import read_config
from bertolt.report import plain
from bertolt.tasks.base import Reading, Task
from bertolt.tasks.registry import task_of
from bertolt.tasks.row_answers import (
    ANSWERS,
    DIGITS,
    KeptRows,
    group_numbers,
    read_answers,
    shared_places,
)
from bertolt.tasks.rows import Columns, read_for_task
from bertolt.tasks.table import ends_words, interval_words, score_words
from bertolt.train.folder import ARGUMENTS, METRICS

HOW = {
    "mcnemar": ("McNemar's exact test", "McNemar's exact test"),
    "shuffling": ("by shuffling answers", f"answers shuffled {SHUFFLES:,} times"),
    "ranks": (
        "by exchanging ranks",
        f"the two ranks of each row exchanged or not, {SHUFFLES:,} times",
    ),
}
"""How a p-value was found, in the terminal and on the page."""
_LEAST = 1e-300  # of a p-value that a float holds well
_SHOWN = 3  # rows that changed, in the terminal
_OWN = {
    *("out", "overwrite", "resume", "keep_checkpoints", "save_every", "save_steps"),
    *("find_batch_size", "keep_models", "shard", "track"),
}
"""Arguments that every run has otherwise, and that decide nothing."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A fine-tuned model and what it answered.

    Attributes:
        folder: of the model.
        task: that it learned.
        arguments: of its run, as `arguments.json` has them; empty where another wrote the folder.
        rows: its answers.
        idle: names of the arguments that had no effect.
    """

    folder: str
    task: Task
    arguments: Mapping[str, Any]
    rows: KeptRows
    idle: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Against:
    """A run against the first one.

    Attributes:
        run: its folder.
        test: the difference, its interval, and how likely it is by chance.
        corrected: the p-value, corrected for the number of comparisons.
        changed: rows that were answered better or worse.
        settings: arguments that differ, with both values.
    """

    run: str
    test: PairedTest
    corrected: float
    changed: ChangedRows
    settings: dict[str, tuple[str, str]]

    @property
    def better(self) -> int:
        """How many rows this run answers better."""
        return int((self.changed.gains > 0).sum())

    @property
    def worse(self) -> int:
        """How many rows it answers worse."""
        return int((self.changed.gains < 0).sum())

    @cached_property
    def changes(self) -> list[Change]:
        """Of the rows that it answers better and worse `MOST_LISTED` each, the largest first."""
        return self.changed.largest()

    @property
    def fixed(self) -> list[Change]:
        """Those of them that it answers better."""
        return [each for each in self.changes if each.gain > 0]

    @property
    def broken(self) -> list[Change]:
        """Those of them that it answers worse."""
        return [each for each in self.changes if each.gain < 0]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of it.

    Attributes:
        task: of all runs.
        where: which rows they are, in words.
        notes: what is to be known of the rows, in sentences.
        rows: how many all runs have answered.
        groups, group: how many there are of rows that depend on each other, and their column.
        scores: the primary metric of each run with its interval, by folder.
        others: each run but the first, against that.
    """

    task: Task
    where: str
    notes: list[str]
    rows: int
    groups: int | None
    group: str
    scores: dict[str, tuple[float, Interval | None]]
    others: list[Against]

    @property
    def resampled(self) -> str:
        """What is resampled, in words."""
        by = f" by {self.group}" if self.group else ""
        return "rows" if self.groups is None else f"{self.groups:,} groups of rows{by}"

    @cached_property
    def first(self) -> str:
        """The run that the others are held against."""
        return next(iter(self.scores))

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        values: dict[str, Any] = plain(
            {
                "task": self.task.name,
                "primary": self.task.primary.name,
                "rows": self.rows,
                "groups": self.groups,
                "notes": self.notes,
                "runs": {
                    name: {"value": value, "interval": ends}
                    for name, (value, ends) in self.scores.items()
                },
                "comparisons": [_plain(each, self.first) for each in self.others],
            }
        )
        return values

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        title = self.task.primary.title
        yield f"{title} on {self.where}"
        yield from (f"  {note}" for note in self.notes)
        yield ""
        names = [clean(shorten(name, 60)) for name in self.scores]
        width = max(map(wide, ["run", *names]))
        yield f"{padded('run', width)}  {title} (95%, by resampling {self.resampled})"
        for name, (value, ends) in zip(names, self.scores.values(), strict=True):
            yield f"{padded(name, width)}  {interval_words(value, ends)}"
        for each in self.others:
            yield ""
            yield f"{each.run} against {self.first}: {self.verdict(each)}"
            yield from _examples("better", each.fixed, each.better)
            yield from _examples("worse", each.broken, each.worse)
            if each.settings:
                pairs = (f"{name} {a} → {b}" for name, (a, b) in each.settings.items())
                yield f"  settings: {'; '.join(pairs)}"

    def verdict(self, each: Against) -> str:
        """The difference, how sure it is, and how many rows changed."""
        test, several = each.test, len(self.others) > 1
        gap = gap_words(test.difference)
        ends = "" if test.interval is None else f" ({ends_words(test.interval)})"
        how = HOW[test.by][0] + (" in groups" if self.groups else "")
        holm_words = f", corrected by Holm for {len(self.others)} comparisons" if several else ""
        told = "they differ" if each.corrected < 0.05 else "the rows do not tell them apart"
        return (
            f"{self.task.primary.title} {gap}{ends}, p = {p_words(each.corrected)} "
            f"({how}{holm_words}): {told}; {plural(each.better, 'row')} better, "
            f"{each.worse:,} worse"
        )


def gap_words(difference: float) -> str:
    """With its sign."""
    return f"{'+' if difference >= 0 else ''}{score_words(difference)}"


def p_words(p: float) -> str:
    """A p-value: four places, or one digit of a small one; none is 0."""
    if p < _LEAST:
        return f"{_LEAST:g} or less"
    return f"{p:.4f}" if p >= 1e-3 else f"{p:.1g}"


def _examples(what: str, changes: Sequence[Change], count: int) -> Iterator[str]:
    for change in changes[:_SHOWN]:
        texts = filter(None, change.text or ())
        text = f": {' / '.join(clean(shorten(each, 60)) for each in texts)}" if change.text else ""
        sides = change.before, change.after, change.truth
        before, after, truth = (clean(shorten(each, 40)) for each in sides)
        yield f"  {what}, row {change.row}{text} ({before} → {after}, true {truth})"
    if count > _SHOWN:
        yield f"  … and {plural(count - _SHOWN, 'more row')} {what}"


def _plain(each: Against, first: str) -> dict[str, Any]:
    return {
        "run": each.run,
        "against": first,
        "difference": each.test.difference,
        "difference_interval": each.test.interval,
        "p": each.test.p,
        "p_corrected": each.corrected,
        "test": each.test.by,
        "fixed": each.better,
        "broken": each.worse,
        "settings": {name: list(pair) for name, pair in each.settings.items()},
        "changes": [change.to_dict() for change in each.changes],
    }


def compare_runs(
    folders: Sequence[str],
    on: Path | None = None,
    asked: EvaluateOptions | None = None,
) -> Comparison:
    """Hold fine-tuned models against the first of them, row by row.

    Args:
        folders: of the models, two or more.
        on: a file to answer with all of them; None: the held-out rows that their runs have
            answered, which needs no model.
        asked: how to read and answer that file, as for `evaluate`; what it does not say is as in
            training. Its `by` and `sample` say nothing here.

    Raises:
        UsageError: below two, one twice, other tasks, no row that all have, groups and no `on`.
        CheckpointError: a folder cannot be used, or keeps no answers.
        DataError: the file cannot be used.
    """
    asked = asked or EvaluateOptions()
    runs = _read_all(folders, on, asked)
    first = runs[0]
    places = shared_places([run.rows for run in runs])
    shared = len(places[0])
    if not shared:
        raise _nothing_shared(runs)
    rows = [run.rows.sums[at] for run, at in zip(runs, places, strict=True)]
    scorer = first.task.scorer()
    # The first run that knows which rows depend on each other says it.
    values = (
        run.rows.table["group"].take(pa.array(at)) for run, at in zip(runs, places, strict=True)
    )
    known = (group_numbers(each.to_pylist()) for each in values)
    groups = next((each for each in known if each is not None), None)
    tests = [scorer.paired(rows[0], other, groups) for other in rows[1:]]
    corrected = holm([test.p for test in tests])
    texts = _texts(first, on, asked)
    return Comparison(
        task=first.task,
        where=_where(on, shared),
        notes=list(_notes(runs, shared, on)),
        rows=shared,
        groups=None if groups is None else int(groups.max()) + 1,
        group=next(filter(None, [asked.group, *(run.arguments.get("group") for run in runs)]), ""),
        scores={
            run.folder: (scorer.score_of(each), scorer.interval_of(each, groups))
            for run, each in zip(runs, rows, strict=True)
        },
        others=[
            Against(
                run=run.folder,
                test=test,
                corrected=p,
                changed=ChangedRows.of(
                    (first.rows, run.rows),
                    (places[0], at),
                    scorer,
                    first.task.primary.greater,
                    texts,
                ),
                settings=_settings(first, run),
            )
            for run, at, test, p in zip(runs[1:], places[1:], tests, corrected, strict=True)
        ],
    )


def _read_all(folders: Sequence[str], on: Path | None, asked: EvaluateOptions) -> list[Run]:
    """The runs with their answers: two or more, whose scores can be held against each other."""
    if len(folders) < 2:
        raise UsageError(
            "there is one run", place="compare", fix="name two or more: bertolt compare RUN RUN"
        )
    paths = [Path(folder).resolve() for folder in folders]
    for place, folder in enumerate(folders):
        if paths[place] in paths[:place]:
            raise UsageError("it is named twice", place=folder, fix="name each run once")
    if on is None and asked.group is not None:
        problem = "answers that runs have kept are in the groups of their own"
        raise UsageError(problem, place="--group", fix="add --on FILE, or leave --group out")
    if on is not None:
        _require_one_task(list(filter(None, map(_saved_task, folders))))
    runs = [_read(folder, on, asked) for folder in folders]
    for run in runs[1:]:
        _require_alike(runs[0], run)
    return runs


def _read(folder: str, on: Path | None, asked: EvaluateOptions) -> Run:
    """A run with its answers: those that it kept, or those to the rows of a file."""
    path = Path(folder)
    contract = Contract.read(path) if path.is_dir() else None
    if on is not None:
        scores = evaluate_file(folder, on, asked, keep_answers=True)
        assert scores.answers is not None
        task, answers = scores.task, KeptRows(scores.answers.table)
    elif not (path / ANSWERS).is_file():
        missing = f"it has no {ANSWERS}" if path.is_dir() else "there is no such folder"
        raise CheckpointError(
            f"{missing}, which finetune writes for the rows that it holds out",
            place=folder,
            fix="compare on a file whose answers are known, which runs the models: --on FILE",
        )
    else:
        task = task_of(read_config(path), contract, folder)
        answers = read_answers(path / ANSWERS)
    if not answers:
        raise UsageError(
            f"{task.name} has kept nothing of its rows to compare by",
            place=folder,
            fix="compare on a file whose answers are known, which runs the models: --on FILE"
            if on is None
            else "compare the scores of bertolt evaluate",
        )
    try:
        task.scorer().score(answers.sums[0])
    except (IndexError, ValueError) as error:
        raise CheckpointError(
            f"its answers are not those of {task.name}",
            place=str(path / ANSWERS),
            fix="fine-tune again with --overwrite, or name a file to compare on: --on FILE",
        ) from error
    arguments = _values(path / ARGUMENTS)
    idle = frozenset(_idle(arguments, task, _values(path / METRICS)))
    return Run(folder=folder, task=task, arguments=arguments, rows=answers, idle=idle)


def _idle(arguments: Mapping[str, Any], task: Task, metrics: Mapping[str, Any]) -> Iterator[str]:
    """The arguments of a run that had no effect."""
    given, folds = arguments.get("eval") is not None, arguments.get("folds") is not None
    if given or folds:
        yield "test_size"
    if (given or arguments.get("test_size") == 0) and not folds and not arguments.get("sample"):
        yield "split_seed"
    lengths = (metrics.get("train") or {}).get("lengths") or {}
    chosen_among = arguments.get("long") == "window" and task.head.reads_documents
    if not chosen_among or lengths.get("texts_parted") == 0:
        yield "windows"


def _values(path: Path) -> dict[str, Any]:
    """What a run wrote into one of its files; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        values = read_json(path)
    except (OSError, JsonError) as error:
        raise CheckpointError(
            f"it cannot be read ({error})", place=str(path), fix="fine-tune again, or remove it"
        ) from error
    return values if isinstance(values, dict) else {}


def _require_alike(first: Run, run: Run) -> None:
    """Refuse runs whose scores cannot be held against each other."""
    widths = {each.rows.sums.shape[1] for each in (first, run)}
    _require_one_task([(first.folder, first.task), (run.folder, run.task)])
    if len(widths) == 1:
        if why := first.task.unlike(run.task):
            fix = "compare models of one tokenizer, or the accuracy that bertolt evaluate gives"
            raise UsageError(f"{why}, unlike those of {first.folder}", place=run.folder, fix=fix)
        return
    raise _other_task(run.folder, "other columns", first.folder, first.task)


def _saved_task(folder: str) -> tuple[str, Task] | None:
    """A folder and the task of its model; None where only opening the model tells it."""
    path = Path(folder)
    with suppress(BertoltError):  # what is wrong with the model is told when it is opened
        if path.is_dir() and (contract := Contract.read(path)) is not None:
            return folder, task_of(read_config(path), contract, folder)
    return None


def _require_one_task(tasks: Sequence[tuple[str, Task]]) -> None:
    """Refuse folders whose models were trained for other tasks than that of the first."""
    for folder, task in tasks[1:]:
        first, known = tasks[0]
        if known.name != task.name:
            raise _other_task(folder, task.name, first, known)
        if known.primary != task.primary:
            raise UsageError(
                f"it is measured by {task.primary.title}, and {first} by {known.primary.title}",
                place=folder,
                fix="compare runs of one task that have learned the same of their rows",
            )


def _other_task(folder: str, kind: str, first: str, task: Task) -> UsageError:
    return UsageError(
        f"it was trained for {kind}, and {first} for {task.name}",
        place=folder,
        fix="compare runs of one task",
    )


def _nothing_shared(runs: Sequence[Run]) -> UsageError:
    """What to raise for runs without a row in common."""
    digests = [run.rows.table["digest"].to_pylist() for run in runs]
    parts = [{each[:DIGITS] for each in names} for names in digests]
    alike = bool(set.intersection(*parts)) and len(digests[0][0]) > DIGITS
    problem = "the runs have no row in common"
    if alike:
        problem = (
            f"{runs[0].task.primary.title} is of ranks among all rows, and the runs had others"
        )
    return UsageError(
        f"{problem}: other rows were held out, or the file has changed",
        place=", ".join(run.folder for run in runs),
        fix="compare them on rows that neither was trained on: --on FILE",
    )


def _where(on: Path | None, rows: int) -> str:
    words = plural(rows, "row")
    return f"{words} of {on}" if on else f"the {words} that all runs held out"


def _notes(runs: Sequence[Run], shared: int, on: Path | None) -> Iterator[str]:
    """What is to be known of the rows."""
    for run in runs:
        if left := len(run.rows) - shared:
            yield f"{plural(left, 'row')} of {run.folder} left out: not all runs answered them"
    if on is not None:
        yield "Rows that a run was trained on flatter it: whether there are any, nobody knows"
    elif tuning := runs[0].task.tuning:
        yield f"Each run chose its {tuning} on the rows that it held out"


def _settings(first: Run, other: Run) -> dict[str, tuple[str, str]]:
    """Arguments that differ, those left out that no result depends on, or that of one of both."""
    left_out = _OWN | first.idle | other.idle
    names = [name for name in {**first.arguments, **other.arguments} if name not in left_out]
    pairs = {name: (first.arguments.get(name), other.arguments.get(name)) for name in names}
    return {name: (str(a), str(b)) for name, (a, b) in pairs.items() if a != b}


def _texts(run: Run, on: Path | None, asked: EvaluateOptions) -> Texts:
    """The texts of rows, where the file that they come from is as it was."""
    table = None  # without the texts, or where its arguments are altered, the comparison is whole
    try:
        table = _held_out_of(run, asked) if on is None else _rows_of(run, on, asked)
    except (BertoltError, AttributeError, TypeError, ValueError):
        if on is not None:  # all runs have answered its rows just now
            raise
    return Texts(run.task, table)


def _rows_of(run: Run, on: Path, asked: EvaluateOptions) -> Table:
    """The file that all runs were asked, read as it was for the run."""
    path = Path(run.folder)
    return read_rows([on], asked, run.task, Contract.read(path) if path.is_dir() else None)


def _held_out_of(run: Run, asked: EvaluateOptions) -> Table:
    """The file of the rows that the run held out, read as it was for the run."""
    said = run.arguments
    files = said.get("eval") or said.get("train") or []
    named = [Path(files)] if isinstance(files, str | Path) else list(map(Path, files))
    if not named or not all(name.exists() for name in named):
        raise UsageError("the file is not there", place=", ".join(map(str, named)))
    how = FileOptions(**{f.name: said.get(f.name, f.default) for f in fields(FileOptions)})
    columns = Columns(
        text=asked.text or said.get("text"),
        text_pair=asked.text_pair or said.get("text_pair"),
        label=asked.label or said.get("label"),
        reading=Reading(label_separator=said.get("label_separator")),
        encoding=how.encoding,
        layout=how.layout,
    )
    return read_for_task(named, columns, task=type(run.task))[0]
