"""What a run leaves behind for its report, as plain values for `dataclasses.asdict`.

Shares and probabilities lie between 0 and 1. A number that was not measured is None; one that came
out as NaN or infinite may stay so, and is shown as "n/a". Row numbers are those of the file as a
person would count them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A share between 0 and 1 with the two ends of its 95% interval, where there is one."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the run took place and how it computed there.

    Args:
        cpu: the processor's name.
        cores: cores that the run could use.
        memory_bytes: main memory of the machine.
        torch_threads: threads inside one torch operation.
        device: "cpu", or the accelerator's name.
        precision: "fp32", "bf16", ...
        precision_reason: why this precision.
        attention: the attention backend.
        attention_reason: why this backend.
        os: operating system and its version.
        python: Python's version.
        versions: package name to version.
    """

    cpu: str
    cores: int
    memory_bytes: int | None
    torch_threads: int
    device: str = "cpu"
    precision: str
    precision_reason: str
    attention: str
    attention_reason: str
    os: str
    python: str
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class LoadRow:
    """One row of the load report, repeated layers folded into a pattern.

    Args:
        status: loaded, tied, ignored, initialised, missing, unexpected or mismatched.
        name: a tensor's name, or a pattern such as `encoder.layer.{0..5}.output.dense.weight`.
        count: tensors that the row stands for.
        note: for instance the rule of initialisation.
    """

    status: str
    name: str
    count: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """The model that was trained, where it came from, and how its weights were loaded."""

    source: str
    architecture: str
    layers: int
    hidden_size: int
    heads: int
    vocabulary_size: int
    parameters: int
    load_report: Sequence[LoadRow] = ()


@dataclass(frozen=True, kw_only=True)
class DroppedRows:
    """Rows left out for one reason: how many, and the first few row numbers."""

    reason: str
    count: int
    first_rows: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class LabelCount:
    """How many rows carry one label in the training and in the evaluation part."""

    name: str
    train: int
    eval: int


@dataclass(frozen=True, kw_only=True)
class LengthAccount:
    """How long the texts are in tokens, and what the limit cuts off.

    Args:
        edges: bounds of the bins, one more than `counts`; bin i holds `edges[i] <= n < edges[i+1]`.
        counts: texts in each bin, lengths taken before cutting, special tokens included.
        max_length: the limit in tokens, special tokens included.
        max_length_source: where the limit came from.
        texts: number of texts.
        texts_cut: texts longer than the limit.
        tokens: tokens in all texts before cutting.
        tokens_cut: tokens that no model saw.
    """

    edges: Sequence[int]
    counts: Sequence[int]
    max_length: int
    max_length_source: str
    texts: int
    texts_cut: int
    tokens: int
    tokens_cut: int


@dataclass(frozen=True, kw_only=True)
class DataAccount:
    """What was read, what was left out, and how the rest was split.

    Args:
        file: the training file as named by the user.
        eval_file: the evaluation file, or None when the rows were held out of `file`.
        text_column: the column of texts.
        text_column_how: how it was found ("named by --text", "the only column called review").
        label_column: the column of labels.
        label_column_how: how it was found.
        rows_read: rows read from both files, dropped ones included.
        dropped: rows left out, by reason.
        split: the split in words ("20% held out at random, seed 0").
        labels: one entry a label, in the order of the model's outputs.
        lengths: the texts' lengths, or None when they were not counted.
        repeated: evaluation texts that stand word for word among the training texts.
    """

    file: str
    eval_file: str | None = None
    text_column: str
    text_column_how: str
    label_column: str
    label_column_how: str
    rows_read: int
    dropped: Sequence[DroppedRows] = ()
    split: str
    labels: Sequence[LabelCount]
    lengths: LengthAccount | None = None
    repeated: int = 0


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One training step: its loss, learning rate, gradient norm before clipping, and speed.

    `peak_share` is the share of the machine's rate of matrix products.
    """

    step: int
    loss: float | None
    learning_rate: float | None = None
    grad_norm: float | None = None
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    peak_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class EvalPoint:
    """One evaluation while training.

    Of pretraining, `accuracy` is that of masked tokens; with pairs, `loss` is the sum of
    `masked_loss` and theirs, and `next_sentence_accuracy` is theirs.
    """

    step: int
    loss: float | None
    accuracy: float | None
    masked_loss: float | None = None
    next_sentence_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingLog:
    """The curves and totals of training.

    `padding_share` is the share of computed tokens that were padding, None when nothing was padded.
    `tokens` is how many were trained on, `flops_per_second` what their matrix products came to, and
    `peak_share` that rate as a share of the machine's.
    """

    curve: Sequence[CurvePoint] = ()
    eval_points: Sequence[EvalPoint] = ()
    steps: int
    epochs: float
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    padding_share: float | None = None
    tokens: int | None = None
    flops_per_second: float | None = None
    peak_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How well one label was found. `support` counts its true rows, `predicted` its predictions."""

    name: str
    precision: Measure
    recall: Measure
    f1: Measure
    support: int
    predicted: int


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A confident wrong prediction.

    Args:
        text: the text, perhaps only its beginning.
        characters: length of the whole text when `text` is only its beginning.
        row: its row number in the file.
        true_label: the label in the file.
        predicted_label: the label that the model gave.
        probability: how sure the model was of it.
    """

    text: str
    characters: int | None = None
    row: int
    true_label: str
    predicted_label: str
    probability: float | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The final model, measured on the evaluation rows.

    Args:
        rows: rows that were evaluated.
        accuracy: share of right predictions, with its interval.
        f1_macro: mean of the labels' F1.
        loss: mean loss a row.
        baseline: accuracy of always guessing `baseline_label`, with its interval.
        baseline_label: the most frequent label of the training rows.
        classes: scores of each label, in the order of the model's outputs.
        confusion: (C, C) counts; `confusion[i][j]` rows of label i were predicted as label j.
        mistakes: the most confident mistakes, surest first.
    """

    rows: int
    accuracy: Measure
    f1_macro: float | None
    loss: float | None
    baseline: Measure
    baseline_label: str
    classes: Sequence[ClassScore]
    confusion: Sequence[Sequence[int]]
    mistakes: Sequence[Mistake] = ()


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One fine-tuning run.

    Args:
        title: what the page is called.
        command: a command line that repeats the run.
        started: when the run began, in words or ISO 8601.
        duration_seconds: wall-clock time of the whole run.
        version: Bertolt's version.
        stopped_early: why training ended before its last step, or an empty string.
        evaluation: None when the model was not evaluated.
        arguments: every resolved argument, by name.
    """

    title: str
    command: str
    started: str
    duration_seconds: float | None
    version: str
    machine: Machine
    model: ModelSummary
    data: DataAccount
    training: TrainingLog
    evaluation: Evaluation | None = None
    stopped_early: str = ""
    arguments: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SourceCount:
    """How much of a corpus came from one source."""

    name: str
    documents: int
    sentences: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class CorpusAccount:
    """The text of a pretraining run.

    Args:
        folder: of the corpus.
        fingerprint: of its content.
        objective: what was learned from it: "mlm", "mlm+nsp".
        max_length: tokens of a sequence, special ones included.
        documents, sentences, tokens: to train on.
        held_out_documents, held_out_tokens: kept for the held-out loss.
        measured_tokens: of those, in each evaluation, special ones included.
        sources: where it came from, the held-out text included.
        warnings: of its preparation.
        token_entropy: of single tokens, in nats.
        pairs_baseline: share of the more frequent answer among the held-out pairs, if there are.
        left_out: pairs of the last epoch for which it had no room.
    """

    folder: str
    fingerprint: str
    objective: str
    max_length: int
    documents: int
    sentences: int
    tokens: int
    held_out_documents: int
    held_out_tokens: int
    measured_tokens: int
    sources: Sequence[SourceCount] = ()
    warnings: Sequence[str] = ()
    token_entropy: float
    pairs_baseline: float | None = None
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class PretrainRecord:
    """One pretraining run; fields of the same names mean what they do in `RunRecord`.

    Args:
        stuck: why the loss has to be called that of single tokens, or an empty string.
    """

    title: str
    command: str
    started: str
    duration_seconds: float | None
    version: str
    machine: Machine
    model: ModelSummary
    corpus: CorpusAccount
    training: TrainingLog
    stuck: str = ""
    stopped_early: str = ""
    arguments: dict[str, object] = field(default_factory=dict)
