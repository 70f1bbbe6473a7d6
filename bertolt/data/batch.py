"""`PackedBatch`, the one thing that flows from the collator to the loss.

Sequences make documents, and documents make examples. A document is what has one output: mostly it
is one sequence; a longer one is read in several, its windows.

Shapes: B sequences, D documents, E examples, T packed tokens (filler included), L padded length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertolt.base.errors import DataError
from bertolt.base.few import repeated
from bertolt.data.padded_inputs import require_padded, require_shape

IGNORE_INDEX = -100
"""A label with this value takes no part in the loss."""

TARGETS = ("labels", "next_sentence_label", "start_positions", "end_positions")
"""What a batch may carry to learn from."""

ROW_MULTIPLES = (128, 64, 32, 16, 8)
"""T is rounded up to one of these: kernels are prepared once for each distinct shape."""

FILLER_SHARE = 1 / 24
"""The largest of `ROW_MULTIPLES` within this share of a batch is taken, the smallest at least."""


class Targets(TypedDict, total=False):
    """What a batch may be made with to learn from, as the attributes of `PackedBatch` say."""

    labels: Tensor | None
    next_sentence_label: Tensor | None
    start_positions: Tensor | None
    end_positions: Tensor | None
    num_choices: int
    group_starts: Tensor | None
    document_starts: Tensor | None
    inputs_embeds: Tensor | None
    teacher_logits: Tensor | None


@dataclass(frozen=True)
class HostCopies:
    """What a batch that was made on the CPU need not ask its GPU, which would be to wait for it.

    Attributes:
        cu_seqlens, labels: the batch's own, by which is seen whether the rest still fits it.
        starts: (B+1,) `cu_seqlens` on the CPU.
        labelled_rows: (M,) on the GPU, or None.
    """

    cu_seqlens: Tensor
    labels: Tensor | None
    starts: Tensor
    labelled_rows: Tensor | None


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Sequences end to end, without padding between them.

    Attributes:
        input_ids: (T,) token ids, int64.
        token_type_ids: (T,) segment ids, int64.
        position_ids: (T,) places within each sequence, int64.
        cu_seqlens: (B+1,) int32, where each sequence starts, and the end of the last.
        max_seqlen: the longest sequence, in tokens.
        num_tokens: real tokens; rows from here to T are filler, and there is at least one.
        labels: what the head's loss compares with, or None: (E,) or (E, C) for an example, which is
            a document or several, (T,) for heads that label tokens, filler ignored.
        next_sentence_label: (B,) 0 where the second segment is the true next one, else 1.
        start_positions, end_positions: (B,) first and last token of an answer, counted within its
            own sequence; `IGNORE_INDEX` where there is none to learn.
        num_choices: documents that make one example, as of multiple choice; the most of them, where
            examples have different numbers.
        group_starts: (E+1,) int64, the first document of each of E examples, and D; None: each
            `num_choices` of them are one.
        document_starts: (D+1,) int64, the first sequence of each of D documents, and B; None: each
            sequence is a document.
        windows_apart: its sequences are windows that are put together when all of a document are
            answered: a head gives for each what is then averaged.
        teacher_logits: (B, C), or (T, C) for heads that label tokens: what another model gave.
        inputs_embeds: (T, H) in place of the table's rows of `input_ids`, or None.
        loss_counts: labels of each target in all the batches that act as one with this, which the
            losses are then divided by; None: those of this batch.
        empty_sequences: how many at the end hold no token, and are there to make a shape recur.
        is_placeholder: it is there for a process that has no rows of its own, and counts nothing.
        host: filled in where the batch is moved.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    num_tokens: int
    labels: Tensor | None = None
    next_sentence_label: Tensor | None = None
    start_positions: Tensor | None = None
    end_positions: Tensor | None = None
    num_choices: int = 1
    group_starts: Tensor | None = None
    document_starts: Tensor | None = None
    windows_apart: bool = False
    inputs_embeds: Tensor | None = None
    teacher_logits: Tensor | None = None
    loss_counts: Mapping[str, int] | None = None
    empty_sequences: int = 0
    is_placeholder: bool = False
    host: HostCopies | None = field(default=None, repr=False)

    @property
    def num_rows(self) -> int:
        """T."""
        return self.input_ids.shape[0]

    @property
    def num_sequences(self) -> int:
        """B."""
        return self.cu_seqlens.numel() - 1

    @property
    def num_documents(self) -> int:
        """D: each is a sequence, or several that are its windows."""
        starts = self.document_starts
        return self.num_sequences if starts is None else starts.numel() - 1

    @property
    def num_examples(self) -> int:
        """E: each is a document, or several that belong together."""
        if self.group_starts is None:
            return self.num_documents // self.num_choices
        return self.group_starts.numel() - 1

    @property
    def is_ragged(self) -> bool:
        """Whether examples have different numbers of documents."""
        return self.num_documents != self.num_examples * self.num_choices

    @property
    def groups(self) -> Tensor:
        """(E+1,) int64 first document of each example, and D."""
        if self.group_starts is not None:
            return self.group_starts
        ends = self.num_documents + 1
        return torch.arange(0, ends, self.num_choices, device=self.cu_seqlens.device)

    @property
    def example_starts(self) -> Tensor:
        """(E+1,) int64 first sequence of each example, and B."""
        return self.groups if self.document_starts is None else self.document_starts[self.groups]

    @property
    def slots(self) -> Tensor:
        """(D,) int64 place of each document in a table (E, num_choices), counted row by row."""
        order = torch.arange(self.num_documents, device=self.cu_seqlens.device)
        if self.group_starts is None:
            return order
        example = torch.searchsorted(self.group_starts, order, right=True) - 1
        return example * self.num_choices + order - self.group_starts[example]

    @property
    def first_rows(self) -> Tensor:
        """(B,) int64 row of the first token of each sequence."""
        return self.cu_seqlens[:-1].long()

    @property
    def lengths(self) -> Tensor:
        """(B,) tokens of each sequence."""
        return self.cu_seqlens.diff()

    @functools.cached_property
    def sequence(self) -> Tensor:
        """(num_tokens,) int64 sequence of each token."""
        order = torch.arange(self.num_sequences, device=self.cu_seqlens.device)
        return repeated(order, self.lengths, self.num_tokens)

    @functools.cached_property
    def column(self) -> Tensor:
        """(num_tokens,) int64 place of each token within its sequence."""
        rows = torch.arange(self.num_tokens, device=self.cu_seqlens.device)
        return rows - self.first_rows[self.sequence]

    @property
    def starts_on_host(self) -> Tensor:
        """(B+1,) `cu_seqlens` on the CPU; a batch that was made there need not ask its GPU."""
        host = self.host
        if host is not None and host.cu_seqlens is self.cu_seqlens:
            return host.starts
        return self.cu_seqlens.cpu()

    def token_means(self, values: Tensor) -> Tensor:
        """(num_tokens, …) values of tokens as (D, …) means over all windows of each document."""
        starts = self.cu_seqlens
        if self.document_starts is not None:
            starts = starts[self.document_starts]
        sums = torch.segment_reduce(values, "sum", offsets=starts.long(), axis=0)
        return sums / starts.diff()[:, None]

    def document_means(self, values: Tensor) -> Tensor:
        """(B, …) values of sequences as (D, …) means over the windows of each document."""
        return means_between(values, self.document_starts)

    @property
    def labelled_rows(self) -> Tensor | None:
        """(M,) int64 rows with a label (T,) that takes part in the loss; None without such labels.

        On a GPU their number has to be waited for, unless the batch was made on the CPU.
        """
        if self.labels is None or self.labels.shape != self.input_ids.shape:
            return None
        if self.host is not None and self.host.labels is self.labels:
            return self.host.labelled_rows
        return (self.labels != IGNORE_INDEX).nonzero().squeeze(1)

    def padded(self, *, pad_token_id: int = 0, position_offset: int = 0) -> dict[str, Tensor]:
        """The batch as the arguments of a padded call: `model(**batch.padded())`.

        Args:
            pad_token_id: what padding holds.
            position_offset: row of the position table that the first place has, by the config.

        Returns:
            `input_ids`, `attention_mask` and `token_type_ids` of (B, L), of (E, num_choices, L) for
            multiple choice, where a choice that an example lacks is padding, and the targets that
            there are; labels of tokens are (B, L), `IGNORE_INDEX` at the padding. `position_ids`
            too, rows of the position table, where they are others than a model counts by itself.
            With `inputs_embeds`, (B, L, H), there are no `input_ids`.

        Raises:
            DataError: a document has several windows.
        """
        if self.document_starts is not None:
            raise DataError(
                "documents in several windows have no padded form",
                fix='read longer texts with long="truncate" or "head-tail", or a packed batch',
            )
        count, length = self.num_examples * self.num_choices, int(self.lengths.max())
        where = (self.slots[self.sequence], self.column)

        def laid_out(values: Tensor, filler: int) -> Tensor:
            table = values.new_full((count, length, *values.shape[1:]), filler)
            table = table.index_put(where, values[: self.num_tokens])
            inner = (length, *values.shape[1:])
            return table.view(-1, self.num_choices, *inner) if self.num_choices > 1 else table

        tensors = {
            "input_ids": laid_out(self.input_ids, pad_token_id),
            "attention_mask": laid_out(torch.ones_like(self.input_ids), 0),
            "token_type_ids": laid_out(self.token_type_ids, 0),
        }
        if self.inputs_embeds is not None:
            del tensors["input_ids"]
            tensors["inputs_embeds"] = laid_out(self.inputs_embeds, 0)
        if not torch.equal(self.position_ids[: self.num_tokens], self.column):
            tensors["position_ids"] = laid_out(self.position_ids + position_offset, position_offset)
        targets = {name: getattr(self, name) for name in TARGETS}
        tensors |= {name: value for name, value in targets.items() if value is not None}
        if self.labels is not None and self.labels.shape == self.input_ids.shape:
            tensors["labels"] = laid_out(self.labels, IGNORE_INDEX)
        return tensors

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> PackedBatch:
        """The same batch on another device."""
        if torch.device(device) == self.cu_seqlens.device:
            return self
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedBatch:
        """The same batch in memory that a GPU can copy from while the CPU goes on."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> PackedBatch:
        values = ((item.name, getattr(self, item.name)) for item in fields(self))
        changed: dict[str, Any] = {
            name: change(value) for name, value in values if isinstance(value, Tensor)
        }
        rows = self.labelled_rows
        host = HostCopies(
            cu_seqlens=changed["cu_seqlens"],
            labels=changed.get("labels"),
            starts=self.starts_on_host,
            labelled_rows=None if rows is None else change(rows),
        )
        return replace(self, **changed, host=host)

    @classmethod
    def from_sequences(
        cls,
        input_ids: Sequence[Sequence[int] | np.ndarray],
        token_type_ids: Sequence[Sequence[int] | np.ndarray] | None = None,
        *,
        token_labels: Sequence[Sequence[int] | np.ndarray] | None = None,
        pad_token_id: int = 0,
        row_multiple: int | None = None,
        **targets: Unpack[Targets],
    ) -> PackedBatch:
        """Pack B sequences of ids, each given as a list or an array.

        Args:
            input_ids: the ids of each sequence.
            token_type_ids: as many segment ids for each; None: zeros.
            token_labels: a label for each token, for heads that label tokens.
            pad_token_id: what filler rows hold.
            row_multiple: of T; None: by the size of the batch.
            targets: `labels` of whole sequences, for other heads, and more of the attributes.

        Raises:
            DataError: no sequence at all, one without a token, or one whose segment ids or labels
                are not as many as its tokens.
        """
        lengths = [len(ids) for ids in input_ids]
        if not lengths or 0 in lengths:
            empty = f"sequence {lengths.index(0)} empty" if lengths else "no sequence"
            raise DataError(f"a batch cannot be packed with {empty}", fix="leave empty texts out")
        if token_type_ids is not None:
            _require_same_lengths(lengths, token_type_ids, "token_type_ids")
        if token_labels is not None:
            _require_same_lengths(lengths, token_labels, "labels")
        # By numpy: for as few numbers as those of a text, PyTorch takes several times as long.
        starts = np.cumsum([0, *lengths], dtype=np.int32)
        total = int(starts[-1])
        rows = padded_rows(total, row_multiple)
        if token_labels is not None:
            _label_tokens(targets, _joined(token_labels, rows, IGNORE_INDEX))
        return cls(
            input_ids=_joined(input_ids, rows, pad_token_id),
            token_type_ids=_joined([] if token_type_ids is None else token_type_ids, rows),
            position_ids=_joined([np.arange(total) - np.repeat(starts[:-1], lengths)], rows),
            cu_seqlens=torch.from_numpy(starts),
            max_seqlen=max(lengths),
            num_tokens=total,
            **targets,
        )

    @classmethod
    def from_flat(
        cls,
        input_ids: Tensor,
        cu_seqlens: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        token_labels: Tensor | None = None,
        pad_token_id: int = 0,
        row_multiple: int | None = None,
        **targets: Unpack[Targets],
    ) -> PackedBatch:
        """Put filler behind B sequences, none of them empty, that stand end to end already.

        Args:
            input_ids, token_type_ids, position_ids, token_labels: (num_tokens,) of whole numbers.
                Without segment ids they are 0; places count from the start of each sequence.
            cu_seqlens: (B+1,) int32, where each sequence starts, and the end of the last.
            pad_token_id: what filler rows hold.
            row_multiple: of T; None: by the size of the batch.
            targets: as for `from_sequences`.
        """
        lengths, total = cu_seqlens.diff(), input_ids.numel()
        rows = padded_rows(total, row_multiple)

        def filled(values: Tensor, filler: int = 0) -> Tensor:
            return torch.constant_pad_nd(values.long(), (0, rows - total), filler)

        if position_ids is None:
            starts = repeated(cu_seqlens[:-1], lengths, total)
            position_ids = torch.arange(total, device=input_ids.device) - starts
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        if token_labels is not None:
            _label_tokens(targets, filled(token_labels, IGNORE_INDEX))
        return cls(
            input_ids=filled(input_ids, pad_token_id),
            token_type_ids=filled(token_type_ids),
            position_ids=filled(position_ids),
            cu_seqlens=cu_seqlens,
            max_seqlen=int(lengths.max()),
            num_tokens=total,
            **targets,
        )

    @classmethod
    def from_padded(
        cls,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        labels_per_token: bool = False,
        next_sentence_label: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        num_choices: int = 1,
        group_starts: Tensor | None = None,
        row_multiple: int | None = None,
    ) -> tuple[PackedBatch, PaddedLayout]:
        """Pack a padded batch, all of shape (B, L), and remember where its tokens were.

        Positions default to the column, counted from the row's first real token, so that padding
        on the left and on the right give the same result. With `labels_per_token`, labels are
        (B, L) too. Start and end positions are columns; one at the padding is ignored. There are
        `input_ids`, or (B, L, H) `inputs_embeds`.

        Raises:
            DataError: not of shape (B, L), a mask or labels of another shape, or a row without a
                token.
        """
        if inputs_embeds is not None:
            input_ids = _in_place_of_ids(inputs_embeds)
        assert input_ids is not None
        require_padded(input_ids, attention_mask, token_type_ids, position_ids)
        size, length = input_ids.shape
        mask = (
            torch.ones_like(input_ids, dtype=torch.bool)
            if attention_mask is None
            else attention_mask.bool()
        )
        if not bool(mask.any(dim=1).all()):
            row = int((~mask.any(dim=1)).nonzero()[0])
            raise DataError(f"row {row} of attention_mask has no token", fix="leave the row out")
        where = mask.flatten().nonzero().squeeze(1)
        padded = PaddedLayout(size, length, where, padded_rows(len(where), row_multiple))
        if position_ids is None:
            first = mask.int().argmax(dim=1, keepdim=True)
            position_ids = (torch.arange(length, device=input_ids.device) - first).clamp_(min=0)

        def real(values: Tensor) -> Tensor:
            return values.expand(size, length).reshape(-1)[where]

        if labels is not None and labels_per_token:
            require_shape("labels", labels, input_ids)
            if labels.is_floating_point():
                raise DataError(f"labels of tokens are {labels.dtype}", fix="give class ids")
        batch = cls.from_flat(
            real(input_ids),
            starts_of(mask.sum(dim=1)),
            None if token_type_ids is None else real(token_type_ids),
            real(position_ids),
            token_labels=real(labels) if labels is not None and labels_per_token else None,
            labels=labels,
            next_sentence_label=next_sentence_label,
            start_positions=_places(start_positions, mask),
            end_positions=_places(end_positions, mask),
            num_choices=num_choices,
            group_starts=group_starts,
            inputs_embeds=None if inputs_embeds is None else padded.pack(inputs_embeds),
            row_multiple=row_multiple,
        )
        return batch, padded


@dataclass(frozen=True)
class PaddedLayout:
    """Where the tokens of a padded batch were, to lay packed results out again.

    Attributes:
        size: B.
        length: L.
        where: (num_tokens,) flat index into B·L of each packed token.
        rows: T.
    """

    size: int
    length: int
    where: Tensor
    rows: int

    def unpack(self, packed: Tensor, filler: float = 0.0) -> Tensor:
        """Lay (T, …) out as (B, L, …), with the filler at the padding."""
        packed = packed[: self.where.numel()]
        places, inner = self.size * self.length, packed.shape[1:]
        if len(packed) < places:
            packed = packed.new_full((places, *inner), filler).index_copy(0, self.where, packed)
        return packed.view(self.size, self.length, *inner)

    def pack(self, padded: Tensor, rows: int | None = None) -> Tensor:
        """The tokens of (B, L, …) as (T, …), or as so many rows: zeros behind the last token."""
        tokens = padded.flatten(0, 1).index_select(0, self.where)
        filler = (self.rows if rows is None else rows) - len(tokens)
        return F.pad(tokens, (*[0] * (2 * tokens.dim() - 1), filler))


def _in_place_of_ids(inputs_embeds: Tensor) -> Tensor:
    """Ids (B, L) of a padded batch that has embeddings: nobody reads them."""
    if inputs_embeds.dim() != 3 or not inputs_embeds.is_floating_point():
        raise DataError(
            f"inputs_embeds are {inputs_embeds.dtype} of the shape {tuple(inputs_embeds.shape)}, "
            "and floats (B, L, H) are needed",
            fix="give what model.get_input_embeddings()(input_ids) gives",
        )
    shape = inputs_embeds.shape[:2]
    return torch.zeros(shape, dtype=torch.long, device=inputs_embeds.device)


def _places(positions: Tensor | None, mask: Tensor) -> Tensor | None:
    """Columns (B,) or (B, 1) of a padded batch as places in each sequence, or `IGNORE_INDEX`."""
    if positions is None:
        return None
    if positions.shape == (len(mask), 1):
        positions = positions.squeeze(1)
    if positions.shape != mask.shape[:1] or positions.is_floating_point():
        raise DataError(
            f"positions of an answer have the shape {tuple(positions.shape)} and are "
            f"{positions.dtype}, and {mask.shape[0]} whole numbers are needed",
            fix="give each sequence one start and one end",
        )
    column = positions.clamp(0, mask.shape[1] - 1)[:, None]
    place = (mask.cumsum(dim=1) - 1).gather(1, column)
    real = mask.gather(1, column) & (column == positions[:, None])
    return place.masked_fill(~real, IGNORE_INDEX).squeeze(1)


def means_between(values: Tensor, starts: Tensor | None) -> Tensor:
    """(M, …) means of rows (B, …) from each of the starts (M+1,) to the next; None: as they are."""
    if starts is None:
        return values
    # On a GPU the default would wait for it, to see that the lengths add up.
    means: Tensor = torch.segment_reduce(
        values.float(), "mean", lengths=starts.diff(), axis=0, unsafe=True
    )
    return means


def starts_of(lengths: Tensor) -> Tensor:
    """`cu_seqlens` (B+1,) of sequences with so many tokens each (B,)."""
    return F.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))


def _joined(values: Sequence[Sequence[int] | np.ndarray], rows: int, filler: int = 0) -> Tensor:
    """Values of each token, end to end, and filler behind them: (T,) int64."""
    whole = np.full(rows, filler, dtype=np.int64)
    if len(values):
        total = sum(map(len, values))
        np.concatenate(values, out=whole[:total], casting="unsafe")
    return torch.from_numpy(whole)


def _label_tokens(targets: Targets, labels: Tensor) -> None:
    """Add (T,) labels of tokens, and filler to what another model gave for the tokens."""
    targets["labels"] = labels
    if (teacher := targets.get("teacher_logits")) is not None:
        targets["teacher_logits"] = F.pad(teacher, (0, 0, 0, len(labels) - len(teacher)))


def _require_same_lengths(
    lengths: list[int], values: Sequence[Sequence[int] | np.ndarray], name: str
) -> None:
    counts = [len(each) for each in values]
    if counts == lengths:
        return
    pairs = zip(lengths, counts, strict=False)
    row = next((row for row, (count, other) in enumerate(pairs) if count != other), len(counts))
    raise DataError(
        f"sequence {row} has not as many {name} as input_ids",
        fix=f"give {name} for every token, or for none",
    )


def padded_rows(total: int, multiple: int | None = None) -> int:
    """T for so many tokens: a multiple of `multiple`, None: of one of `ROW_MULTIPLES`."""
    if multiple is None:
        within = (each for each in ROW_MULTIPLES if each <= total * FILLER_SHARE)
        multiple = next(within, ROW_MULTIPLES[-1])
    # One row more than needed: attention counts on a last row that is filler.
    return -(-(total + 1) // multiple) * multiple
