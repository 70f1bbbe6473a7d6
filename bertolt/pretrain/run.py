"""One run of pretraining: the part that `train/job.py` leaves to the command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bertolt.base.console import info
from bertolt.base.errors import TrainingError
from bertolt.base.format import duration, number, percent, plural
from bertolt.models.shapes import SHAPES
from bertolt.pretrain.log import JsonLines, Plateau
from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.record import pretrain_facts
from bertolt.pretrain.setup import Run, set_up_run
from bertolt.train.callbacks import Progress
from bertolt.train.folder import LOG
from bertolt.train.job import Measured, RunResult, Start, run_job
from bertolt.train.loop import Callback
from bertolt.train.trackers import Tracking, require_trackers
from bertolt.train.trainer import Trainer

_LOGGING_STEPS = 10


def pretrain(
    shards: str | os.PathLike[str],
    options: PretrainOptions | None = None,
    *,
    callbacks: Sequence[Callback] = (),
) -> RunResult:
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
    work = _Pretraining(Path(shards), options, callbacks)
    config = None if options.config in SHAPES else options.config
    return run_job(work, options, ["pretrain", str(shards)], [shards, config])


class _Pretraining:
    """The `Work` of pretraining.

    Args:
        shards: folder of the corpus.
        options: of the command.
        callbacks: to watch the run.
    """

    keeps_checkpoints = True
    room = 64 << 20
    reads = "shards"

    def __init__(
        self, shards: Path, options: PretrainOptions, callbacks: Sequence[Callback]
    ) -> None:
        self.shards, self.options, self.callbacks = shards, options, callbacks

    def set_up(self, start: Start) -> Trainer:
        """Open the corpus, and build or load the model."""
        require_trackers(
            self.options.trackers, "--track" if self.options.track else "--tensorboard"
        )
        options = _with_passes_of(start.settings, self.options)
        self.run = run = set_up_run(self.shards, options, start, self.callbacks)
        warmup, total = int(run.trainer.args.warmup_steps), run.batches.total_steps
        self.plateau = Plateau(run.entropy, warmup, total // 10)
        if start.complete is None:
            # Asked for before anything is seeded, since it is measured now.
            info(f"Matrix products could reach {number(run.work.peak / 1e9)} GFLOP/s here")
            run.trainer.callbacks = self._watching()
        return run.trainer

    def _watching(self) -> list[Callback]:
        run, out = self.run, self.options.out
        about = {"settings": self.arguments(), "peak_flops_per_second": run.work.peak}
        watching: list[Callback] = [
            Progress(_LOGGING_STEPS, "tokens"),
            self.plateau,
            *self.callbacks,
        ]
        watching.append(JsonLines(out / LOG, run.work, about))
        if names := self.options.trackers:
            watching.append(Tracking(names, out, self.arguments, run.work.of_step))
        return watching

    def measure(self) -> Measured | None:
        """Gather what was measured; None where Ctrl-C stopped the run."""
        run, history, out = self.run, self.run.trainer.history, self.options.out
        if history.failure is not None:
            saved = run.trainer.store.steps()
            left = f"; {run.trainer.store.path(saved[-1])} has whole weights" if saved else ""
            rate = run.trainer.args.learning_rate
            raise TrainingError(
                f"{history.failure.problem}{left}",
                place=history.failure.place,
                fix=f"begin again with a smaller --lr than {rate:.2g}, or more --warmup",
            )
        if history.interrupted:
            info(f"Stopped after step {history.step}: --resume goes on from there, in {out}")
            return None
        self.metrics = _metrics(run, self.plateau)
        _say_rates(self.metrics)
        run.model.change_config(**run.dropout)
        return Measured(metrics=self.metrics, complete=True)

    def write(self, folder: Path) -> None:
        """Nothing: the tokenizer comes with the model."""

    def arguments(self) -> dict[str, Any]:
        """Every argument with the value that was used, from the user or resolved."""
        run, args = self.run, self.run.trainer.args
        return {
            "shards": run.shards,
            **asdict(run.options),
            "config": run.model.config.to_dict(),
            "objective": run.objective,
            "max_length": run.max_length,
            "position_init": run.options.first_positions,
            "lr": args.learning_rate,
            "warmup_steps": int(args.warmup_steps),
            "total_steps": run.batches.total_steps,
            "pass_tokens": run.pass_tokens,
            "passes": run.batches.steps.passes,
            "mask_end": run.batches.masks.end,
            "eval_every": args.eval_steps,
            "save_every": args.save_steps,
            "precision": run.precision.name,
        }

    def facts(self, command: str, started: float) -> dict[str, Any]:
        """What `run.json` holds."""
        return pretrain_facts(
            self.run,
            self.run.trainer.history,
            self.plateau,
            self.metrics,
            started=started,
            command=command,
            arguments=self.arguments(),
        )

    def describe_next_step(self) -> None:
        """Say how to use the encoder."""
        info(f"Next: bertolt finetune FILE --model {shlex.quote(str(self.options.out))}")


def _with_passes_of(earlier: Mapping[str, Any], options: PretrainOptions) -> PretrainOptions:
    """The options, with the passes of the run that is resumed where the user leaves them to us.

    They follow from the device and the number of processes, which may have changed since, and
    batches of another size would be another run.
    """
    if options.pass_tokens or options.batch_tokens != earlier.get("--batch-tokens"):
        return options
    return replace(options, pass_tokens=earlier.get("--pass-tokens"))


def _metrics(run: Run, plateau: Plateau) -> dict[str, Any]:
    """What `metrics.json` holds."""
    history, best = run.trainer.history, run.trainer.best_step
    rates = history.summary()
    flops = sum(log.tokens * run.work.flops(log.step) for log in history.steps)
    rate = flops / rates["seconds"] if rates["seconds"] else 0.0
    return {
        "eval": dict(history.evaluations).get(history.step if best is None else best),
        "train": {
            **rates,
            "epochs": run.batches.steps.before(history.step + 1)
            / run.data.per_epoch
            * run.data.passes,
            "flops": flops,
            "flops_per_second": rate,
            "peak_share": rate / run.work.peak,
        },
        "token_entropy": run.entropy,
        "pairs_baseline": run.held_out.pairs_baseline if run.held_out else None,
        "left_token_entropy_at_step": plateau.left,
        "corpus": run.corpus.manifest.fingerprint,
    }


def _say_rates(metrics: dict[str, Any]) -> None:
    train = metrics["train"]
    info(
        f"Trained {plural(train['steps'], 'step')} in {duration(train['seconds'])}: "
        f"{train['tokens_per_second']:,.0f} tokens/s, {percent(train['filler_share'])} filler, "
        f"{number(train['flops_per_second'] / 1e9)} GFLOP/s, "
        f"{percent(train['peak_share'], 0)} of the machine's matrix products"
    )
    for name, value in (metrics["eval"] or {}).items():
        title = name.removeprefix("eval_").replace("_", " ")
        shown = percent(value) if name.endswith("accuracy") else f"{value:.4f}"
        if name == "eval_next_sentence_accuracy":
            shown += f", against {percent(metrics['pairs_baseline'])} for the same answer always"
        info(f"Held-out {title}: {shown}")
