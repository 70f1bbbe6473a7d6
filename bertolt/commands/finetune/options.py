"""What a user sets for `finetune`. Only light modules are imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bertolt.base.errors import UsageError
from bertolt.base.options import (
    EPOCHS,
    FREE,
    SEED,
    above,
    at_least,
    between,
    check_options,
    seen_in,
    share,
)
from bertolt.base.settings import ENDINGS
from bertolt.commands.file_options import FileOptions
from bertolt.data.long import Long
from bertolt.models.config import Precision
from bertolt.train.arguments import Schedule, TrainingArguments
from bertolt.train.trackers import tracker_names

_SIZES = at_least(1) | {"listed": "several, as 100,300,1000"}
MOST_RUNS = 10_000
"""Of one command; each is a folder and a line in a table."""
_SEEDS = between(2, MOST_RUNS) | {"listed": "several of them, as 1,7,42"}
_HIGHEST_RATE = 0.02  # even tiny models learn nothing above it


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(FileOptions):
    """Settings of `finetune`; the text below each field is the command's help.

    A run that is resumed has to have the same as it began with, but for those that are free.

    Raises:
        UsageError: a value out of its range; the message names the option.
    """

    model: str | None = field(default=None, metadata=seen_in("weights of --model"))
    """Pretrained model: a folder, or an id on the hub. Default: the demo's, if it is installed."""
    task: str | None = field(default=None, metadata=seen_in("task"))
    """What to learn: text-classification, multi-label-classification, regression,
    multiple-choice, next-sentence-prediction, question-answering, sentence-similarity or
    token-classification. Default: as the columns say."""
    text: str | None = field(default=None, metadata=seen_in("training rows"))
    """Column of the texts. Default: found by its name."""
    text_pair: str | None = field(default=None, metadata=seen_in("training rows"))
    """Column of second texts, for pairs; of choices, or several with commas between them. Default:
    found if columns are called like a pair, or like choices."""
    label: str | None = field(default=None, metadata=seen_in("training rows"))
    """Column of the labels, or several with commas between them. Default: found by its name."""
    label_separator: str | None = field(default=None, metadata=seen_in("task"))
    """What parts several labels in one cell, as ";"."""
    pooling: Literal["mean", "cls"] | None = field(default=None, metadata=seen_in("task"))
    """Vector of a text: mean of its tokens, or the first one. Default: as the model has it."""
    unnormalized: bool = field(default=False, metadata=seen_in("task"))
    """Vectors of texts keep their lengths, and are not brought to length 1."""
    score_scale: str | None = field(default=None, metadata=seen_in("task"))
    """Least and greatest score of two texts, as 0,5. Default: the usual scale that has them all."""
    eval: Path | None = field(default=None, metadata=seen_in("evaluation rows"))
    """File with the rows to evaluate on, instead of holding some out."""
    test_size: float = field(default=0.2, metadata=share(0.2, zero=True))
    """Share of the rows to hold out for the evaluation; 0: train on all, without a score."""
    group: str | None = field(default=None, metadata=seen_in("training rows"))
    """Column, such as a user or a document, whose rows are never parted by what is held out;
    intervals are then by resampling whole groups of rows."""
    sample: int | str | None = field(default=None, metadata=_SIZES | seen_in("training rows"))
    """Train on so many of the training rows, labels in their shares, with a learning curve from a
    quarter of them on; 100,300,1000: a curve of these sizes."""
    epochs: float = field(default=3.0, metadata=EPOCHS)
    """Passes over the training rows."""
    batch_size: int = field(default=32, metadata=at_least(1))
    """Texts in one training step, over all processes."""
    lr: float = field(default=5e-5, metadata=at_least(0))
    """Peak learning rate."""
    weight_decay: float = field(default=0.01, metadata=at_least(0))
    """Decay of all weights but biases and layer norms."""
    accumulate: int = field(default=1, metadata=at_least(1))
    """Batches of --batch-size whose gradients make one step together, as one large batch would."""
    micro_batch: int | None = field(default=None, metadata=at_least(1))
    """Rows in memory at a time where those of a batch compete, in sentence-similarity. Default:
    all. The step is that of the whole batch; each part is computed twice."""
    find_batch_size: bool = field(default=False, metadata=FREE)
    """Compute a batch in parts where it does not fit into memory: the step stays the same."""
    layer_decay: float = field(default=1.0, metadata=share(0.9, one=True))
    """Rate of each layer as a share of the rate of the one above it; the head has --lr."""
    freeze: int | Literal["all"] | None = field(default=None, metadata=at_least(0))
    """Lowest layers that stay as they are, with the embeddings; all: the head alone learns."""
    class_weights: str | None = field(default=None, metadata=seen_in("weights of labels"))
    """Weights of labels in the loss: auto lets all weigh alike, or rows with and without each of
    several; or a JSON file, {"label": 2.5}."""
    focal: float = field(default=0.0, metadata=between(0, 10))
    """Exponent of focal loss, as 2: what is answered right weighs less; 0: plain loss."""
    label_smoothing: float = field(default=0.0, metadata=share(0.1, zero=True))
    """Share of each label that is spread over all that it might have been."""
    calibrate: bool = False
    """Fit a temperature on the held-out rows, by which probabilities say how often answers are
    right; the answers stay as they are."""
    distil: str | None = field(default=None, metadata=seen_in("teacher"))
    """Fine-tuned model whose answers are learned beside the labels: a folder of the same labels."""
    temperature: float = field(default=2.0, metadata=above(0))
    """By which logits of teacher and student are divided, so that small probabilities count."""
    distil_weight: float = field(default=0.5, metadata=share(0.5, zero=True, one=True))
    """Share of the teacher in the loss; the labels have the rest."""
    student_layers: int | None = field(default=None, metadata=at_least(1))
    """Begin with so many layers of the teacher, spread over it, in place of --model."""
    warmup: float = field(default=0.1, metadata=at_least(0))
    """Warmup: a share of all steps if below 1, else steps."""
    schedule: Schedule = "linear"
    """Course of the learning rate after warmup."""
    order: Literal["random", "group_by_length"] = "random"
    """Order of the training rows."""
    max_length: int | None = field(default=None, metadata=at_least(1) | seen_in("--max-length"))
    """Most tokens of a text. Default: all that the model's position table has."""
    long: Long | None = field(default=None, metadata=seen_in("training rows"))
    """A text beyond the limit: error, truncate its end, head-tail, which keeps a first and a last
    part, or window, which reads all of it. Default: truncate, and window where words are marked."""
    stride: int | None = field(default=None, metadata=at_least(0) | seen_in("training rows"))
    """Tokens that a window repeats of the one before it. Default: an eighth of those that it holds
    of the text, and more where words are marked."""
    windows: int = field(default=8, metadata=at_least(1))
    """Most windows of a text that an epoch learns from, drawn anew in each; all are evaluated."""
    shard: bool = field(default=False, metadata=FREE)
    """Started by torchrun: split weights, gradients and optimizer over the processes (FSDP2)."""
    seed: int = field(default=42, metadata=SEED)
    """Seed of the new head, the order and dropout."""
    split_seed: int = field(default=42, metadata=SEED)
    """Seed of which rows are held out."""
    precision: Precision = field(default="auto", metadata=seen_in("precision"))
    """Number format: auto measures whether bfloat16 is faster here."""
    on_bad_row: Literal["drop", "error"] = field(default="drop", metadata=seen_in("training rows"))
    """What to do with a row that cannot be used."""
    out: Path = field(default=Path("out"), metadata=FREE)
    """Folder for the model, its metrics and its report."""
    overwrite: bool = field(default=False, metadata=FREE)
    """Replace what an earlier run left in that folder, checkpoints too, unless it is resumed; its
    model goes when there is another."""
    save_every: int | None = field(default=None, metadata=at_least(1) | FREE)
    """Steps between checkpoints, folders in --out. SIGTERM always writes one."""
    keep: int | Literal["best"] = field(default=2, metadata=at_least(1) | seen_in("--keep"))
    """Newest checkpoints to keep; best: one, and the one of lowest loss, which is the result."""
    metric: str | None = None
    """What --keep best and --patience go by, such as f1_macro. Default: the loss."""
    patience: int | None = field(default=None, metadata=at_least(1))
    """End after so many evaluations without a better one; the best one is the result."""
    seeds: int | str | None = field(default=None, metadata=_SEEDS | FREE)
    """Runs with so many seeds, from --seed on, or those named, as 1,7,42; the best is the result,
    and the report has mean and spread."""
    folds: int | None = field(default=None, metadata=between(2, MOST_RUNS) | FREE)
    """Cross-validation: each row is held out once, in one of so many runs; the result is one more,
    of all rows."""
    search: str | None = field(default=None, metadata=FREE)
    """Settings to search by Optuna: a YAML, TOML or JSON file, or as "lr=1e-5..1e-4:log
    batch_size=16,32"; the best trial is the result."""
    trials: int = field(default=20, metadata=at_least(1) | FREE)
    """Trials of --search; more can be added to a search with --resume."""
    prune: bool = field(default=False, metadata=FREE)
    """End a trial of --search whose evaluations are worse than the median of those before it."""
    keep_models: bool = field(default=False, metadata=FREE)
    """Leave the models of all runs in their folders, not only that of the best."""
    resume: bool = field(default=False, metadata=FREE)
    """Go on from the last whole checkpoint, or from the start before there is one."""
    keep_checkpoints: bool = field(default=False, metadata=FREE)
    """Leave the checkpoints there when the run is complete."""
    track: str | None = field(default=None, metadata=FREE)
    """Trackers to tell, in --out alone: tensorboard, mlflow, wandb, with commas between them."""

    def __post_init__(self) -> None:
        check_options(self)
        tracker_names(self.track, "--track")
        self._require_teacher()
        if self.keeps_best and not self.evaluates:
            raise UsageError(
                "the best evaluation is to be chosen, and --test-size 0 holds no rows out",
                place="--keep" if self.keep == "best" else "--patience",
                fix="name rows to evaluate on with --eval, or leave out one of the two",
            )
        if self.group is not None and (self.eval is not None or not self.evaluates):
            other = "--eval parts rows by files" if self.eval else "--test-size 0 holds no rows out"
            raise UsageError(
                f"it says which rows stay together when some are held out, and {other}",
                place="--group",
                fix="leave --group out, or the other option",
            )
        if self.calibrate and not self.evaluates:
            raise UsageError(
                "a temperature is fitted on held-out rows, and --test-size 0 holds no rows out",
                place="--calibrate",
                fix="name rows to evaluate on with --eval, or leave out one of the two",
            )
        if self.metric is not None and not self.keeps_best:
            raise UsageError(
                "it says what the best evaluation is chosen by, and none is chosen",
                place="--metric",
                fix="add --keep best, or --patience 3",
            )

    def _require_teacher(self) -> None:
        """Refuse what is said of a teacher where there is none."""
        said = {
            "--temperature": self.temperature != 2.0,
            "--distil-weight": self.distil_weight != 0.5,
            "--student-layers": self.student_layers is not None,
        }
        for option, given in said.items():
            if given and self.distil is None:
                raise UsageError(
                    "it is for a student that learns from a teacher",
                    place=option,
                    fix=f"name the teacher with --distil, or leave {option} out",
                )
        if self.student_layers is not None and self.model is not None:
            raise UsageError(
                "--student-layers begins with layers of the teacher, and --model with others",
                fix="give one of them",
            )

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best evaluation are the result."""
        return self.keep == "best" or self.patience is not None

    @property
    def evaluates(self) -> bool:
        """Whether there are rows to measure the model on."""
        return self.eval is not None or self.test_size > 0

    @property
    def also_read(self) -> list[str | Path | None]:
        """Files and folders that are read, beside the texts and the model; None: not asked for."""
        weights = None if self.class_weights == "auto" else self.class_weights
        space = self.search if self.search and self.search.lower().endswith(ENDINGS) else None
        return [self.eval, self.distil, weights, space]

    def caution(self) -> str:
        """What is odd about a learning rate that is allowed, in words; empty if nothing is."""
        if self.lr == 0:
            return "with --lr 0 no weight changes: the model stays as it began"
        if self.lr > _HIGHEST_RATE:
            return (
                f"--lr {self.lr:g} is far above the usual 1e-5 to 1e-3, and training will hardly "
                "survive it; was a smaller exponent meant, as in 5e-5?"
            )
        return ""

    def training_arguments(self) -> TrainingArguments:
        """The same, as the Trainer takes it."""
        best = self.keeps_best
        save_strategy: Literal["no", "steps", "epoch"] = "epoch" if best else "no"
        return TrainingArguments(
            output_dir=str(self.out),
            num_train_epochs=self.epochs,
            per_device_train_batch_size=self.batch_size,
            gradient_accumulation_steps=self.accumulate,
            auto_find_batch_size=self.find_batch_size,
            learning_rate=self.lr,
            layer_decay=self.layer_decay,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup,
            lr_scheduler_type=self.schedule,
            train_sampling_strategy=self.order,
            fsdp=self.shard,
            seed=self.seed,
            precision=self.precision,
            eval_strategy="epoch" if self.evaluates else "no",
            save_strategy=save_strategy if self.save_every is None else "steps",
            save_steps=self.save_every or 500,
            save_total_limit=1 if self.keep == "best" else self.keep,
            load_best_model_at_end=best,
            metric_for_best_model=self.metric,
        )
