"""The peer's Trainer in the way of its own examples: read, tokenise, train, save, answer.

python -m benchmarks.task_scores.peer RUN.json

Nothing of Bertolt's models is imported here.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.task_scores.comparisons import HYPER, Run
from benchmarks.task_scores.scoring import first_pieces, tags_of_words

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
IGNORED = -100
Batch = dict[str, Any]


def main(run: Run) -> None:
    """Train, save, and write the answers of the test rows."""
    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        run.model, model_max_length=run.settings.max_length
    )
    files = {part: str(run.rows(part)) for part in ("train", "watched", "test")}
    rows = load_dataset("json", data_files=files, cache_dir=str(Path(run.out) / "cache"))
    task = TASKS[run.settings.task](run, rows["train"])
    columns = rows["train"].column_names
    encoded = rows.map(
        lambda batch: task.encode(tokenizer, batch), batched=True, remove_columns=columns
    )
    transformers.set_seed(run.seed)
    trainer = transformers.Trainer(
        model=task.head.from_pretrained(run.model, dtype=torch.float32, **task.config),
        args=_arguments(run),
        train_dataset=encoded["train"],
        eval_dataset=encoded["watched"],
        data_collator=task.collator(tokenizer),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(str(Path(run.out) / "model"))
    # Grouped by length, its predictions would come in another order than the rows.
    trainer.args.train_sampling_strategy = "random"
    outputs = trainer.predict(encoded["test"]).predictions
    answers, notes = task.answers(tokenizer, outputs, rows["test"])
    run.answers.write_text("".join(json.dumps(each) + "\n" for each in answers), encoding="utf-8")
    (Path(run.out) / "notes.json").write_text(json.dumps(notes), encoding="utf-8")


def _arguments(run: Run) -> Any:
    of = run.settings
    return transformers.TrainingArguments(
        output_dir=str(Path(run.out) / "trainer"),
        num_train_epochs=of.epochs,
        per_device_train_batch_size=of.batch_size,
        per_device_eval_batch_size=of.batch_size,
        learning_rate=of.learning_rate,
        weight_decay=HYPER["weight_decay"],
        warmup_steps=HYPER["warmup"],
        lr_scheduler_type=HYPER["schedule"],
        train_sampling_strategy=of.order,
        bf16=True,
        seed=run.seed,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )


class _Texts:
    """What the tasks of whole texts share."""

    head: Any = transformers.AutoModelForSequenceClassification
    collator: Callable[[Any], Any] = staticmethod(transformers.DataCollatorWithPadding)
    config: dict[str, Any]

    def encode(self, tokenizer: Any, batch: Batch) -> Batch:
        return {**tokenizer(batch["text"], truncation=True), "labels": self.targets(batch)}

    def targets(self, batch: Batch) -> list[Any]:
        raise NotImplementedError


class Regression(_Texts):
    """A number a text: scaled to mean 0 and deviation 1 of the training rows, or left as it is."""

    def __init__(self, run: Run, train: Any) -> None:
        self.config = {"num_labels": 1, "problem_type": "regression"}
        self.label = run.settings.label
        raw = run.side == "peer-raw"
        self.mean = 0.0 if raw else statistics.fmean(train[self.label])
        self.deviation = 1.0 if raw else statistics.pstdev(train[self.label])

    def targets(self, batch: Batch) -> list[float]:
        return [(value - self.mean) / self.deviation for value in batch[self.label]]

    def answers(self, tokenizer: Any, outputs: Any, test: Any) -> tuple[list[Any], Batch]:
        return (outputs[:, 0] * self.deviation + self.mean).tolist(), {}


class SeveralLabels(_Texts):
    """Any number of labels a text, as a row of 0.0 and 1.0."""

    def __init__(self, run: Run, train: Any) -> None:
        self.label = run.settings.label
        self.names = sorted({name for labels in train[self.label] for name in labels})
        self.config = {
            "num_labels": len(self.names),
            "problem_type": "multi_label_classification",
        }

    def targets(self, batch: Batch) -> list[list[float]]:
        return [[float(name in labels) for name in self.names] for labels in batch[self.label]]

    def answers(self, tokenizer: Any, outputs: Any, test: Any) -> tuple[list[Any], Batch]:
        shares = 1 / (1 + np.exp(-outputs.astype(np.float64)))
        return [dict(zip(self.names, row, strict=True)) for row in shares.tolist()], {}


class Classes(_Texts):
    """A label for each text, or for each pair of texts."""

    def __init__(self, run: Run, train: Any) -> None:
        self.run, self.label = run, run.settings.label
        self.names = sorted(set(train[self.label]))
        self.config = {"num_labels": len(self.names)}

    def encode(self, tokenizer: Any, batch: Batch) -> Batch:
        of = self.run.settings
        texts = [batch[name] for name in (of.text, of.text_pair) if name]
        return {**tokenizer(*texts, truncation=True), "labels": self.targets(batch)}

    def targets(self, batch: Batch) -> list[int]:
        return [self.names.index(name) for name in batch[self.label]]

    def answers(self, tokenizer: Any, outputs: Any, test: Any) -> tuple[list[Any], Batch]:
        return [self.names[number] for number in outputs.argmax(-1)], {}


class NextSentence(Classes):
    """The same with the head of pretraining, whose class 0 is a second text that follows."""

    head: Any = transformers.AutoModelForNextSentencePrediction

    def __init__(self, run: Run, train: Any) -> None:
        super().__init__(run, train)
        self.config = {}
        assert self.names == ["is_next", "not_next"], "in the order of the head"


class Questions:
    """The first and the last token of an answer, in windows over the text.

    In the way of the peer's example: a window without the answer learns the first token, the best
    pair of a start and an end behind it wins, and no answer where both at the first token, in the
    window that says it least, are worth more than that.
    """

    head: Any = transformers.AutoModelForQuestionAnswering
    collator: Callable[[Any], Any] = staticmethod(transformers.DataCollatorWithPadding)
    BEST, LONGEST = 20, 30  # pairs that are looked at, tokens of an answer: the example's defaults

    def __init__(self, run: Run, train: Any) -> None:
        self.run, self.config = run, {}

    def _windows(self, tokenizer: Any, rows: Any) -> Any:
        of = self.run.settings
        return tokenizer(
            rows["question"],
            rows["context"],
            truncation="only_second",
            stride=of.stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )

    def encode(self, tokenizer: Any, batch: Batch) -> Batch:
        windows = self._windows(tokenizer, batch)
        rows, offsets = windows.pop("overflow_to_sample_mapping"), windows.pop("offset_mapping")
        ends = [
            _ends_in(batch["answers"][row], offsets[number], windows.sequence_ids(number))
            for number, row in enumerate(rows)
        ]
        starts, lasts = ([end[side] for end in ends] for side in (0, 1))
        return {**windows, "start_positions": starts, "end_positions": lasts}

    def answers(self, tokenizer: Any, outputs: Any, test: Any) -> tuple[list[Any], Batch]:
        rows = {name: list(test[name]) for name in ("question", "context")}
        windows = self._windows(tokenizer, rows)
        best = [(-math.inf, "")] * len(test)
        none = [math.inf] * len(test)
        for number, row in enumerate(windows["overflow_to_sample_mapping"]):
            first, last = outputs[0][number], outputs[1][number]
            none[row] = min(none[row], float(first[0] + last[0]))
            inside = [side == 1 for side in windows.sequence_ids(number)]
            places = windows["offset_mapping"][number]
            for start in np.argsort(-first)[: self.BEST]:
                for end in np.argsort(-last)[: self.BEST]:
                    fits = max(start, end) < len(inside) and inside[start] and inside[end]
                    if not fits or not start <= end < start + self.LONGEST:
                        continue
                    text = rows["context"][row][places[start][0] : places[end][1]]
                    best[row] = max(best[row], (float(first[start] + last[end]), text))
        said = [
            text if odds > nothing else "" for (odds, text), nothing in zip(best, none, strict=True)
        ]
        return said, {"windows": len(windows["overflow_to_sample_mapping"])}


def _ends_in(answers: Batch, offsets: Any, sides: Any) -> tuple[int, int]:
    """The first and the last token of the first answer; 0 and 0 where the window lacks it."""
    if not answers["text"]:
        return 0, 0
    start = answers["answer_start"][0]
    stop = start + len(answers["text"][0])
    tokens = [place for place, side in enumerate(sides) if side == 1]
    if offsets[tokens[0]][0] > start or offsets[tokens[-1]][1] < stop:
        return 0, 0
    held = [place for place in tokens if offsets[place][1] > start and offsets[place][0] < stop]
    return held[0], held[-1]


class Choices:
    """The right one of several texts: each is encoded behind the first half."""

    head: Any = transformers.AutoModelForMultipleChoice
    collator: Callable[[Any], Any] = staticmethod(transformers.DataCollatorForMultipleChoice)

    def __init__(self, run: Run, train: Any) -> None:
        self.config: Batch = {}

    def encode(self, tokenizer: Any, batch: Batch) -> Batch:
        sizes = [len(choices) for choices in batch["choices"]]
        firsts = [text for text, n in zip(batch["text"], sizes, strict=True) for _ in range(n)]
        seconds = [choice for choices in batch["choices"] for choice in choices]
        flat = tokenizer(firsts, seconds, truncation=True)
        count = sizes[0]
        grouped = {
            name: [values[start : start + count] for start in range(0, len(values), count)]
            for name, values in flat.items()
        }
        return {**grouped, "labels": batch["label"]}

    def answers(self, tokenizer: Any, outputs: Any, test: Any) -> tuple[list[Any], Batch]:
        return outputs.argmax(-1).tolist(), {}


class Tags:
    """A tag a word: its first piece has the label, the others are ignored."""

    head: Any = transformers.AutoModelForTokenClassification
    collator: Callable[[Any], Any] = staticmethod(transformers.DataCollatorForTokenClassification)

    def __init__(self, run: Run, train: Any) -> None:
        self.label = run.settings.label
        self.names = sorted({tag for tags in train[self.label] for tag in tags})
        self.config = {"num_labels": len(self.names)}

    def encode(self, tokenizer: Any, batch: Batch) -> Batch:
        encoded = _encode_words(tokenizer, batch["tokens"])
        numbers = {name: number for number, name in enumerate(self.names)}
        targets = []
        for row, tags in enumerate(batch[self.label]):
            word_ids = encoded.word_ids(row)
            labels = [IGNORED] * len(word_ids)
            for place, word in first_pieces(word_ids):
                labels[place] = numbers.get(tags[word], IGNORED)
            targets.append(labels)
        return {**encoded, "labels": targets}

    def answers(self, tokenizer: Any, outputs: Any, test: Any) -> tuple[list[Any], Batch]:
        encoded = _encode_words(tokenizer, list(test["tokens"]))
        tagged, lost, cut = [], 0, 0
        for row, words in enumerate(test["tokens"]):
            labels = [self.names[number] for number in outputs[row].argmax(-1)]
            tags, missing = tags_of_words(labels, encoded.word_ids(row), len(words))
            tagged.append(tags)
            lost, cut = lost + missing, cut + (missing > 0)
        return tagged, {"words_lost": lost, "rows_cut": cut}


def _encode_words(tokenizer: Any, words: list[list[str]]) -> Any:
    return tokenizer(words, is_split_into_words=True, truncation=True)


TASKS: dict[str, Any] = {
    "text-classification": Classes,
    "next-sentence-prediction": NextSentence,
    "question-answering": Questions,
    "regression": Regression,
    "multi-label-classification": SeveralLabels,
    "token-classification": Tags,
    "multiple-choice": Choices,
}

if __name__ == "__main__":
    main(Run.load(sys.argv[1]))
