"""A finished run as the facts that its report is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bertolt.commands.finetune.data import LoadedRows
from bertolt.data.columns import FLAGS
from bertolt.data.load import Table
from bertolt.report import plain
from bertolt.report.shown import ends
from bertolt.tasks.base import Task
from bertolt.tasks.criterion import facts_words, weights_block
from bertolt.tasks.evaluation import Scores, TaskRows
from bertolt.tasks.page import curve, headline, measure, part
from bertolt.tasks.row_view import NAMED
from bertolt.train.record import (
    curve_facts,
    evaluation_facts,
    machine_facts,
    model_facts,
    run_head,
)
from bertolt.train.trainer import Trainer

_SHOWN_ROWS = 20
_SHOWN_TEXT = 2000
_BINS = 40


def run_facts(
    *,
    trainer: Trainer,
    source: Path,
    data: LoadedRows,
    scores: Scores | None,
    started: float,
    stopped: str,
    command: str,
    arguments: dict[str, Any],
    criterion: dict[str, Any],
) -> dict[str, Any]:
    """Gather what `run.json` holds.

    Args:
        trainer: after training.
        source: the checkpoint it started from.
        data: the rows.
        scores: of the final model, or None.
        started: when, as `time.monotonic` gives it.
        stopped: why training ended before its last step, or an empty string.
        command: a command line that repeats the run.
        arguments: resolved.
        criterion: how the loss differs from the plain one, if it does.
    """
    title = title_of(data.train.table)
    facts = run_head("finetune", title, started=started, command=command, arguments=arguments)
    facts |= {
        "task": data.task.name,
        "stopped_early": stopped,
        "machine": machine_facts(trainer.model, trainer.precision),
        "model": model_facts(trainer.model, str(source)),
        "data": data_facts(data),
        "checks": data.checks,
        "training": _training(trainer, data) | ({"criterion": criterion} if criterion else {}),
    }
    train, held_out = data.train, data.eval or _no_rows(data.train)
    labels = data.task.data_blocks(train.table, train.index, held_out.table, held_out.index)
    worst = [wrong.row for wrong in scores.mistakes] if scores else []
    examples = held_out.examples(worst) if worst else []
    facts |= task_part(data.task, scores, labels, examples, criterion)
    facts["cautions"] = [*data.cautions, *facts["cautions"]]
    values: dict[str, Any] = plain(facts)
    return values


def task_part(
    task: Task,
    scores: Scores | None,
    labels: list[dict[str, Any]],
    examples: list[dict[str, Any]],
    criterion: Mapping[str, Any],
) -> dict[str, Any]:
    """What the task shows: its scores, the worst answers, and the labels of the rows.

    Args:
        task: of the run.
        scores: of the final model, or None.
        labels: blocks on the labels of the rows.
        examples: the rows of the worst answers.
        criterion: how the loss differs from the plain one, if it does.
    """
    labels = [*labels, *weights_block(criterion)]
    shown = unmeasured(task) if scores is None else scores.scorer.explain()
    if scores is None:
        return shown | {"data_blocks": labels}
    tile = {"label": "Evaluation loss", "value": scores.loss, "note": facts_words(criterion)}
    return {
        **shown,
        "tiles": [*shown["tiles"], *_resampled(scores, shown["headline"]["format"]), tile],
        "blocks": [*shown["blocks"], *_flattered(scores), _mistakes(scores, examples)],
        "data_blocks": labels,
    }


def _flattered(scores: Scores) -> list[dict[str, Any]]:
    """A note on what was chosen on these rows, if anything was."""
    return [{"kind": "note", "text": scores.flattered}] if scores.flattered else []


def _resampled(scores: Scores, format: str) -> list[dict[str, Any]]:
    """A tile with the interval of the primary metric by resampling, where there is one."""
    if scores.bootstrap is None:
        return []
    low, high = scores.bootstrap
    words = ends(measure(None, (low, high)), format)
    note = f"95% interval of {scores.task.primary.title}"
    return [{"label": f"By resampling {scores.resampled}", "value": words, "note": note}]


def unmeasured(task: Task) -> dict[str, Any]:
    """The part of a run whose final model was not measured."""
    primary = task.primary
    curves = [curve(primary.name, primary.title, measure(None))] if primary.greater else []
    return part(headline(primary.title, measure(None), 0, None), curves=curves)


def _mistakes(scores: Scores, examples: list[dict[str, Any]]) -> dict[str, Any]:
    pairs = zip(scores.mistakes, examples, strict=True)
    return {
        "kind": "mistakes",
        "id": "mistakes",
        "title": scores.task.worst[0],
        "nav": "Mistakes",
        "lead": scores.task.worst[1] if scores.mistakes else "",
        "items": [_mistake(scores.task, wrong.answer, example) for wrong, example in pairs],
    }


def _mistake(task: Task, answer: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    text, pair = task.page_texts(example)
    return {
        "text": text[:_SHOWN_TEXT],
        "characters": len(text) if len(text) > _SHOWN_TEXT else None,
        "second_text": None if pair is None else pair[:_SHOWN_TEXT],
        "row": example["row"],
        "said": task.describe_answer(answer),
        "truth": task.truth(example),
        "probability": answer.get("probability"),
        "marks": task.marks(answer, example),
    }


def _no_rows(rows: TaskRows) -> TaskRows:
    return replace(rows, index=rows.index[:0])


def title_of(table: Table) -> str:
    """What a page on a file is called."""
    named = [name for names in table.roles.values() for name in names]
    return f"{_short(table)}: {table.label_column or ', '.join(named)}"


def _short(table: Table) -> str:
    """The name of the file for a title; of several files the first and how many more."""
    files = list(dict.fromkeys(Path(name).name for name, _ in table.parts))
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return (files[0] if files else Path(table.path).name) + more


def data_facts(data: LoadedRows) -> dict[str, Any]:
    """What the page has of the rows: their files, columns, lengths, and what was left out."""
    table, other = data.train.table, (data.eval or data.train).table
    tables = [table] if other is table else [table, other]
    return {
        "files": {"train": table.path, "eval": None if other is table else other.path},
        "columns": [
            {
                "role": role,
                "column": ", ".join(columns),
                "how": table.found.get(role, f"named by {FLAGS[role]}"),
            }
            for role, columns in table.roles.items()
        ],
        "rows_read": sum(each.rows_read for each in tables),
        "dropped": [
            {"reason": reason, "count": len(rows), "first_rows": rows[:_SHOWN_ROWS]}
            for each in tables
            for reason, rows in each.dropped.items()
        ],
        "split": data.split,
        "train_rows": len(data.train),
        "eval_rows": len(data.eval) if data.eval else 0,
        "lengths": _lengths(data),
        "repeated": len(data.repeated),
        "repeated_rows": data.repeated[:NAMED],
        **({"nearly_repeated": data.repeats.in_both._asdict()} if data.eval else {}),
    }


def _lengths(data: LoadedRows) -> dict[str, Any]:
    """How long the texts are in tokens, special ones included, and what the limit cuts off."""
    parts = [rows.encoded for rows in (data.train, data.eval) if rows]
    lengths = np.concatenate([part.full_lengths for part in parts])
    # The tail beyond the 99.5th percentile would flatten everything else: one last bin holds it.
    top = int(np.percentile(lengths, 99.5, method="higher")) + 1
    width = max(1, -(-top // _BINS))
    edges = list(range(0, top + width, width))
    if lengths.max() >= edges[-1]:
        edges.append(int(lengths.max()) + 1)
    counts, _ = np.histogram(lengths, bins=edges)
    sums = ("texts", "texts_cut", "tokens", "tokens_cut", "texts_parted", "windows")
    return {
        "edges": edges,
        "counts": counts,
        "max_length": parts[0].account.max_length,
        "max_length_source": data.max_length_source,
        "longer": data.long.words(parts[0].account.max_length),
        **{name: sum(getattr(part.account, name) for part in parts) for name in sums},
    }


def _training(trainer: Trainer, data: LoadedRows) -> dict[str, Any]:
    history = trainer.history
    rates = history.summary()
    return {
        "curve": curve_facts(history.steps),
        "eval_points": evaluation_facts(history.evaluations),
        "unit": "samples",
        "steps": len(history.steps),
        # Of the steps that were made; one that stopped early has not seen all that were asked for.
        "epochs": rates["samples"] / len(data.train.encoded),
        "samples_per_second": rates["samples_per_second"],
        "tokens_per_second": rates["tokens_per_second"],
        "padding_share": rates["filler_share"],
        "micro_batch_tokens": trainer.micro_batches and trainer.micro_batches.tokens,
    }
