"""What a task is: the one place that knows its columns, its windows, its answers and its scores.

A task is one file. Its class says what is known before any data is seen; an instance also knows the
label space, which `infer` learns from the training rows and `restore` reads from a model folder.
All else goes through this: training, evaluation, prediction, the contract, the self-test and the
report encode an example, decode the outputs and score the answers by the same functions.

To add a task, write a subclass and decorate it with `register`; the tasks that ship are listed in
`registry.py`. What is abstract has to be written; the rest answers for a text or a pair in one
window.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import CheckpointError, UsageError
from bertolt.data.arrow import pa
from bertolt.data.batch import PackedBatch
from bertolt.data.collate import PackingCollator
from bertolt.data.encode import EncodedExample, EncodedTexts
from bertolt.data.formats import Open
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.long import Long, LongTexts
from bertolt.data.table_file import BadRow
from bertolt.models.config import BertConfig
from bertolt.models.losses import BinaryCriterion, Criterion
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.answers import TOLERANCE, difference
from bertolt.tasks.criterion import LossChoices, refuse
from bertolt.tasks.doubts import Doubts
from bertolt.tasks.schema import TEXT, Schema, record

# Who writes a task finds all that it is made of here.
from bertolt.tasks.scorer import Answer as Answer
from bertolt.tasks.scorer import Example as Example
from bertolt.tasks.scorer import Scorer as Scorer
from bertolt.tasks.texts import encode_in_one_window, encode_long
from bertolt.tokenization import BertTokenizer


@dataclass(frozen=True, kw_only=True)
class Primary:
    """The metric that decides which of two models is better.

    Attributes:
        name: as in `metrics.json`.
        title: for people.
        greater: whether more is better.
        share: whether it is one, from 0 to 1.
    """

    name: str
    title: str
    greater: bool = True
    share: bool = True


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the user says of how labels are written.

    Attributes:
        label_separator: between several labels in one cell.
        pooling: how the tokens of a text become one vector, "mean" or "cls"; None: not said.
        unnormalized: vectors keep their lengths.
        scale: of scores, its least and its greatest with a comma between them.

    Raises:
        UsageError: the separator is empty, and parts nothing.
    """

    label_separator: str | None = None
    pooling: Literal["mean", "cls"] | None = None
    unnormalized: bool = False
    scale: str | None = None

    def __post_init__(self) -> None:
        if self.label_separator == "":
            raise UsageError(
                "--label-separator is empty",
                fix='give what stands between two labels, as ";", or leave it out',
            )


class Output:
    """What the model gave for an example.

    Attributes:
        windows: activated outputs of each window: (C,), or (L, C) where tokens are labelled, or a
            number where a head gives each example one for each of its documents. The windows of a
            document are one: the head has put them together before.
        places: (L, 2) characters that the tokens of each window answer for; empty without places.
    """

    def __init__(self, windows: list[NDArray[Any]], places: list[NDArray[np.int32]]) -> None:
        self.windows = windows
        self.places = places

    @property
    def finite(self) -> bool:
        """Whether all numbers are; an answer made of others would look like any other answer."""
        return all(np.isfinite(values).all() for values in self.windows)


class NotFiniteError(CheckpointError):
    """An example whose outputs are not finite."""


def not_finite(place: str) -> NotFiniteError:
    """What to raise for an example whose outputs are not finite."""
    return NotFiniteError(
        "the model's outputs are not finite here",
        place=place,
        fix="train the model again; if it answers in bf16 or int8, --precision fp32 may do",
    )


@dataclass(frozen=True, kw_only=True)
class Further:
    """What was measured beside the scores.

    Attributes:
        values: by name, as JSON has them.
        lines: the same for a terminal.
    """

    values: dict[str, Any]
    lines: list[str]


Again = Callable[["Task", Any, Callable[[int], None]], Scorer]
"""Answers the `TaskRows` of a task, tells the windows that are done, and counts the answers."""


class Task(abc.ABC):
    """One task with its label space. Instances are not changed."""

    name: ClassVar[str]
    """As on the hub: "text-classification"."""
    primary: ClassVar[Primary]
    head: ClassVar[type[PreTrainedModel]]
    """The model that learns it, as a head that every family has, or a class of one family."""
    worst: ClassVar[tuple[str, str]] = (
        "Most confident mistakes",
        "Held-out rows on which the model was surest and wrong. Look for wrong labels first.",
    )
    """What the page calls the worst answers, and how it leads to them."""
    kinds: ClassVar[Mapping[str, Open]] = {}
    """Further endings of file names that are read when the task is named, and how they are."""
    needs_pair: ClassVar[bool] = False
    """Whether every example has two texts."""
    has_labels: ClassVar[bool] = True
    """Whether rows have labels; the task has its targets of the texts themselves if not."""
    taught_by: ClassVar[str] = ""
    """The commands that teach it, with FILE and MODEL in them; empty: `finetune` does."""
    sampled: ClassVar[str] = ""
    """What `further` measures, on some of the rows; empty: nothing."""
    target_names: ClassVar[tuple[str, ...]] = ("labels",)
    """What the head calls what `targets` gives; where they are several, it gives one of each."""
    free_pairs: ClassVar[bool] = False
    """Whether one text may be asked as well as two, whatever the training rows had."""
    label_optional: ClassVar[bool] = False
    """Whether rows may be learned and measured without a label."""
    pair_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Further names of two columns that belong together, where the task is named."""
    readings: ClassVar[frozenset[str]] = frozenset()
    """What of a `Reading` the task goes by, beside the separator of labels."""
    vectors: ClassVar[bool] = False
    """Whether a single text is answered by a "vector", whose numbers are written as they are."""
    request_roles: ClassVar[Mapping[str, str]] = {}
    """The roles by what a request calls them, where it calls them otherwise."""
    longs: ClassVar[tuple[Long, ...]] = ("truncate", "error")
    """What it can do with a text beyond the limit; the first is what `encode` does."""
    why_not_long: ClassVar[str] = "it takes a text as one window"
    """Why it cannot do the others, in words."""
    several_pairs: ClassVar[bool] = False
    """Whether the second text of an example is a list of texts, as the choices of a question."""
    several_documents: ClassVar[bool] = False
    """Whether an example is of several documents that stand in one batch, such as choices."""

    # ---- before any data

    @classmethod
    @abc.abstractmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Why these columns are surely of this task, in words; empty if they are not."""

    @classmethod
    @abc.abstractmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """How the cells of each role are read.

        Raises:
            UsageError: so many columns, or such a reading, are not for this task.
        """

    @classmethod
    @abc.abstractmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """The task with the label space of the training rows alone.

        Raises:
            DataError: these labels cannot be learned; names the file and the column.
        """

    @classmethod
    @abc.abstractmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """The task of a saved model; `settings` are what its contract keeps, or empty.

        Raises:
            ValueError: settings that cannot be, in words.
        """

    @classmethod
    @abc.abstractmethod
    def serves(cls, config: BertConfig) -> bool:
        """Whether a model with this head and config answers this task, without a contract."""

    @classmethod
    def strata(cls, table: Table) -> NDArray[np.int64]:
        """(N,) groups of rows of which a split keeps the shares, one row of each in training."""
        return np.zeros(len(table), dtype=np.int64)

    @classmethod
    def needed(cls, table: Table) -> list[NDArray[np.int64]]:
        """The rows of each thing of which training has to have one, so that other rows can be
        measured, where the strata do not say it; ascending."""
        return []

    @classmethod
    def groups(cls, table: Table) -> NDArray[np.int64] | None:
        """(N,) rows that know of each other, of which a split parts none; None: there are none."""
        return None

    @classmethod
    def check_row(cls, example: Example) -> BadRow | None:
        """What is wrong with a row whose cells are fine each by itself; None if nothing is."""
        return None

    # ---- what training and the contract need

    @abc.abstractmethod
    def config_changes(self) -> dict[str, Any]:
        """What the model's config says of the label space."""

    def settings(self) -> dict[str, Any]:
        """What the contract keeps beside the config, as JSON has it."""
        return {}

    @property
    def reading(self) -> Reading:
        """How labels were written in training."""
        return Reading()

    @abc.abstractmethod
    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(W, …) what each window is to give, or (T,) for tokens, of the rows at `index`; (N, …)
        for each of them where windows are joint. It is what the head
        compares with, or what `collator` makes that of.

        Raises:
            DataError: a row has what training never had; names file, row and column.
        """

    @classmethod
    def folder_limit(cls, folder: Path) -> tuple[int, str] | None:
        """Most tokens of a text by what else a model folder has, and who says so; None: nobody."""
        return None

    def starting_from(self, folder: Path) -> Self:
        """The task with what the folder decides that training starts from."""
        return self

    def head_arguments(self, max_length: int | None = None) -> dict[str, Any]:
        """What the head is built with beside the config."""
        return {}

    def for_table(self, table: Table) -> Self:
        """The task as it measures another file."""
        return self

    def asked_in(self, pairs: bool) -> Self:
        """The task as it answers pairs of texts, or single texts, where both may be asked."""
        return self

    @property
    def rows_compete(self) -> bool:
        """Whether the loss of a row depends on the others of its batch."""
        return False

    @property
    def pairs_asked(self) -> bool | None:
        """Which of both, where `asked_in` has said it."""
        return None

    def criterion(
        self, choices: LossChoices, targets: NDArray[Any]
    ) -> Criterion | BinaryCriterion | None:
        """The loss in another form than the head's own, for the training `targets`; None: that.

        Raises:
            UsageError: the task has no such forms.
            DataError: weights that cannot be used.
        """
        refuse(choices, self.name)
        return None

    @property
    def units(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """(C,) means and (C,) scales by which outputs become values, mean + scale · output; None:
        outputs have no units."""
        return None

    def outputs_of(self, teacher: Task, logits: Tensor) -> Tensor:
        """The outputs (…, C) of a model of another such task, in the order and scale of this one.

        Raises:
            UsageError: it has other labels, or the task has no outputs with names.
        """
        ours, theirs = (
            list(each.config_changes().get("id2label", {}).values()) for each in (self, teacher)
        )
        if not ours or not theirs or self.target_names != ("labels",):
            raise UsageError(
                f"a model of {self.name} does not learn from another",
                place="--distil",
                fix="leave --distil out",
            )
        if sorted(map(str, ours)) != sorted(map(str, theirs)):
            names = (", ".join(map(str, each[:20])) for each in (theirs, ours))
            raise UsageError(
                "the teacher has the labels {}, and the training rows {}".format(*names),
                place="--distil",
                fix="name a teacher that was trained for these labels",
            )
        places = [theirs.index(name) for name in ours]
        if self.units is None or teacher.units is None:
            return logits[..., places]
        means, scales = torch.tensor(teacher.units)
        values: Tensor = (logits * scales + means)[..., places]
        means, scales = torch.tensor(self.units)
        outputs: Tensor = (values - means) / scales
        return outputs

    def check(self, table: Table) -> None:  # noqa: B027 - a task may have nothing to refuse
        """Refuse, before anything is tokenised, rows that `targets` would refuse.

        Raises:
            DataError: as `targets`.
        """

    def counts(self, table: Table, index: NDArray[np.int64]) -> str:
        """How often each label, or whatever the task has, occurs in these rows, in words."""
        return ""

    def cautions(
        self, table: Table, index: NDArray[np.int64], rows: EncodedTexts
    ) -> list[dict[str, str]]:
        """What of the rows at `index` cannot be learned or measured exactly, once they are encoded:
        a `claim` and its `detail` each."""
        return []

    # ---- from an example to windows

    @property
    def encoded_roles(self) -> tuple[str, ...]:
        """The roles whose values are encoded."""
        return "text", "text_pair"

    def document_name(self, place: int) -> str:
        """What a text that is encoded by itself is called, by its place among those of a row."""
        return f"its {('first', 'second', 'third')[place]} text"

    def document_role(self, place: int) -> str | None:
        """Its role, where it is of one."""
        return self.encoded_roles[place]

    @property
    def encoding(self) -> str:
        """All that decides how `encode` works, beside tokenizer and limit; names cache entries."""
        return "text"

    def encode(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int
    ) -> Iterable[EncodedExample]:
        """The windows of each example, of at most `limit` tokens."""
        return encode_in_one_window(examples, tokenizer, limit)

    def encode_long(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int, long: LongTexts
    ) -> Iterable[EncodedExample]:
        """The same, with texts beyond the limit as the user says: one of `longs` that is neither
        "error" nor what `encode` does, or that with a stride."""
        return encode_long(examples, tokenizer, limit, long)

    def with_tokenizer(self, tokenizer: BertTokenizer) -> Self:
        """The task with the vocabulary in which it answers, where it does.

        Raises:
            CheckpointError: the tokenizer has not what the task needs.
        """
        return self

    def question_fault(self, example: Example) -> BadRow | None:
        """Why the model cannot be asked this, which may be fine in other ways; None if it can."""
        return None

    def collator(
        self, model: PreTrainedModel, *, answering: bool
    ) -> Callable[[list[Any]], PackedBatch]:
        """What makes a batch of windows: of some whose answers are asked for, or to measure."""
        return PackingCollator(
            pad_token_id=model.config.pad_token_id, token_labels=model.labels_per_token
        )

    # ---- from outputs to answers

    @abc.abstractmethod
    def activate(self, logits: Tensor) -> Tensor:
        """(…, C) logits as probabilities or values."""

    def activate_labelled(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(M, K) what is kept of the labelled tokens' (M, V) logits, where a head gives no others.

        In an `Output` the token's place in its window and its label stand before it.
        """
        return self.activate(logits)

    @abc.abstractmethod
    def decode(self, output: Output, example: Example) -> Answer:
        """The answer to an example."""

    @abc.abstractmethod
    def scorer(self) -> Scorer:
        """A new scorer."""

    @property
    def tuning(self) -> str:
        """What `tuned` chooses on held-out rows, such as "thresholds"; empty if nothing."""
        return ""

    @property
    def chosen(self) -> str:
        """What of `tuning` was chosen when it was last asked for; empty if nothing."""
        return self.tuning

    def to_calibrate(self) -> Self:
        """The task with the temperature of its probabilities among what `tuned` chooses.

        Raises:
            UsageError: it has no probability for each label.
        """
        raise UsageError(
            f"{self.name} has no labels whose probabilities one temperature could mend",
            place="--calibrate",
            fix="leave --calibrate out; it is for text-classification and "
            "multi-label-classification",
        )

    def tuned(self, scorer: Scorer) -> Self:
        """The task with what `tuning` names chosen anew, on the rows that were scored."""
        return self

    def further(self, again: Again, rows: Any, sample: int | None) -> Further | None:
        """What else is measured of a model, for which it has to answer the rows in another form.

        Args:
            again: measures the model on other rows.
            rows: the `TaskRows` that were scored.
            sample: rows to take, drawn by a seed; None: all.
        """
        return None

    def differs(self, golden: Answer, answer: Answer) -> str:
        """How an answer differs from the one that was kept, in words; empty if it does not."""
        gap = difference(golden, answer)
        return f"answers differ by up to {gap:.2g}" if gap > TOLERANCE else ""

    def unlike(self, other: Self) -> str:
        """Why the scores of another model of this task are not to be held against those of this
        one, in words; empty if they are."""
        return ""

    def doubts(self) -> Doubts:
        """What tells which labels may be wrong, by answers of models that have not seen them.

        Raises:
            UsageError: nobody can say it of this task's answers.
        """
        raise UsageError(
            f"wrong labels are not looked for in {self.name}",
            place="--label-errors",
            fix="leave --label-errors out: the other checks are made all the same",
        )

    # ---- for people

    @abc.abstractmethod
    def describe_answer(self, answer: Answer) -> str:
        """An answer in a few words."""

    @abc.abstractmethod
    def truth(self, example: Example) -> str:
        """What is true of an example, in a few words."""

    def meant(self, example: Example) -> Hashable:
        """What the label of an example says, the same however it is written."""
        label = example["label"]
        return label if isinstance(label, str) else json.dumps(label)

    def public(self, answer: Answer) -> Answer:
        """What is written of an answer."""
        return answer

    def request_schema(self, pairs: bool | None) -> Schema:
        """JSON Schema of an example by the names of a request, `request_roles`.

        Args:
            pairs: whether it has a second text; None: it may.
        """
        names = {role: name for name, role in self.request_roles.items()}
        fields = {names.get("text", "text"): TEXT}
        second = names.get("text_pair", "text_pair")
        if pairs is not False:
            fields[second] = TEXT
        return record(fields, [] if pairs else [second])

    def answer_schema(self) -> Schema:
        """JSON Schema of what is written of an answer."""
        return {"type": "object"}

    def answer_types(self) -> dict[str, pa.DataType]:
        """The Arrow types of what is written of an answer; others follow from values."""
        return {}

    @abc.abstractmethod
    def flat_names(self) -> list[str]:
        """The columns of a table of answers."""

    @abc.abstractmethod
    def flat(self, answer: Answer) -> list[Any]:
        """An answer as the cells of those columns; lists and records become JSON."""

    def tagged(self, answer: Answer, example: Example) -> Iterator[tuple[str, str]]:
        """The words of an example with their tags, for a file in the CoNLL format.

        Raises:
            UsageError: the task tags no words.
        """
        raise UsageError(
            f"answers of {self.name} have no tag for each word",
            place="--format",
            fix="use jsonl, csv or another",
        )

    def shown_text(self, example: Example) -> str:
        """The text of an example as people read it."""
        return str(example["text"])

    def page_texts(self, example: Example) -> tuple[str, str | None]:
        """The text of an example over which `marks` are drawn, and the other text of a pair."""
        return self.shown_text(example), example.get("text_pair")

    def marks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """What of an answer is drawn over that text: `start`, `end`, `label`, and as `kind` whether
        it is "right", "wrong" or "missed"."""
        return []

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """What the page of one text shows of an answer: blocks, as `report/blocks.py` has them."""
        return [{"kind": "note", "text": self.describe_answer(answer)}]

    def data_blocks(
        self, table: Table, train: NDArray[np.int64], held_out: Table, index: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """What the report shows of the labels in the training and the held-out rows."""
        return []


T = TypeVar("T", bound=type[Task])
TASKS: dict[str, type[Task]] = {}
"""Every task that is known, by name."""


def register(kind: T) -> T:
    """Make a task known by its name; a decorator of its class."""
    TASKS[kind.name] = kind
    return kind
