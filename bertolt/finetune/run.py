"""One run: prepare, load, train, measure, write."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bertolt.checkpoint import huggingface
from bertolt.config import BertConfig, FinetuneOptions
from bertolt.console import say
from bertolt.contract import Contract
from bertolt.demo import demo_checkpoint
from bertolt.errors import BertoltError, TrainingError
from bertolt.evaluation import Scores, majority, score
from bertolt.files import disk_errors, require_free, staged_folder, write_text
from bertolt.finetune.data import Prepared, prepare
from bertolt.finetune.record import run_record
from bertolt.model.heads import BertForSequenceClassification
from bertolt.predict import Predictor
from bertolt.report import write_report
from bertolt.tokenization import BertTokenizer
from bertolt.train.loop import Callback, History
from bertolt.train.trainer import Trainer
from bertolt.version import __version__

OUTPUTS = frozenset(
    {
        "bertolt.json",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "report.html",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_args.json",
        "vocab.txt",
        "arguments.json",
    }
)
_GOLDEN_TEXTS = 3


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What a run gives back.

    Attributes:
        out: the folder it wrote.
        scores: of the final model on the evaluation rows; None if the run was stopped.
        history: of training.
        metrics: the content of `metrics.json`.
    """

    out: Path
    scores: Scores | None
    history: History
    metrics: dict[str, Any]


def finetune(
    train: str | os.PathLike[str],
    options: FinetuneOptions | None = None,
    *,
    callbacks: Sequence[Callback] = (),
) -> FinetuneResult:
    """Fine-tune a classifier on a file, measure it, and write it with its report.

    Args:
        train: CSV, TSV, JSON, JSON lines or Parquet.
        options: settings.
        callbacks: to watch the run.

    Returns:
        The scores and the history; a run that Ctrl-C stopped has `history.interrupted` and no
        scores, and what there was has been saved.

    Raises:
        BertoltError: something in the data, the model or the options cannot be used; nothing has
            been written then.
        TrainingError: the loss was not finite; the last good weights have been saved.
    """
    options = options or FinetuneOptions()
    started = time.time()
    require_free(options.out, overwrite=options.overwrite, ours=OUTPUTS)
    source = _choose_model(options)
    config = BertConfig.from_pretrained(source)
    tokenizer = BertTokenizer.from_pretrained(source)
    tokenizer.check_fits(config.vocab_size)
    data = prepare(Path(train), options, tokenizer, config)
    with staged_folder(options.out, overwrite=options.overwrite, ours=OUTPUTS) as stage:
        trainer = _trainer(source, tokenizer, data, options, callbacks)
        _require_space(stage, trainer)
        _train(trainer)
        history = trainer.history
        scores = None if history.failure or history.interrupted else _score(trainer, data)
        metrics = {"eval": scores.to_dict() if scores else None, "train": history.summary()}
        _write(stage, trainer, data, options, metrics)
        record = run_record(
            trainer=trainer,
            source=source,
            data=data,
            scores=scores,
            started=started,
            command=" ".join(sys.argv),
            arguments=asdict(options),
        )
        write_report(record, stage / "report.html")
    say(f"Saved to {options.out}: the model, metrics.json and report.html")
    if history.failure is not None:
        raise TrainingError(
            history.failure.problem,
            place=history.failure.place,
            fix=f"{history.failure.fix}; the last good weights are in {options.out}",
        )
    return FinetuneResult(out=options.out, scores=scores, history=history, metrics=metrics)


def _choose_model(options: FinetuneOptions) -> Path:
    if options.model is not None:
        return huggingface.resolve(options.model)
    folder = demo_checkpoint()
    say(f"No --model given: starting from the demo checkpoint, {folder}")
    return folder


def _trainer(
    source: Path,
    tokenizer: BertTokenizer,
    data: Prepared,
    options: FinetuneOptions,
    callbacks: Sequence[Callback],
) -> Trainer:
    model = BertForSequenceClassification.from_pretrained(
        source,
        id2label=data.labels.id2label,
        problem_type="single_label_classification",
        seed=options.seed,
    )
    trainer = Trainer(
        model,
        options.training_arguments(),
        train_dataset=data.train.encoded,
        eval_dataset=data.eval.encoded,
        processing_class=tokenizer,
        compute_metrics=lambda found: {
            "accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())
        },
        callbacks=callbacks,
    )
    say(f"Precision {trainer.precision.name}: {trainer.precision.reason}")
    say(f"Attention {model.attention_backend.name}: {model.attention_backend.reason}")
    return trainer


def _require_space(stage: Path, trainer: Trainer) -> None:
    """Refuse before training what could not be saved after it."""
    needed = int(4 * trainer.model.num_parameters() * 1.1)
    with disk_errors(stage):
        free = shutil.disk_usage(stage).free
    if free < needed:
        raise BertoltError(
            f"the model needs {needed / 1e6:.0f} MB and {free / 1e6:.0f} MB are free",
            place=str(stage.parent),
            fix="free some space, or choose another folder with --out",
        )


def _train(trainer: Trainer) -> None:
    """Train; a loss that is not finite is left in the history, for what there is to be saved."""
    try:
        trainer.train()
    except TrainingError:
        return
    rates = trainer.history.summary()
    say(
        f"Trained {rates['steps']} steps in {rates['seconds']:.0f} s: "
        f"{rates['samples_per_second']:.0f} texts/s, {rates['tokens_per_second']:.0f} tokens/s"
    )


def _score(trainer: Trainer, data: Prepared) -> Scores:
    scores = score(
        trainer.model,
        data.eval.encoded,
        precision=trainer.precision,
        baseline_label=majority(data.train.labels(), len(data.labels)),
    )
    say(str(scores))
    return scores


def _write(
    stage: Path,
    trainer: Trainer,
    data: Prepared,
    options: FinetuneOptions,
    metrics: dict[str, Any],
) -> None:
    trainer.save_model(stage)
    predictor = Predictor(
        trainer.model, trainer.processing_class, precision="fp32", device=trainer.device
    )
    texts = [data.eval.text(row) for row in range(min(_GOLDEN_TEXTS, len(data.eval.encoded)))]
    contract = Contract(
        text_column=data.train.table.text_column,
        label_column=str(data.train.table.label_column),
        labels=list(data.labels.names),
        max_length=data.train.encoded.account.max_length,
        library_version=__version__,
        golden=predictor.make_golden(texts),
    )
    contract.write(stage)
    write_text(stage / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    resolved = json.dumps(asdict(options), indent=2, default=str, ensure_ascii=False) + "\n"
    write_text(stage / "arguments.json", resolved)
