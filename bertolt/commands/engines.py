"""Which engine is fastest here: each is measured by itself, in a process of its own.

`bertolt bench MODEL` prints the table, and a server asks `choose` for the fastest of its rows that
keeps the score.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal, cast

import torch

from bertolt.base.console import hushed, info
from bertolt.base.errors import BertoltError, CheckpointError, UsageError
from bertolt.base.format import gibibytes, number
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.exported import ENGINES
from bertolt.commands.bench import generate_texts, peak_memory
from bertolt.commands.calibration import Counted, measured
from bertolt.commands.evaluate import WITHOUT_MAP, as_trained, evaluate_file, trained_columns
from bertolt.commands.evaluate_options import EvaluateOptions
from bertolt.commands.export import ROUNDING, export_model
from bertolt.commands.export_options import ExportOptions
from bertolt.commands.file_options import FileOptions
from bertolt.commands.wording import options_called
from bertolt.models.config import AnswerPrecision, EngineName
from bertolt.models.families.base import read_config
from bertolt.tasks.fill_mask import FillMask
from bertolt.tasks.predictor import Asked, Predictor
from bertolt.tasks.registry import contract_in, has_head, is_encoder
from bertolt.tasks.rows import Columns, read_for_task

CONTESTANTS: tuple[tuple[EngineName, AnswerPrecision], ...] = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("torch", "int8"),
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
"""Engines and precisions; the first is what the score of the others is held against."""
SECONDS = 3.0
"""Of each of the two measurements, about."""
_TEXTS = 256
_FIRST = 5  # texts one at a time that warm an engine up
_BULK = 64  # texts of the least run of many
By = Literal["latency", "bulk", "serving"]
CLOSE = 1.0
"""Milliseconds that one text may take longer where many at once are answered faster."""
SLOW = 10
"""Times the shortest time of one text beyond which an engine is given up."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one engine did.

    Attributes:
        engine, precision: which.
        folder: that it opens.
        milliseconds: median time of one text at a time; None: it was not measured.
        texts_per_second: many texts at once.
        memory: most bytes that its process held; None where the system does not tell.
        score: the task's first metric on rows of the user's file; None without one.
        rows: how many; what int8 may be calibrated on is left out for all engines.
        metric: what the score is, as people call it; empty without one.
        greater: whether more of it is better.
        absent: why it was not measured; empty if it was.
    """

    engine: EngineName
    precision: AnswerPrecision
    folder: str = ""
    milliseconds: float | None = None
    texts_per_second: float | None = None
    memory: int | None = None
    score: float | None = None
    rows: int = 0
    metric: str = ""
    greater: bool = True
    absent: str = ""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The engine to answer with.

    Attributes:
        engine, precision: for `Predictor.from_pretrained`.
        folder: that they open.
        reason: why, in words.
        rows: what was measured.
        metric: what the score is, as people call it; empty without one.
    """

    engine: EngineName
    precision: AnswerPrecision
    folder: str
    reason: str
    metric: str = ""
    rows: list[Row] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        return asdict(self)

    def __str__(self) -> str:
        head = f"{'':<18}{'one text':>10}{'in bulk':>14}{'memory':>10}  {self.metric}"
        lines = [head.rstrip(), *map(_line, self.rows)]
        return "\n".join([*lines, "", f"{self.engine} {self.precision}: {self.reason}"])


def _line(row: Row) -> str:
    name = f"{row.engine} {row.precision}"
    if row.absent or row.milliseconds is None or row.texts_per_second is None:
        return f"{name:<18}{row.absent}"
    score = "" if row.score is None else f"{row.score:.4f}"
    rate = f"{number(row.texts_per_second)} texts/s"
    memory = gibibytes(row.memory)
    return f"{name:<18}{row.milliseconds:>7.2f} ms{rate:>14}{memory:>10}  {score}".rstrip()


def choose(
    model: str,
    work: Path,
    file: Path | None = None,
    *,
    text: str | None = None,
    label: str | None = None,
    reading: FileOptions | None = None,
    max_loss: float = 0.01,
    by: By = "latency",
    contestants: Sequence[tuple[EngineName, AnswerPrecision]] = CONTESTANTS,
) -> Choice:
    """Measure every engine that is installed and take the fastest that keeps the score.

    Args:
        model: folder of a fine-tuned model, or an id on the hub.
        work: a folder of the caller's, for the graphs; what was chosen may stand in it.
        file: with answers that are known. Without it no score is measured, and int8, which could
            lose some, is left out of the choice.
        text, label: columns of the file; None: as in training, or found by their names.
        reading: how the file is read; None: as others are.
        max_loss: what the task's first metric may lose, in its own units.
        by: what decides: the time of one text at a time; the rate of many; or, for serving, the
            rate of many among those that are within `CLOSE` of the shortest time.
        contestants: engines and precisions; the first is what the others are held against.

    Raises:
        CheckpointError: the model cannot be used, or was exported already.
        DataError: the file cannot be used.
        BertoltError: PyTorch in fp32, which the others are held against, cannot answer.
    """
    source = huggingface.resolve(model)
    reference = Predictor.from_pretrained(source, precision="fp32", engine="torch")
    reading = reading or FileOptions()
    texts = _texts(reference, file, Columns(text=text, **reading.columns()))
    named = {"text": text, "label": label, **reading.plain()}
    folders = _Folders(source, work, file, named)
    rows = list[Row]()
    for engine, precision in contestants:
        info(f"Measuring {engine} {precision}")
        try:
            with hushed():  # each export would tell of the same file again
                rows.append(_measured(folders, engine, precision, texts, _most(rows)))
        except BertoltError as error:
            if not rows:
                raise
            absent = f"absent: {error.problem}"
            rows.append(Row(engine=engine, precision=precision, absent=absent))
    # The task may measure one file otherwise than another.
    known = next((row for row in rows if row.metric), Row(engine="torch", precision="fp32"))
    best, reason = _fastest(rows, known.greater, max_loss, by, scored=file is not None)
    return Choice(
        engine=best.engine,
        precision=best.precision,
        folder=best.folder,
        reason=reason,
        metric=f"{known.metric}, {known.rows:,} rows" if known.metric else "",
        rows=rows,
    )


def _texts(predictor: Predictor, file: Path | None, columns: Columns) -> list[Asked]:
    """What is asked while the clock runs: rows of the file, or texts of the vocabulary."""
    if file is not None and (rows := _rows(predictor, file, columns)):
        return rows
    generated = generate_texts(predictor.tokenizer, 3 * _TEXTS)
    task, mask = predictor.task, str(predictor.tokenizer.mask_token)
    asked: list[Asked] = []
    for first, second, third in zip(generated[::3], generated[1::3], generated[2::3], strict=True):
        if task.several_pairs:
            asked.append({"text": first, "text_pair": [second, third]})
        elif predictor.takes_pairs:
            asked.append((first, second))
        else:
            asked.append(
                first if task.question_fault({"text": first}) is None else f"{first} {mask}"
            )
    return asked


def _rows(predictor: Predictor, file: Path, columns: Columns) -> list[Asked]:
    """The first rows of a file that the task can be asked of; a text without a mask is none."""
    table, _ = read_for_task(
        [file],
        as_trained(columns, predictor.task),
        task=type(predictor.task),
        prefer=trained_columns(predictor),
        need_label=False,
    )
    roles = ("text", "text_pair")
    rows = (
        {role: row[role] for role in roles if row.get(role) is not None}
        for row in table.examples(range(min(_TEXTS, len(table))))
    )
    return [row for row in rows if predictor.task.question_fault(row) is None]


class _Folders:
    """What each engine opens: the model's folder, or an export of it that is made once."""

    def __init__(
        self, source: Path, work: Path, file: Path | None, named: Mapping[str, Any]
    ) -> None:
        self.source, self.work, self.file = source, work, file
        self.named = named
        self._made: dict[tuple[str, bool], Path] = {}

    def of(self, engine: EngineName, precision: AnswerPrecision) -> Path:
        """The folder for an engine.

        Raises:
            BertoltError: it cannot be made, as without a package or without a file for int8.
        """
        if engine == "torch":
            return self.source
        form = next(name for name, runs in ENGINES.items() if runs == engine)
        int8 = precision == "int8"
        if (form, int8) not in self._made:
            self._made[form, int8] = self._export(form, int8=int8)
        return self._made[form, int8]

    def _export(self, form: str, *, int8: bool) -> Path:
        if int8 and self.file is None:
            raise BertoltError("int8 needs a file to be calibrated on", fix="name one")
        out = self.work / (f"{form}-int8" if int8 else form)
        options = ExportOptions(
            out=out,
            format=cast(Any, form),
            int8=int8,
            calibrate=self.file if int8 else None,
            max_loss=1e9,  # the score stands in the table
            overwrite=True,
            **self.named,
        )
        export_model(str(self.source), options)
        return out


_ROOT = Path(__file__).parents[2]
_START = f"import sys; sys.path.append(sys.argv.pop(1)); from {__name__} import main; main()"
"""A process that works out one engine: with `-P`, for Python would else import what lies in the
folder that one is in, which may be that of the model."""


def _most(rows: Sequence[Row]) -> float | None:
    """Milliseconds of one text of an engine that could still be chosen; None: any."""
    known = [row.milliseconds for row in rows if row.milliseconds is not None]
    return SLOW * min(known) if known else None


def _measured(
    folders: _Folders,
    engine: EngineName,
    precision: AnswerPrecision,
    texts: Sequence[Asked],
    most: float | None,
) -> Row:
    folder = folders.of(engine, precision)
    job = {
        "folder": str(folder),
        "engine": engine,
        "precision": precision,
        "texts": list(texts),
        "threads": torch.get_num_threads(),
        "file": None if folders.file is None else str(folders.file),
        "named": dict(folders.named),
        "most": most,
    }
    found = _in_a_process(job)
    return Row(engine=engine, precision=precision, folder=str(folder), **found)


def _in_a_process(job: dict[str, Any]) -> dict[str, Any]:
    """What `_work` finds, in a process of its own, whose memory is its engine's alone."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        ended = subprocess.run(
            [sys.executable, "-P", "-c", _START, str(_ROOT), str(out)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode or not out.is_file():
            last = next(iter(reversed(ended.stderr.strip().splitlines())), "it ended early")
            raise BertoltError(last, fix="see the message")
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        if "problem" in found:
            raise BertoltError(found["problem"], place=found["place"], fix=found["fix"])
        return found


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Measure one engine here: its times, and its score on a file if there is one.

    One that is far too slow is given up: a score of many rows would take hours, as in 8 bits by a
    processor that has no products for them.
    """
    torch.set_num_threads(job["threads"])
    predictor = Predictor.from_pretrained(
        job["folder"], precision=job["precision"], engine=job["engine"]
    )
    asked: list[Asked] = [tuple(each) if isinstance(each, list) else each for each in job["texts"]]
    score: dict[str, Any] = {}
    most = float("inf") if job["most"] is None else job["most"]
    milliseconds = 1000 * _one_at_a_time(predictor, asked, most / 1000)
    if milliseconds > most:
        slow = f"given up: {milliseconds:.0f} ms for one text, over {SLOW} times the shortest"
        return {"milliseconds": milliseconds, "absent": slow}
    if job["file"] is not None:
        options = EvaluateOptions(**job["named"])
        part = Counted(measured)
        with options_called(WITHOUT_MAP):
            scores = evaluate_file(predictor, Path(job["file"]), options, part=part)
        primary = scores.task.primary
        score = {
            "score": float(scores.scorer.values()[primary.name]),
            "rows": part.rows,
            "metric": primary.title,
            "greater": primary.greater,
        }
    return {
        "milliseconds": milliseconds,
        "texts_per_second": _in_bulk(predictor, asked),
        "memory": peak_memory(predictor.device),
        **score,
    }


def _one_at_a_time(predictor: Predictor, asked: Sequence[Asked], most: float) -> float:
    """Median seconds of one text, the first few left out.

    Of an engine that takes more than `most` for each of those first ones, their shortest: who is
    that slow is known by then.
    """
    seconds: list[float] = []
    end = time.perf_counter() + SECONDS
    for each in cycle(asked):
        begun = time.perf_counter()
        next(predictor.predict([each]))
        seconds.append(time.perf_counter() - begun)
        if len(seconds) == _FIRST and min(seconds) > most:
            return min(seconds)
        if time.perf_counter() > end and len(seconds) > 2 * _FIRST:
            break
    return statistics.median(seconds[_FIRST:])


def _in_bulk(predictor: Predictor, asked: Sequence[Asked]) -> float:
    """Texts a second, after a run that is not counted."""

    def run(count: int) -> float:
        begun = time.perf_counter()
        for _ in predictor.predict(islice(cycle(asked), count)):
            pass
        return time.perf_counter() - begun

    run(_BULK)
    count = max(_BULK, int(_BULK * SECONDS / run(_BULK)))
    return count / run(count)


def _fastest(
    rows: Sequence[Row], greater: bool, max_loss: float, by: By, *, scored: bool
) -> tuple[Row, str]:
    """The fastest row that keeps the score of the first, and why."""
    reference, *_ = present = [row for row in rows if not row.absent]

    def loss(row: Row) -> float:
        if row.score is None or reference.score is None:
            return 0.0 if row.precision != "int8" else float("inf")
        return reference.score - row.score if greater else row.score - reference.score

    def time_of(row: Row) -> float:
        return float("inf") if row.milliseconds is None else row.milliseconds

    keeping = [row for row in present if loss(row) <= max_loss + ROUNDING]
    if by == "serving":
        shortest = min(map(time_of, keeping))
        keeping = [row for row in keeping if time_of(row) <= shortest + CLOSE]
    best = (
        min(keeping, key=time_of)
        if by == "latency"
        else max(keeping, key=lambda row: row.texts_per_second or 0.0)
    )
    rate = f"{number(best.texts_per_second or 0)} texts/s"
    told = {
        "latency": f"{best.milliseconds:.2f} ms for one text",
        "bulk": rate,
        "serving": f"{rate} and, within {CLOSE:g} ms of the shortest time, "
        f"{best.milliseconds:.2f} ms for one text",
    }[by]
    kept = (
        f"of those that lose {max_loss:g} or less of torch fp32's score"
        if scored
        else "of those in fp32 and bf16; int8 needs a file with answers that are known"
    )
    return best, f"the fastest, {told}, {kept}"


def bench_engines(
    model: str,
    file: Path | None = None,
    *,
    text: str | None = None,
    label: str | None = None,
    reading: FileOptions | None = None,
    max_loss: float = 0.01,
    precision: str = "auto",
) -> Choice:
    """Lay the engines side by side, in a folder that goes afterwards; see `choose`.

    Raises:
        UsageError: one number format is asked for, and all are measured.
        CheckpointError: the model answers nothing yet.
    """
    if precision != "auto":
        raise UsageError(
            "each engine is measured in every number format that it has",
            place="--precision",
            fix="leave --precision out",
        )
    source = huggingface.resolve(model)
    config = read_config(source)
    fills_masks = has_head(config, FillMask.head) and FillMask.serves(config)
    if is_encoder(config) and not fills_masks and contract_in(source, config) is None:
        raise CheckpointError(
            "it is an encoder, which answers nothing that engines could be compared by",
            place=model,
            fix=f"bertolt bench --model {shlex.quote(model)} measures this machine with it",
        )
    with tempfile.TemporaryDirectory(prefix="bertolt-bench-") as work:
        how: dict[str, Any] = {"text": text, "label": label, "reading": reading}
        return choose(model, Path(work), file, max_loss=max_loss, **how)


def main() -> None:
    """Measure what standard input asks for, and write what is found to a file."""
    try:
        found = work(json.load(sys.stdin))
    except BertoltError as error:
        found = {"problem": error.problem, "place": error.place, "fix": error.fix}
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
