"""What stands at a mask: the most probable tokens, and how well hidden tokens are found again."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertolt.base.console import counting
from bertolt.base.errors import UsageError
from bertolt.base.few import softmax
from bertolt.base.format import plural
from bertolt.data.arrow import pa
from bertolt.data.batch import PackedBatch
from bertolt.data.collate import PackingCollator
from bertolt.data.encode import EncodedExample, EncodedTexts
from bertolt.data.formats import TEXTS, Open
from bertolt.data.load import Cells, Sample, Table
from bertolt.data.long import LongTexts
from bertolt.data.masking import DataCollatorForLanguageModeling, counted_draws
from bertolt.data.plain import open_plain
from bertolt.data.table_file import BadRow
from bertolt.models import word_heads
from bertolt.models.config import BertConfig
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tasks.base import (
    Again,
    Answer,
    Example,
    Further,
    Output,
    Primary,
    Reading,
    Task,
    register,
)
from bertolt.tasks.evaluation import TaskRows
from bertolt.tasks.labels import require_no_separator
from bertolt.tasks.masks import (
    MASKS,
    Vocabulary,
    as_table,
    asked,
    best_tokens,
    each_hidden,
    hideable,
    log_share,
)
from bertolt.tasks.schema import PLACE, SHARE, TEXT, Schema, record, several, span
from bertolt.tasks.scorers.masks import FIRST, MaskScorer
from bertolt.tasks.table import score_words
from bertolt.tasks.texts import text_cells
from bertolt.tasks.windows import WINDOWS, windows_of
from bertolt.tokenization import BertTokenizer


@register
@dataclass(frozen=True)
class FillMask(Task):
    """Which tokens stand at the masks of a text.

    It is learned from plain text, by `pretrain`. To measure a model, tokens of whole texts are
    hidden as in pretraining, always the same ones of a text; or each in a window of its own.

    Attributes:
        top: tokens that are told of each mask.
        share: of the tokens that are hidden to measure a model.
        seed: that chooses them.
        one_each: the rows have one hidden token in each window, and its label.
        vocabulary: of the model; None before there is one.
    """

    name: ClassVar[str] = "fill-mask"
    primary: ClassVar[Primary] = Primary(name="loss", title="Loss", greater=False, share=False)
    head: ClassVar[Any] = word_heads.MaskedLM
    longs = ("window", "error", "truncate")
    why_not_long = "without its middle, tokens would be filled in beside others than they stand by"
    has_labels: ClassVar[bool] = False
    taught_by: ClassVar[str] = (
        "bertolt prepare FILE --tokenizer MODEL --out corpus && "
        "bertolt pretrain corpus --model MODEL"
    )
    sampled: ClassVar[str] = "pseudo-perplexity"
    kinds: ClassVar[Mapping[str, Open]] = dict.fromkeys(TEXTS, open_plain)

    top: int = FIRST
    share: float = 0.15
    seed: int = 0
    one_each: bool = False
    vocabulary: Vocabulary | None = field(default=None, compare=False, repr=False)

    @classmethod
    def recognise(cls, sample: Sample, reading: Reading) -> str:
        """No columns are surely for this: texts without labels are for many things."""
        return ""

    @classmethod
    def cells(cls, sample: Sample, reading: Reading) -> Cells:
        """Texts alone."""
        require_no_separator(reading, cls.name)
        for role in ("text_pair", "label"):
            if role in sample.columns:
                raise UsageError(
                    f"{cls.name} reads one column of texts, and {sample.columns[role][0]!r} is "
                    "another",
                    place="--text-pair" if role == "text_pair" else "--label",
                    fix=f"name the column of the texts alone: --text {sample.columns['text'][0]}",
                )
        return text_cells(sample)

    @classmethod
    def infer(cls, table: Table, train: NDArray[np.int64], reading: Reading) -> Self:
        """Nothing is learned of labels."""
        return cls()

    @classmethod
    def restore(cls, config: BertConfig, settings: Mapping[str, Any]) -> Self:
        """The usual share of hidden tokens."""
        return cls()

    @classmethod
    def serves(cls, config: BertConfig) -> bool:
        """Any model with this head."""
        return True

    def config_changes(self) -> dict[str, Any]:
        """The vocabulary is the label space."""
        return {}

    def unlike(self, other: Self) -> str:
        """A loss is over the tokens of a vocabulary: of another one it is another measure."""
        one, two = (task._words.tokenizer.get_vocab() for task in (self, other))
        return (
            "" if one == two else "its tokens are others, and a loss is over all tokens of a model"
        )

    def with_tokenizer(self, tokenizer: BertTokenizer) -> Self:
        """With the vocabulary of the tokenizer."""
        return replace(self, vocabulary=Vocabulary(tokenizer))

    @property
    def _words(self) -> Vocabulary:
        assert self.vocabulary is not None, "Predictor and encode_rows give it one"
        return self.vocabulary

    def question_fault(self, example: Example) -> BadRow | None:
        """A text without a mask, or a pair of texts."""
        mask, text = self._words.mask, str(example["text"])
        if example.get("text_pair") is not None:
            return BadRow(
                "pair of texts", "a pair of texts, and masks stand in one", "give one text"
            )
        if mask in text:
            return None
        other = next((each for each in MASKS if each in text), None)
        fix = f"put {mask} in place of a word, as in 'the capital is {mask}.'"
        if other is not None:
            fix = f"write {mask} in place of {other}: this model's mask is spelt so"
        return BadRow(f"text without {mask}", f"the text has no {mask}", fix)

    # ---- windows

    @property
    def encoding(self) -> str:
        """Tokens with their characters, in windows with context on both sides."""
        return "tokens in windows"

    def encode(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int
    ) -> Iterable[EncodedExample]:
        """Longer texts run in windows; each token is answered where it has most context."""
        return self.encode_long(examples, tokenizer, limit, WINDOWS)

    def encode_long(
        self, examples: Sequence[Example], tokenizer: BertTokenizer, limit: int, long: LongTexts
    ) -> Iterable[EncodedExample]:
        """The same with another overlap, or the first window alone: no token behind it counts."""
        ends = tokenizer.cls_token_id, tokenizer.sep_token_id
        for words in tokenizer.encode_words([str(example["text"]) for example in examples]):
            yield windows_of(words.ids, words.offsets, *ends, limit, long)

    def targets(self, table: Table, index: NDArray[np.int64], rows: EncodedTexts) -> NDArray[Any]:
        """(T,) whether a token may be hidden: each may in one window of its text."""
        return hideable(rows)

    def collator(
        self, model: PreTrainedModel, *, answering: bool
    ) -> Callable[[list[Any]], PackedBatch]:
        """Batches whose labels are at the masks of the texts, or at tokens that are hidden here."""
        packed = PackingCollator(pad_token_id=model.config.pad_token_id, token_labels=True)
        mask = self._words.mask_id
        if answering:
            return lambda rows: packed([asked(row, mask) for row in rows])
        if self.one_each:
            return packed
        hide = DataCollatorForLanguageModeling(
            self._words.tokenizer, mlm_probability=self.share, seed=self.seed, packed=True
        )
        return lambda rows: hide([_unlabelled(row) for row in rows])

    # ---- answers

    def activate(self, logits: Tensor) -> Tensor:
        """Probabilities of all tokens."""
        return softmax(logits)

    def activate_labelled(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(M, 1 + 2 K) log-probability of the true token; K best tokens; their probabilities."""
        shares, tokens = best_tokens(logits, max(self.top, FIRST))
        return as_table(log_share(logits, labels), tokens, shares)

    def decode(self, output: Output, example: Example) -> Answer:
        """The best tokens of each mask, or of each hidden token with the one that it was."""
        rows = [
            (places[int(row[0])].tolist(), row)
            for values, places in zip(output.windows, output.places, strict=True)
            for row in values.tolist()
        ]
        masks = [
            self._mask(start, end, row, str(example["text"]))
            for (start, end), row in rows
            if start >= 0
        ]
        if any("truth" in mask for mask in masks) or not masks:
            return {"masks": masks}
        filled = str(example["text"])
        for mask in reversed(masks):
            filled = self._words.fill(filled, mask["start"], mask["end"], mask["best"][0]["id"])
        return {"filled": filled, "masks": masks}

    def _mask(self, start: int, end: int, row: Sequence[float], text: str) -> dict[str, Any]:
        """What was answered at one mask; `row` as `Output` has it."""
        words, label, count = self._words, int(row[1]), (len(row) - 3) // 2
        best: list[dict[str, Any]] = [
            {"id": int(token), "token": words.word(int(token)), "probability": share}
            for token, share in zip(row[3 : 3 + count], row[3 + count :], strict=True)
        ]
        if label != words.mask_id:
            return {
                "start": start,
                "end": end,
                "truth": label,
                "log_probability": row[2],
                "best": best,
            }
        start = text.find(words.mask, start)  # a mask may take the space before it
        best = [
            {**each, "text": words.fill(text, start, end, each["id"])} for each in best[: self.top]
        ]
        return {"start": start, "end": end, "best": best}

    def scorer(self) -> MaskScorer:
        """Loss, perplexity, and how often the first guesses are right."""
        return MaskScorer(self.share, self.seed)

    def further(self, again: Again, rows: Any, sample: int | None) -> Further | None:
        """The pseudo-perplexity of Salazar, Liang, Nguyen and Kirchhoff (2020), section 2.

        A text W of tokens w_1 … w_n has the pseudo-log-likelihood PLL(W), the sum over t of
        log P(w_t | W with w_t alone masked); of texts with N tokens together the pseudo-perplexity
        is exp(-(sum of PLL) / N). Tokens are those of the text, without the special ones around it;
        unknown ones count. Of a text in several windows each token is masked in one of them.
        """
        assert isinstance(rows, TaskRows)
        numbers, total = self._drawn(rows, sample)
        scorer, form = MaskScorer(1.0, self.seed), replace(self, one_each=True)
        may = self._words.hidden_once().numpy()
        done = 0
        with counting("Masking each token", total, "tokens") as show:
            for part, windows in each_hidden(rows, numbers, may, self._words.mask_id):
                counts = again(form, part, lambda count, before=done: show(before + count))  # type: ignore[misc]
                scorer.merge(counts.state())
                done += windows
        return _told(scorer, len(numbers), len(rows))

    def _drawn(self, rows: TaskRows, sample: int | None) -> tuple[list[int], int]:
        """The rows to take, in their order, and how many tokens of them will be hidden."""
        numbers = np.arange(len(rows))
        if sample is not None and sample < len(rows):
            draws = counted_draws(len(rows), self.seed)
            numbers = np.sort(np.argsort(draws, kind="stable")[:sample])
        may, encoded = self._words.hidden_once().numpy(), rows.encoded
        firsts = np.searchsorted(encoded.window_examples, np.arange(encoded.examples + 1))
        total = 0
        for number in numbers.tolist():
            tokens = slice(*encoded.offsets[[firsts[number], firsts[number + 1]]])
            total += int((hideable(encoded)[tokens] & may[encoded.ids[tokens]]).sum())
        return numbers.tolist(), total

    # ---- for people

    def describe_answer(self, answer: Answer) -> str:
        """The best token of each mask."""
        return " ".join(mask["best"][0]["token"].strip() for mask in answer["masks"])

    def truth(self, example: Example) -> str:
        """The text itself."""
        return str(example["text"])

    def answer_types(self) -> dict[str, pa.DataType]:
        """The filled text, and the masks as records."""
        token = [("id", pa.int64()), ("token", pa.string()), ("probability", pa.float64())]
        best = pa.list_(pa.struct([*token, ("text", pa.string())]))
        mask = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("best", best)])
        return {"filled": pa.string(), "masks": pa.list_(mask)}

    def request_schema(self, pairs: bool | None) -> Schema:
        """A text with masks."""
        mask = self._words.mask
        return record(
            {"text": {**TEXT, "pattern": re.escape(mask), "examples": [f"It is {mask}."]}}
        )

    def answer_schema(self) -> Schema:
        """The text with its masks filled, and the best tokens of each."""
        best = record({"id": PLACE, "token": TEXT, "probability": SHARE, "text": TEXT})
        return record({"filled": TEXT, "masks": several(span(best=several(best)))})

    def flat_names(self) -> list[str]:
        """The filled text, and the masks in one cell."""
        return ["filled", "masks"]

    def flat(self, answer: Answer) -> list[Any]:
        """The same of an answer."""
        return [answer.get("filled", ""), answer["masks"]]

    def answer_blocks(self, answer: Answer, example: Example) -> list[dict[str, Any]]:
        """The text with its masks, and the best tokens of each."""
        marks = [
            {"start": mask["start"], "end": mask["end"], "label": "mask", "kind": "given"}
            for mask in answer["masks"]
        ]
        bar = {"kind": "bar", "format": "percent", "colour": "accent"}
        columns = [{"name": "Token", "kind": "text"}, {"name": "Probability", **bar}]
        tables = [
            {
                "kind": "table",
                "caption": f"The most probable tokens at characters {mask['start']}-{mask['end']}",
                "noun": "token",
                "columns": columns,
                "rows": [[each["token"], each["probability"]] for each in mask["best"]],
                "most": len(mask["best"]),
            }
            for mask in answer["masks"]
        ]
        return [{"kind": "text", "text": str(example["text"]), "marks": marks}, *tables]


def _unlabelled(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for the collator that hides tokens: those that may not be are like special ones."""
    return {"input_ids": row["input_ids"], "special_tokens_mask": ~row["labels"]}


def _told(scorer: MaskScorer, taken: int, rows: int) -> Further:
    """The pseudo-perplexity as values and in words."""
    value, loss = scorer.perplexity(), scorer.loss()
    of_all = "" if taken == rows else f" of {rows:,}, drawn by seed {scorer.seed}: --sample all"
    some = f"{of_all} takes each" if of_all else ""
    lines = [
        f"Pseudo-perplexity {score_words(value)}: each of {plural(scorer.hidden, 'token')} masked "
        f"once, in {plural(taken, 'row')}{some}"
    ]
    log_likelihood = None if loss is None or not math.isfinite(loss) else -loss * scorer.hidden
    values = {
        "pseudo_perplexity": value,
        "pseudo_log_likelihood": log_likelihood,
        "pseudo_tokens": scorer.hidden,
        "pseudo_rows": taken,
    }
    return Further(values=values, lines=lines)
