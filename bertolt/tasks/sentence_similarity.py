"""How near two texts are to each other: a vector for each text, and the cosine of two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.checks import is_real
from bertolt.base.errors import DataError, UsageError
from bertolt.base.format import plural
from bertolt.checkpoint.sentence_files import Pooling, SentenceFiles
from bertolt.data.arrow import pa
from bertolt.data.cells import as_number, numbers_cell, text_cell
from bertolt.data.columns import TRIPLET
from bertolt.data.encode import EncodedExample, EncodedTexts, cut_at_end
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.long import Long, LongTexts
from bertolt.data.parted import long_texts
from bertolt.data.spelling import quoted
from bertolt.data.table_file import is_missing, listing
from bertolt.metrics.nearest import cosine_of
from bertolt.models import heads
from bertolt.models.config import BertConfig
from bertolt.models.losses import CosineRegression, InBatchNegatives
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Output, Primary, Reading, Scorer, Task, register
from bertolt.tasks.criterion import LossChoices, refuse
from bertolt.tasks.labels import require_no_separator
from bertolt.tasks.scale import Scale, read_scale, usual_scale
from bertolt.tasks.schema import NUMBER, Schema, record, several
from bertolt.tasks.scorers.retrieval import RetrievalScorer
from bertolt.tasks.scorers.similarity import SimilarityScorer
from bertolt.tasks.texts import LONG_TEXTS, text_cells
from bertolt.tokenization import BertTokenizer

Learns = Literal["scores", "pairs", "triplets"]
_PRIMARY = {
    "scores": Primary(name="spearman", title="Spearman", share=False),
    "pairs": Primary(name="mrr", title="Mean reciprocal rank"),
    "triplets": Primary(name="triplet_accuracy", title="Accuracy of triplets"),
}
_POOLINGS = ("mean", "cls")


@register
@dataclass(frozen=True)
class SentenceSimilarity(Task):
    """A vector for each text; near ones belong together.

    Attributes:
        learns: "scores" of two texts; "pairs" that belong together, where those of other rows do
            not; or "triplets", in which a third text does not belong to the first.
        pooling: of tokens into a vector; None: as the folder says that training starts from.
        normalized: whether vectors have length 1; None: likewise.
        scale: of the scores, its least and its greatest; None: there are no scores.
        width: numbers of a vector; 0 where no model is known.
        asked: whether two texts are asked, or one; None: nobody has said.
    """

    name: ClassVar[str] = "sentence-similarity"
    head: ClassVar[Any] = heads.SentenceEncoder
    several_documents: ClassVar[bool] = True
    free_pairs: ClassVar[bool] = True
    label_optional: ClassVar[bool] = True
    readings: ClassVar[frozenset[str]] = frozenset({"pooling", "unnormalized", "scale"})
    pair_names: ClassVar[tuple[tuple[str, str], ...]] = (
        ("question", "answer"),
        *(("query", name) for name in ("passage", "document", "answer", "positive")),
        ("question", "passage"),
        ("title", "body"),
    )
    vectors: ClassVar[bool] = True
    longs: ClassVar[tuple[Long, ...]] = LONG_TEXTS
    worst: ClassVar[tuple[str, str]] = (
        "Largest errors",
        "Held-out rows whose texts are furthest from where the file has them. Look for wrong rows "
        "first.",
    )

    learns: Learns = "pairs"
    pooling: Pooling | None = None
    normalized: bool | None = None
    scale: Scale | None = None
    width: int = field(default=0, compare=False)
    asked: bool | None = field(default=None, compare=False)

    @property
    def primary(self) -> Primary:  # type: ignore[override]
        """As there is something to measure."""
        return _PRIMARY[self.learns]

    @property
    def pairs_asked(self) -> bool | None:
        """Whether two texts are asked."""
        return self.asked

    @property
    def rows_compete(self) -> bool:
        """Without scores, the texts of other rows are those that do not belong."""
        return self.learns != "scores"

    @property
    def encoded_roles(self) -> tuple[str, ...]:
        """The third text of a triplet stands in the place of its label."""
        both = ("text", "text_pair")
        return (*both, "label") if self.learns == "triplets" else both

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Texts that belong together, by their names."""
        names = [sample.columns.get(role, [""])[0].lower() for role in ("text", "text_pair")]
        if names != list(TRIPLET[:2]):
            return ""
        return "texts that belong together, by their names"

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """Texts, and behind them a score or a text that does not belong to the first."""
        require_no_separator(reading, cls.name)
        columns = sample.columns.get("label", [])
        if len(columns) > 1:
            raise UsageError(
                f"{cls.name} reads one column beside the two texts, and there are "
                f"{listing(columns)}",
                place="--label",
                fix="name the column of the scores, or of texts that do not belong to the first",
            )
        cells = text_cells(sample)
        if not columns:
            return cells
        values = [row[0] for row in sample.values["label"] if not is_missing(row[0])]
        scores = sum(as_number(value) is not None for value in values)
        numbers = 2 * scores > len(values)
        return cells | {
            "label": numbers_cell(columns) if numbers else text_cell(columns, "third text")
        }

    @classmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """What there is to learn, and the scale of scores."""
        learns = _learns(table)
        if learns != "scores" and reading.scale is not None:
            raise UsageError(
                "it is of scores, and no column holds any",
                place="--score-scale",
                fix="name the column of the scores with --label, or leave it out",
            )
        scale = None
        if learns == "scores":
            scores = _scores_at(table, train)
            place = f"{table.path}, column {table.label_column!r}"
            said = reading.scale
            scale = usual_scale(scores, place) if said is None else read_scale(said)
            if len(np.unique(scores)) < 2:
                raise DataError(
                    f"all scores are {scores[0]:g}: nothing to learn"
                    if len(scores)
                    else "no score",
                    place=place,
                    fix="name the column of the scores with --label",
                )
        elif len(train) < 2:
            raise DataError(
                "there is one pair, and others of its batch are to be told from it",
                place=table.path,
                fix="give more rows",
            )
        return cls(learns, reading.pooling, False if reading.unnormalized else None, scale)

    @classmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """As the contract keeps them."""
        learns, pooling = settings.get("learns", "pairs"), settings.get("pooling")
        normalized, scale = settings.get("normalized"), settings.get("scale")
        if learns not in _PRIMARY:
            raise ValueError(f"learns is {learns!r}, and must be one of {', '.join(_PRIMARY)}")
        if pooling not in (None, *_POOLINGS):
            raise ValueError(f"pooling is {pooling!r}, and must be one of {', '.join(_POOLINGS)}")
        if normalized not in (None, True, False):
            raise ValueError(f"normalized is {normalized!r}, and must be true or false")
        if scale is not None:
            low, high = scale
            if not is_real(low) or not is_real(high) or not low < high:
                raise ValueError(f"scale is {scale!r}, and must go from a number to a greater one")
            scale = Scale(float(low), float(high))
        if (scale is None) != (learns != "scores"):
            raise ValueError("there is a scale exactly where scores are learned")
        return cls(learns, pooling, normalized, scale, config.hidden_size)

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """None without a contract, or the files of sentence-transformers in its place."""
        return False

    @classmethod
    def folder_limit(cls, folder: Path) -> tuple[int, str] | None:
        """As `sentence_bert_config.json` has it."""
        files = SentenceFiles.read(folder)
        limit = None if files is None else files.max_length
        return None if limit is None else (limit, "the model's own limit")

    def starting_from(self, folder: Path) -> Self:
        """Vectors are made as the folder says, where the user does not."""
        files = SentenceFiles.read(folder) or SentenceFiles()
        normalized = files.normalized if self.normalized is None else self.normalized
        return replace(self, pooling=self.pooling or files.pooling, normalized=normalized)

    def head_arguments(self, max_length: int | None = None) -> dict[str, Any]:
        """How vectors are made."""
        named = {
            "pooling": self.pooling,
            "normalized": self.normalized,
            "max_length": max_length,
        }
        return {name: value for name, value in named.items() if value is not None}

    def for_table(self, table: Table) -> Self:
        """What there is to measure in another file."""
        learns = _learns(table)
        if learns == self.learns:
            return self
        scale = None
        if learns == "scores":
            scores = _scores_at(table, np.arange(len(table)))
            scale = usual_scale(scores, f"{table.path}, column {table.label_column!r}")
        return replace(self, learns=learns, scale=scale)

    def asked_in(self, pairs: bool) -> Self:
        """With cosines of pairs, or vectors of single texts as its answers."""
        return replace(self, asked=pairs)

    def config_changes(self) -> dict[str, Any]:
        """None: it is a plain encoder."""
        return {}

    def settings(self) -> dict[str, Any]:
        """What was learned, and how vectors are made."""
        scale = None if self.scale is None else list(self.scale)
        return {
            "learns": self.learns,
            "pooling": self.pooling,
            "normalized": self.normalized,
            "scale": scale,
        }

    def check(self, table: Table) -> None:
        """Refuse scores beyond the scale of training."""
        if self.scale is None:
            return
        scores = _scores_at(table, np.arange(len(table)))
        beyond = (scores < self.scale.low) | (scores > self.scale.high)
        if beyond.any():
            number = int(beyond.argmax())
            raise DataError(
                f"the score {scores[number]:g} is beyond the scale, {self.scale}",
                place=f"{table.place_at(number)}, column {table.label_column!r}",
                fix="mend the row, or train with the whole scale: --score-scale "
                f"{min(self.scale.low, scores[number]):g},{max(self.scale.high, scores[number]):g}",
            )

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(N,) float32 cosines that scores stand for; else (N, K) ids of the texts of a row."""
        if self.scale is not None:
            return self.scale.cosines(_scores_at(table, index)).astype(np.float32)
        return _text_ids(table, self.encoded_roles)[index]

    def criterion(self, choices: LossChoices, targets: NDArray[Any]) -> Any:
        """Squared errors of cosines, or in-batch negatives."""
        refuse(choices, self.name)
        return CosineRegression() if self.learns == "scores" else InBatchNegatives()

    def counts(self, table: Table, index: NDArray[np.int64]) -> str:
        """The spread of scores and their scale, or how many different texts there are."""
        if self.scale is not None:
            scores = _scores_at(table, index)
            ends = f"from {scores.min():.4g} to {scores.max():.4g}" if len(scores) else ""
            return f"scores {ends}, on a scale {self.scale}"
        ids = _text_ids(table, ("text", "text_pair"))[index]
        first, second = (len(np.unique(column)) for column in ids.T)
        return f"{self.learns}, {first:,} different first texts and {second:,} second ones"

    def cautions(
        self, table: Table, index: NDArray[np.int64], rows: EncodedTexts
    ) -> list[dict[str, str]]:
        """Texts that stand in several rows, where the rows of a batch compete."""
        if self.learns == "scores":
            return []
        ids = _text_ids(table, ("text", "text_pair"))[index]
        told = []
        for column, name in zip(ids.T, ("first", "second"), strict=True):
            _, places, counts = np.unique(column, return_inverse=True, return_counts=True)
            again = int((counts[places] > 1).sum())
            if again:
                verb = "stands" if again == 1 else "stand"
                told.append(
                    page.caution(
                        f"{plural(again, 'row')} whose {name} text {verb} in another row too",
                        "They are not taken for each other's negatives where they meet in a batch.",
                    )
                )
        return told

    @property
    def encoding(self) -> str:
        """Each text by itself."""
        return "texts apart"

    def encode(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int
    ) -> Iterable[EncodedExample]:
        """A window for each text of an example, the first one first."""
        return self._apart(examples, lambda texts: cut_at_end(tokenizer, texts, limit))

    def encode_long(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int, long: LongTexts
    ) -> Iterable[EncodedExample]:
        """The same with longer texts as the user says, each text by itself."""
        return self._apart(
            examples, lambda texts: long_texts(tokenizer.encode_ids(texts), limit, long)
        )

    def _apart(
        self, examples: Sequence[Example], encode: Callable[[list[str]], Iterable[EncodedExample]]
    ) -> Iterator[EncodedExample]:
        """Each example as all of its texts, which are encoded role by role."""
        roles = [role for role in self.encoded_roles if examples[0].get(role) is not None]
        columns = [encode([str(each[role]) for each in examples]) for role in roles]
        for texts in zip(*columns, strict=True):
            windows = [window for text in texts for window in text.windows]
            cut = tuple(lost for text in texts for lost in text.cut)
            length = sum(text.length for text in texts)
            yield EncodedExample(windows, length, cut, [len(text.windows) for text in texts])

    def activate(self, logits: Tensor) -> Tensor:
        """Vectors as they are."""
        return logits

    def decode(self, output: Output, example: Example) -> Answer:
        """The vector of a text; of two and more the cosine of the first two, and their vectors."""
        vectors = [np.asarray(window) for window in output.windows]
        if len(vectors) == 1:
            return {"vector": vectors[0].tolist()}
        cosine = cosine_of(*vectors[:2])
        return {"similarity": cosine, "vectors": [vector.tolist() for vector in vectors]}

    def public(self, answer: Answer) -> Answer:
        """Without the vectors of pairs; nine digits of a number are all that it has."""
        if "vector" in answer:
            return {"vector": [float(f"{value:.9g}") for value in answer["vector"]]}
        return {"similarity": answer["similarity"]}

    def answer_types(self) -> dict[str, pa.DataType]:
        """Lists of as many numbers, or a cosine."""
        if self.asked:
            return {"similarity": pa.float64()}
        return {"vector": pa.list_(pa.float32(), self.width or -1)}

    def scorer(self) -> Scorer:
        """Correlations with the scores, or how high the right texts rank."""
        if self.scale is not None:
            return SimilarityScorer(self.scale)
        return RetrievalScorer(triplets=self.learns == "triplets")

    def describe_answer(self, answer: Answer) -> str:
        """The cosine, or how many numbers there are."""
        if "vector" in answer:
            return f"a vector of {len(answer['vector'])} numbers"
        return f"cosine {answer['similarity']:.4f}"

    def truth(self, example: Example) -> str:
        """The score, or what belongs together."""
        label = example.get("label")
        if self.learns == "scores" and label:
            return f"{label[0]:g}"
        if self.learns == "triplets":
            return f"nearer than {quoted(str(label), len(str(label)))}"
        return "they belong together"

    def answer_schema(self) -> Schema:
        """A vector of one text, or the cosine of two."""
        vector = record({"vector": several(NUMBER)})
        cosine = record({"similarity": {"type": "number", "minimum": -1.01, "maximum": 1.01}})
        if self.pairs_asked is None:
            return {"anyOf": [vector, cosine]}
        return cosine if self.pairs_asked else vector

    def flat_names(self) -> list[str]:
        """One column."""
        return ["vector"] if self.asked is False else ["similarity"]

    def flat(self, answer: Answer) -> list[Any]:
        """What is written of an answer."""
        return list(self.public(answer).values())

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """The cosine; of a vector its length and its first numbers."""
        if "vector" not in answer:
            return [page.named_values("Cosine", {"similarity": f"{answer['similarity']:.4f}"})]
        first = ", ".join(f"{value:.4f}" for value in answer["vector"][:8])
        return [{"kind": "note", "text": f"{self.describe_answer(answer)}: {first}, …"}]

    def data_blocks(
        self, table: Table, train: NDArray[np.int64], held_out: Table, index: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """How the scores spread in the training rows."""
        if self.scale is None:
            return []
        column = str(table.label_column)
        return [
            page.histogram(f"Training rows by {column}", column, _scores_at(table, train)),
        ]


def _learns(table: Table) -> Learns:
    """What the columns of a file are for.

    Raises:
        UsageError: there is no second text.
    """
    if "text_pair" not in table.roles:
        raise UsageError(
            f"it takes two texts a row, and {table.text_column!r} is all there is",
            place=table.path,
            fix="name both: --text anchor --text-pair positive",
        )
    if "label" not in table.roles:
        return "pairs"
    return "triplets" if pa.types.is_string(table.data.schema.field("label").type) else "scores"


def _scores_at(table: Table, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) the scores of the rows at `index`."""
    return np.array(table.labels_at(index), dtype=np.float64).reshape(len(index))


def _text_ids(table: Table, roles: Iterable[str]) -> NDArray[np.int64]:
    """(N, K) a number for each text of each row, the same for the same text in any column."""
    known: dict[str, int] = {}

    def numbers(role: str) -> Iterator[int]:
        for chunk in table.data[role].chunks:
            for text in chunk.to_pylist():
                yield known.setdefault(text, len(known))

    columns = [np.fromiter(numbers(role), np.int64, len(table)) for role in roles]
    return np.stack(columns, axis=1)
