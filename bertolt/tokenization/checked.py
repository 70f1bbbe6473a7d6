"""What the keys of a tokenizer's JSON files may hold, and the refusal of what they may not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from bertolt.base.checks import are_texts, is_whole
from bertolt.base.errors import CheckpointError

Check = Callable[[Any], bool]
Kinds = Mapping[str, tuple[Check, str]]
"""By key, a check and in words what it asks for."""


def require_kinds(values: Mapping[str, Any], kinds: Kinds, place: str) -> None:
    """Refuse the first value that is not of its key's kind; null says nothing, and is none.

    Args:
        values: of a JSON object.
        kinds: a check for each key, and in words what it asks for; other keys may hold anything.
        place: the file.

    Raises:
        CheckpointError: with the key, what was found, and what is needed.
    """
    for name, (check, needed) in kinds.items():
        value = values.get(name)
        if value is not None and not check(value):
            raise CheckpointError(f"{name} is {value!r}", place=place, fix=f"give {needed}")


def _is_count(value: Any) -> bool:
    """Whether it counts tokens; files write that there is no limit as 1e30, with its point."""
    if isinstance(value, float):
        return value >= 0 and (math.isinf(value) or value.is_integer())
    return is_whole(value) and value >= 0


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_side(value: object) -> bool:
    return value in ("left", "right")


def _is_token(value: object) -> bool:
    if not isinstance(value, Mapping):
        return _is_text(value)
    flags = ("lstrip", "rstrip", "single_word", "normalized", "special")
    return _is_text(value.get("content")) and all(
        _is_switch(value[name]) for name in flags if name in value
    )


def _are_tokens(value: object) -> bool:
    if isinstance(value, Mapping) and "content" not in value:
        return all(map(_is_token, value.values()))
    return _is_token(value) or (isinstance(value, list | tuple) and all(map(_is_token, value)))


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _are_tokens_by_id(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    objects = all(isinstance(each, Mapping) and _is_token(each) for each in value.values())
    return objects and all(map(_is_id, value))


_COUNT = (_is_count, "a whole number, as 512")
_SWITCH = (_is_switch, "true or false")
_SIDE = (_is_side, '"left" or "right"')
_TOKEN = (_is_token, 'a text, as "[CLS]", or an object that has it as its content')
_TOKENS = (_are_tokens, 'a list of texts, as ["[E1]"]')

MODEL: Kinds = {"max_position_embeddings": _COUNT}
"""Keys of the model's `config.json` that a tokenizer reads."""

SETTINGS: Kinds = {
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
    "tokenizer_class": (_is_text, "the name of a class"),
}
"""Keys of `tokenizer_config.json`, named special tokens left out."""


def token_kinds(names: tuple[str, ...]) -> Kinds:
    """Checks of the special tokens of these names."""
    return dict.fromkeys(names, _TOKEN)


def id_kinds(names: Mapping[str, Any]) -> Kinds:
    """Checks of an object that gives each token its id."""
    return dict.fromkeys(names, (is_whole, "the token's id, a whole number"))
