"""What the commands `evaluate` and `predict` do, callable from Python as well."""

from __future__ import annotations

import csv
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from bertolt.base.console import counting, say
from bertolt.base.errors import DataError, UsageError
from bertolt.base.files import write_atomically
from bertolt.base.format import plural
from bertolt.checkpoint.contract import Contract
from bertolt.data.describe import tell_rows, tell_table
from bertolt.data.labels import LabelMap, encode_labels
from bertolt.data.load import OnBadRow, read_table
from bertolt.data.tokens import encode_once
from bertolt.models.config import AnswerPrecision
from bertolt.tasks.evaluation import Scores, majority, score
from bertolt.tasks.predictor import Prediction, Predictor

Style = Literal["jsonl", "csv"]


def evaluate_file(
    model: str,
    file: Path,
    *,
    text: str | None = None,
    label: str | None = None,
    precision: AnswerPrecision = "auto",
    on_bad_row: OnBadRow = "drop",
    encoding: str = "utf-8",
) -> Scores:
    """Measure a fine-tuned model on a labelled file.

    Args:
        model: folder of the model, or an id on the hub.
        file: texts and labels.
        text, label: columns; None: as in training if they are there, else found by their names.
        precision: number format.
        on_bad_row: what to do with a row that cannot be used.
        encoding: of the file.

    Raises:
        DataError: the file cannot be used, or has a label that training never had.
        CheckpointError: the model cannot be used.
    """
    predictor = Predictor.from_pretrained(model, precision=precision)
    table = read_table(
        file,
        text=text,
        label=label,
        prefer=_trained_columns(predictor.contract),
        encoding=encoding,
        on_bad_row=on_bad_row,
    )
    tell_table(table)
    labels = LabelMap(tuple(predictor.labels))
    classes = encode_labels(table, labels)
    texts, limit = table.dataset["text"], predictor.max_length
    with counting("Tokenising", len(classes)) as show:
        rows, origin = encode_once(predictor.tokenizer, texts, limit, classes, progress=show)
    say(f"Evaluation tokens: {origin}")
    tell_rows("Evaluation", rows, labels.names)
    say(f"Precision {predictor.precision.name}: {predictor.precision.reason}")
    with counting("Evaluating", len(rows)) as show:
        return score(
            predictor.model,
            rows,
            precision=predictor.precision,
            frozen=predictor.frozen,
            baseline_label=_baseline(predictor, labels, classes),
            progress=show,
        )


def _baseline(predictor: Predictor, labels: LabelMap, classes: NDArray[np.int64]) -> int:
    """The most frequent label of the training rows; where nobody kept it, of these rows."""
    if predictor.contract is not None:
        return labels.label2id[predictor.contract.majority_label]
    return majority(classes, len(labels))


def _trained_columns(contract: Contract | None) -> dict[str, str]:
    if contract is None:
        return {}
    return {"text": contract.text_column, "label": contract.label_column}


class _Asked(NamedTuple):
    """A text to answer, and its number: of the row, the line, or the --text it came from."""

    row: int
    text: str


def predict_texts(
    model: str,
    file: str = "-",
    *,
    texts: list[str] | None = None,
    column: str | None = None,
    style: Style | None = None,
    out: Path | None = None,
    precision: AnswerPrecision = "auto",
    on_bad_row: OnBadRow = "error",
    encoding: str = "utf-8",
) -> None:
    """Answer texts in their order and write the answers as they come.

    Args:
        model: folder of a fine-tuned model, or an id on the hub.
        file: a table of texts, or "-" for one text a line from standard input.
        texts: texts to answer instead of a file.
        column: of the texts in the table; None: as in training, else found by its name.
        style: JSON lines or CSV; None: as the name of `out` ends, else JSON lines.
        out: file to write, whole or not at all; None: standard output.
        precision: number format.
        on_bad_row: what to do with a text that cannot be used, an empty one for instance.
        encoding: of the file or of standard input.

    Raises:
        DataError: the file cannot be used; with `out`, nothing has been written then.
        CheckpointError: the model cannot be used.
        UsageError: texts and a file were both given, or a column and no file.
    """
    _check_use(file, texts, column)
    typed = not texts and file == "-" and sys.stdin.isatty()
    if typed:
        say("Reading one text a line from the terminal; end with Ctrl-D")
    predictor = Predictor.from_pretrained(model, precision=precision)
    if file != "-":
        asked = _table_rows(file, predictor, column, on_bad_row, encoding)
    elif texts:
        asked = _usable(_given_texts(texts), "--text {}", on_bad_row, "give it in UTF-8")
    else:
        fix = "name its encoding, for instance --encoding gb18030"
        asked = _usable(_standard_input(encoding), "standard input, line {}", on_bad_row, fix)
    answering = _Answering(predictor, asked, at_once=typed)
    style = style or ("csv" if out is not None and out.suffix.lower() == ".csv" else "jsonl")
    if out is None:
        answering.write(style, sys.stdout)
        return

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as target, counting("Answered") as show:
            answering.write(style, target, progress=show)

    write_atomically(out, write)
    say(f"Saved to {out}: {plural(answering.done, 'answer')}")


def _check_use(file: str, texts: list[str] | None, column: str | None) -> None:
    if texts and file != "-":
        raise UsageError("both a file and --text were given", fix="give one of them")
    if not texts and file == "-" and sys.stdin is None:
        raise UsageError("there is no standard input", fix="give a file, or --text")
    if column is not None and file == "-":
        raise UsageError(
            "--column names a column of a file, and no file was given",
            fix="give the file after the model, or leave --column out",
        )


def _given_texts(texts: list[str]) -> Iterator[_Asked]:
    yield from (_Asked(row, text) for row, text in enumerate(texts, start=1))


def _standard_input(encoding: str) -> Iterator[_Asked]:
    """One text a line; bytes that are not in the encoding become lone surrogates."""
    name = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    assert isinstance(sys.stdin, TextIOWrapper)
    try:
        sys.stdin.reconfigure(encoding=name, errors="surrogateescape", newline=None)
    except LookupError as error:
        raise UsageError(
            f"there is no text encoding named {encoding!r}",
            place="--encoding",
            fix="use utf-8, utf-16, gb18030, latin-1 or another that Python knows",
        ) from error
    for row, line in enumerate(sys.stdin, start=1):
        yield _Asked(row, line.rstrip("\n"))


def _usable(
    asked: Iterable[_Asked], place: str, on_bad_row: OnBadRow, fix: str
) -> Iterator[_Asked]:
    """Let the texts through that can be answered; refuse empty ones, or count and tell them.

    Args:
        asked: texts with their numbers.
        place: what to call the place of a text, with its number for {}.
        on_bad_row: whether to leave empty ones out.
        fix: what to do where bytes are no text.
    """
    dropped: list[int] = []
    for question in asked:
        where = place.format(question.row)
        if not question.text or question.text.isspace():
            if on_bad_row == "error":
                raise DataError(
                    "the text is empty",
                    place=where,
                    fix="leave such texts out with --on-bad-row drop",
                )
            dropped.append(question.row)
            continue
        require_text(question.text, where, fix)
        yield question
    if dropped:
        say(f"dropped {plural(len(dropped), 'empty text')} (first: {place.format(dropped[0])})")


def require_text(text: str, place: str, fix: str) -> None:
    """Refuse a text with bytes in it that are none.

    Raises:
        DataError: it cannot be written as UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Python keeps a byte that it cannot decode as a surrogate: 0xDC00 and the byte.
        code = ord(text[error.start])
        what = f"the byte 0x{code & 0xFF:02x}" if 0xDC80 <= code <= 0xDCFF else "half a character"
        raise DataError(
            f"{what} at character {error.start + 1} is no text", place=place, fix=fix
        ) from error


def _table_rows(
    file: str, predictor: Predictor, column: str | None, on_bad_row: OnBadRow, encoding: str
) -> Iterator[_Asked]:
    table = read_table(
        file,
        text=column,
        need_label=False,
        prefer=_trained_columns(predictor.contract),
        encoding=encoding,
        on_bad_row=on_bad_row,
    )
    tell_table(table, {"text": "--column"})
    for batch in table.dataset.iter(batch_size=1000):
        yield from map(_Asked, batch["row"], batch["text"])


class _Answering:
    """Questions, and their answers in the same order.

    Args:
        predictor: answers.
        asked: read as the answers need them, so an endless stream can be answered.
        at_once: answer each text before the next is read, for someone who types them.

    Attributes:
        done: answers written.
    """

    def __init__(self, predictor: Predictor, asked: Iterable[_Asked], *, at_once: bool) -> None:
        self.predictor = predictor
        self.asked = asked
        self.window = 1 if at_once else None
        self.done = 0
        self._waiting: deque[_Asked] = deque()

    def write(
        self, style: Style, target: TextIO, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write every answer, and say how many texts were cut."""
        labels = self.predictor.labels
        write = _json_writer(target) if style == "jsonl" else _csv_writer(target, labels)
        cut = 0
        for answer in self.predictor.predict(self._texts(), window=self.window):
            write(self._waiting.popleft(), answer)
            self.done += 1
            cut += answer.tokens_cut > 0
            if self.window == 1:
                target.flush()
            if progress is not None:
                progress(self.done)
        target.flush()
        if cut:
            limit = self.predictor.max_length
            say(f"{plural(cut, 'text')} longer than {limit} tokens: the end was cut")

    def _texts(self) -> Iterator[str]:
        for question in self.asked:
            self._waiting.append(question)
            yield question.text


def _json_writer(target: TextIO) -> Callable[[_Asked, Prediction], None]:
    def write(question: _Asked, answer: Prediction) -> None:
        values = {
            "row": question.row,
            "text": question.text,
            "label": answer.label,
            "probability": round(answer.probability, 6),
            "probabilities": {name: round(p, 6) for name, p in answer.probabilities.items()},
        }
        if answer.tokens_cut:
            values["tokens_cut"] = answer.tokens_cut
        target.write(json.dumps(values, ensure_ascii=False) + "\n")

    return write


def _csv_writer(target: TextIO, labels: list[str]) -> Callable[[_Asked, Prediction], None]:
    rows = csv.writer(target, lineterminator="\n")
    rows.writerow(["row", "text", "label", "probability", *(f"p({name})" for name in labels)])

    def write(question: _Asked, answer: Prediction) -> None:
        shares = [f"{answer.probabilities[name]:.6f}" for name in labels]
        rows.writerow(
            [question.row, question.text, answer.label, f"{answer.probability:.6f}", *shares]
        )

    return write
