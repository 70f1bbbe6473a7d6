"""The work of one run of fine-tuning: the part that `train/job.py` leaves to the command."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bertolt.base.console import info
from bertolt.base.distributed import join
from bertolt.base.errors import TrainingError, UsageError, meant
from bertolt.base.format import duration, plural
from bertolt.base.options import deciding
from bertolt.base.version import __version__
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.contract import Contract, Golden
from bertolt.checkpoint.weights import Weights
from bertolt.commands.finetune.data import LoadedRows, SharedRows, load_rows
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.out_of_fold import FoldAnswers
from bertolt.commands.finetune.parts import WHOLE, Part
from bertolt.commands.finetune.planned import Goal
from bertolt.commands.finetune.record import run_facts
from bertolt.commands.finetune.starting import choose_model
from bertolt.commands.finetune.teacher import (
    beside,
    block,
    describe,
    distillation,
    load_teacher,
    student_of,
    with_answers,
)
from bertolt.data.columns import FLAGS
from bertolt.data.encode import EncodedTexts
from bertolt.data.load import Table
from bertolt.models.config import BertConfig
from bertolt.models.families.base import read_config
from bertolt.models.freezing import freeze_layers
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.base import Answer, Example, NotFiniteError, Task
from bertolt.tasks.criterion import LossChoices, facts_of, facts_words
from bertolt.tasks.evaluation import Scores, evaluate
from bertolt.tasks.long import kept
from bertolt.tasks.predictor import Predictor
from bertolt.tasks.row_answers import ANSWERS
from bertolt.tasks.start import started
from bertolt.tokenization import BertTokenizer
from bertolt.train.arguments import TrainingArguments
from bertolt.train.events import EarlyStoppingCallback
from bertolt.train.job import Measured, Start
from bertolt.train.last_finite_weights import LastFiniteWeights
from bertolt.train.loop import History
from bertolt.train.micro_batches import cut_where_needed
from bertolt.train.telling import AnyCallback
from bertolt.train.trackers import Tracking, require_trackers, tracker_names
from bertolt.train.trainer import Trainer

_GOLDEN_TEXTS = 3
_ROOM = 4 << 20  # bytes of logs, tokenizers and reports
_ODD_GAP = 256  # rows of the embedding without a token; fewer are a table rounded up in size


class Finetuning:
    """The `Work` of fine-tuning.

    Args:
        train: the files.
        options: of the command.
        callbacks: to watch the run.
        part: the rows of the run, where it is one of several.
        shared: what several runs have read.
        fold: number of the fold whose answers are to be written; None: they are not.

    Attributes:
        ready: called when all is set up, and nothing is written yet.
        retune: gives the task of all rows what folds have chosen on held-out ones.
        beside: further models for which there has to be room.
        final_scores: of the final weights; None before `measure`, or if there are none.
    """

    room = _ROOM
    reads = "train"

    def __init__(
        self,
        train: Sequence[Path],
        options: FinetuneOptions,
        callbacks: Sequence[AnyCallback],
        *,
        part: Part = WHOLE,
        shared: SharedRows | None = None,
        fold: int | None = None,
    ) -> None:
        self.train, self.options, self.callbacks = train, options, callbacks
        self.part, self.shared, self.fold = part, shared, fold
        self.ready: Callable[[Goal, dict[str, Any]], None] = lambda goal, settings: None
        self.retune: Callable[[Task, Table], Task] = lambda task, table: task
        self.beside = 0
        self._answers = FoldAnswers()
        self.keeps_checkpoints = options.keep_checkpoints
        self.final_scores: Scores | None = None
        self.loss_facts: dict[str, Any] = {}
        self.beside_teacher: dict[str, Any] = {}
        self.teacher: Path | None = None
        self.teacher_weights: str | None = None
        self._scores: Scores | None = None  # of the last evaluation

    def set_up(self, start: Start) -> Trainer:
        """Read the rows and the model."""
        options = self.options
        if caution := options.caution():
            self._tell(f"Caution: {caution}")
        trackers = tracker_names(options.track, "--track")
        require_trackers(trackers, "--track")
        if options.find_batch_size:
            cut_where_needed(join(), "--find-batch-size")
        settings = self.training_arguments()
        if options.distil is not None:
            self.teacher = huggingface.resolve(options.distil)
        self.source = choose_model(options, self.teacher, tell=self._tell)
        config = read_config(self.source)
        Weights(self.source)  # damaged ones are told before a large file is read
        tokenizer = BertTokenizer.from_pretrained(self.source)
        tokenizer.check_fits(config.vocab_size)
        if config.vocab_size - len(tokenizer) >= _ODD_GAP:
            self._tell(
                f"Caution: the tokenizer has {len(tokenizer):,} tokens and the word embedding "
                f"{config.vocab_size:,} rows; are they of the same model?"
            )
        self.data = data = self.read(tokenizer, config)
        self.task = self.retune(data.task, data.train.table)
        model = self._model()
        self.room = _ROOM + 4 * model.num_parameters() * self.beside
        if options.freeze is not None:
            count = freeze_layers(model, options.freeze)
            self._tell(f"Frozen: {count:,} of {model.num_parameters():,} parameters")
        settings.greater_is_better = goal_of(options.metric or "loss", data.task).greater
        self.trainer = trainer = Trainer(
            model,
            settings,
            train_dataset=self.data.sampled or self.data.train.encoded,
            processing_class=tokenizer,
            callbacks=[
                *self.callbacks,
                *([EarlyStoppingCallback(options.patience)] if options.patience else []),
            ],
            evaluate=self._evaluate if data.eval else None,
            settings=settings_of(options, data, model) | {"teacher": self.teacher_weights},
            store=start.store,
            precision=start.precision,
        )
        trainer.global_batch_size = options.batch_size  # over all processes
        self._guard(trainer, model)
        if trackers:
            trainer.callbacks.append(Tracking(trackers, options.out, self.arguments))
        self._tell(f"Precision {trainer.precision.name}: {trainer.precision.reason}")
        self._tell(f"Attention {model.attention_backend.name}: {model.attention_backend.reason}")
        self.ready(goal_of(options.metric, data.task), trainer.deciding_settings())
        return trainer

    def read(self, tokenizer: BertTokenizer, config: BertConfig) -> LoadedRows:
        """The rows of the files, encoded."""
        source, part, shared = self.source, self.part, self.shared
        return load_rows(self.train, self.options, tokenizer, config, source, part, shared)

    def _guard(self, trainer: Trainer, model: PreTrainedModel) -> None:
        """Keep finite weights for a run that diverges; of the parts that are here, if the Trainer
        has split the model."""
        self.good = LastFiniteWeights(model)
        trainer.callbacks.append(self.good)

    def training_arguments(self) -> TrainingArguments:
        """The settings, as the Trainer takes them."""
        return self.options.training_arguments()

    def _is_news(self, what: str) -> bool:
        """Whether something is to be told: no other of several runs has."""
        return self.shared is None or self.shared.is_news(what)

    def _tell(self, words: str) -> None:
        """Say something that may hold for several runs alike; the first of them says it."""
        if self._is_news(words):
            info(words)

    def _model(self) -> PreTrainedModel:
        """The model before its training, with the loss that it learns by; the rows get answers."""
        options, data = self.options, self.data
        task = data.task
        teacher = None
        if self.teacher is not None:
            teacher = load_teacher(self.teacher, task, options.precision, data.long)
        if teacher is not None and options.student_layers is not None:
            model: Any = student_of(teacher, self.source, task, options.student_layers)
        else:
            arguments = task.head_arguments(data.train.encoded.max_length)
            tell = self._is_news(f"the weights of {self.source}")
            model = started(
                task, self.source, say=tell, verbose=tell, seed=options.seed, **arguments
            )
        if options.micro_batch is not None:
            model.micro_batch = options.micro_batch
        assert data.train.encoded.labels is not None
        choices = LossChoices(
            class_weights=options.class_weights,
            focal=options.focal,
            label_smoothing=options.label_smoothing,
        )
        criterion = task.criterion(choices, data.train.encoded.labels)
        if criterion is not None:
            model.criterion = criterion
        self.loss_facts = facts_of(criterion, _names(task))
        if self.loss_facts:
            self._tell(f"Loss: {facts_words(self.loss_facts)}")
        if teacher is not None:
            rows = with_answers(data.train, task, teacher, options.out)
            self.data = data.training_on(rows, options)
            model.distillation = distillation(task, options.temperature, options.distil_weight)
            self.teacher_weights = huggingface.digest(teacher.model)
        learner: PreTrainedModel = model
        return learner

    def _evaluate(self, trainer: Trainer) -> dict[str, float]:
        assert self.data.eval is not None
        self._scores = scores = evaluate(
            trainer.model,
            self.data.task,
            self.data.eval,
            precision=trainer.precision,
            tune=True,
            world=trainer.world,
            keep_answers=True,
            group=self.data.group,
            watch=self._watch(),
        )
        self.task = scores.task
        return {f"eval_{name}": value for name, value in scores.metrics().items()}

    def _watch(self) -> Callable[[int, Answer, Example], None] | None:
        """What takes each answer of an evaluation that begins; None: nothing does."""
        return None if self.fold is None else self._answers.anew().add

    def measure(self) -> Measured:
        """Score the final weights, and check that they give finite answers."""
        history = self.trainer.history
        self.final_scores = scores = self._result()
        self.golden, which = self._keep_good_weights()
        self.stopped = _stopped(history, which)
        failure = history.failure and TrainingError(
            f"{history.failure.problem}; {which} in {self.options.out}",
            place=history.failure.place,
            fix=history.failure.fix,
        )
        if self.teacher is not None and not (history.interrupted or history.failure):
            self._set_beside_teacher(self.teacher)
        return Measured(
            metrics={
                "eval": scores.to_dict() if scores else None,
                **({"distillation": self.beside_teacher} if self.beside_teacher else {}),
                **({"loss_targets": scores.targets} if scores and self.fold is not None else {}),
                **({} if self.data.eval else {"not_measured": self._unmeasured()}),
                "train": {
                    **history.summary(),
                    **({"criterion": self.loss_facts} if self.loss_facts else {}),
                    "lengths": self._lengths_read(),
                },
            },
            complete=not (history.interrupted or history.failure)
            and (scores is not None or self.data.eval is None),
            failure=failure,
        )

    def _unmeasured(self) -> str:
        """Why there is no score, where no row is held out."""
        folds = self.part.folds
        if folds:
            return f"--folds {folds}: the last model trains on all rows"
        return "--test-size 0: all rows train"

    def _lengths_read(self) -> dict[str, int]:
        """What of the training texts was read, and in an epoch where that is less."""
        values, sampled = self.data.train.encoded.account.to_dict(), self.data.sampled
        if sampled is None:
            return values
        return values | {"windows_in_epoch": int(sampled.counts.sum())}

    def _set_beside_teacher(self, folder: Path) -> None:
        """Measure score, size and speed of both; the first process does."""
        model = self.trainer.world.full_model(self.trainer.model)
        if not self.trainer.world.first:
            return
        teacher = load_teacher(folder, self.task, self.options.precision, self.data.long)
        student = Predictor(
            model,
            self.trainer.processing_class,
            self.contract(),
            task=self.task,
            precision=teacher.precision.name,
            device=self.trainer.device,
        )
        rows = self.data.eval or self.data.train
        self.beside_teacher = beside(student, teacher, self.final_scores, rows)
        for line in describe(self.beside_teacher):
            info(line)

    def _result(self) -> Scores | None:
        """The scores of the final weights; None if training did not reach its end."""
        trainer, history = self.trainer, self.trainer.history
        # Measured before it was killed, or with other weights than the best evaluation had.
        stale = self._scores is None or trainer.best_step not in (None, history.step)
        if stale and history.failure is None and history.evaluated(history.step):
            self._evaluate(trainer)
        history.failure = history.failure or _spoiled(history, self._scores)
        rates = history.summary()
        info(
            f"Trained {plural(len(history.steps), 'step')} in {duration(rates['seconds'])}: "
            f"{rates['samples_per_second']:.0f} texts/s, {rates['tokens_per_second']:.0f} tokens/s"
        )
        if history.failure is not None:
            return None
        if self.data.eval is None and not history.interrupted:
            history.failure = self._unfinite()
            info(f"Not measured: {self._unmeasured()}")
            return None
        if not history.evaluated(history.step):
            info("Stopped by Ctrl-C: saving the weights as they are, without measuring them")
            return None
        if self._scores is not None:
            self._tell_scores(self._scores)
        return self._scores

    def _tell_scores(self, scores: Scores) -> None:
        info(f"\n{scores}\n")

    def _unfinite(self) -> TrainingError | None:
        """The error of last weights that do not answer, where no evaluation would notice it."""
        world, step = self.trainer.world, self.trainer.history.step
        if not world.from_first(world.first and not self._golden()):
            return None
        return TrainingError(
            f"the answers are not finite with the weights of step {step}",
            place=f"after step {step}",
            fix="use a smaller learning rate, or more warmup",
        )

    def _keep_good_weights(self) -> tuple[list[Golden], str]:
        """The model's answers to a few texts, and a phrase that says which weights it has.

        Weights that a diverged step left behind answer with NaN; older ones are put in their place.
        """
        failed = self.trainer.history.failure is not None
        golden, which = self._golden(), "they are saved"
        if self.trainer.world.from_first(failed and not golden):
            self.good.restore()
            golden, step = self._golden(), self.good.step
            untrained = "" if step else ", its head untrained,"
            which = f"they answer with NaN too, so the model of step {step}{untrained} is saved"
        return golden, which

    def _golden(self) -> list[Golden]:
        """Answers in fp32, on the first process; none if they are not finite."""
        trainer, rows = self.trainer, self.data.eval or self.data.train
        model = trainer.world.full_model(trainer.model)
        if not trainer.world.first:
            return []
        predictor = Predictor(
            model,
            trainer.processing_class,
            self.contract(),
            task=self.task,
            precision="fp32",
            device=trainer.device,
        )
        try:
            return predictor.make_golden(rows.examples(range(min(_GOLDEN_TEXTS, len(rows)))))
        except NotFiniteError:
            return []

    def contract(self) -> Contract:
        """How the rows of this run were prepared."""
        return Contract(
            task=self.task.name,
            columns=self.data.train.table.roles,
            settings=self.task.settings(),
            max_length=self.data.train.encoded.max_length,
            long=kept(self.task, self.data.long),
            library_version=__version__,
        )

    def write(self, folder: Path) -> None:
        """Write how texts are prepared, with answers to compare with."""
        replace(self.contract(), golden=self.golden).write(folder)
        if self.final_scores is not None and self.final_scores.answers is not None:
            self.final_scores.answers.write(folder / ANSWERS)
        if self.fold is not None:
            self._answers.write(folder, self.fold)

    def arguments(self) -> dict[str, Any]:
        """Every argument with the value that was used, from the user or resolved."""
        roles = self.data.train.table.roles
        return {
            "train": self.train[0] if len(self.train) == 1 else self.train,
            **asdict(self.options),
            "model": self.source,
            "task": self.task.name,
            **{role: ",".join(roles[role]) if role in roles else None for role in FLAGS},
            "max_length": self.data.train.encoded.max_length,
            "long": self.data.long.how,
            "stride": self.data.long.stride,
            "precision": self.trainer.precision.name,
        }

    def facts(self, command: str, started: float) -> dict[str, Any]:
        """What `run.json` holds."""
        facts = run_facts(
            trainer=self.trainer,
            source=self.source,
            data=self.data,
            scores=self.final_scores,
            started=started,
            stopped=self.stopped,
            command=command,
            arguments=self.arguments(),
            criterion=self.loss_facts,
        )
        if self.beside_teacher:
            facts["distillation"] = self.beside_teacher
            facts["blocks"] = [block(self.beside_teacher), *facts.get("blocks", ())]
        return facts

    def describe_next_step(self) -> None:
        """Say how to use the model."""
        if self.shared is not None:
            return  # of several, the best is used
        pair = ' --pair "…"' * ("text_pair" in self.data.train.table.roles)
        pair *= 2 if self.task.several_pairs else 1
        info(f'Try it: bertolt predict {shlex.quote(str(self.options.out))} --text "…"{pair}')


def settings_of(
    options: FinetuneOptions, data: LoadedRows, model: PreTrainedModel
) -> dict[str, Any]:
    """All that decides what a run learns: the options, the rows, and the weights it starts from."""
    return deciding(options) | {
        "--keep": "best" if options.keeps_best else "a number",
        "--max-length": data.train.encoded.max_length,
        "task": data.task.name,
        "labels": _names(data.task),
        "weights of labels": _weights_of(model),
        "training rows": _fingerprint(data.train.encoded),
        "evaluation rows": _fingerprint(data.eval.encoded) if data.eval else "no rows",
        "weights of --model": huggingface.digest(model),
    }


def _names(task: Task) -> list[str]:
    """Of the model's outputs; empty where these have none."""
    return [str(name) for name in task.config_changes().get("id2label", {}).values()]


def _weights_of(model: PreTrainedModel) -> list[float] | None:
    criterion = getattr(model, "criterion", None)
    weights = getattr(criterion, "weights", None)
    return None if weights is None else weights.tolist()


def goal_of(metric: str | None, task: Task) -> Goal:
    """The metric that decides, the primary one if none is named, and whether more of it is better.

    Raises:
        UsageError: no evaluation of this task gives it.
    """
    if metric is None:
        primary = task.primary
        return Goal(metric=primary.name, title=primary.title, greater=primary.greater)
    scorer = task.scorer()
    name = metric.removeprefix("eval_")
    names = ("loss", *scorer.shown)
    if name not in names:
        raise UsageError(
            f"evaluations of {task.name} give no {name!r}; they give {', '.join(names)}",
            place="--metric",
            fix=meant(name, list(names), "name one of these"),
        )
    greater = name != "loss" and name not in scorer.errors
    title = task.primary.title if name == task.primary.name else name
    return Goal(metric=name, title=title, greater=greater)


def _fingerprint(rows: EncodedTexts) -> str:
    assert rows.labels is not None
    digest = hashlib.sha256()
    grouped = rows.firsts if rows.joint else None
    for values in (rows.ids, rows.offsets, rows.labels, rows.segments, grouped, rows.document):
        if values is not None:
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:12]


def _spoiled(history: History, scores: Scores | None) -> TrainingError | None:
    """The error of a last update whose loss is not finite: no later step would notice it."""
    if scores is None or math.isfinite(scores.loss):
        return None
    last = history.steps[-1]
    return TrainingError(
        f"the evaluation loss is {scores.loss} with the weights of step {last.step}",
        place=f"after step {last.step}, learning rate {last.learning_rate:g}",
        fix="use a smaller learning rate, or more warmup",
    )


def _stopped(history: History, which: str) -> str:
    if history.failure is not None:
        problem = history.failure.problem
        return f"{problem[0].upper()}{problem[1:]}; {which}."
    return f"By Ctrl-C, after step {len(history.steps)}." if history.interrupted else ""
