"""A finished run as the plain values that its report is drawn from."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bertolt.base.version import __version__
from bertolt.commands.finetune.data import LabelledRows, Prepared
from bertolt.report import (
    ClassScore,
    DataAccount,
    DroppedRows,
    EvalPoint,
    Evaluation,
    LabelCount,
    LengthAccount,
    Measure,
    Mistake,
    RunRecord,
    TrainingLog,
)
from bertolt.tasks.evaluation import Scores
from bertolt.train.record import curve_of, machine_of, model_of
from bertolt.train.trainer import Trainer

_SHOWN_TEXT = 2000
_SHOWN_ROWS = 20
_BINS = 40


def run_record(
    *,
    trainer: Trainer,
    source: Path,
    data: Prepared,
    scores: Scores | None,
    started: float,
    stopped: str,
    command: str,
    arguments: dict[str, Any],
) -> RunRecord:
    """Gather what the report shows.

    Args:
        trainer: after training.
        source: the checkpoint it started from.
        data: the rows.
        scores: of the final model, or None.
        started: seconds since the epoch.
        stopped: why training ended before its last step, or an empty string.
        command: a command line that repeats the run.
        arguments: resolved.
    """
    return RunRecord(
        title=f"{Path(data.train.table.path).name}: {data.train.table.label_column}",
        command=command,
        started=datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        duration_seconds=time.time() - started,
        version=__version__,
        machine=machine_of(trainer.model, trainer.precision),
        model=model_of(trainer.model, str(source)),
        data=_data(data),
        training=_training(trainer, data),
        evaluation=_evaluation(scores, data) if scores else None,
        stopped_early=stopped,
        arguments={name: str(value) for name, value in arguments.items()},
    )


def _data(data: Prepared) -> DataAccount:
    table, other = data.train.table, data.eval.table
    tables = [table] if other is table else [table, other]
    counts = [
        np.bincount(part.labels(), minlength=len(data.labels)) for part in (data.train, data.eval)
    ]
    return DataAccount(
        file=table.path,
        eval_file=None if other is table else other.path,
        text_column=table.text_column,
        text_column_how=table.found.get("text", "named by --text"),
        label_column=str(table.label_column),
        label_column_how=table.found.get("label", "named by --label"),
        rows_read=sum(each.rows_read for each in tables),
        dropped=[
            DroppedRows(reason=reason, count=len(rows), first_rows=rows[:_SHOWN_ROWS])
            for each in tables
            for reason, rows in each.dropped.items()
        ],
        split=data.split,
        labels=[
            LabelCount(name=name, train=int(counts[0][i]), eval=int(counts[1][i]))
            for i, name in enumerate(data.labels.names)
        ],
        lengths=_lengths(data),
        repeated=data.repeated,
    )


def _lengths(data: Prepared) -> LengthAccount:
    parts = [data.train.encoded, data.eval.encoded]
    lengths = np.concatenate([part.full_lengths for part in parts])
    # The tail beyond the 99.5th percentile would flatten everything else: one last bin holds it.
    top = int(np.percentile(lengths, 99.5, method="higher")) + 1
    width = max(1, -(-top // _BINS))
    edges = list(range(0, top + width, width))
    if lengths.max() >= edges[-1]:
        edges.append(int(lengths.max()) + 1)
    counts, _ = np.histogram(lengths, bins=edges)
    return LengthAccount(
        edges=edges,
        counts=counts.tolist(),
        max_length=parts[0].account.max_length,
        max_length_source=data.max_length_source,
        texts=sum(part.account.texts for part in parts),
        texts_cut=sum(part.account.texts_cut for part in parts),
        tokens=sum(part.account.tokens for part in parts),
        tokens_cut=sum(part.account.tokens_cut for part in parts),
    )


def _training(trainer: Trainer, data: Prepared) -> TrainingLog:
    history = trainer.history
    rates = history.summary()
    # Of the steps that were made; a run that stopped early has not seen all that were asked for.
    epochs = rates["samples"] / len(data.train.encoded)
    return TrainingLog(
        curve=curve_of(history.steps),
        eval_points=[
            EvalPoint(step=step, loss=found.get("eval_loss"), accuracy=found.get("eval_accuracy"))
            for step, found in history.evaluations
        ],
        steps=len(history.steps),
        epochs=epochs,
        samples_per_second=rates["samples_per_second"],
        tokens_per_second=rates["tokens_per_second"],
        padding_share=rates["filler_share"],
    )


def _evaluation(scores: Scores, data: Prepared) -> Evaluation:
    found = scores.confusion
    low, high = found.accuracy_interval()
    baseline, interval = scores.baseline
    return Evaluation(
        rows=found.total(),
        accuracy=Measure(value=found.accuracy(), low=low, high=high),
        f1_macro=found.f1_macro(),
        loss=scores.loss,
        baseline=Measure(value=baseline, low=interval[0], high=interval[1]),
        baseline_label=scores.labels[scores.baseline_label],
        classes=[
            ClassScore(
                name=name,
                precision=_measure(each.precision, each.precision_interval),
                recall=_measure(each.recall, each.recall_interval),
                f1=Measure(value=each.f1),
                support=each.support,
                predicted=each.predicted,
            )
            for name, each in zip(scores.labels, found.per_class(), strict=True)
        ],
        confusion=found.counts.tolist(),
        mistakes=[
            _mistake(wrong.row, wrong.label, wrong.predicted, wrong.probability, scores, data.eval)
            for wrong in scores.mistakes
        ],
    )


def _measure(value: float | None, interval: tuple[float, float] | None) -> Measure:
    low, high = interval or (None, None)
    return Measure(value=value, low=low, high=high)


def _mistake(
    row: int, label: int, predicted: int, probability: float, scores: Scores, rows: LabelledRows
) -> Mistake:
    text = rows.text(row)
    return Mistake(
        text=text[:_SHOWN_TEXT],
        characters=len(text) if len(text) > _SHOWN_TEXT else None,
        row=rows.file_row(row),
        true_label=scores.labels[label],
        predicted_label=scores.labels[predicted],
        probability=probability,
    )
