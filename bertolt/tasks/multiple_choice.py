"""Questions with choices: which of several texts is the right one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import DataError, UsageError
from bertolt.base.format import plural
from bertolt.data.arrow import pa
from bertolt.data.cells import as_label, label_cell, text_cell
from bertolt.data.choices import (
    FORMS,
    LETTERS,
    Choices,
    choices_cell,
    choices_of,
    is_list,
    label_fault,
    readings,
)
from bertolt.data.encode import Encode, EncodedExample, EncodedTexts
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.long import Long, LongTexts
from bertolt.data.spelling import quoted
from bertolt.data.table_file import BadRow, listing
from bertolt.models import heads
from bertolt.models.config import BertConfig
from bertolt.models.losses import Criterion
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Output, Primary, Reading, Task, register
from bertolt.tasks.criterion import LossChoices, criterion_of_places
from bertolt.tasks.labels import label_counts, require_no_separator
from bertolt.tasks.schema import PLACE, SHARE, TEXT, Schema, record, several
from bertolt.tasks.scorers.choices import ChoiceScorer
from bertolt.tasks.texts import LONG_TEXTS, encode_in_one_window, encode_long
from bertolt.tokenization import BertTokenizer

_NAMED = 3  # rows that a caution names


@register
@dataclass(frozen=True)
class MultipleChoice(Task):
    """Which of several texts is the right one, for a question, a beginning or a text.

    Attributes:
        labels: how the labels of training say which it is, one of `FORMS`.
    """

    name: ClassVar[str] = "multiple-choice"
    primary: ClassVar[Primary] = Primary(name="accuracy", title="Accuracy")
    head: ClassVar[Any] = heads.MultipleChoice
    request_roles: ClassVar[Mapping[str, str]] = {"choices": "text_pair"}
    needs_pair: ClassVar[bool] = True
    several_documents: ClassVar[bool] = True
    several_pairs: ClassVar[bool] = True
    longs: ClassVar[tuple[Long, ...]] = LONG_TEXTS

    labels: str = "from 0"

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Lists of choices, or columns that are counted through, and labels that fit them."""
        columns = sample.columns.get("text_pair", [])
        values = sample.values.get("text_pair", [])
        if not columns or len(sample.columns.get("label", [])) != 1:
            return ""
        if len(columns) == 1 and not any(is_list(row[0]) for row in values):
            return ""
        cell, fits = choices_cell(columns, values), 0
        for cells, label in zip(values, sample.values["label"], strict=True):
            choices, name = cell.read(cells), as_label(label[0])
            if choices is not None and not isinstance(choices, BadRow):
                fits += bool(name and readings(name, choices_of(choices)))
        return "choices, and which of them is right" if 2 * fits > len(values) else ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """A text, its choices, and which of them is right."""
        require_no_separator(reading, cls.name)
        roles = sample.columns
        if "text_pair" not in roles:
            raise UsageError(
                f"{cls.name} needs choices, and the text of {roles['text'][0]!r} is all there is",
                place="--text-pair",
                fix="name their columns with commas between them, or the one column of lists",
            )
        if len(roles.get("label", [])) > 1:
            raise UsageError(
                f"{cls.name} reads one column of labels, and there are {listing(roles['label'])}",
                place="--label",
                fix="name one of them",
            )
        label = {"label": label_cell(roles["label"])} if "label" in roles else {}
        pair = choices_cell(roles["text_pair"], sample.values["text_pair"])
        return {"text": text_cell(roles["text"]), "text_pair": pair, **label}

    @classmethod
    def check_row(cls, example: Example) -> BadRow | None:
        """The label means one of the choices."""
        if "label" not in example:
            return None
        return label_fault(example["label"], choices_of(example["text_pair"]))

    @classmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """How labels say which choice is right."""
        places = train.tolist() if len(train) else range(len(table))
        return cls(_form_of(table, list(places)))

    @classmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """As the contract keeps it."""
        labels = settings.get("labels", cls.labels)
        if labels not in FORMS:
            raise ValueError(f"labels is {labels!r}, and must be one of {', '.join(FORMS)}")
        return cls(labels)

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """Any model with this head."""
        return True

    @classmethod
    def needed(cls, table: Table) -> list[NDArray[np.int64]]:
        """The rows that rule out each way to read labels, so that those of training are read as
        those of the whole file."""
        rows = [readings(e["label"], choices_of(e["text_pair"])) for e in table.examples()]
        ruled_out = (
            np.flatnonzero(["names" not in means and form not in means for means in rows])
            for form in FORMS
        )
        return [places for places in ruled_out if len(places)]

    @classmethod
    def groups(cls, table: Table) -> NDArray[np.int64] | None:
        """Questions on one passage; None where each has a passage of its own, or there is none."""
        if not pa.types.is_struct(table.data.schema.field("text_pair").type):
            return None
        starts = table.data["text_pair"].combine_chunks().field("start")
        if starts.null_count == len(starts):
            return None
        codes = table.data["text"].combine_chunks().dictionary_encode()
        if len(codes.dictionary) == len(table):
            return None
        return np.asarray(codes.indices.to_numpy(), dtype=np.int64)

    def config_changes(self) -> dict[str, Any]:
        """Its one output has no name."""
        return {"problem_type": None}

    def settings(self) -> dict[str, Any]:
        """How labels say which choice is right."""
        return {"labels": self.labels}

    def right(self, example: Example) -> int:
        """The place of the right choice, from 0.

        Raises:
            DataError: the label is written in another way than in training, and may mean several.
        """
        found = readings(example["label"], choices_of(example["text_pair"]))
        # Numbers count from where those of training did; letters and texts say it by themselves.
        plain = {form: place for form, place in found.items() if not form.startswith("from")}
        forms = [form for form in ("names", self.labels) if form in found]
        forms += plain if len(set(plain.values())) == 1 else ()
        if not forms:
            raise DataError(
                f"the label {quoted(example['label'])} is not {FORMS[self.labels]}, as in training",
                fix="write the label as the text of the choice",
            )
        return found[forms[0]]

    def check(self, table: Table) -> None:
        """Refuse labels that are written in another way than those of training."""
        for example in table.examples():
            try:
                self.right(example)
            except DataError as error:
                place = f"{table.place(example['row'])}, column {table.label_column!r}"
                raise DataError(error.problem, place=place, fix=error.fix) from error

    def _right_of(self, table: Table, index: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = map(self.right, table.examples(index.tolist()))
        return np.fromiter(rows, np.int64, len(index))

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(N,) the place of the right choice."""
        return self._right_of(table, index)

    def criterion(self, choices: LossChoices, targets: NDArray[Any]) -> Criterion | None:
        """Focus, and smoothing over the choices of each row."""
        return criterion_of_places(choices, "choices are other texts in each row, without weights")

    def counts(self, table: Table, index: NDArray[np.int64]) -> str:
        """How many choices there are, and how often each is right."""
        sizes = [len(choices_of(each["text_pair"]).texts) for each in _some(table, index)]
        low, high = min(sizes), max(sizes)
        words = f"{low} choices each" if low == high else f"{low} to {high} choices"
        right = np.bincount(self._right_of(table, index), minlength=high)
        return f"{words}, right are {label_counts(LETTERS[:high], right[: len(LETTERS)])}"

    def cautions(
        self, table: Table, index: NDArray[np.int64], rows: EncodedTexts
    ) -> list[dict[str, str]]:
        """Rows of which the model sees two choices alike."""
        alike = [
            place
            for place, choices in enumerate(map(rows.documents_of, range(rows.examples)))
            if len({self._ids(rows, windows) for windows in choices}) < len(choices)
        ]
        if not alike:
            return []
        examples = table.examples(index[alike[:_NAMED]].tolist())
        shown = "; ".join(table.row_words(each["row"]) for each in examples)
        return [
            page.caution(
                f"{plural(len(alike), 'row has', 'rows have')} choices that the model sees alike",
                f"They are equal, or differ in what the limit of {rows.max_length} tokens cuts: "
                f"{shown}{'; …' * (len(alike) > _NAMED)}. Between them the answer is a guess; a "
                "larger --max-length helps where they were cut.",
            )
        ]

    @staticmethod
    def _ids(rows: EncodedTexts, windows: range) -> bytes:
        return rows.ids[rows.offsets[windows.start] : rows.offsets[windows.stop]].tobytes()

    def document_name(self, place: int) -> str:
        """The text with one of its choices."""
        return f"its text with choice {_letter(place)}"

    def document_role(self, place: int) -> str | None:
        """None: a text and a choice are of two."""
        return None

    @property
    def encoding(self) -> str:
        """A text with each of its choices."""
        return "choices"

    def encode(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int
    ) -> Iterable[EncodedExample]:
        """A window for each choice: the text, and the choice behind what it goes on from.

        Raises:
            UsageError: an example without two choices.
        """
        return self._with_choices(
            examples, lambda pairs: encode_in_one_window(pairs, tokenizer, limit)
        )

    def encode_long(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int, long: LongTexts
    ) -> Iterable[EncodedExample]:
        """The same with longer texts as the user says; the text and a choice are a pair of texts.

        Raises:
            UsageError: an example without two choices.
        """
        return self._with_choices(
            examples, lambda pairs: encode_long(pairs, tokenizer, limit, long)
        )

    @staticmethod
    def _with_choices(examples: Sequence[Example], encode: Encode) -> Iterator[EncodedExample]:
        """Each example as all of its pairs of the text and a choice."""
        whole = [_required(example["text_pair"]).whole for example in examples]
        pairs = [
            {"text": example["text"], "text_pair": text}
            for example, texts in zip(examples, whole, strict=True)
            for text in texts
        ]
        encoded = iter(encode(pairs))
        for texts in whole:
            parts = list(itertools.islice(encoded, len(texts)))
            cut = [sum(lost) for lost in zip(*(part.cut for part in parts), strict=True)]
            length = sum(part.length for part in parts)
            windows = [window for part in parts for window in part.windows]
            yield EncodedExample(windows, length, cut, [len(part.windows) for part in parts])

    def activate(self, logits: Tensor) -> Tensor:
        """Scores as they are; `decode` compares those of a row."""
        return logits

    def decode(self, output: Output, example: Example) -> Answer:
        """The most probable choice, and the probabilities of all of them in their order."""
        choices = choices_of(example["text_pair"])
        scores = np.array(output.windows, dtype=np.float64).reshape(-1)
        odds = np.exp(scores - scores.max())
        shares = odds / odds.sum()
        best = int(shares.argmax())
        return {
            "choice": choices.texts[best],
            "label": self._label(best, choices),
            "index": best,
            "probability": float(shares[best]),
            "probabilities": shares.tolist(),
        }

    def _label(self, place: int, choices: Choices) -> str:
        """A choice as the labels of the file name it."""
        if choices.names is not None:
            return choices.names[place]
        if self.labels.startswith("from"):
            return str(place + int(self.labels[-1]))
        return choices.texts[place] if self.labels == "texts" else _letter(place)

    def scorer(self) -> ChoiceScorer:
        """Counts of right choices."""
        return ChoiceScorer(self.right)

    def describe_answer(self, answer: Answer) -> str:
        """The choice."""
        return str(answer["choice"])

    def truth(self, example: Example) -> str:
        """The right choice."""
        return choices_of(example["text_pair"]).texts[self.right(example)]

    def meant(self, example: Example) -> int:
        """The place of the right choice, whether a letter, a number or its text says so."""
        return self.right(example)

    def answer_types(self) -> dict[str, pa.DataType]:
        """The choice, its label and its place, and the probabilities."""
        numbers = {"probability": pa.float64(), "probabilities": pa.list_(pa.float64())}
        return {"choice": pa.string(), "label": pa.string(), "index": pa.int64(), **numbers}

    def request_schema(self, pairs: bool | None) -> Schema:
        """A text, or a question, and its choices."""
        return record({"text": TEXT, "choices": several(TEXT, minItems=2)})

    def answer_schema(self) -> Schema:
        """The choice, how it is called and where it stands, and a probability for each."""
        fields = {"choice": TEXT, "label": TEXT, "index": PLACE, "probability": SHARE}
        return record({**fields, "probabilities": several(SHARE)})

    def flat_names(self) -> list[str]:
        """The choice, its label and its place, its probability, and those of all choices."""
        return list(self.answer_types())

    def flat(self, answer: Answer) -> list[Any]:
        """The same of an answer."""
        return [answer[name] for name in self.flat_names()]

    def page_texts(self, example: Example) -> tuple[str, str | None]:
        """The text, and the choices under their letters."""
        choices = choices_of(example["text_pair"])
        listed = [f"{_letter(place)}: {text}" for place, text in enumerate(choices.texts)]
        return self.shown_text(example), "\n".join([*filter(None, [choices.start]), *listed])

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """The probability of each choice."""
        texts = choices_of(example["text_pair"]).texts
        pairs = zip(texts, answer["probabilities"], strict=True)
        shares = {f"{_letter(n)}: {text}": share for n, (text, share) in enumerate(pairs)}
        block = page.probabilities(shares)
        columns = [{**block["columns"][0], "name": "Choice"}, *block["columns"][1:]]
        return [
            block | {"caption": "Probability of each choice", "noun": "choice", "columns": columns}
        ]

    def data_blocks(
        self, table: Table, train: NDArray[np.int64], held_out: Table, index: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """How often the right choice stands at each place in both parts."""
        parts = [self._right_of(table, train), self._right_of(held_out, index)]
        size = max(int(part.max()) for part in parts if len(part)) + 1
        counts = [np.bincount(part, minlength=size) for part in parts]
        block = page.label_rows([_letter(place) for place in range(size)], *counts)
        return [block | {"caption": "Rows by the place of the right choice", "noun": "place"}]


def _letter(place: int) -> str:
    return LETTERS[place] if place < len(LETTERS) else str(place + 1)


def _some(table: Table, index: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    return table.examples(index.tolist())


def _required(value: Any) -> Choices:
    """The choices of an example.

    Raises:
        UsageError: there are no two.
    """
    try:
        choices = choices_of(value)
    except TypeError:
        choices = Choices([])
    if len(choices.texts) < 2 or not all(isinstance(text, str) for text in choices.texts):
        raise UsageError(
            f"the model chooses between two texts or more, and got {quoted(str(value), 60)}",
            fix='give them as a list: {"text": "…", "text_pair": ["…", "…"]}; in the command line '
            'as --text "…" --pair "…" --pair "…"',
        )
    return choices


def _form_of(table: Table, places: list[int]) -> str:
    """How the labels of these rows say which choice is right.

    Raises:
        DataError: in several ways, or in ways that contradict each other.
    """
    numbers: list[int] = []
    found: list[dict[str, int]] = []
    for example in table.examples(places):
        means = readings(example["label"], choices_of(example["text_pair"]))
        if "names" not in means:
            found.append(means)
            numbers.append(example["row"])
    if not found:
        return "names"
    forms = [form for form in FORMS if all(form in means for means in found)]
    where = f"{table.path}, column {table.label_column!r}"
    if not forms:
        usual = max(FORMS, key=lambda form: sum(form in means for means in found))
        odd = next(n for n, means in zip(numbers, found, strict=True) if usual not in means)
        raise DataError(
            f"the label is not {FORMS[usual]}, as most others are",
            place=f"{table.place(odd)}, column {table.label_column!r}",
            fix="write all labels in one way, for instance as letters",
        )
    for other in forms[1:]:
        differ = [n for n, m in zip(numbers, found, strict=True) if m[other] != m[forms[0]]]
        if differ:
            raise DataError(
                f"each label may be {FORMS[forms[0]]}, or {FORMS[other]}, and they mean different "
                f"choices (first: {table.row_words(differ[0])})",
                place=where,
                fix="write labels as letters, A for the first choice, or as the texts of choices",
            )
    return forms[0]
