"""The job of `bertolt pretrain`: train, measure, write; go on where a killed run was saved."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from bertolt.base.console import held_interrupts, say
from bertolt.base.distributed import is_restarted_in, join, note_taken
from bertolt.base.errors import DiskFullError, TrainingError
from bertolt.base.files import write_text
from bertolt.base.format import duration, number, percent, plural
from bertolt.checkpoint.state import Parts, read_extra
from bertolt.checkpoint.store import Store
from bertolt.models.config import BertConfig
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.pretrain.log import JsonLines, Plateau, TensorBoard, require_tensorboard
from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.output import (
    LOG,
    TENSORBOARD,
    require_space,
    require_usable,
    run_folder,
)
from bertolt.pretrain.record import pretrain_facts
from bertolt.pretrain.setup import Run, prepare
from bertolt.report import RUN, write_facts, write_report
from bertolt.report.findings import cautions
from bertolt.train.callbacks import Progress
from bertolt.train.complete import COMPLETE, find_complete, mark_complete, take_over
from bertolt.train.loop import Callback, History, fit
from bertolt.train.saving import Best, Saving

_LOGGING_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What a run gives back.

    Attributes:
        out: the folder it wrote.
        history: of training; empty if the run was complete before.
        metrics: the content of `metrics.json`; empty for a run that was stopped.
        interrupted: Ctrl-C stopped training.
    """

    out: Path
    history: History
    metrics: dict[str, Any]
    interrupted: bool


def pretrain(
    shards: str | os.PathLike[str],
    options: PretrainOptions | None = None,
    *,
    callbacks: Sequence[Callback] = (),
) -> PretrainResult:
    """Train an encoder on a prepared corpus, measure it, and write it with its report.

    Args:
        shards: folder of the corpus.
        options: settings.
        callbacks: to watch the run.

    Raises:
        BertoltError: something in the corpus, the model or the options cannot be used.
        TrainingError: the loss was not finite; the checkpoints before are there.
        SystemExit: after SIGTERM, with 143, when the run has been saved.
    """
    options = options or PretrainOptions()
    started = time.time()
    out, world = options.out, join()
    if is_restarted_in(out, world):
        options = replace(options, resume=True)
    require_usable(out, overwrite=options.overwrite, resume=options.resume)
    keeps = options.resume and not options.overwrite
    complete = find_complete(out, world) if keeps else None
    if options.tensorboard:
        require_tensorboard()
    store = Store(out, 1 if options.keep == "best" else options.keep)
    checkpoint = store.last() if options.resume and complete is None else None
    world.require_same(checkpoint, "checkpoint to go on from")
    earlier: dict[str, Any] = complete.settings if complete else {}
    if checkpoint is not None:
        earlier = read_extra(checkpoint).values["settings"]
    options = _with_passes_of(earlier, options)
    precision = _precision_of(earlier, checkpoint or out, options)
    run = prepare(Path(shards), options, precision, world)
    if complete is not None:
        metrics = take_over(out, complete, run.deciding_settings(), options.precision)
        return PretrainResult(out=out, history=History(), metrics=metrics, interrupted=False)
    # Asked for before anything is seeded, since it is measured now.
    say(f"Matrix products could reach {number(run.work.peak / 1e9)} GFLOP/s here")
    # The first process holds the folder for all of them.
    folder = run_folder(out, overwrite=options.overwrite, resume=options.resume)
    with folder if world.first else contextlib.nullcontext():
        if world.first:
            note_taken(out)
            most = 3 if options.keep == "best" else options.keep + 1
            require_space(out, run.model.num_parameters(), most)
        world.replicate(run.model)
        saving = _saving(run, store)
        torch.manual_seed(world.seed(options.seed))
        before = saving.load(checkpoint) if checkpoint else None
        if world.first:
            (out / COMPLETE).unlink(missing_ok=True)  # what it told of is now written anew
        if options.resume and before is None:
            say(f"No checkpoint in {out}: the run begins")
        plateau = Plateau(run.entropy, run.warmup_steps, run.total_steps // 10)
        with _resumable(store):
            history = _fit(run, saving, before, plateau, callbacks)
            saving.exit_if_terminated(history)
            # A signal from here on would lose what was trained: it waits until that is in place.
            with held_interrupts(terminate=True):
                return _finish(run, saving, history, plateau, started)


def _with_passes_of(earlier: Mapping[str, Any], options: PretrainOptions) -> PretrainOptions:
    """The options, with the passes of the run that is resumed where the user leaves them to us.

    They follow from the device and the number of processes, which may have changed since, and
    batches of another size would be another run.
    """
    if options.pass_tokens or options.batch_tokens != earlier.get("--batch-tokens"):
        return options
    return replace(options, pass_tokens=earlier.get("--pass-tokens"))


def _precision_of(
    earlier: Mapping[str, Any], place: Path, options: PretrainOptions
) -> PrecisionChoice | None:
    """The number format of the run that is resumed, where the user leaves it to us."""
    if options.precision != "auto" or "precision" not in earlier:
        return None
    return PrecisionChoice(str(earlier["precision"]), f"as in {place}")


def _saving(run: Run, store: Store) -> Saving:
    keeps_best = run.options.keep == "best" and run.held_out is not None
    return Saving(
        store,
        Parts(run.model, run.optimizer, run.scheduler),
        settings=run.deciding_settings(),
        every=run.save_every,
        best=Best("eval_loss") if keeps_best else None,
        beside=lambda checkpoint: _fill_up(checkpoint, run),
        world=run.world,
    )


def _fill_up(checkpoint: Path, run: Run) -> None:
    """Make a checkpoint a model to start from: with a tokenizer, and the dropout of its shape."""
    run.tokenizer.save_pretrained(checkpoint)
    if (checkpoint / "config.json").is_file():  # one in parts has none
        config = BertConfig.from_pretrained(checkpoint)
        config.changed(**run.dropout).save_pretrained(checkpoint)


def _fit(
    run: Run,
    saving: Saving,
    before: History | None,
    plateau: Plateau,
    callbacks: Sequence[Callback],
) -> History:
    done = before.step if before else 0
    out, options = run.options.out, run.options
    about = {"settings": resolved(run), "peak_flops_per_second": run.work.peak}
    watching: list[Callback] = [Progress(_LOGGING_STEPS, "tokens"), plateau, *callbacks]
    if run.world.first:
        watching.append(JsonLines(out / LOG, run.work, about, resumed_from=done))
    if run.world.first and options.tensorboard:
        watching.append(TensorBoard(out / TENSORBOARD, run.work, resumed_from=done))
    if before is not None:
        plateau.replay(before.evaluations)
    return fit(
        run.model,
        run.batches(done),
        run.optimizer,
        run.scheduler,
        total_steps=run.total_steps,
        max_grad_norm=options.clip,
        precision=run.precision,
        evaluate=run.evaluate if run.held_out else None,
        evaluate_at=lambda step: step % run.eval_every == 0 or step == run.total_steps,
        callbacks=watching,
        saver=saving,
        history=before,
        world=run.world,
    )


def _finish(
    run: Run, saving: Saving, history: History, plateau: Plateau, started: float
) -> PretrainResult:
    """Write what the run has come to, or say why it ended before that."""
    out = run.options.out
    if history.failure is not None:
        saved = saving.store.steps()
        left = f"; {saving.store.path(saved[-1])} has whole weights" if saved else ""
        raise TrainingError(
            f"{history.failure.problem}{left}",
            place=history.failure.place,
            fix=f"begin again with a smaller --lr than {run.learning_rate:.2g}, or more --warmup",
        )
    if history.interrupted:
        say(f"Stopped after step {history.step}: --resume goes on from there, in {out}")
        return PretrainResult(out=out, history=history, metrics={}, interrupted=True)
    best = saving.restore_best(history) if saving.best else None
    metrics = _metrics(run, history, plateau, history.step if best is None else best)
    _say_rates(history, metrics)
    model = run.world.whole(run.model)
    if not run.world.first:
        return PretrainResult(out=out, history=history, metrics=metrics, interrupted=False)
    model.change_config(**run.dropout)
    facts = pretrain_facts(
        run,
        history,
        plateau,
        metrics,
        started=started,
        command=command(run),
        arguments=resolved(run),
    )
    _write(run, model, metrics, facts)
    say(f"Saved to {out}: the model, its tokenizer, metrics.json and {LOG}")
    say(f"Report: {out / 'report.html'}")
    for caution in cautions(facts):
        say(f"Caution: {caution.claim}. {caution.detail}")
    say(f"Next: bertolt finetune FILE --model {shlex.quote(str(out))}")
    return PretrainResult(out=out, history=history, metrics=metrics, interrupted=False)


def _write(
    run: Run, model: PreTrainedModel, metrics: dict[str, Any], facts: dict[str, Any]
) -> None:
    """Write what a complete run leaves, and at last that it is complete."""
    out = run.options.out
    model.save_pretrained(out)
    run.tokenizer.save_pretrained(out)
    for name, values in (("arguments.json", resolved(run)), ("metrics.json", metrics)):
        text = json.dumps(values, indent=2, default=str, ensure_ascii=False)
        write_text(out / name, text + "\n")
    write_facts(facts, out / RUN)
    write_report(facts, out / "report.html")
    mark_complete(out, run.deciding_settings())


@contextlib.contextmanager
def _resumable(store: Store) -> Iterator[None]:
    """Let the error of a full disk name the checkpoint to go on from, once there is room."""
    try:
        yield
    except DiskFullError as error:
        saved = store.steps()
        if not saved:
            raise
        fix = f"free some space; {store.path(saved[-1]).name} is there to resume from"
        raise DiskFullError(error.problem, place=error.place, fix=fix) from error


def _metrics(run: Run, history: History, plateau: Plateau, step: int) -> dict[str, Any]:
    """What `metrics.json` holds of a run that ends with the weights of a step."""
    rates = history.summary()
    flops = sum(log.tokens * run.work.flops(log.step) for log in history.steps)
    rate = flops / rates["seconds"] if rates["seconds"] else 0.0
    return {
        "eval": dict(history.evaluations).get(step),
        "train": {
            **rates,
            "epochs": run.steps.before(history.step + 1) / run.data.per_epoch * run.data.passes,
            "flops": flops,
            "flops_per_second": rate,
            "peak_share": rate / run.work.peak,
        },
        "token_entropy": run.entropy,
        "pairs_baseline": run.held_out.pairs_baseline if run.held_out else None,
        "left_token_entropy_at_step": plateau.left,
        "corpus": run.corpus.manifest.fingerprint,
    }


def _say_rates(history: History, metrics: dict[str, Any]) -> None:
    train = metrics["train"]
    say(
        f"Trained {plural(train['steps'], 'step')} in {duration(train['seconds'])}: "
        f"{train['tokens_per_second']:,.0f} tokens/s, {percent(train['filler_share'])} filler, "
        f"{number(train['flops_per_second'] / 1e9)} GFLOP/s, "
        f"{percent(train['peak_share'], 0)} of the machine's matrix products"
    )
    for name, value in (metrics["eval"] or {}).items():
        words = name.removeprefix("eval_").replace("_", " ")
        shown = percent(value) if name.endswith("accuracy") else f"{value:.4f}"
        if name == "eval_next_sentence_accuracy":
            shown += f", against {percent(metrics['pairs_baseline'])} for the same answer always"
        say(f"Held-out {words}: {shown}")


def resolved(run: Run) -> dict[str, Any]:
    """Every argument with the value that was used, whether it was given or found."""
    return {
        "shards": run.shards,
        **asdict(run.options),
        "config": run.model.config.to_dict(),
        "objective": run.objective,
        "max_length": run.max_length,
        "position_init": run.options.first_positions,
        "lr": run.learning_rate,
        "warmup_steps": run.warmup_steps,
        "total_steps": run.total_steps,
        "pass_tokens": run.pass_tokens,
        "passes": run.steps.passes,
        "mask_end": run.masks.end,
        "eval_every": run.eval_every,
        "save_every": run.save_every,
        "precision": run.precision.name,
    }


def command(run: Run) -> str:
    """A command line that repeats the run."""
    words = ["bertolt", "pretrain", str(run.shards)]
    for option in fields(run.options):
        value = getattr(run.options, option.name)
        if value != option.default and option.name != "resume":
            flag = "--" + option.name.replace("_", "-")
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)
