"""Questions whose answers stand in a text: where each begins and ends, or that there is none."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.errors import DataError, UsageError
from bertolt.base.format import plural
from bertolt.data.arrow import pa
from bertolt.data.cells import answers_cell
from bertolt.data.encode import EncodedExample, EncodedTexts
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.long import LongTexts
from bertolt.data.spelling import quoted
from bertolt.data.table_file import BadRow, is_missing, listing
from bertolt.models import heads
from bertolt.models.config import BertConfig
from bertolt.models.losses import Criterion
from bertolt.tasks import page, questions
from bertolt.tasks.base import Answer, Example, Output, Primary, Reading, Scorer, Task, register
from bertolt.tasks.criterion import LossChoices, criterion_of_places
from bertolt.tasks.labels import require_no_separator
from bertolt.tasks.questions import golds_of
from bertolt.tasks.schema import PLACE, SHARE, TEXT, Schema, maybe, record, several, span
from bertolt.tasks.scorers.answers import AnswerScorer
from bertolt.tasks.texts import text_cells
from bertolt.tokenization import BertTokenizer

NO_ANSWER = "no answer"
_USUAL_LONGEST = 200
_MOST_MARGIN = 1e6  # JSON has no infinite numbers
_NAMED = 3  # rows that a caution names


@register
@dataclass(frozen=True)
class QuestionAnswering(Task):
    """Which part of a text answers a question.

    Attributes:
        may_be_none: whether training had questions without an answer.
        threshold: of the log-odds of no answer above those of the best one; above it none is given.
        longest: most characters of an answer.
    """

    name: ClassVar[str] = "question-answering"
    primary: ClassVar[Primary] = Primary(name="f1", title="F1 of answers")
    head: ClassVar[Any] = heads.QuestionAnswering
    longs = ("window", "error", "truncate")
    why_not_long = "without its middle, an answer could begin in one part and end in the other"
    request_roles: ClassVar[Mapping[str, str]] = {"question": "text", "context": "text_pair"}
    needs_pair: ClassVar[bool] = True
    target_names: ClassVar[tuple[str, ...]] = ("start_positions", "end_positions")
    worst: ClassVar[tuple[str, str]] = (
        "Most confident mistakes",
        "Held-out questions that the model was surest to have answered, and had not. Look for "
        "wrong answers in the file first.",
    )

    may_be_none: bool = False
    threshold: float = 0.0
    longest: int = _USUAL_LONGEST

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """Questions with contexts, by their names, and answers as records or texts in these."""
        names = [sample.columns.get(role, [""])[0].lower() for role in ("text", "text_pair")]
        values = [row[0] for row in sample.values.get("label", []) if not is_missing(row[0])]
        if names != ["question", "context"] or len(sample.columns.get("label", [])) != 1:
            return ""
        if any(isinstance(value, Mapping | list | tuple) for value in values):
            return "questions with contexts and lists of answers"
        contexts = [row[0] for row in sample.values["text_pair"]]
        answers = [row[0] for row in sample.values["label"]]
        pairs = [
            (answer, context)
            for answer, context in zip(answers, contexts, strict=True)
            if isinstance(answer, str) and answer.strip() and isinstance(context, str)
        ]
        inside = sum(answer in context for answer, context in pairs)
        return "answers stand in their contexts" if pairs and 2 * inside > len(pairs) else ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """A question, its text, and its answers."""
        require_no_separator(reading, cls.name)
        columns = sample.columns.get("label", [])
        if len(columns) > 1:
            raise UsageError(
                f"{cls.name} reads one column of answers, and there are {listing(columns)}",
                place="--label",
                fix="name one of them; it may hold a list",
            )
        if "text_pair" not in sample.columns:
            raise UsageError(
                f"{cls.name} needs a question and the text that it is asked of, and the text of "
                f"{sample.columns['text'][0]!r} is all there is",
                place="--text, --text-pair",
                fix="name both: --text question --text-pair context",
            )
        cells = text_cells(sample)
        return cells | ({"label": answers_cell(columns)} if columns else {})

    @classmethod
    def check_row(cls, example: Example) -> BadRow | None:
        """Answers stand where they are said to."""
        return questions.row_fault(example)

    @classmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """Whether there are questions without an answer, and how long answers are."""
        lengths = [[len(each["text"]) for each in answers] for answers in table.labels_at(train)]
        longest = max(map(max, filter(None, lengths)), default=0)
        if not longest:
            raise DataError(
                f"no question of {len(lengths):,} has an answer: nothing to learn",
                place=f"{table.path}, column {table.label_column!r}",
                fix="name the column of the answers with --label",
            )
        return cls(may_be_none=not all(lengths), longest=longest)

    @classmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """As the contract keeps them; without one there always is an answer."""
        none = settings.get("may_be_none", False)
        threshold = settings.get("no_answer_threshold", 0.0)
        longest = settings.get("longest_answer", _USUAL_LONGEST)
        if not isinstance(none, bool):
            raise ValueError(f"may_be_none is {none!r}, and must be true or false")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise ValueError(f"no_answer_threshold is {threshold!r}, and must be a number")
        if isinstance(longest, bool) or not isinstance(longest, int) or longest < 1:
            raise ValueError(f"longest_answer is {longest!r}, and must be a whole number above 0")
        if not math.isfinite(threshold):
            raise ValueError("no_answer_threshold is not finite")
        return cls(none, float(threshold), longest)

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """Any model with this head."""
        return True

    @classmethod
    def needed(cls, table: Table) -> list[NDArray[np.int64]]:
        """The questions without an answer, where there are some."""
        without = [row for row, answers in enumerate(table.each_label()) if not answers]
        return [np.array(without, dtype=np.int64)] if without else []

    @classmethod
    def groups(cls, table: Table) -> NDArray[np.int64] | None:
        """Questions on one text; None where each has a text of its own."""
        codes = table.data["text_pair"].combine_chunks().dictionary_encode()
        if len(codes.dictionary) == len(table):
            return None
        return np.asarray(codes.indices.to_numpy(), dtype=np.int64)

    def config_changes(self) -> dict[str, Any]:
        """Two outputs, of which neither is a label."""
        return {"num_labels": 2, "problem_type": None}

    def settings(self) -> dict[str, Any]:
        """Whether there may be no answer, from which odds on, and the length of the longest."""
        return {
            "may_be_none": self.may_be_none,
            "no_answer_threshold": self.threshold,
            "longest_answer": self.longest,
        }

    def check(self, table: Table) -> None:
        """Refuse questions without an answer where training had none of these."""
        if self.may_be_none:
            return
        for number, answers in enumerate(table.each_label()):
            if not answers:
                raise DataError(
                    "the question has no answer, and training had an answer to every one",
                    place=f"{table.place_at(number)}, column {table.label_column!r}",
                    fix="leave the row out, or train with such questions too",
                )

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(W, 2) the first and the last token of an answer; 0 and 0 where a window has none."""
        ends = array("q")  # an array for each row would take ten times the room
        for example, windows in self._examples(table, index, rows):
            part = questions.targets_of(golds_of(example), example["text_pair"], rows, windows)
            ends.extend(part.ravel().tolist())
        return np.array(ends, dtype=np.int64).reshape(-1, 2)

    def criterion(self, choices: LossChoices, targets: NDArray[Any]) -> Criterion | None:
        """Focus of both ends, and smoothing over the tokens of each window."""
        return criterion_of_places(choices, "answers are places in texts, without weights")

    def _examples(
        self, table: Table, index: NDArray[np.int64], rows: EncodedTexts
    ) -> Iterator[tuple[dict[str, Any], range]]:
        return questions.examples_with_windows(table.examples(index.tolist()), rows)

    def counts(self, table: Table, index: NDArray[np.int64]) -> str:
        """Questions with and without an answer, and the texts that they are asked of."""
        counts = [len(answers) for answers in table.each_label(index)]
        none, several = counts.count(0), sum(count > 1 for count in counts)
        texts = table.data["text_pair"].take(pa.array(index)).combine_chunks()
        words = [
            plural(len(texts.dictionary_encode().dictionary), "context"),
            f"{len(counts) - none:,} with an answer",
            f"{none:,} without one",
        ]
        return ", ".join([*words, f"{several:,} with several answers"] if several else words)

    def cautions(
        self, table: Table, index: NDArray[np.int64], rows: EncodedTexts
    ) -> list[dict[str, str]]:
        """Answers that lie in no window, and those that stand in the text several times."""
        lost: list[str] = []
        twice: list[str] = []
        counts = [0, 0]
        for example, windows in self._examples(table, index, rows):
            golds = golds_of(example)
            shown = f"{table.row_words(example['row'])}, "
            if golds and not questions.targets_of(golds, example["text_pair"], rows, windows).any():
                counts[0] += 1
                lost += [shown + quoted(golds[0].text)] if len(lost) < _NAMED else []
            if questions.ambiguous(example):
                counts[1] += 1
                twice += [shown + quoted(golds[0].text)] if len(twice) < _NAMED else []
        told = [questions.lost_words(lost, counts[0])] if counts[0] else []
        if counts[1]:
            claim = plural(counts[1], "answer stands", "answers stand")
            detail = f"The first place is learned: {'; '.join(twice)}. Say the place of each with "
            told.append(
                page.caution(f"{claim} in the text several times", detail + '"answer_start".')
            )
        return told

    @property
    def encoding(self) -> str:
        """Questions with stretches of their texts."""
        return "questions in windows"

    def encode(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int
    ) -> Iterable[EncodedExample]:
        """Longer texts run in windows, the question whole in each of them."""
        return self.encode_long(examples, tokenizer, limit, questions.WINDOWS)

    def encode_long(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int, long: LongTexts
    ) -> Iterable[EncodedExample]:
        """The same with another overlap, or the first window alone, as no answer behind it is."""
        frame = tokenizer.pair_frame()
        if limit < (least := len(frame) + 2):
            raise UsageError(
                f"a window of {limit} tokens has no room for a question and a part of its text",
                place="--max-length",
                fix=f"give {least} or more",
            )
        texts = list(dict.fromkeys(str(example["text_pair"]) for example in examples))
        contexts = dict(zip(texts, tokenizer.encode_words(texts), strict=True))
        asked = tokenizer.encode_words([example["text"] for example in examples])
        for example, question in zip(examples, asked, strict=True):
            context = contexts[example["text_pair"]]
            yield questions.windows_of(question, context, frame, limit, long)

    def activate(self, logits: Tensor) -> Tensor:
        """Log-odds as they are; `decode` compares them over all windows."""
        return logits

    def decode(self, output: Output, example: Example) -> Answer:
        """The best answer with its characters, or none, and the next best ones."""
        text = example["text_pair"]
        said = questions.best_answers(output.windows, output.places, self.longest, self.may_be_none)
        margin = min(max(said.none - said.best, -_MOST_MARGIN), _MOST_MARGIN)
        best = [
            {"text": text[start:end], "start": start, "end": end, "probability": share}
            for start, end, share in said.spans
        ]
        silent = not best or (self.may_be_none and margin > self.threshold)
        answer: Answer = {
            "answer": "" if silent else best[0]["text"],
            "start": None if silent else best[0]["start"],
            "end": None if silent else best[0]["end"],
            "probability": said.none_probability if silent else best[0]["probability"],
            "best": best,
        }
        if self.may_be_none:
            answer["no_answer"] = said.none_probability
        return {**answer, "margin": margin}

    def public(self, answer: Answer) -> Answer:
        """Without the odds, which probabilities tell."""
        return {name: value for name, value in answer.items() if name != "margin"}

    def differs(self, golden: Answer, answer: Answer) -> str:
        """The answer itself is compared; those behind it may change places with their rounding."""
        names = ("answer", "start", "end")
        if [golden[name] for name in names] != [answer[name] for name in names]:
            return "the answer is another"
        kept = {"probability": golden["probability"]}
        return super().differs(kept, {"probability": answer["probability"]})

    def scorer(self) -> AnswerScorer:
        """Exact answers, and the words that they share."""
        return AnswerScorer(self.may_be_none, self.threshold)

    @property
    def tuning(self) -> str:
        """From which odds on there is no answer."""
        return "odds from which no answer is given" if self.may_be_none else ""

    def tuned(self, scorer: Scorer) -> Self:
        """With the threshold of the best F1 on the rows that were scored."""
        assert isinstance(scorer, AnswerScorer)
        return replace(self, threshold=scorer.best_threshold()) if self.may_be_none else self

    def describe_answer(self, answer: Answer) -> str:
        """The text of the answer."""
        return str(answer["answer"]) or NO_ANSWER

    def truth(self, example: Example) -> str:
        """The true answers."""
        return " / ".join(dict.fromkeys(each["text"] for each in example["label"])) or NO_ANSWER

    def meant(self, example: Example) -> frozenset[tuple[str, int]]:
        """The true answers with their places, in any order and each once."""
        return frozenset((each["text"], each["start"]) for each in example["label"])

    def answer_types(self) -> dict[str, pa.DataType]:
        """The answer, its characters, its probability, and the best ones as records."""
        place = [("start", pa.int64()), ("end", pa.int64()), ("probability", pa.float64())]
        best = pa.list_(pa.struct([("text", pa.string()), *place]))
        none = {"no_answer": pa.float64()} if self.may_be_none else {}
        return {"answer": pa.string(), **dict(place), "best": best, **none}

    def answer_schema(self) -> Schema:
        """The answer with its characters of the context, the best ones, and the odds of none."""
        best = several(span("text", probability=SHARE))
        fields: dict[str, Schema] = {"answer": TEXT, "start": maybe(PLACE), "end": maybe(PLACE)}
        fields |= {"probability": SHARE, "best": best}
        return record(fields | ({"no_answer": SHARE} if self.may_be_none else {}))

    def flat_names(self) -> list[str]:
        """The answer, its characters and its probability, and the best answers as JSON."""
        none = ["no_answer"] * self.may_be_none
        return ["answer", "start", "end", "probability", *none, "best"]

    def flat(self, answer: Answer) -> list[Any]:
        """The same of an answer."""
        return [answer[name] for name in self.flat_names()]

    def page_texts(self, example: Example) -> tuple[str, str | None]:
        """The answer is marked in its text, and the question stands beside."""
        return example["text_pair"], example["text"]

    def marks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """What was answered, and the first true answer where that is another."""
        golds = golds_of(example)
        said = (answer["start"], answer["end"])
        right = said in {(gold.start, gold.end) for gold in golds}
        marks = [_mark(*said, "right" if right else "wrong")] if answer["answer"] else []
        return marks if right else [*marks, *(_mark(g.start, g.end, "missed") for g in golds[:1])]

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """The answer in its text, and the best answers with their probabilities."""
        marks = [_mark(answer["start"], answer["end"], "given")] if answer["answer"] else []
        text = {"kind": "text", "text": example["text_pair"], "marks": marks}
        rows = [[each["text"], each["probability"]] for each in answer["best"]]
        if self.may_be_none:
            rows = sorted([*rows, [NO_ANSWER, answer["no_answer"]]], key=lambda row: -row[1])
        bar = {"kind": "bar", "format": "percent", "colour": "accent"}
        columns = [{"name": "Answer", "kind": "text"}, {"name": "Probability", **bar}]
        listing = {"kind": "table", "caption": "The most probable answers", "noun": "answer"}
        return [text, {**listing, "columns": columns, "rows": rows, "most": len(rows)}]

    def data_blocks(
        self, table: Table, train: NDArray[np.int64], held_out: Table, index: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """Questions with and without an answer in both parts."""
        counts = [
            np.array([sum(map(bool, labels)), sum(not each for each in labels)])
            for labels in (table.labels_at(train), held_out.labels_at(index))
        ]
        block = page.label_rows(["with an answer", "without one"], *counts)
        return [block | {"caption": "Questions with and without an answer", "noun": "kind"}]


def _mark(start: int, end: int, kind: str) -> dict[str, Any]:
    return {"start": start, "end": end, "label": "answer", "kind": kind}
