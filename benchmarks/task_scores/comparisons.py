"""What is compared, and with which settings: one row a task."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.task_scores.texts import Sizes

SIDES = {
    "bertolt": "Bertolt",
    "peer": "transformers Trainer",
    "peer-raw": "transformers Trainer, ratings as they are",
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One task.

    Attributes:
        name: what a person types.
        title: at the head of its tables.
        task: as `bertolt finetune --task` has it.
        label: the column that is learned.
        text, text_pair: the columns that are read; no second one unless there are pairs.
        zh: whether it starts from the Chinese encoder; else from the demo's checkpoint.
        sizes: rows of each part.
        epochs, batch_size, learning_rate, order: of training, for both sides.
        max_length: most tokens of a text, or of a window.
        stride: tokens that windows share; None: texts are not read in windows by both sides.
        main: the figure that the seeds are shown of.
        sides: who takes part.
    """

    name: str
    title: str
    task: str
    label: str
    text: str = ""
    text_pair: str = ""
    zh: bool = False
    sizes: Sizes
    epochs: float = 1.0
    batch_size: int = 16
    learning_rate: float
    order: str = "random"
    max_length: int
    stride: int | None = None
    main: str
    sides: tuple[str, ...] = ("bertolt", "peer")

    def quick(self) -> Comparison:
        """With so few rows that it only shows that all of it runs."""
        return replace(self, sizes=Sizes(train=64, watched=32, test=32))


COMPARISONS = {
    each.name: each
    for each in (
        Comparison(
            name="questions",
            title="Who, where and which organisation: questions on the People's Daily",
            task="question-answering",
            label="answers",
            text="question",
            text_pair="context",
            zh=True,
            sizes=Sizes(train=2000, watched=200, test=500),
            epochs=2.0,
            learning_rate=5e-4,
            max_length=192,
            stride=64,
            main="f1_answers",
        ),
        Comparison(
            name="reviews",
            title="Film sentences: positive or negative",
            task="text-classification",
            label="label",
            text="text",
            sizes=Sizes(train=1500, watched=200, test=1500),
            learning_rate=1e-4,
            max_length=64,
            main="accuracy",
        ),
        Comparison(
            name="better",
            title="Pairs: which of two sentences about films is rated higher",
            task="text-classification",
            label="label",
            text="text",
            text_pair="text_pair",
            sizes=Sizes(train=1500, watched=200, test=1500),
            learning_rate=1e-4,
            max_length=64,
            main="accuracy",
        ),
        Comparison(
            name="next",
            title="Whether two halves are of one sentence about a film",
            task="next-sentence-prediction",
            label="label",
            text="text",
            text_pair="text_pair",
            sizes=Sizes(train=1500, watched=200, test=1500),
            learning_rate=1e-4,
            max_length=64,
            main="accuracy",
        ),
        Comparison(
            name="speech",
            title="Parts of speech in the People's Daily, 44 of them",
            task="token-classification",
            label="tags",
            text="tokens",
            zh=True,
            sizes=Sizes(train=1200, watched=100, test=600),
            batch_size=8,
            learning_rate=5e-4,
            order="group_by_length",
            max_length=256,
            main="accuracy",
        ),
        Comparison(
            name="names",
            title="Persons, places and organisations in the People's Daily",
            task="token-classification",
            label="tags",
            zh=True,
            sizes=Sizes(train=3000, watched=200, test=1200),
            batch_size=8,
            learning_rate=5e-4,
            order="group_by_length",
            max_length=256,
            main="f1",
        ),
        Comparison(
            name="characters",
            title="The same names where no words are given, a tag for each character",
            task="token-classification",
            label="tags",
            zh=True,
            sizes=Sizes(train=3000, watched=200, test=1200),
            batch_size=8,
            learning_rate=5e-4,
            order="group_by_length",
            max_length=256,
            main="f1",
        ),
        Comparison(
            name="opinions",
            title="Several labels of rated sentences: positive, negative, strong, disputed",
            task="multi-label-classification",
            label="labels",
            sizes=Sizes(train=2500, watched=300, test=1200),
            learning_rate=2e-4,
            max_length=128,
            main="f1_micro",
        ),
        Comparison(
            name="ratings",
            title="The mean rating of the same sentences, from -4 to 4",
            task="regression",
            label="rating",
            sizes=Sizes(train=1500, watched=300, test=1200),
            learning_rate=2e-4,
            max_length=128,
            main="rmse",
            sides=("bertolt", "peer", "peer-raw"),
        ),
        Comparison(
            name="endings",
            title="Which of four second halves goes on with a sentence about a film",
            task="multiple-choice",
            label="label",
            sizes=Sizes(train=800, watched=100, test=600),
            batch_size=8,
            learning_rate=1e-4,
            max_length=64,
            main="accuracy",
        ),
    )
}
"""By name, in the order in which they are done."""

HYPER: dict[str, Any] = {"weight_decay": 0.01, "warmup": 0.1, "schedule": "linear"}
"""The same for all tasks and both sides."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one side, as both programs are given it.

    Attributes:
        comparison: the name of what is compared.
        side: who runs.
        seed: of the new head, the order and dropout.
        folder: of the rows: `train.jsonl`, `watched.jsonl` and `test.jsonl`.
        model: the checkpoint to start from.
        out: a new folder for the model and the answers.
    """

    comparison: str
    side: str
    seed: int
    folder: str
    model: str
    out: str

    @property
    def settings(self) -> Comparison:
        """What is compared."""
        return COMPARISONS[self.comparison]

    def rows(self, part: str) -> Path:
        """The file of a part."""
        return Path(self.folder) / f"{part}.jsonl"

    @property
    def answers(self) -> Path:
        """Where the answers go."""
        return Path(self.out) / "answers.jsonl"

    def save(self) -> Path:
        """Write it down for a process of its own, and say where."""
        path = Path(self.out) / "run-settings.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str) -> Run:
        """Read what `save` wrote."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
