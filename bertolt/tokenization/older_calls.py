"""The calls of older programs: `encode_plus`, `batch_encode_plus` and rows from ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bertolt.base.errors import DataError, UsageError
from bertolt.tokenization.batch_encoding import BatchEncoding, TensorKind, Truncated, as_lists
from bertolt.tokenization.encoder import TextEncoder
from bertolt.tokenization.older import cut_ids
from bertolt.tokenization.rows import PadTo, Side, Strategy


class OlderCalls(TextEncoder):
    """Adds to a call what it was called before there was one for texts and for batches."""

    def encode_plus(
        self,
        text: str | Sequence[str] | Sequence[int],
        text_pair: str | Sequence[str] | Sequence[int] | None = None,
        add_special_tokens: bool = True,
        **options: Any,
    ) -> BatchEncoding:
        """One text or one pair, as a call has it.

        Args:
            text: a text; a list of words with `is_split_into_words`; or tokens or ids, which become
                a row as in `prepare_for_model`.
            text_pair: the second text, as the first.
            add_special_tokens: put `[CLS]` and `[SEP]` in their places.
            options: as in a call.

        Raises:
            UsageError, DataError: as a call.
        """
        options["add_special_tokens"] = add_special_tokens
        words = options.get("is_split_into_words") or options.get("is_pretokenized")
        if isinstance(text, str) or words:
            return self(text, text_pair, **options)  # type: ignore[arg-type]
        first, second = self._as_ids(text), None if text_pair is None else self._as_ids(text_pair)
        return self.prepare_for_model(first, second, **options)

    def _as_ids(self, tokens: Any) -> list[int]:
        if isinstance(tokens, str):
            return self.encode(tokens, add_special_tokens=False)  # type: ignore[no-any-return]
        tokens = as_lists(tokens)
        if not isinstance(tokens, list | tuple) or not all(
            isinstance(each, str | int) for each in tokens
        ):
            raise DataError(
                f"encode_plus takes one text, and this is a {type(tokens).__name__}",
                fix="give several texts to a call: tokenizer(texts)",
            )
        return [self.convert_tokens_to_ids(t) if isinstance(t, str) else t for t in tokens]

    def batch_encode_plus(
        self,
        batch_text_or_text_pairs: Sequence[Any],
        add_special_tokens: bool = True,
        **options: Any,
    ) -> BatchEncoding:
        """Several texts or pairs, as a call has them.

        Args:
            batch_text_or_text_pairs: texts, lists of words, or tuples of a text and its pair.
            add_special_tokens: put `[CLS]` and `[SEP]` in their places.
            options: as in a call.

        Raises:
            UsageError, DataError: as a call.
        """
        if isinstance(batch_text_or_text_pairs, str):
            raise UsageError(
                "batch_encode_plus takes several texts, and this is one", fix="give a list: [text]"
            )
        return self(batch_text_or_text_pairs, add_special_tokens=add_special_tokens, **options)

    def prepare_for_model(
        self,
        ids: Sequence[int],
        pair_ids: Sequence[int] | None = None,
        add_special_tokens: bool = True,
        padding: bool | PadTo = False,
        truncation: bool | Strategy | None = None,
        max_length: int | None = None,
        stride: int = 0,
        *,
        pad_to_multiple_of: int | None = None,
        padding_side: Side | None = None,
        return_tensors: TensorKind | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
        prepend_batch_axis: bool = False,
        **older: Any,
    ) -> BatchEncoding:
        """A row from ids without special tokens: cut, framed and padded; arguments as in a call.

        Args:
            ids: of the text.
            pair_ids: of the second text.
            return_overflowing_tokens: `overflowing_tokens`, what was cut with `stride` tokens
                before it, and `num_truncated_tokens`; lists alone have them.
            prepend_batch_axis: a batch of one row, for tensors.

        Raises:
            UsageError: arguments that do not go together, or that there are not.
            DataError: too few tokens to cut.
        """
        if older:
            padding, truncation, _ = self._newer(older, padding, truncation, False, max_length)
        strategy, pad_to, limit = self._lengths(truncation, padding, max_length, pad_to_multiple_of)
        cut = self._cut(ids, pair_ids, strategy, limit, stride, add_special_tokens)
        first, second, overflow, lost = cut
        if add_special_tokens:
            row, segments = self._framed(first, second)
        else:
            row = [*first, *(second or ())]
            segments = [0] * len(row)
        columns: dict[str, Any] = {"input_ids": row}
        if self._is_asked("token_type_ids", return_token_type_ids):
            columns["token_type_ids"] = segments
        if return_special_tokens_mask:
            mask = self.get_special_tokens_mask(row, already_has_special_tokens=True)
            columns["special_tokens_mask"] = mask if add_special_tokens else [0] * len(row)
        if return_overflowing_tokens and overflow and return_tensors is None:
            columns |= {"overflowing_tokens": overflow, "num_truncated_tokens": lost}
        self._account([row], Truncated(int(lost > 0), lost), limit)
        batch = self.pad(
            columns,
            pad_to,
            limit,
            pad_to_multiple_of,
            padding_side,
            self._is_asked("attention_mask", return_attention_mask),
        )
        if return_length:
            batch["length"] = len(batch["input_ids"])
        return batch.convert_to_tensors(return_tensors, prepend_batch_axis)

    def _is_asked(self, name: str, asked: bool | None) -> bool:
        return asked if asked is not None else name in self.model_input_names

    def _cut(
        self,
        ids: Sequence[int],
        pair_ids: Sequence[int] | None,
        strategy: Strategy,
        limit: int | None,
        stride: int,
        framed: bool,
    ) -> tuple[list[int], list[int] | None, list[int], int]:
        """Ids cut to a row, what overflowed, and how many tokens were lost."""
        special = self.num_special_tokens_to_add(pair_ids is not None) if framed else 0
        size = len(ids) + len(pair_ids or ()) + special
        cuts = strategy != "do_not_truncate" and limit is not None
        surplus = max(0, size - limit) if cuts and limit is not None else 0
        kept = cut_ids(ids, pair_ids, surplus, strategy, stride, self.truncation_side)
        return (*kept, surplus)

    def truncate_sequences(
        self,
        ids: Sequence[int],
        pair_ids: Sequence[int] | None = None,
        num_tokens_to_remove: int = 0,
        truncation_strategy: Strategy = "longest_first",
        stride: int = 0,
    ) -> tuple[list[int], list[int] | None, list[int]]:
        """Ids of a text and its pair without so many tokens, and what was cut; nothing is counted.

        Args:
            ids, pair_ids: without special tokens.
            num_tokens_to_remove: from the side that `truncation_side` names.
            truncation_strategy: "longest_first", "only_first" or "only_second".
            stride: tokens that stay and are given back with what was cut, too.

        Raises:
            DataError: the text that is to be cut has too few tokens.
        """
        return cut_ids(
            ids, pair_ids, num_tokens_to_remove, truncation_strategy, stride, self.truncation_side
        )
