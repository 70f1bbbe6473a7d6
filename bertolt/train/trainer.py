"""`Trainer`: a thin object that puts a model, its data and `TrainingArguments` into the loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertolt.base.console import info
from bertolt.base.distributed import join
from bertolt.base.errors import CheckpointError, UsageError
from bertolt.base.files import held_folder, write_text
from bertolt.base.options import deciding
from bertolt.base.randomness import set_seed
from bertolt.checkpoint import plain
from bertolt.checkpoint.state import TrainingState, read_run_facts
from bertolt.checkpoint.store import Store, require_whole, step_of
from bertolt.models.own_module import OwnModule, moved_to
from bertolt.models.precision import PrecisionChoice, agree, choose_precision
from bertolt.train.arguments import TrainingArguments
from bertolt.train.callbacks import Progress
from bertolt.train.competing import competing_passes, rows_compete
from bertolt.train.doors import Doors
from bertolt.train.events import Events
from bertolt.train.loop import History, RunningLoss, fit, predict_batches
from bertolt.train.micro_batches import MicroBatches, cut_where_needed
from bertolt.train.overrides import (
    is_own_module,
    made_model,
    names_checked,
    require_called,
    require_one_each,
)
from bertolt.train.packing import Collator, packing
from bertolt.train.results import (
    EvalPrediction,
    PredictionOutput,
    Results,
    TrainOutput,
    Values,
    metrics_by_name,
    prefixed,
    tell_unlabelled,
)
from bertolt.train.saving import Best, Saving
from bertolt.train.sources import (
    FULL_LENGTH,
    BatchSource,
    Data,
    RowBatches,
    RowLengths,
    StreamBatches,
    is_stream,
    require_rows,
    windows,
)
from bertolt.train.speed import speed, without_times
from bertolt.train.telling import AnyCallback
from bertolt.train.trackers import Tracking, require_trackers, tracker_names


class Trainer(Doors):
    """Train, evaluate and predict, under the names that the peer's Trainer has.

    Started by torchrun, each process takes its share of every batch and of every evaluation.
    A subclass may define what `bertolt.train.overrides.CALLED` names: the loss, the steps, the data
    loaders, the optimizer and more; other methods of the peer's Trainer are refused by name.

    Args:
        model: one of Bertolt's, which gets packed batches; or a module of your own, called by the
            padded door: `forward` takes what it names of the inputs, and gives the loss in a
            mapping, as an attribute, or first of several, unless `compute_loss` makes it of the
            rest. None: `model_init` makes it.
        args: settings; None: the defaults.
        data_collator: makes a batch of rows: a `PackedBatch`, or a mapping with what the padded
            door takes. By default rows are packed, by `PackingCollator`; Bertolt's padding
            collators are replaced by it, which gives the same numbers, and subclasses of them
            are called as they are. Masks of a `DataCollatorForLanguageModeling` without a seed
            change while training and are fixed, by `args.seed`, in every evaluation; those of a
            subclass are left to it.
        train_dataset: rows with `input_ids` and `label` or `labels`, or whatever `data_collator`
            takes: a list, a `torch` or `datasets` data set, or an iterable one of either, which
            needs `max_steps` and is read in its own order.
        eval_dataset: the same, held out; or several by name.
        processing_class: the tokenizer, saved with the model.
        compute_metrics: gets `(logits, labels)` of the whole evaluation, returns numbers by name;
            other values that JSON can hold are kept too, and the rest is left out with a message.
        compute_loss_func: the loss of a batch from `(outputs, labels, num_items_in_batch=N)`; see
            `compute_loss`.
        callbacks: objects of the `Callback` protocol, or `TrainerCallback`s; classes are made.
        optimizers: (optimizer, scheduler) to use instead of AdamW and `lr_scheduler_type`.
        tokenizer: the older name of `processing_class`.
        model_init: makes the model, here and anew for each `train`, with `args.seed` set before;
            called without an argument, or with None if it takes one.
        optimizer_cls_and_kwargs: a class of optimizers and its options, the learning rate among
            them, to use instead of AdamW; it gets the parameters with and without weight decay.
        preprocess_logits_for_metrics: makes of the logits and labels of a batch what
            `compute_metrics` and `predict` get as logits, so that less is kept: (B, C) and (B,)
            give (B, ...); for a model that labels tokens (B, L, C) and (B, L) give (B, L, ...),
            both with -100 beyond the end of a row. A language model's rows are their labelled
            tokens.
        batches: to train on, instead of a `train_dataset`.
        evaluate: evaluates while training: called with the Trainer, returns numbers by name,
            "eval_loss" among them; instead of `Trainer.evaluate` on the `eval_dataset`.
        settings: all that decides the result, by the names that the user knows, instead of what
            `args` and the rows tell; the precision is added.
        store: where checkpoints go, also when SIGTERM ends the run; the caller keeps other runs
            out of it. None: `args.output_dir`.
        precision: of a run that is resumed; None: as `args` say.

    Raises:
        UsageError: a model without a head, a subclass with a method that no run would call, or
            arguments that exclude each other.
        CheckpointError: a tokenizer with ids that the model has no rows for.

    Attributes:
        history: of the last `train`.
        optimizer, lr_scheduler: of the last `train`, or those given.
        precision: the number format that was chosen, and why.
        loss_is_scaled_for_ga: whether a `compute_loss` of a subclass divides by the labels of the
            whole step; see there.
        store: where checkpoints go.
        saves: whether SIGTERM saves the run; so with a `save_strategy` or a `store`.
        best_step: the step whose weights the model has; None: the last step.
        lost_best: why the best weights could not be taken, and the last ones were; or None.
        world: the processes that train together.
        global_batch_size: rows of a batch, over all processes.
        micro_batches: parts that fit into memory, with `auto_find_batch_size`; None: none are cut.
    """

    @names_checked
    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        data_collator: Collator | None = None,
        train_dataset: Data | None = None,
        eval_dataset: Data | Mapping[str, Data] | None = None,
        processing_class: Any = None,
        model_init: Callable[..., nn.Module] | None = None,
        compute_loss_func: Callable[..., Tensor] | None = None,
        compute_metrics: Callable[[EvalPrediction], Any] | None = None,
        callbacks: Sequence[AnyCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor | None], Tensor] | None = None,
        *,
        tokenizer: Any = None,
        batches: BatchSource | None = None,
        evaluate: Callable[[Trainer], dict[str, float]] | None = None,
        settings: Mapping[str, Any] | None = None,
        store: Store | None = None,
        precision: PrecisionChoice | None = None,
    ) -> None:
        require_called(self, Trainer)
        self.model_init = model_init
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self._given_optimizers = optimizers
        require_one_each(model, model_init, optimizers, optimizer_cls_and_kwargs)
        self.args = args or TrainingArguments()
        self.world = join()
        use_gpu = torch.cuda.is_available() and not self.args.use_cpu
        self.device = torch.device("cuda" if use_gpu else "cpu")
        self.precision = precision or agree(
            choose_precision(self.args.precision, self.device), self.world
        )
        self._given_collator, self.compute_loss_func = data_collator, compute_loss_func
        self._take_model(made_model(model_init, self.args.seed) if model_init else model)
        self.data_collator = data_collator or self._padding(evaluates=False)
        self.global_batch_size = self.args.per_device_train_batch_size * self.world.size
        self.train_dataset = train_dataset
        self.eval_dataset = eval_dataset
        self.processing_class = tokenizer if processing_class is None else processing_class
        if hasattr(self.processing_class, "check_fits") and not self._own_module:
            self.processing_class.check_fits(self.model.config.vocab_size)
        self.compute_metrics = compute_metrics
        self.label_smoother = self._takes_smoothing()
        self.callbacks = []
        self._events = Events(self.args, self._parts, self.log, self.world)
        for callback in callbacks or ():
            self.add_callback(callback)
        self.optimizer, self.lr_scheduler = optimizers
        self.history = History()
        self._shared_store = store is not None
        self.store = store or Store(Path(self.args.output_dir), self.args.save_total_limit)
        self.best_step: int | None = None
        self.lost_best: CheckpointError | None = None
        self.saves = self._shared_store or self.args.save_strategy != "no"
        self._batches, self._evaluate, self._settings = batches, evaluate, settings
        self._row_lengths = RowLengths()
        self.micro_batches: MicroBatches | None = None
        self._ignored: Sequence[str] | None = None
        if names := tracker_names(self.args.report_to, "report_to"):
            require_trackers(names, "report_to")
            self.callbacks.append(Tracking(names, Path(self.args.output_dir), self.args.to_dict))
        self._events.tell("on_init_end")

    def _take_model(self, model: Any) -> None:
        """Have the model where the run computes, and the batches that it takes."""
        own_loss = type(self).compute_loss is not Doors.compute_loss or self.compute_loss_func
        self._own_module = is_own_module(model, own_loss=bool(own_loss))
        self._loader_source: BatchSource | None = None
        if self._own_module and self.args.fsdp:
            raise UsageError(
                f"fsdp splits models of Bertolt's, and a {type(model).__name__} is your own",
                fix="leave fsdp out: torchrun trains copies of it",
            )
        if self._own_module:
            self.model = moved_to(model, self.device, self.precision.dtype)
            return
        self.model = model.move(self.device, self.precision.dtype)
        if self.args.fsdp:
            self.world.shard(self.model)
        self._collate = packing(self._given_collator, model)
        self._eval_collate = packing(self._given_collator, model, eval_seed=self.args.seed)

    def _parts(self) -> dict[str, Any]:
        """What callbacks get by name."""
        return {
            "model": self.model,
            "processing_class": self.processing_class,
            "tokenizer": self.processing_class,
            "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler,
        }

    def train(
        self,
        resume_from_checkpoint: bool | str | os.PathLike[str] | None = None,
        trial: None = None,
        ignore_keys_for_eval: Sequence[str] | None = None,
    ) -> TrainOutput:
        """Train for the epochs or steps that `args` ask for.

        A first Ctrl-C ends training after the step under way; `history.interrupted` tells. Where
        there is a `save_strategy`, SIGTERM does the same, and then ends the program with exit code
        143 (128 + 15, as a shell counts).

        Args:
            resume_from_checkpoint: go on from this checkpoint; True: from the last whole one.
                None: as `args` say.
            trial: of a search, which there is none of here.
            ignore_keys_for_eval: as `ignore_keys` in `evaluate`, for evaluations while training.

        Raises:
            UsageError: a trial; a data set that is needed is missing or empty, or an iterable one
                whose length `max_steps` does not say; checkpoints of another run are in the way, or
                there is none to resume from, or it was made with other settings; or another run is
                writing its checkpoints to the same folder.
            CheckpointError: the checkpoint is damaged, or of a run with another model.
            DataError: rows that cannot become a batch.
            TrainingError: the loss was not finite; the model has its last good weights.
            SystemExit: after SIGTERM.
        """
        if trial is not None:
            raise UsageError(
                "train got a trial, and there is no search here",
                fix="make a Trainer for each trial",
            )
        self._ignored = ignore_keys_for_eval
        if resume_from_checkpoint is None:
            resume_from_checkpoint = self.args.resume_from_checkpoint
        hold = (self.saves or resume_from_checkpoint) and not self._shared_store
        fix = "wait until it is done, or choose another output_dir"
        own = held_folder(self.store.folder, fix=fix) if hold and self.world.first else None
        with own or nullcontext():
            return self._train(resume_from_checkpoint or False)

    def _train(self, resume_from_checkpoint: bool | str | os.PathLike[str]) -> TrainOutput:
        if self.model_init is not None:
            self._take_model(made_model(self.model_init, self.args.seed))
        self._loader_source = None
        source, evaluates = self._source(), self.args.eval_strategy != "no"
        if evaluates and self._evaluate is None:
            self._require_evaluation_rows()
        by_name = self._trains_padded() and self._steps_by_name()
        learner: Any = OwnModule(self.model) if by_name else self.model
        if self.args.gradient_checkpointing:
            learner.gradient_checkpointing_enable()
        # A class of the user's own may leave out what it likes.
        known = type(learner).__module__.startswith("bertolt.") and not by_name
        self.world.replicate(learner, unused=not known or len(learner.targets) > 1)
        per_epoch, total = source.steps_per_epoch, source.total_steps
        checkpoint = self._find_checkpoint(resume_from_checkpoint)
        self.world.require_same(checkpoint, "checkpoint to go on from")
        optimizer, scheduler = self._fresh_optimizer(total)
        set_seed(self.world.seed(self.args.seed), deterministic=self.args.full_determinism)
        batches = source.after(step_of(checkpoint) if checkpoint else 0)
        saving = None
        if self.saves or checkpoint:
            saving = self._saving(source, optimizer, scheduler)
        elif total > self.args.save_steps and self.args.is_default("save_strategy"):
            info(
                f"This run of {total:,} steps writes no checkpoints, so if it is killed it begins "
                'anew: save_strategy="steps" writes one each save_steps'
            )
        every = self.args.eval_steps if self.args.eval_strategy == "steps" else per_epoch
        progress = [] if self.args.disable_tqdm else [Progress(self.args.logging_steps)]

        delay = self.args.eval_delay * (1 if self.args.eval_strategy == "steps" else per_epoch)

        def evaluates_at(step: int) -> bool:
            return evaluates and ((step % every == 0 and step >= delay) or step == total)

        self.micro_batches = None
        if self.args.auto_find_batch_size:
            self.micro_batches = cut_where_needed(
                self.world,
                "auto_find_batch_size",
                padded=self._trains_padded(),
                whole=rows_compete(self.model),
            )
        self._events.plan(per_epoch, total, evaluates_at=evaluates_at, saves=saving is not None)
        self.history = fit(
            learner,
            batches,
            optimizer,
            scheduler,
            total_steps=total,
            max_grad_norm=self.args.max_grad_norm,
            precision=self.precision,
            evaluate=self._evaluated,
            evaluate_at=evaluates_at,
            callbacks=[*progress, self._events, *self.callbacks],
            saver=saving,
            history=saving.load(checkpoint) if saving and checkpoint else None,
            world=self.world,
            loss_of=self._part_of_loss if by_name or self._has_other_loss() else None,
            step_of=self._own_passes(by_name),
            in_background=self._loader_source is None,
            steering=self._events,
            fitting=self.micro_batches,
            watch=self._events.watch,
        )
        self._end(saving, total)
        steps = self.history.steps
        return TrainOutput(
            global_step=len(steps),
            training_loss=self.history.mean_loss,
            metrics=self._events.totals(self.history),
        )

    def _end(self, saving: Saving | None, total: int) -> None:
        """After the steps of a run: raise what has stopped it, or bring back the best weights."""
        if self.history.failure is not None:
            raise self.history.failure
        if saving is not None:
            saving.exit_if_terminated(self.history)
            ended = self.history.step == total or self.history.stopped
            if ended and self.args.load_best_model_at_end:
                self.best_step = saving.restore_best(self.history)
                self.lost_best = saving.lost_best
        # A command, which brings settings of its own names, says it in its own words.
        if self.history.changed_nothing and self._settings is None:
            info(
                "Caution: no step had a learning rate above 0, so the weights are as they were "
                "before: use warmup_steps=0, or make more steps"
            )

    def _own_passes(self, by_name: bool) -> Callable[[Any], Tensor] | None:
        """What makes the passes of a batch in place of `train_step`; None: nothing does."""
        if self._makes_steps():
            return self._step_of
        if by_name or self._has_other_loss():
            return None
        how = self.args, self.precision, self.world, self.micro_batches
        return competing_passes(self.model, *how)

    def evaluate(
        self,
        eval_dataset: Data | str | Mapping[str, Data] | None = None,
        ignore_keys: Sequence[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Loss over the evaluation rows, and what `compute_metrics` makes of their logits.

        Without `compute_metrics` no logits are kept: memory does not grow with the rows. Beside the
        numbers stands how long it took: "eval_runtime" in seconds, "eval_samples_per_second",
        "eval_steps_per_second", and once the model was trained "epoch".
        Rows without labels have neither loss nor metrics, and the user is told what they lack.

        Args:
            eval_dataset: rows; several by name, whose metrics are called "eval_NAME_loss" and so
                on; the name of one of the Trainer's; None: all that the Trainer has.
            ignore_keys: outputs of the model to leave out; all but the logits are left out anyway.
            metric_key_prefix: what the names of the metrics begin with, before "_".

        Raises:
            CheckpointError: the checkpoint lacked weights, and they were not trained since.
        """
        known = eval_dataset is None
        data = self.eval_dataset if known else eval_dataset
        if isinstance(data, Mapping):
            metrics: dict[str, float] = {}
            for name, part in data.items():
                start = f"{metric_key_prefix}_{name}"
                metrics |= self.evaluate(name if known else part, ignore_keys, start)
            return metrics
        keep = self.compute_metrics is not None
        if not self._own_module:
            self.model.require_trained("evaluation")
        if self._evaluates_padded():
            loader = self._loader(self.get_eval_dataloader, eval_dataset)
            output = self._run_padded(loader, metric_key_prefix, keep, ignore_keys)
        else:
            rows = require_rows(self._evaluation_rows(data), "eval_dataset")
            output = self._run(rows, metric_key_prefix, keep)
        if f"{metric_key_prefix}_loss" not in output.metrics and output.label_ids is None:
            tell_unlabelled(data, self.model.targets)
        self._tell_evaluated(output.metrics)
        return output.metrics

    def _evaluated_all(self) -> dict[str, float]:
        # Who defines `evaluate` need not take what is not given.
        return self.evaluate(ignore_keys=self._ignored) if self._ignored else self.evaluate()

    def _require_evaluation_rows(self) -> None:
        """Refuse an `eval_dataset` that is missing, or one of several that is empty."""
        if self._defines(("get_eval_dataloader",)):
            return
        if not isinstance(self.eval_dataset, Mapping) or not self.eval_dataset:
            require_rows(self.eval_dataset, "eval_dataset")
            return
        for name, rows in self.eval_dataset.items():
            require_rows(rows, f"eval_dataset[{name!r}]")

    def _evaluated(self) -> dict[str, float]:
        """The numbers of an evaluation while training."""
        if self._evaluate is not None:
            metrics = self._evaluate(self)
            self._tell_evaluated(dict(metrics))  # which adds the epoch
            return metrics
        names = self.eval_dataset if isinstance(self.eval_dataset, Mapping) else ()
        # What is kept of a run is the same however long it took.
        metrics = without_times(
            self._evaluated_all(), ("eval", *(f"eval_{name}" for name in names))
        )
        if self.args.metric_for_best_model or self.args.load_best_model_at_end:
            Best.of(self.args).value(metrics)
        return metrics

    def predict(
        self,
        test_dataset: Data,
        ignore_keys: Sequence[str] | None = None,
        metric_key_prefix: str = "test",
    ) -> PredictionOutput:
        """Logits of every row, in order, with labels and metrics where there are labels.

        For a model that labels tokens: logits (rows, L, C) and labels (rows, L), -100 beyond the
        end of a row. For one that answers with spans, pairs: logits (rows, L) of the start and of
        the end, never the best beyond the end of a row, and labels (rows,). For a language model
        with labels: logits (M, V) and labels (M,) of the labelled tokens alone, row after row.
        `ignore_keys` and `metric_key_prefix` are as in `evaluate`.

        Raises:
            CheckpointError: as in `evaluate`.
        """
        if not self._own_module:
            self.model.require_trained("prediction")
        if self._evaluates_padded():
            loader = self._loader(self.get_test_dataloader, test_dataset)
            output = self._run_padded(loader, metric_key_prefix, True, ignore_keys)
        else:
            rows = require_rows(test_dataset, "test_dataset")
            output = self._run(rows, metric_key_prefix, keep=True)
        self._events.tell("on_predict", metrics=output.metrics)
        return output

    def _own_tokenizer(self) -> Any:
        """The tokenizer to save with the model: as it was given, or as the collator has it."""
        known = self.processing_class
        return getattr(self.data_collator, "tokenizer", None) if known is None else known

    def save_model(self, output_dir: str | os.PathLike[str] | None = None) -> None:
        """Write the model, the tokenizer if there is one, and the arguments.

        All processes call it, and the first one writes.
        """
        folder = Path(output_dir or self.args.output_dir)
        model = self.world.full_model(self.model)
        if not self.world.first:
            return
        if hasattr(model, "save_pretrained"):
            model.save_pretrained(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            plain.save(model, folder)
        if save_tokenizer := getattr(self._own_tokenizer(), "save_pretrained", None):
            save_tokenizer(folder)
        text = self.args.to_json_string() + "\n"
        write_text(folder / "training_args.json", text)

    def deciding_settings(self) -> dict[str, Any]:
        """All that decides the result, by name: a run goes on with the same or not at all."""
        settings = self._settings
        if settings is None:
            settings = deciding(self.args, shown=str) | self._source().describe()
        return {**settings, "precision": self.precision.name}

    def _source(self) -> BatchSource:
        """The batches of the caller, or of the train_dataset as it is now."""
        if self._batches is not None:
            return self._batches
        if self._trains_padded():
            self._loader_source = self._loader_source or self._loader_batches()
            return self._loader_source
        data = require_rows(self.train_dataset, "train_dataset")
        how: dict[str, Any] = {
            "data": data,
            "args": self.args,
            "batch_rows": self.global_batch_size,
        }
        how |= {"collate": self._collate, "world": self.world}
        if is_stream(data):
            return StreamBatches(**how)
        return RowBatches(**how, lengths=self._row_lengths)

    def _saving(
        self, source: BatchSource, optimizer: torch.optim.Optimizer, scheduler: Any
    ) -> Saving:
        args = self.args
        steps = {"steps": args.save_steps, "epoch": source.steps_per_epoch}
        every = steps.get(args.save_strategy, 0)
        chooses = args.load_best_model_at_end or args.save_strategy == "best"
        return Saving(
            self.store,
            TrainingState(self.model, optimizer, scheduler),
            settings=self.deciding_settings(),
            every=every,
            best=Best.of(args) if chooses else None,
            beside=getattr(self._own_tokenizer(), "save_pretrained", None),
            callbacks=[*self.callbacks, *self._events.callbacks],
            world=self.world,
        )

    def _find_checkpoint(self, choice: bool | str | os.PathLike[str]) -> Path | None:
        """The checkpoint to go on from, whole; precision "auto" then becomes the checkpoint's."""
        if not choice:
            if self.saves:
                self.store.require_none()
            return None
        if choice is True:
            checkpoint = self.store.require_last()
        else:
            checkpoint = Path(choice)
            step_of(checkpoint)
            require_whole(checkpoint)
        before = read_run_facts(checkpoint).values["settings"]["precision"]
        if self.args.precision == "auto" and before != self.precision.name:
            self.precision = PrecisionChoice(before, f"as in {checkpoint}")
            self.model.move(self.device, self.precision.dtype)
            info(f"Precision {before}: {self.precision.reason}")
        return checkpoint

    def _run(self, data: Data, prefix: str, keep: bool) -> PredictionOutput:
        """Answer all rows: their results if they are kept, the metrics, and how long it took."""
        begun = time.perf_counter()
        results = Results(self.model, self.preprocess_logits_for_metrics)
        loss, start, batches = RunningLoss(), 0, 0
        for rows in windows(data):
            for batch in predict_batches(
                self.model,
                rows,
                self._row_lengths(rows),
                self._eval_collate,
                token_budget=self.args.per_device_eval_batch_size * FULL_LENGTH,
                precision=self.precision,
                world=self.world,
                loss_of=self._mean_loss if self._has_other_loss() else None,
            ):
                loss.add(batch)
                batches += 1
                self._events.tell("on_prediction_step")
                if keep:
                    results.add(start, batch)
            start += len(rows)
        mean = loss.summed(self.model.targets, self.world).mean()
        metrics: dict[str, Any] = {} if mean is None else {"loss": mean}
        logits: Values = np.zeros(0)
        labels: Values | None = None
        if keep:
            results.gather(self.world)
            logits, labels = results.in_order()
            if self.compute_metrics is not None and labels is not None:
                metrics |= metrics_by_name(self.compute_metrics(EvalPrediction(logits, labels)))
        seconds = time.perf_counter() - begun
        times = speed(prefix, seconds, start, int(self.world.sum([batches])[0]))
        return PredictionOutput(logits, labels, prefixed(metrics, prefix) | times)
