"""One run: prepare, load, train, measure, write."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from bertolt.base.console import held_interrupts, say
from bertolt.base.distributed import is_restarted_in, join, note_taken
from bertolt.base.errors import BertoltError, TrainingError, UsageError
from bertolt.base.files import write_text
from bertolt.base.format import duration, plural
from bertolt.base.version import __version__
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.contract import Contract, Golden
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.checkpoint.store import Store
from bertolt.commands.finetune.data import Prepared, prepare
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.output import output_folder, require_space
from bertolt.commands.finetune.record import run_facts
from bertolt.commands.finetune.trainer import ClassifierTrainer, GoodWeights
from bertolt.models.config import BertConfig
from bertolt.models.heads import BertForSequenceClassification
from bertolt.report import RUN, write_facts, write_report
from bertolt.report.findings import cautions
from bertolt.tasks.evaluation import Scores
from bertolt.tasks.predictor import Predictor
from bertolt.tokenization import BertTokenizer
from bertolt.train.complete import Complete, find_complete, mark_complete, take_over
from bertolt.train.loop import Callback, History

_GOLDEN_TEXTS = 3
_ODD_GAP = 256  # rows of the embedding without a token; fewer are a table rounded up in size


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What a run gives back.

    Attributes:
        out: the folder it wrote.
        scores: of the final model on the evaluation rows; None if training was stopped.
        history: of training.
        metrics: the content of `metrics.json`.
        interrupted: Ctrl-C stopped training, or came while its result was saved.
    """

    out: Path
    scores: Scores | None
    history: History
    metrics: dict[str, Any]
    interrupted: bool


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What a run works with, once everything is read."""

    train: Path
    options: FinetuneOptions
    source: Path
    data: Prepared
    trainer: ClassifierTrainer
    good: GoodWeights


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
        The scores and the history; a run that Ctrl-C stopped before its end has no scores, and what
        there was has been saved. One that is resumed and was complete before has its metrics alone.

    Raises:
        BertoltError: something in the data, the model or the options cannot be used; nothing has
            been written then.
        TrainingError: the loss was not finite; the last good weights have been saved.
        SystemExit: with code 143, after SIGTERM; a checkpoint of that step has been written.
    """
    options = options or FinetuneOptions()
    started = time.time()
    out, world = options.out, join()
    if is_restarted_in(out, world):
        options = replace(options, resume=True)
    complete = find_complete(out, world) if _only_resumes(options) else None
    if complete is not None:
        return _already_complete(_prepare(Path(train), options, callbacks), complete)
    with (
        contextlib.ExitStack() as until_saved,
        # The first process writes for all of them.
        output_folder(out, overwrite=options.overwrite)
        if world.first
        else contextlib.nullcontext(None) as stage,
    ):
        _require_checkpoints(options)
        run = _prepare(Path(train), options, callbacks)
        if stage is not None:
            parameters = run.trainer.model.num_parameters()
            require_space(stage, out, parameters, checkpoints=_new_checkpoints(run))
        _fit(run)
        # A signal from here on would lose what was trained: it waits until that is in place.
        interrupted = until_saved.enter_context(held_interrupts(terminate=True))
        history = run.trainer.history
        scores = _result(run.trainer)
        golden, kept = _keep_good_weights(run)
        metrics = {"eval": scores.to_dict() if scores else None, "train": history.summary()}
        run.trainer.save_model(stage)
        unreported = None
        if stage is not None:
            _write(stage, run, golden, metrics)
            if _is_complete(scores, history):
                mark_complete(stage, run.trainer.deciding_settings(run.data.train.encoded))
            facts = _facts(run, scores, started, _stopped(history, kept))
            unreported = _report(facts, stage, out)
    if stage is not None:
        _leave_checkpoints(run, complete=_is_complete(scores, history))
        say(f"Saved to {out}: the model, its tokenizer and metrics.json")
        if unreported is None:
            say(f"Report: {out / 'report.html'}")
        for caution in cautions(facts):
            say(f"Caution: {caution.claim}. {caution.detail}")
    if history.failure is not None:
        raise TrainingError(
            f"{history.failure.problem}; {kept} in {out}",
            place=history.failure.place,
            fix=history.failure.fix,
        )
    if unreported is not None:
        raise unreported
    say(f'Try it: bertolt predict {shlex.quote(str(out))} --text "…"')
    return FinetuneResult(
        out=out,
        scores=scores,
        history=history,
        metrics=metrics,
        interrupted=history.interrupted or interrupted() == signal.SIGINT,
    )


def _only_resumes(options: FinetuneOptions) -> bool:
    """Whether a result that is there is one to keep."""
    return options.resume and not options.overwrite


def _already_complete(run: _Run, complete: Complete) -> FinetuneResult:
    """What a run gives that was complete before; its scores and its history are in its report."""
    out, trainer = run.options.out, run.trainer
    settings = trainer.deciding_settings(run.data.train.encoded)
    metrics = take_over(out, complete, settings, run.options.precision)
    return FinetuneResult(
        out=out, scores=None, history=History(), metrics=metrics, interrupted=False
    )


def _is_complete(scores: Scores | None, history: History) -> bool:
    return scores is not None and not history.interrupted


def _prepare(train: Path, options: FinetuneOptions, callbacks: Sequence[Callback]) -> _Run:
    settings = options.training_arguments()
    source = _choose_model(options)
    config = BertConfig.from_pretrained(source)
    tokenizer = BertTokenizer.from_pretrained(source)
    tokenizer.check_fits(config.vocab_size)
    if config.vocab_size - len(tokenizer) >= _ODD_GAP:
        say(
            f"Caution: the tokenizer has {len(tokenizer):,} tokens and the word embedding "
            f"{config.vocab_size:,} rows; are they of the same model?"
        )
    data = prepare(train, options, tokenizer, config)
    model = BertForSequenceClassification.from_pretrained(
        source,
        id2label=data.labels.id2label,
        problem_type="single_label_classification",
        seed=options.seed,
    )
    trainer = ClassifierTrainer(model, settings, data, tokenizer, options, callbacks)
    good = GoodWeights(model)  # of the parts that are here, if the Trainer has split it
    trainer.callbacks.append(good)
    say(f"Precision {trainer.precision.name}: {trainer.precision.reason}")
    say(f"Attention {model.attention_backend.name}: {model.attention_backend.reason}")
    return _Run(train=train, options=options, source=source, data=data, trainer=trainer, good=good)


def _choose_model(options: FinetuneOptions) -> Path:
    if options.model is not None:
        return huggingface.resolve(options.model)
    folder = demo_checkpoint()
    say(f"No --model given: starting from the demo checkpoint, {folder}")
    return folder


def _require_checkpoints(options: FinetuneOptions) -> None:
    """Refuse to lose checkpoints that somebody may still want."""
    there = Store(options.checkpoints).steps()
    if there and not options.resume and not options.overwrite:
        raise UsageError(
            "there are checkpoints of a run that did not come to its end",
            place=str(options.checkpoints),
            fix="--resume goes on from them, --overwrite begins anew",
        )
    if options.resume and not there:
        say(f"No checkpoint in {options.checkpoints} yet: starting from the beginning")


def _new_checkpoints(run: _Run) -> int:
    """How many more checkpoints there will be at most, the one in the making included."""
    if run.trainer.args.save_strategy == "no":
        return 0
    most = 3 if run.options.keep == "best" else run.options.keep + 1
    return max(1, most - len(run.trainer.store.steps()))


def _fit(run: _Run) -> None:
    """Train; a loss that is not finite stays in the history, and is raised when all is saved."""
    trainer = run.trainer
    if not run.options.resume:
        if trainer.world.first:
            trainer.store.clear()
            note_taken(run.options.out)
        trainer.world.wait()
    with contextlib.suppress(TrainingError):
        trainer.train(resume_from_checkpoint=bool(trainer.store.steps()))


def _leave_checkpoints(run: _Run, *, complete: bool) -> None:
    """Remove what a complete run has no more use for, or say how to go on."""
    store = run.trainer.store
    if not store.steps():
        return
    if not complete:
        say(f"Checkpoints: {store.folder}; --resume --overwrite goes on from the last")
    elif run.options.keep_checkpoints:
        say(f"Checkpoints: {store.folder}")
    else:
        store.clear()


def _result(trainer: ClassifierTrainer) -> Scores | None:
    """The scores of the final weights; None if training did not reach its end."""
    history = trainer.history
    if trainer.scores is None and history.failure is None and history.evaluated(history.step):
        # Measured before it was killed, or with other weights than those of the best evaluation.
        trainer.evaluate()
    history.failure = history.failure or _spoiled(trainer)
    rates = history.summary()
    say(
        f"Trained {plural(len(history.steps), 'step')} in {duration(rates['seconds'])}: "
        f"{rates['samples_per_second']:.0f} texts/s, {rates['tokens_per_second']:.0f} tokens/s"
    )
    if history.failure is not None:
        return None
    if not history.evaluated(history.step):
        say("Stopped by Ctrl-C: saving the weights as they are, without measuring them")
        return None
    say(f"\n{trainer.scores}\n")
    return trainer.scores


def _facts(run: _Run, scores: Scores | None, started: float, stopped: str) -> dict[str, Any]:
    """What the report is drawn from."""
    return run_facts(
        trainer=run.trainer,
        source=run.source,
        data=run.data,
        scores=scores,
        started=started,
        stopped=stopped,
        command=_command(run),
        arguments=_resolved(run),
    )


def _report(facts: dict[str, Any], stage: Path, out: Path) -> Exception | None:
    """Write the report; what went wrong is given back, to be raised when the model is in place."""
    try:
        write_facts(facts, stage / RUN)
        write_report(facts, stage / "report.html")
    except BertoltError as error:
        place = error.place.replace(str(stage), str(out)) or str(out / "report.html")
        return BertoltError(error.problem, place=place, fix=error.fix)
    except Exception as error:  # noqa: BLE001 - no fault of a drawing may cost a trained model
        return error
    return None


def _spoiled(trainer: ClassifierTrainer) -> TrainingError | None:
    """What is wrong if the last update of all led to a loss that no further step could notice."""
    if trainer.scores is None or math.isfinite(trainer.scores.loss):
        return None
    last = trainer.history.steps[-1]
    return TrainingError(
        f"the evaluation loss is {trainer.scores.loss} with the weights of step {last.step}",
        place=f"after step {last.step}, learning rate {last.learning_rate:g}",
        fix="use a smaller learning rate, or more warmup",
    )


def _keep_good_weights(run: _Run) -> tuple[list[Golden], str]:
    """The model's answers to a few texts, and in words which weights it has.

    Weights that a diverged step left behind answer with NaN; older ones are put in their place.
    """
    history = run.trainer.history
    golden, kept = _golden(run), "they are saved"
    if run.trainer.world.firsts(history.failure is not None and not golden):
        run.good.restore()
        golden = _golden(run)
        untrained = "" if run.good.step else ", its head untrained,"
        kept = f"they answer with NaN too, so the model of step {run.good.step}{untrained} is saved"
    return golden, kept


def _golden(run: _Run) -> list[Golden]:
    """Answers in fp32, on the first process; none if they are not finite."""
    trainer, rows = run.trainer, run.data.eval
    model = trainer.world.whole(trainer.model)
    if not trainer.world.first:
        return []
    texts = [rows.text(row) for row in range(min(_GOLDEN_TEXTS, len(rows.encoded)))]
    predictor = Predictor(
        model,
        trainer.processing_class,
        _contract(run),
        precision="fp32",
        device=trainer.device,
    )
    golden = predictor.make_golden(texts)
    return golden if all(math.isfinite(sum(g.probabilities.values())) for g in golden) else []


def _stopped(history: History, kept: str) -> str:
    if history.failure is not None:
        problem = history.failure.problem
        return f"{problem[0].upper()}{problem[1:]}; {kept}."
    return f"By Ctrl-C, after step {len(history.steps)}." if history.interrupted else ""


def _contract(run: _Run) -> Contract:
    """How the texts of this run were prepared."""
    table = run.data.train.table
    return Contract(
        text_column=table.text_column,
        label_column=str(table.label_column),
        labels=list(run.data.labels.names),
        majority_label=run.data.labels.names[run.trainer.majority],
        max_length=run.data.train.encoded.account.max_length,
        library_version=__version__,
    )


def _write(stage: Path, run: _Run, golden: list[Golden], metrics: dict[str, Any]) -> None:
    replace(_contract(run), golden=golden).write(stage)
    for name, values in (("metrics.json", metrics), ("arguments.json", _resolved(run))):
        text = json.dumps(values, indent=2, default=str, ensure_ascii=False)
        write_text(stage / name, text + "\n")


def _resolved(run: _Run) -> dict[str, Any]:
    """Every argument with the value that was used, whether it was given or found."""
    table, account = run.data.train.table, run.data.train.encoded.account
    return {
        "train": run.train,
        **asdict(run.options),
        "model": run.source,
        "text": table.text_column,
        "label": table.label_column,
        "max_length": account.max_length,
        "precision": run.trainer.precision.name,
    }


def _command(run: _Run) -> str:
    """A command line that repeats the run."""
    words = ["bertolt", "finetune", str(run.train)]
    for option in fields(run.options):
        value = getattr(run.options, option.name)
        if value != option.default and option.name != "resume":
            flag = "--" + option.name.replace("_", "-")
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)
