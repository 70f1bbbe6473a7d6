"""From a file to two parts of encoded, labelled rows, and what the user is told about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertolt.base.console import counting, say
from bertolt.base.errors import UsageError
from bertolt.base.format import plural
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.data.describe import tell_rows, tell_table
from bertolt.data.encode import EncodedTexts
from bertolt.data.labels import LabelMap, encode_labels, label_map, split_rows
from bertolt.data.load import Table, read_table
from bertolt.data.tokens import encode_once
from bertolt.models.config import BertConfig
from bertolt.tokenization import BertTokenizer

_SHORTEST = 3  # a token between the two special ones


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """Encoded texts with their labels, and where they stand in their file.

    Attributes:
        table: the file.
        index: (N,) places in `table.dataset`.
        encoded: the texts, with labels (N,).
    """

    table: Table
    index: NDArray[np.int64]
    encoded: EncodedTexts

    def labels(self) -> NDArray[np.int64]:
        """(N,) class of each row."""
        assert self.encoded.labels is not None
        return self.encoded.labels

    def text(self, row: int) -> str:
        """The text of a row."""
        return str(self.table.dataset[int(self.index[row])]["text"])

    def file_row(self, row: int) -> int:
        """The number of a row in its file, as a person counts."""
        return int(self.table.dataset[int(self.index[row])]["row"])


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that a run needs of its data.

    Attributes:
        labels: from the training rows alone.
        train, eval: the two parts.
        split: how they were parted, in words.
        max_length_source: where the limit came from, in words.
        repeated: evaluation texts that stand among the training texts too.
    """

    labels: LabelMap
    train: LabelledRows
    eval: LabelledRows
    split: str
    max_length_source: str
    repeated: int


def prepare(
    path: Path, options: FinetuneOptions, tokenizer: BertTokenizer, config: BertConfig
) -> Prepared:
    """Read, check, label, split and encode; tell the user what was found.

    Raises:
        DataError: a file, a column, a row or the labels cannot be used.
        UsageError: a limit or a share that cannot be.
    """
    limit, limit_source = _limit(options, config)
    table = _read(path, options)
    labels, train_index, eval_index, eval_table, split = _part(table, options)

    def encode(part: Table, index: NDArray[np.int64], what: str) -> LabelledRows:
        classes = encode_labels(part, labels)[index]
        texts = part.dataset.select(index)["text"]
        with counting("Tokenising", len(index)) as show:
            encoded, origin = encode_once(tokenizer, texts, limit, classes, progress=show)
        say(f"{what} tokens: {origin}")
        return LabelledRows(table=part, index=index, encoded=encoded)

    train = encode(table, train_index, "Training")
    held_out = encode(eval_table, eval_index, "Evaluation")
    seen = set(table.dataset.select(train_index)["text"][:])
    repeated = sum(text in seen for text in eval_table.dataset.select(eval_index)["text"][:])
    data = Prepared(
        labels=labels,
        train=train,
        eval=held_out,
        split=split,
        max_length_source=limit_source,
        repeated=repeated,
    )
    _tell(data)
    return data


def _read(path: Path, options: FinetuneOptions, prefer: Mapping[str, str] | None = None) -> Table:
    table = read_table(
        path,
        text=options.text,
        label=options.label,
        prefer=prefer,
        encoding=options.encoding,
        on_bad_row=options.on_bad_row,
    )
    tell_table(table)
    return table


def _part(
    table: Table, options: FinetuneOptions
) -> tuple[LabelMap, NDArray[np.int64], NDArray[np.int64], Table, str]:
    place = f"{table.path}, column {table.label_column!r}"
    if options.eval is not None:
        # The label map is made of the training rows alone, before the other file is looked at.
        labels = label_map(table.labels, place=place)
        columns = {"text": table.text_column, "label": str(table.label_column)}
        other = _read(options.eval, options, prefer=columns)
        encode_labels(other, labels)  # an unknown label is told before anything is tokenised
        everything = np.arange(len(table.dataset))
        rest = np.arange(len(other.dataset))
        return labels, everything, rest, other, f"evaluated on {options.eval}"
    names = label_map(table.labels, place=place)
    train, held_out = split_rows(names.encode(table.labels), options.test_size, options.split_seed)
    # `split_rows` keeps every label in the training part, so the map is that of these rows too.
    words = f"{options.test_size:.0%} held out, each label in its share, seed {options.split_seed}"
    return names, train, held_out, table, words


def _limit(options: FinetuneOptions, config: BertConfig) -> tuple[int, str]:
    positions = config.max_position_embeddings
    if options.max_length is None:
        return positions, "the model's position table"
    if not _SHORTEST <= options.max_length <= positions:
        raise UsageError(
            f"--max-length is {options.max_length}, and the model takes {positions} tokens at most",
            fix=f"give a number from {_SHORTEST} to {positions}",
        )
    return options.max_length, "--max-length"


def _tell(data: Prepared) -> None:
    tell_rows("Training", data.train.encoded, data.labels.names)
    tell_rows("Evaluation", data.eval.encoded, data.labels.names)
    say(f"Split: {data.split}")
    limit = data.train.encoded.account.max_length
    say(f"Limit: {limit} tokens, from {data.max_length_source}")
    if data.repeated:
        say(
            f"Caution: {plural(data.repeated, 'evaluation text')} also among the training texts, "
            "word for word, which flatters the result"
        )
