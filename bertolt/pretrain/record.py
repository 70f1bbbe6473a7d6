"""A finished run as the plain values that its report is drawn from."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from bertolt.base.version import __version__
from bertolt.pretrain.log import NEAR, Plateau
from bertolt.pretrain.measure import masked_loss
from bertolt.pretrain.setup import Run
from bertolt.report import CorpusAccount, EvalPoint, PretrainRecord, SourceCount, TrainingLog
from bertolt.train.loop import History
from bertolt.train.record import curve_of, machine_of, model_of


def pretrain_record(
    run: Run,
    history: History,
    plateau: Plateau,
    metrics: dict[str, Any],
    *,
    started: float,
    command: str,
    arguments: dict[str, Any],
) -> PretrainRecord:
    """Gather what the report shows.

    Args:
        run: that has ended.
        history: of its steps.
        plateau: who has watched the loss.
        metrics: the content of `metrics.json`.
        started: seconds since the epoch.
        command: a command line that repeats the run.
        arguments: resolved.
    """
    return PretrainRecord(
        title=f"{run.shards.resolve().name}: {run.objective}",
        command=command,
        started=datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        duration_seconds=time.time() - started,
        version=__version__,
        machine=machine_of(run.model, run.precision),
        model=model_of(run.model, run.source),
        corpus=_corpus(run),
        training=_training(run, history, metrics["train"]),
        stuck=stuck(run, history, plateau),
        arguments={name: str(value) for name, value in arguments.items()},
    )


def stuck(run: Run, history: History, plateau: Plateau) -> str:
    """What to say of a run whose last held-out loss is that of single tokens; else nothing."""
    if not history.evaluations:
        return ""
    loss = masked_loss(history.evaluations[-1][1])
    return plateau.words(loss) if loss >= NEAR * run.entropy else ""


def _corpus(run: Run) -> CorpusAccount:
    manifest, held_out = run.corpus.manifest, run.held_out
    return CorpusAccount(
        folder=str(run.shards),
        fingerprint=manifest.fingerprint,
        objective=run.objective,
        max_length=run.max_length,
        documents=manifest.train.documents,
        sentences=manifest.train.sentences,
        tokens=manifest.train.tokens,
        held_out_documents=manifest.held_out.documents,
        held_out_tokens=manifest.held_out.tokens,
        measured_tokens=held_out.tokens if held_out else 0,
        sources=[
            SourceCount(
                name=source.name,
                documents=source.documents,
                sentences=source.sentences,
                tokens=source.tokens,
            )
            for source in manifest.sources
        ],
        warnings=manifest.warnings,
        token_entropy=run.entropy,
        pairs_baseline=held_out.pairs_baseline if held_out else None,
        left_out=run.data.left_out,
    )


def _training(run: Run, history: History, rates: dict[str, Any]) -> TrainingLog:
    return TrainingLog(
        curve=curve_of(history.steps, lambda log: run.work.rate(log) / run.work.peak),
        eval_points=[
            EvalPoint(
                step=step,
                loss=found["eval_loss"],
                accuracy=found["eval_masked_accuracy"],
                masked_loss=found.get("eval_masked_loss"),
                next_sentence_accuracy=found.get("eval_next_sentence_accuracy"),
            )
            for step, found in history.evaluations
        ],
        steps=len(history.steps),
        epochs=rates["epochs"],
        samples_per_second=rates["samples_per_second"],
        tokens_per_second=rates["tokens_per_second"],
        padding_share=rates["filler_share"],
        tokens=rates["tokens"],
        flops_per_second=rates["flops_per_second"],
        peak_share=rates["peak_share"],
    )
