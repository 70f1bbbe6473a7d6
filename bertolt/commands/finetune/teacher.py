"""A teacher: a fine-tuned model whose answers a smaller one learns beside the labels."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from bertolt.base.console import counting, info
from bertolt.base.errors import UsageError
from bertolt.base.format import duration
from bertolt.data.collate import PackingCollator
from bertolt.data.encode import EncodedTexts
from bertolt.data.long import LongTexts
from bertolt.models.config import ProblemType
from bertolt.models.losses import Distillation
from bertolt.models.pretrained import PreTrainedModel
from bertolt.report import plain
from bertolt.tasks.base import Task
from bertolt.tasks.evaluation import Scores, TaskRows, evaluate, token_budget
from bertolt.tasks.page import table
from bertolt.tasks.predictor import Predictor
from bertolt.tasks.rows import encode_rows
from bertolt.tasks.start import started
from bertolt.train.loop import predict_batches

_TIMED_TEXTS = 256
_TIMED_CALLS = 15


def load_teacher(folder: Path, task: Task, precision: str, long: LongTexts) -> Predictor:
    """The teacher of a task, which reads longer texts as the student does.

    Raises:
        UsageError: it answers another task, or has other labels.
        CheckpointError: it cannot be loaded, or was never trained.
    """
    teacher = Predictor.from_pretrained(
        folder, precision=precision, long=long.how, stride=long.stride
    )
    if type(teacher.task) is not type(task):
        raise UsageError(
            f"the teacher answers {teacher.task.name}, and the rows are for {task.name}",
            place=f"--distil {folder}",
            fix=f"name a teacher that was trained for {task.name}",
        )
    task.outputs_of(teacher.task, torch.zeros(1, teacher.model.config.num_labels))
    return teacher


def with_answers(rows: TaskRows, task: Task, teacher: Predictor, folder: Path) -> TaskRows:
    """The rows with the teacher's logits for each of them, or for each of their tokens.

    They are computed once, and lie in a file without a name in `folder`, so that memory stays as it
    was; it goes with the process. A text in several windows has the mean of what the teacher gives
    for its windows, however many the student reads in an epoch.

    Raises:
        UsageError: the teacher reads other tokens where these have the labels.
    """
    begun = time.perf_counter()
    windows = _read_by(teacher, rows).encoded.apart
    per_token, model = teacher.model.labels_per_token, teacher.model
    if per_token:
        _require_same_tokens(rows.encoded, windows)
    count = len(windows.ids) if per_token else windows.examples
    parted = windows.windows
    # The file has no name, and the map keeps it open. Another process may still make the folder.
    with tempfile.TemporaryFile(dir=folder if folder.is_dir() else None) as file:
        shape = (count, model.config.num_labels)
        logits: NDArray[np.float32] = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
    collate = PackingCollator(pad_token_id=model.config.pad_token_id, token_labels=per_token)
    with counting("Asking the teacher", len(windows)) as show:
        done = 0
        for batch in predict_batches(
            model,
            windows,
            windows.lengths,
            collate,
            token_budget=token_budget(teacher.device),
            precision=teacher.precision,
            engine=teacher.engine,
        ):
            outputs = task.outputs_of(teacher.task, batch.logits).numpy()
            parts = (
                np.split(outputs, np.cumsum(batch.batch.lengths.numpy())[:-1])
                if per_token
                else outputs
            )
            for window, part in zip(batch.rows.tolist(), parts, strict=True):
                if per_token:
                    start = int(windows.offsets[window])
                    logits[start : start + len(part)] = part
                else:
                    text = int(windows.window_examples[window])
                    logits[text] += part / parted[text]
            done += len(batch.rows)
            show(done)
    info(f"Teacher: {len(rows):,} rows answered in {duration(time.perf_counter() - begun)}")
    return replace(rows, encoded=replace(rows.encoded, teacher_logits=logits))


def _read_by(teacher: Predictor, rows: TaskRows) -> TaskRows:
    """The same rows in the tokens of the teacher."""
    limit = min(rows.encoded.max_length, teacher.model.config.max_tokens)
    encoded, _ = encode_rows(
        teacher.task, rows.table, rows.index, teacher.tokenizer, limit, teacher.long
    )
    return encoded


def _require_same_tokens(ours: EncodedTexts, theirs: EncodedTexts) -> None:
    """Refuse tokens that have no counterpart."""
    if not (np.array_equal(ours.ids, theirs.ids) and np.array_equal(ours.offsets, theirs.offsets)):
        raise UsageError(
            "teacher and student read the texts in different tokens, and each has a label",
            place="--distil",
            fix="name a student with the vocabulary of the teacher, as with --student-layers",
        )


def distillation(task: Task, temperature: float, weight: float) -> Distillation:
    """The loss of a student of this task."""
    kind = task.config_changes().get("problem_type") or "single_label_classification"
    return Distillation(cast("ProblemType", kind), temperature, weight)


def student_of(teacher: Predictor, folder: Path, task: Task, layers: int) -> PreTrainedModel:
    """A model with some layers of the teacher, its embeddings and its head.

    Raises:
        UsageError: the teacher has no more layers than that.
    """
    have = teacher.model.config.num_hidden_layers
    if layers >= have:
        raise UsageError(
            f"the teacher has {have} layers, and the student is to have {layers}",
            place="--student-layers",
            fix=f"give a number below {have}",
        )
    chosen = [number * have // layers for number in range(layers)]
    student = started(
        task,
        folder,
        say=False,
        verbose=False,
        num_hidden_layers=layers,
        keys_to_ignore_on_load_unexpected=r"encoder\.layer\.\d+\.",
    )
    source: Any = task.head.from_pretrained(folder, verbose=False)
    ours, theirs = student.base_model.encoder.layer, source.base_model.encoder.layer
    for number, place in enumerate(chosen):
        ours[number].load_state_dict(theirs[place].state_dict())
    info(f"Student: layers {', '.join(map(str, chosen))} of the teacher's {have}, counted from 0")
    return student


@dataclass(frozen=True, kw_only=True)
class Beside:
    """How a model does beside another, on the same rows and the same machine.

    Attributes:
        score: of the primary metric; None without held-out rows.
        parameters: how many it has.
        texts_per_second: of many texts at once.
        one_text_ms: median of texts that come one by one.
    """

    score: float | None
    parameters: int
    texts_per_second: float
    one_text_ms: float


def beside(
    student: Predictor, teacher: Predictor, scores: Scores | None, rows: TaskRows
) -> dict[str, Any]:
    """Both models on the same rows: plain values by who they are, for `metrics.json`.

    Args:
        student: after training.
        teacher: of it.
        scores: of the student, if there are held-out rows.
        rows: the held-out rows; the training rows where there are none.
    """
    name = student.task.primary.name
    theirs = None
    if scores is not None:
        theirs = evaluate(
            teacher.model,
            teacher.task,
            _read_by(teacher, rows),
            precision=teacher.precision,
            engine=teacher.engine,
            tune=True,  # as the student's thresholds were chosen, on these rows
        ).scorer.values()[name]
    examples = rows.examples(range(min(_TIMED_TEXTS, len(rows))))
    ours = None if scores is None else scores.scorer.values()[name]
    both = {
        who: vars(
            Beside(
                score=score,
                parameters=predictor.model.num_parameters(),
                texts_per_second=_rate(predictor, examples),
                one_text_ms=_one_by_one(predictor, examples),
            )
        )
        for who, predictor, score in (("student", student, ours), ("teacher", teacher, theirs))
    }
    values: dict[str, Any] = plain({"metric": name, **both})
    return values


def _rate(predictor: Predictor, examples: Sequence[Mapping[str, Any]]) -> float:
    """Texts a second, of the faster of two rounds: the first one warms up."""
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        list(predictor.predict(examples))
        seconds.append(time.perf_counter() - begun)
    return len(examples) / min(seconds)


def _one_by_one(predictor: Predictor, examples: Sequence[Mapping[str, Any]]) -> float:
    """Milliseconds of a text alone, the median."""
    seconds = []
    for number in range(_TIMED_CALLS):
        begun = time.perf_counter()
        list(predictor.predict([examples[number % len(examples)]]))
        seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds)


def describe(values: Mapping[str, Any]) -> list[str]:
    """The same in lines for the terminal."""
    lines = []
    for who in ("student", "teacher"):
        each = values[who]
        score = "" if each["score"] is None else f"{values['metric']} {each['score']:.4f}, "
        lines.append(
            f"{who.capitalize()}: {score}{each['parameters'] / 1e6:,.1f} million parameters, "
            f"{each['texts_per_second']:,.0f} texts/s, {each['one_text_ms']:.1f} ms a text"
        )
    return lines


def block(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the report."""
    columns = {
        "model": "text", values["metric"]: "number", "parameters": "count",
        "texts a second": "number", "ms for one text": "number",
    }  # fmt: skip
    names = ("score", "parameters", "texts_per_second", "one_text_ms")
    rows = [[who, *(values[who][name] for name in names)] for who in ("student", "teacher")]
    return table("The student beside its teacher, on the same rows and this machine", columns, rows)
