"""What `bertolt predict` does: answer texts in their order, and write the answers as they come."""

from __future__ import annotations

import csv
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from io import TextIOWrapper
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from bertolt.base.console import counting, info
from bertolt.base.errors import BertoltError, DataError, UsageError
from bertolt.base.files import write_atomically
from bertolt.base.format import plural
from bertolt.commands.evaluate import trained_columns
from bertolt.data.describe import describe_table
from bertolt.data.formats import TAGGED
from bertolt.data.load import KEPT, OnBadRow
from bertolt.data.table_file import is_blank
from bertolt.models.config import AnswerPrecision
from bertolt.tasks.predictor import Prediction, Predictor
from bertolt.tasks.rows import Columns, read_for_task, require_pair

Style = Literal["jsonl", "csv", "conll"]


class _Asked(NamedTuple):
    """What to answer, and its number: of the row, the line, or the --text it came from.

    Attributes:
        row: its number.
        text: a text, or words.
        pair: a second text, or None.
        kept: the user's own columns, as one JSON text.
    """

    row: int
    text: Any
    pair: str | None = None
    kept: str | None = None


def predict_texts(
    model: str,
    file: str = "-",
    *,
    texts: list[str] | None = None,
    pairs: list[str] | None = None,
    columns: Columns | None = None,
    style: Style | None = None,
    out: Path | None = None,
    precision: AnswerPrecision = "auto",
) -> None:
    """Answer texts in their order and write the answers as they come.

    Args:
        model: folder of a fine-tuned model, or an id on the hub.
        file: a table of texts, or "-" for one text a line from standard input; of pairs, with a tab
            between the two.
        texts: texts to answer instead of a file.
        pairs: as many second texts.
        columns: of the table, as the user names them, others as in training or found; and what to
            do with a text that cannot be used, the encoding, and which columns to keep.
        style: JSON lines, CSV, or CoNLL for tagged words; None: as the name of `out` ends, else
            JSON lines.
        out: file to write, whole or not at all; None: standard output.
        precision: number format.

    Raises:
        DataError: the file cannot be used; with `out`, nothing has been written then.
        CheckpointError: the model cannot be used.
        UsageError: texts and a file were both given, or columns and no file.
    """
    columns = columns or Columns(on_bad_row="error")
    _check_use(file, texts, pairs, columns)
    _check_out(file, out, columns, style)
    typed = not texts and file == "-" and sys.stdin.isatty()
    if typed:
        info("Reading one text a line from the terminal; end with Ctrl-D")
    predictor = Predictor.from_pretrained(model, precision=precision)
    if file != "-":
        asked = _table_rows(file, predictor, columns)
    elif texts:
        asked = _given_texts(texts, pairs, predictor)
        asked = _usable(asked, "--text {}", columns.on_bad_row, "give it in UTF-8")
    else:
        fix = "name its encoding, for instance --encoding gb18030"
        asked = _standard_input(columns.encoding, predictor.takes_pairs)
        asked = _usable(asked, "standard input, line {}", columns.on_bad_row, fix)
    answering = _Answering(predictor, asked, at_once=typed)
    style = style or _style_of(out)
    if out is None:
        answering.write(style, sys.stdout)
        return

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as target, counting("Answered") as show:
            answering.write(style, target, progress=show)

    write_atomically(out, write)
    info(f"Saved to {out}: {plural(answering.done, 'answer')}")


def _check_use(
    file: str, texts: list[str] | None, pairs: list[str] | None, columns: Columns
) -> None:
    if texts and file != "-":
        raise UsageError("both a file and --text were given", fix="give one of them")
    if pairs and len(pairs) != len(texts or ()):
        raise UsageError(
            f"there are {plural(len(texts or ()), '--text')} and {plural(len(pairs), '--pair')}",
            fix="give each text its second one",
        )
    if not texts and file == "-" and sys.stdin is None:
        raise UsageError("there is no standard input", fix="give a file, or --text")
    named = {"--column": columns.text, "--pair-column": columns.text_pair, "--keep": columns.keep}
    for flag, value in named.items():
        if value and file == "-":
            raise UsageError(
                f"{flag} names a column of a file, and no file was given",
                fix=f"give the file after the model, or leave {flag} out",
            )


def _style_of(out: Path | None) -> Style:
    """The format that the name of a file ends in; else JSON lines."""
    ending = out.suffix.lower() if out is not None else ""
    # An answer is a word and a tag: CoNLL-U has eight columns more.
    tagged = ending in TAGGED and ending != ".conllu"
    return "csv" if ending == ".csv" else "conll" if tagged else "jsonl"


def _check_out(file: str, out: Path | None, columns: Columns, style: Style | None) -> None:
    source = Path(file)
    both = out is not None and file != "-" and out.exists() and source.exists()
    if both and out is not None and out.samefile(source):
        raise UsageError(
            "the answers would replace the file of the texts",
            place=f"--out {out}",
            fix="choose another name for the answers",
        )
    if columns.keep and (style or _style_of(out)) == "conll":
        raise UsageError(
            "a CoNLL file has room for words and their tags alone",
            place="--keep",
            fix="leave --keep out, or add --format jsonl",
        )


def _given_texts(
    texts: list[str], pairs: list[str] | None, predictor: Predictor
) -> Iterator[_Asked]:
    if predictor.takes_pairs and not pairs:
        raise UsageError(
            "the model answers pairs of texts, and --text gives one",
            fix='give the second one too: --text "…" --pair "…"',
        )
    if pairs and not predictor.takes_pairs and predictor.contract is not None:
        raise UsageError(
            "the model answers single texts, and --pair gives a second one", fix="leave --pair out"
        )
    for row, (text, pair) in enumerate(zip_longest(texts, pairs or ()), start=1):
        yield _Asked(row, text, pair)


def _standard_input(encoding: str, in_pairs: bool) -> Iterator[_Asked]:
    """One text a line, or two with a tab between them; bytes that are not in the encoding become
    lone surrogates."""
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
        line = line.rstrip("\n")
        if not in_pairs:
            yield _Asked(row, line)
            continue
        parts = line.split("\t")
        if len(parts) != 2 and line.strip():
            raise DataError(
                f"the model answers pairs of texts, and the line has {len(parts)}",
                place=f"standard input, line {row}",
                fix="part the two texts by one tab, or give a file with a column for each",
            )
        yield _Asked(row, parts[0], parts[-1])


def _usable(
    asked: Iterable[_Asked], place: str, on_bad_row: OnBadRow, fix: str
) -> Iterator[_Asked]:
    """Let the texts through that can be answered; refuse the others, or count and tell them.

    Args:
        asked: texts with their numbers.
        place: what to call the place of a text, with its number for {}.
        on_bad_row: whether to leave out texts that are empty or hold a NUL.
        fix: what to do where bytes are no text.
    """
    dropped: dict[str, list[int]] = {}
    for question in asked:
        where = place.format(question.row)
        fault, reason = _fault(question)
        if fault and on_bad_row == "error":
            raise DataError(fault, place=where, fix="leave such texts out with --on-bad-row drop")
        if fault:
            dropped.setdefault(reason, []).append(question.row)
            continue
        for text in filter(None, (question.text, question.pair)):
            require_text(text, where, fix)
        yield question
    for reason, rows in dropped.items():
        info(f"dropped {plural(len(rows), reason)} (first: {place.format(rows[0])})")


def _fault(question: _Asked) -> tuple[str, str]:
    """What is wrong with a text, and what such texts are counted as; both empty if nothing is."""
    for name, text in (("text", question.text), ("second text", question.pair)):
        if text is not None and "\0" in text:
            return f"a NUL byte at character {text.index(chr(0)) + 1} of the {name}", "NUL byte"
        if text is not None and is_blank(text):
            return f"the {name} is empty", "empty text"
    return "", ""


def require_text(text: str, place: str, fix: str) -> None:
    """Refuse a text with bytes in it that are no text.

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


def _table_rows(file: str, predictor: Predictor, columns: Columns) -> Iterator[_Asked]:
    try:
        table, _ = read_for_task(
            Path(file),
            columns,
            task=type(predictor.task),
            need_label=False,
            prefer=trained_columns(predictor),
        )
    except BertoltError as error:  # here --text is a text
        place, fix = (
            words.replace("--text-pair", "--pair-column").replace("--text", "--column")
            for words in (error.place, error.fix)
        )
        raise type(error)(error.problem, place=place, fix=fix) from error
    describe_table(table, {"text": "--column", "text_pair": "--pair-column"})
    require_pair(table, predictor.trained_on_pairs, text="--column", pair="--pair-column")
    for row in table.examples():
        yield _Asked(row["row"], row["text"], row.get("text_pair"), row.get(KEPT))


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
        writers = {"jsonl": _json_writer, "csv": _csv_writer, "conll": _conll_writer}
        write = writers[style](target, self.predictor)
        cut = 0
        for answer in self.predictor.predict(self._examples(), window=self.window):
            write(self._waiting.popleft(), answer)
            self.done += 1
            cut += answer.tokens_cut > 0
            if self.window == 1:
                target.flush()
            if progress is not None:
                progress(self.done)
        write(None, None)
        target.flush()
        if cut:
            limit = self.predictor.max_length
            info(f"{plural(cut, 'text')} longer than {limit} tokens: the end was cut")

    def _examples(self) -> Iterator[dict[str, Any]]:
        for question in self.asked:
            self._waiting.append(question)
            pair = {} if question.pair is None else {"text_pair": question.pair}
            yield {"text": question.text, **pair}


def _kept(question: _Asked, taken: Iterable[str]) -> dict[str, Any]:
    """The user's own columns; one with the name of a part of the answer is called `kept_` so."""
    columns = {} if question.kept is None else json.loads(question.kept)
    names = {*taken, *columns}
    own = {}
    for name, value in columns.items():
        called = name
        while called in taken or (called != name and called in names):
            called = f"kept_{called}"
        names.add(called)
        own[called] = value
    return own


Write = Callable[[_Asked | None, Prediction | None], None]
"""Writes an answer; None, None when all are written."""


def _json_writer(target: TextIO, predictor: Predictor) -> Write:
    def write(question: _Asked | None, answer: Prediction | None) -> None:
        if question is None or answer is None:
            return
        public = _rounded(predictor.task.public(answer.answer))
        values: dict[str, Any] = {"row": question.row}
        values |= _kept(question, {"row", "text", "text_pair", "tokens_cut", *public})
        values["text"] = predictor.task.shown_text({"text": question.text})
        if question.pair is not None:
            values["text_pair"] = question.pair
        values |= public
        if answer.tokens_cut:
            values["tokens_cut"] = answer.tokens_cut
        target.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")

    return write


def _rounded(value: Any) -> Any:
    """Numbers to six digits behind the point."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def _csv_writer(target: TextIO, predictor: Predictor) -> Write:
    rows = csv.writer(target, lineterminator="\n")
    pair = ["text_pair"] if predictor.takes_pairs else []
    begun = False

    def begin(kept: Iterable[str] = ()) -> None:
        nonlocal begun
        rows.writerow(["row", *kept, "text", *pair, *predictor.task.flat_names()])
        begun = True

    def write(question: _Asked | None, answer: Prediction | None) -> None:
        if question is None or answer is None:
            if not begun:
                begin()
            return
        kept = {} if question.kept is None else json.loads(question.kept)
        if not begun:
            begin(kept)
        text = predictor.task.shown_text({"text": question.text})
        cells = predictor.task.flat(answer.answer)
        shown = [f"{cell:.6f}" if isinstance(cell, float) else cell for cell in cells]
        second = [question.pair] if pair else []
        own = [_as_cell(value) for value in kept.values()]
        rows.writerow([question.row, *own, text, *second, *shown])

    return write


def _as_cell(value: Any) -> Any:
    """A value of the user's own as a cell of a CSV file; lists and records as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _conll_writer(target: TextIO, predictor: Predictor) -> Write:
    """A word a line with its tag, and an empty line behind each text."""

    def write(question: _Asked | None, answer: Prediction | None) -> None:
        if question is None or answer is None:
            return
        for word, tag in predictor.task.tagged(answer.answer, {"text": question.text}):
            if not word.strip() or any(space in word for space in "\t\n\r"):
                raise DataError(
                    f"the word {word!r} is empty or has a tab or a line break in it, "
                    "which a CoNLL file cannot hold",
                    place=f"row {question.row}",
                    fix="add --format jsonl",
                )
            target.write(f"{word}\t{tag}\n")
        target.write("\n")

    return write
