"""What the keys of a tokenizer's JSON files may hold, as tables, and the refusal of the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from bertolt.base.checks import are_texts, is_whole
from bertolt.base.errors import CheckpointError

ValueType = tuple[Callable[[Any], bool], str]
"""Whether a value is of this type, and in words what is asked for."""


def require_types(values: Mapping[str, Any], types: Mapping[str, ValueType], place: str) -> None:
    """Refuse the first value that is not of its key's type; null says nothing, and is none.

    Args:
        values: of a JSON object.
        types: of each key; other keys may hold anything.
        place: the file.

    Raises:
        CheckpointError: with the key, its value, and what is needed.
    """
    for name, (is_right, needed) in types.items():
        value = values.get(name)
        if value is not None and not is_right(value):
            raise CheckpointError(f"{name} is {value!r}", place=place, fix=f"give {needed}")


def _is_count(value: Any) -> bool:
    """Whether it counts tokens; files write that there is no limit as 1e30, with its point."""
    if isinstance(value, float):
        return value >= 0 and (math.isinf(value) or value.is_integer())
    return is_whole(value) and value >= 0


def _is_token(value: object) -> bool:
    if not isinstance(value, Mapping):
        return isinstance(value, str)
    flags = ("lstrip", "rstrip", "single_word", "normalized", "special")
    switches = all(isinstance(value[name], bool) for name in flags if name in value)
    return isinstance(value.get("content"), str) and switches


def _are_tokens(value: object) -> bool:
    if isinstance(value, Mapping) and "content" not in value:
        return all(map(_is_token, value.values()))
    return _is_token(value) or (isinstance(value, list | tuple) and all(map(_is_token, value)))


def _are_tokens_by_id(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        key.isascii() and key.isdigit() and isinstance(token, Mapping) and _is_token(token)
        for key, token in value.items()
    )


_COUNT: ValueType = (_is_count, "a whole number, as 512")
_SWITCH: ValueType = (lambda value: isinstance(value, bool), "true or false")
_SIDE: ValueType = (lambda value: value in ("left", "right"), '"left" or "right"')
_TOKENS: ValueType = (_are_tokens, 'a list of texts, as ["[E1]"]')

TOKEN: ValueType = (_is_token, 'a text, as "[CLS]", or an object that has it as its content')
TOKEN_ID: ValueType = (is_whole, "the token's id, a whole number")

MODEL: dict[str, ValueType] = {"max_position_embeddings": _COUNT, "pad_token_id": _COUNT}
"""Keys of the model's `config.json` that a tokenizer reads."""

SETTINGS: dict[str, ValueType] = {
    "model_max_length": _COUNT,
    "max_len": _COUNT,
    "do_lower_case": _SWITCH,
    "strip_accents": _SWITCH,
    "tokenize_chinese_chars": _SWITCH,
    "clean_up_tokenization_spaces": _SWITCH,
    "split_special_tokens": _SWITCH,
    "padding_side": _SIDE,
    "truncation_side": _SIDE,
    "model_input_names": (are_texts, 'a list of texts, as ["input_ids", "attention_mask"]'),
    "extra_special_tokens": _TOKENS,
    "additional_special_tokens": _TOKENS,
    "added_tokens_decoder": (_are_tokens_by_id, 'tokens by their ids, as {"5": {"content": "x"}}'),
    "tokenizer_class": (lambda value: isinstance(value, str), "the name of a class"),
}
"""Keys of `tokenizer_config.json`, named special tokens left out."""
