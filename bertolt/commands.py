"""What the commands `evaluate`, `predict` and `inspect` do, callable from Python as well."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from bertolt.checkpoint import huggingface
from bertolt.config import BertConfig, Precision
from bertolt.console import say
from bertolt.contract import Contract
from bertolt.data.encode import encode_texts
from bertolt.data.labels import LabelMap, encode_labels
from bertolt.data.load import OnBadRow, Table, read_table
from bertolt.errors import CheckpointError, DataError, UsageError
from bertolt.evaluation import Scores, majority, score
from bertolt.files import write_atomically
from bertolt.model.bert import BertModel
from bertolt.model.heads import BertForSequenceClassification
from bertolt.predict import Prediction, Predictor
from bertolt.tokenization import BertTokenizer

Style = Literal["jsonl", "csv"]


def evaluate_file(
    model: str,
    file: Path,
    *,
    text: str | None = None,
    label: str | None = None,
    precision: Precision = "auto",
    on_bad_row: OnBadRow = "drop",
    encoding: str = "utf-8",
) -> Scores:
    """Measure a fine-tuned model on a labelled file.

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
    _tell_dropped(table)
    labels = LabelMap(tuple(predictor.labels))
    classes = encode_labels(table, labels)
    rows = encode_texts(predictor.tokenizer, table.dataset["text"], predictor.max_length, classes)
    say(f"{file}: {len(rows):,} rows; {rows.account}")
    return score(
        predictor.model,
        rows,
        precision=predictor.precision,
        baseline_label=majority(classes, len(labels)),
    )


def _trained_columns(contract: Contract | None) -> dict[str, str]:
    if contract is None:
        return {}
    return {"text": contract.text_column, "label": contract.label_column}


def _tell_dropped(table: Table) -> None:
    for reason, rows in table.dropped.items():
        say(f"{table.path}: dropped {len(rows):,}: {reason} (first: row {rows[0]})")


@dataclass(frozen=True)
class _Asked:
    row: int
    text: str


def predict_texts(
    model: str,
    file: str,
    *,
    texts: list[str] | None = None,
    column: str | None = None,
    style: Style = "jsonl",
    out: Path | None = None,
    precision: Precision = "auto",
    on_bad_row: OnBadRow = "error",
    encoding: str = "utf-8",
) -> None:
    """Answer texts in their order and write the answers as they come.

    Args:
        model: folder of a fine-tuned model.
        file: a table of texts, or "-" for one text a line from standard input.
        texts: texts to answer instead of a file.
        column: of the texts in the table.
        style: JSON lines or CSV.
        out: file to write, whole or not at all; None: standard output.
        precision: number format.
        on_bad_row: what to do with a row of the table that cannot be used.
        encoding: of the file.

    Raises:
        DataError: the file cannot be used; with `out`, nothing has been written then.
        CheckpointError: the model cannot be used.
        UsageError: texts and a file were both given.
    """
    if texts and file != "-":
        raise UsageError("both a file and --text were given", fix="give one of them")
    if not texts and file == "-" and sys.stdin.isatty():
        say("Reading one text a line from the terminal; end with Ctrl-D")
    predictor = Predictor.from_pretrained(model, precision=precision)
    if texts:
        asked: Iterable[_Asked] = [_Asked(row, text) for row, text in enumerate(texts, start=1)]
    elif file == "-":
        asked = _standard_input(encoding)
    else:
        asked = _table_rows(file, predictor, column, on_bad_row, encoding)
    if out is None:
        _answer(predictor, asked, style, sys.stdout)
        return

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as target:
            _answer(predictor, asked, style, target)

    write_atomically(out, write)


def _standard_input(encoding: str) -> Iterator[_Asked]:
    for row, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode(encoding).rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"byte {error.start + 1} is not {encoding}",
                place=f"standard input, line {row}",
                fix="name the encoding with --encoding",
            ) from error
        yield _Asked(row, text)


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
    _tell_dropped(table)
    for batch in table.dataset.iter(batch_size=1000):
        for row, text in zip(batch["row"], batch["text"], strict=True):
            yield _Asked(row, text)


def _answer(predictor: Predictor, asked: Iterable[_Asked], style: Style, target: TextIO) -> None:
    write = _json_writer(target) if style == "jsonl" else _csv_writer(target, predictor.labels)
    cut = 0
    # Answers come in the order of the questions, a window at a time: no more than that is kept.
    waiting: list[_Asked] = []

    def remember() -> Iterator[str]:
        for question in asked:
            waiting.append(question)
            yield question.text

    for answer in predictor.predict(remember()):
        write(waiting.pop(0), answer)
        cut += answer.tokens_cut > 0
    target.flush()
    if cut:
        say(f"{cut:,} texts were longer than {predictor.max_length} tokens; their end was cut")


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


def inspect_model(model: str, *, selftest: bool = False) -> int:
    """Print what a model folder holds and how its weights load; 1 if a self-test fails.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    folder = huggingface.resolve(model)
    config = BertConfig.from_pretrained(folder)
    classifies = any("Classification" in name for name in config.architectures)
    built = (BertForSequenceClassification if classifies else BertModel).from_pretrained(
        folder, verbose=False
    )
    print_line = _to_stdout
    print_line(f"{folder}")
    print_line(
        f"  {', '.join(config.architectures) or 'BertModel'}: {config.num_hidden_layers} layers, "
        f"hidden {config.hidden_size}, {config.num_attention_heads} heads, "
        f"{config.max_position_embeddings} positions, vocabulary {config.vocab_size:,}, "
        f"{built.num_parameters() / 1e6:.1f} M parameters"
    )
    _describe_tokenizer(folder, config)
    contract = Contract.read(folder)
    if contract is not None:
        print_line(
            f"  {contract.task} of the column {contract.text_column!r} into "
            f"{', '.join(contract.labels)}; texts beyond {contract.max_length} tokens are "
            f"{contract.longer_text}"
        )
    print_line(str(built.load_report))
    print_line(_load_table(built))
    return _run_selftest(model, contract) if selftest else 0


def _to_stdout(line: str) -> None:
    sys.stdout.write(line + "\n")


def _describe_tokenizer(folder: Path, config: BertConfig) -> None:
    tokenizer = BertTokenizer.from_pretrained(folder)
    tokenizer.check_fits(config.vocab_size)
    _to_stdout(f"  tokenizer: {len(tokenizer):,} tokens, fits the model")


def _load_table(model: BertModel | BertForSequenceClassification) -> str:
    assert model.load_report is not None
    rows = model.load_report.rows()
    width = max(len(name) for _, name, _, _ in rows)
    return "\n".join(
        f"  {status:<11} {name:<{width}} {count:>3}  {note}".rstrip()
        for status, name, count, note in rows
    )


def _run_selftest(model: str, contract: Contract | None) -> int:
    if contract is None or not contract.golden:
        raise CheckpointError(
            "there are no golden texts to test with",
            place=model,
            fix="fine-tune with bertolt, which keeps some in bertolt.json",
        )
    faults = Predictor.from_pretrained(model, precision="fp32").selftest()
    for fault in faults:
        _to_stdout(f"  self-test: {fault}")
    if not faults:
        _to_stdout(f"  self-test: {len(contract.golden)} golden texts answered as when saved")
    return 1 if faults else 0
