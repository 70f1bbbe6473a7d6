"""What `bertolt predict` does: answer texts in their order, and write the answers as they come."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from bertolt.base.console import counting, info
from bertolt.base.errors import UsageError
from bertolt.base.files import write_atomically
from bertolt.base.format import plural
from bertolt.commands.arguments import (
    reads_like_text,
    require_file,
    require_model_first,
    require_output,
    tell_missing_contract,
)
from bertolt.commands.kept_answers import KeptAnswers, Mark, can_be_kept, kept_answers, made_of
from bertolt.commands.outputs import file_writer, format_of
from bertolt.commands.predict_options import PredictOptions
from bertolt.commands.questions import (
    Question,
    Questions,
    lines_of_input,
    require_one_each,
    rows_of_table,
    typed_questions,
)
from bertolt.commands.ray_answers import answers_on_ray
from bertolt.commands.writers import Format, Writer, text_writer
from bertolt.data.parted import TooLongError
from bertolt.data.table_file import AS_FOUND, Layout
from bertolt.tasks.base import NotFiniteError
from bertolt.tasks.predictor import WINDOW, Prediction, Predictor
from bertolt.tasks.rows import Columns


def predict_texts(
    model: str, files: Sequence[str] = ("-",), options: PredictOptions | None = None
) -> None:
    """Answer texts in their order and write the answers as they come.

    Args:
        model: folder of a fine-tuned model, or an id on the hub.
        files: tables of texts with the same columns, or "-" for one text a line from standard
            input; of pairs, with a tab between the two.
        options: settings.

    Raises:
        DataError: the file cannot be used; with --out, nothing has been written then.
        CheckpointError: the model cannot be used.
        UsageError: texts and a file were both given, or columns and no file; or the output is there
            already, or one of the inputs.
    """
    options = options or PredictOptions()
    files, out, columns = list(files), options.out, _columns(options)
    _check_use(model, files, options, columns.layout)
    _check_out(model, files, out, options.overwrite)
    form = format_of(out, options.format, bom=options.bom, safe=options.safe_csv)
    _check_kept(columns, form)
    typed = not options.text and files == ["-"] and sys.stdin.isatty()
    if typed:
        info("Reading one text a line from the terminal; end with Ctrl-D")
    asked = partial(_asked, model, files, options, columns, form)
    if out is None:
        answering = asked(at_once=typed)
        answering.write(text_writer(sys.stdout, answering.predictor, answering.form))
        return
    if can_be_kept(files, out, form):
        with kept_answers(out) as kept:
            done = _answer_kept(kept, asked, model, files, options)
    else:
        answering = asked(at_once=typed)
        _tell_not_kept(answering)
        write_atomically(out, answering.write_file, replace=options.overwrite)
        done = answering.counts["done"]
    info(f"Saved to {out}: {plural(done, 'answer')}")


def _asked(
    model: str,
    files: list[str],
    options: PredictOptions,
    columns: Columns,
    form: Format,
    *,
    at_once: bool = False,
    precision: str | None = None,
) -> _Answering:
    """The questions and who answers them; `precision`: of an earlier run, in place of "auto"."""
    predictor = Predictor.from_pretrained(
        model,
        task=options.task,
        precision=precision or options.precision,
        engine="torch" if options.engine == "ray" else options.engine,
        long=options.long,
        stride=options.stride,
    )
    tell_missing_contract(predictor, model)
    predictor.tell_long()
    questions = _questions(model, predictor, files, options, columns)
    form = replace(form, reasons=questions.unanswered)
    predictor.task = predictor.task.asked_in(questions.pairs)
    answer = partial(answers_on_ray, predictor) if options.engine == "ray" else predictor.predict
    return _Answering(predictor, questions, form, answer, at_once=at_once)


def _answer_kept(
    kept: KeptAnswers,
    asked: Callable[..., _Answering],
    model: str,
    files: list[str],
    options: PredictOptions,
) -> int:
    """Answer what an earlier run has not, keep how far it is, and publish; how many there are."""
    mark, precision = kept.mark, None
    if mark is not None and mark.made_of["engine"] == "torch" and options.precision == "auto":
        precision = mark.made_of["number format"]
    answering = asked(precision=precision)
    form = answering.form
    values = made_of(model, answering.predictor, files, options, form)
    try:
        kept.require_same(values)
    except UsageError as error:
        if not options.overwrite:
            raise
        info(f"Beginning anew: {error.problem}")
        kept.forget()
        return _answer_kept(kept, asked, model, files, options)
    if mark is not None:
        answering.go_on(mark.counts)
        info(f"Going on behind {plural(mark.counts['done'], 'answer')} that are kept")
    grows = form.style == "parquet"
    path = kept.whole if grows else kept.answers

    def keep(writer: Writer) -> None:
        state, size = writer.mark(), kept.answers.stat().st_size
        kept.keep(Mark(made_of=values, size=size, counts=dict(answering.counts), writer=state))

    answering.write_file(path, mark, gathered=kept.answers if grows else None, keep=keep)
    kept.publish(path, replace=options.overwrite)
    return answering.counts["done"]


def _tell_not_kept(answering: _Answering) -> None:
    """Say that a long run begins anew when it is stopped."""
    if answering.form.style == "xlsx" and (answering.total or 0) > WINDOW:
        info(
            "A file of Excel is written at the end: a command that is stopped begins anew; one "
            "that writes .csv or .parquet goes on"
        )


def _columns(options: PredictOptions) -> Columns:
    return Columns(
        text=options.column,
        text_pair=options.pair_column,
        encoding=options.encoding,
        on_bad_row=options.on_bad_row,
        layout=options.layout,
        keep=[name.strip() for name in options.keep.split(",")] if options.keep else (),
    )


def _questions(
    model: str, predictor: Predictor, files: list[str], options: PredictOptions, columns: Columns
) -> Questions:
    if files != ["-"]:
        return rows_of_table(model, files, predictor, columns)
    if options.text:
        return typed_questions(options.text, options.pair, predictor, columns.on_bad_row)
    return lines_of_input(columns.encoding, predictor, columns.on_bad_row)


def _check_use(model: str, files: list[str], options: PredictOptions, layout: Layout) -> None:
    texts, pairs = options.text, options.pair
    require_model_first("predict", model, None if files == ["-"] else files[0])
    if texts and files != ["-"]:
        _refuse_both(model, files, texts)
    # Several second texts of one text may be choices: the model's task knows.
    if pairs and len(texts or ()) != 1:
        require_one_each(texts or (), pairs)
    if not texts and files == ["-"] and sys.stdin is None:
        raise UsageError("there is no standard input", fix="give a file, or --text")
    if files != ["-"]:
        if "-" in files:
            raise UsageError(
                "standard input cannot be read beside files", place="-", fix="give one of them"
            )
        for file in files:
            require_file(model, file)
        return
    named = {
        "--column": options.column,
        "--pair-column": options.pair_column,
        "--keep": options.keep,
    }
    if layout != AS_FOUND:
        raise UsageError(
            "--sep, --no-header, --skip-rows and --sheet say how a file is laid out, and no file "
            "was given",
            fix="give the file after the model, or leave them out",
        )
    for flag, value in named.items():
        if value:
            raise UsageError(
                f"{flag} names a column of a file, and no file was given",
                fix=f"give the file after the model, or leave {flag} out",
            )


def _refuse_both(model: str, files: list[str], texts: list[str]) -> NoReturn:
    """Say what a text beside files may be meant as.

    Raises:
        UsageError: always; the fix is what to type.
    """
    command = f"bertolt predict {shlex.quote(model)}"
    alone = shlex.join(part for text in texts for part in ("--text", text))
    missing = [file for file in files if file != "-" and not os.path.exists(file)]  # noqa: PTH110
    if missing:
        given = plural(len(texts), "text")
        meant_as_text = [file for file in missing if reads_like_text(file)]
        every = shlex.join(part for file in meant_as_text for part in ("--text", file))
        raise UsageError(
            f"there is no such file, and --text gives {given} to answer",
            place=missing[0],
            fix=f"if it is a text too: {command} {every} {alone}"
            if meant_as_text == files
            else f"name a file that is there, or leave it out: {command} {alone}",
        )
    column = ""
    if len(texts) == 1:
        words = shlex.join([*files, "--column", texts[0]])
        column = f"; if {texts[0]!r} is the column of the texts: {command} {words}"
    raise UsageError(
        "both a file and --text were given, and --text is a text to answer, not a column",
        fix=f"leave one of them out{column}",
    )


def _check_out(model: str, files: list[str], out: Path | None, overwrite: bool) -> None:
    # A missing input is told by whoever reads it, whatever there is at the output.
    if out is not None and (files == ["-"] or all(map(os.path.exists, files))):
        # Of a folder of texts every file is read.
        below = [path for file in files if Path(file).is_dir() for path in Path(file).rglob("*")]
        inputs = [*files, *(str(path) for path in below if path.is_file())]
        require_output(out, "--out", overwrite=overwrite, inputs=(*inputs, model))


def _check_kept(columns: Columns, form: Format) -> None:
    if columns.keep and form.style == "conll":
        raise UsageError(
            "a CoNLL file has room for words and their tags alone",
            place="--keep",
            fix="leave --keep out, or add --format jsonl",
        )


class _Answering:
    """Questions, and their answers in the same order.

    Args:
        predictor: what answers.
        questions: read as the answers need them, so an endless stream can be answered.
        form: of the answers.
        answer: its `predict`, or a function that gives the same elsewhere.
        at_once: answer each text before the next is read, for someone who types them.

    Attributes:
        counts: answers `done`, which are written; texts that were `cut`, or `parted` in windows.
        total: how many questions there are, if that is known.
    """

    def __init__(
        self,
        predictor: Predictor,
        questions: Questions,
        form: Format,
        answer: Callable[..., Iterator[Prediction]],
        *,
        at_once: bool,
    ) -> None:
        self.predictor, self.form, self._answer = predictor, form, answer
        self.questions, self.total, self.roles = questions.rows, questions.total, questions.roles
        self.window = 1 if at_once else None
        self.counts = {"done": 0, "cut": 0, "parted": 0}
        self._waiting: deque[Question] = deque()

    def go_on(self, counts: dict[str, int]) -> None:
        """Leave out the questions that an earlier run has answered."""
        self.counts = dict(counts)
        self.questions = itertools.islice(self.questions, counts["done"], None)

    def write_file(
        self,
        path: Path,
        mark: Mark | None = None,
        *,
        gathered: Path | None = None,
        keep: Callable[[Writer], None] | None = None,
    ) -> None:
        """Write every answer to a file.

        Args:
            path: of the file.
            mark: of the answers in it that an earlier run has written.
            gathered: where a Parquet file grows.
            keep: called between two windows, with the writer.
        """
        size, before = mark.size if mark else 0, self.counts["done"]
        with (
            file_writer(path, self.predictor, self.form, gathered=gathered, size=size) as writer,
            counting("Answered", self.total, before=before) as show,
        ):
            if mark is not None:
                writer.go_on(mark.writer)
            self.write(writer, show, keep)

    def write(
        self,
        writer: Writer,
        progress: Callable[[int], None] | None = None,
        keep: Callable[[Writer], None] | None = None,
    ) -> None:
        """Write every answer, and say how many texts were cut, or read in several windows.

        Raises:
            CheckpointError: outputs are not finite; the answers before them are written.
            DataError: a text is longer than the limit, where that is refused; likewise.
        """
        counts = self.counts
        between = None if keep is None else partial(keep, writer)
        answers = self._answer(self._examples(), window=self.window, between=between)
        try:
            for prediction in answers:
                self._write_unanswered(writer)
                writer.write(self._waiting.popleft(), prediction)
                counts["done"] += 1
                counts["cut"] += prediction.truncated
                counts["parted"] += prediction.parted
                if self.window == 1:
                    writer.flush()
                if progress is not None:
                    progress(counts["done"])
        except (NotFiniteError, TooLongError) as error:
            self._write_unanswered(writer)
            writer.end()
            place = self._waiting[0].place or f"row {self._waiting[0].row}"
            role = error.role if isinstance(error, TooLongError) else None
            if role is not None and role in self.roles:
                place += f", column {self.roles[role][0]!r}"
            raise type(error)(error.problem, place=place, fix=error.fix) from error
        self._write_unanswered(writer)
        writer.end()
        limit, lost = self.predictor.max_length, self.predictor.long.lost
        cut, parted = counts["cut"], counts["parted"]
        if parted and self.predictor.long.how == "window":
            info(f"{plural(parted, 'text')} longer than {limit} tokens: read in several windows")
        if cut:
            info(f"{plural(cut, 'text')} longer than {limit} tokens: {lost} was cut")

    def _write_unanswered(self, writer: Writer) -> None:
        """Write the questions without an answer that are before the next one with an answer."""
        while self._waiting and self._waiting[0].reason:
            writer.write(self._waiting.popleft(), None)
            self.counts["done"] += 1

    def _examples(self) -> Iterator[dict[str, Any]]:
        for question in self.questions:
            self._waiting.append(question)
            if question.reason:
                continue
            pair = {} if question.pair is None else {"text_pair": question.pair}
            yield {"text": question.text, **pair}
