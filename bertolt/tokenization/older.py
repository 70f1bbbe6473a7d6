"""What programs call on the peer's tokenizers, of 2019 to today, and `BertTokenizer` has not.

A name or an argument that would change a result and is not here is refused, with what to write
instead; one that changes nothing here is taken, and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bertolt.base.arguments import take_unused
from bertolt.base.errors import AbsentNameError, DataError, UsageError, nearest

_CHAT = "format the messages yourself: an encoder has no chat template"
_SETTINGS = "read the attribute of that name, as tokenizer.model_max_length"
_TARGETS = "tokenize the targets in a call of their own, and take their input_ids as labels"
_BACKEND = "tokenizer.backend_tokenizer, a tokenizers.Tokenizer, has it"


def _table(*rows: tuple[str, str]) -> dict[str, str]:
    return {name: instead for names, instead in rows for name in names.split()}


ABSENT = _table(
    (
        "apply_chat_template get_chat_template save_chat_templates chat_control_tokens "
        "encode_message_with_chat_template response_template get_response_parser parse_response",
        _CHAT,
    ),
    (
        "add_bos_token add_eos_token update_post_processor",
        f"{_BACKEND}: its post_processor puts special tokens around a text",
    ),
    ("add_prefix_space", "give add_prefix_space to from_pretrained"),
    ("_tokenizer backend model basic_tokenizer wordpiece_tokenizer", _BACKEND),
    (
        "can_save_slow_tokenizer slow_tokenizer_class convert_to_native_format",
        "leave it out: save_pretrained writes vocab.txt beside tokenizer.json wherever it can",
    ),
    (
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
        "use clean_up_tokenization_spaces",
    ),
    ("convert_added_tokens", "give add_tokens a tokenizers.AddedToken"),
    (
        "deprecation_warnings verbose",
        "leave it out: warnings.filterwarnings silences what a tokenizer says",
    ),
    ("init_inputs init_kwargs pretrained_init_configuration", _SETTINGS),
    ("files_loaded vocab_file", "name_or_path is where the tokenizer came from"),
    (
        "vocab_files_names pretrained_vocab_files_map",
        "save_vocabulary and save_pretrained return the files that they write",
    ),
    ("max_model_input_sizes", "use model_max_length"),
    (
        "push_to_hub",
        "save_pretrained(folder), then huggingface_hub.upload_folder(folder_path=folder, …)",
    ),
    ("register_for_auto_class", "import your class: AutoTokenizer is BertTokenizer"),
    (
        "set_truncation_and_padding",
        "give padding, truncation and max_length to each call: a call leaves nothing set",
    ),
    ("special_tokens_map_extended", "use special_tokens_map"),
    ("all_special_tokens_extended", "use all_special_tokens"),
    (
        "sanitize_special_tokens",
        "leave it out: special tokens are always in the vocabulary",
    ),
    ("as_target_tokenizer _switch_to_input_mode _switch_to_target_mode", _TARGETS),
    ("prepare_seq2seq_batch", _TARGETS),
)
"""Attributes of the peer's tokenizers, and what to write instead."""

CALL = _table(
    ("text_target text_pair_target", _TARGETS),
    ("split_special_tokens", "set tokenizer.split_special_tokens, or give it to from_pretrained"),
    ("add_prefix_space", "give it to from_pretrained"),
    ("return_input_lengths return_lengths", "use return_length"),
)
"""Arguments of a call, and what to write instead."""

LOADING = _table(
    ("subfolder", "give the folder itself, as name_or_path"),
    ("proxies", "set HTTPS_PROXY in the environment"),
    ("tokenizer_file vocab_file", "give that file as name_or_path"),
    ("use_auth_token", "use token"),
    ("gguf_file", "convert it: a tokenizer.json is read"),
)
"""Arguments of `from_pretrained`, and what to write instead."""

SAVING = _table(
    ("push_to_hub", ABSENT["push_to_hub"]),
    ("filename_prefix", "save to a folder of its own: only files of the usual names are found"),
    (
        "save_format",
        "leave it out: tokenizer.json and vocab.txt are both written",
    ),
)
"""Arguments of `save_pretrained`, and what to write instead."""

UNUSED = {
    "verbose": "warnings.filterwarnings silences what a tokenizer says",
    "use_fast": "there is one tokenizer, and it is the fast one",
    "from_slow": "tokenizer.json is read where there is one, else vocab.txt",
    "trust_remote_code": "a model's own code is never run",
    "resume_download": "a download that was broken off always goes on",
    "legacy_format": "tokenizer.json and vocab.txt are both written",
    "legacy": "the pipeline of tokenizer.json holds",
    "tokenizer_type": "the pipeline of tokenizer.json holds",
    "do_basic_tokenize": "words are always split at punctuation, as BERT was published",
    "never_split": "tokens of add_tokens are never split",
    "config": "a tokenizer reads config.json itself",
}
"""Arguments that change nothing here, and why."""

OLDER_OPTIONS = ("pad_to_max_length", "truncation_strategy", "is_pretokenized")
"""Options of a call that are spelt in another way by now."""

CHANGES = (
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
    *("extra_special_tokens", "additional_special_tokens", "clean_up_tokenization_spaces"),
    *("split_special_tokens", "model_input_names", "add_prefix_space", "max_len"),
    "pretrained_model_name_or_path",
)
"""What `from_pretrained` takes beside its own arguments."""

BESIDE: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "__call__": (OLDER_OPTIONS, CALL),
    "pad": ((), CALL),
    "prepare_for_model": (OLDER_OPTIONS, CALL),
    "from_pretrained": (CHANGES, LOADING),
    "save_pretrained": ((), SAVING),
}
"""By method: what it takes beside its own arguments, and what to write instead of the rest."""

_CHANGING: dict[str, tuple[Any, ...]] = {
    "do_basic_tokenize": (True, None),
    "never_split": (None, [], ()),
}
"""Values with which these change nothing; with others the peer splits words in another way."""


class CallOptions(NamedTuple):
    """What an older spelling of a call says of three options of today's."""

    padding: Any
    truncation: Any
    is_split_into_words: bool


def newer_call(older: dict[str, Any], options: CallOptions, max_length: int | None) -> CallOptions:
    """Today's options for `pad_to_max_length`, `truncation_strategy` and `is_pretokenized`.

    What is read is taken out of `older`. As in the peer, texts that are padded to a `max_length`
    in this way are cut to it too, unless `truncation` says otherwise.
    """
    padding, truncation, words = options
    if (strategy := older.pop("truncation_strategy", None)) is not None and truncation is None:
        truncation = strategy
    if older.pop("pad_to_max_length", False) and padding is False:
        truncation = max_length is not None if truncation is None else truncation
        padding = "longest" if max_length is None else "max_length"
    return CallOptions(padding, truncation, bool(older.pop("is_pretokenized", False)) or words)


def without_unused(options: dict[str, Any]) -> list[str]:
    """Take out of `options` what changes nothing here; what to say of it.

    Raises:
        UsageError: a value with which it would change something.
    """
    for name, harmless in _CHANGING.items():
        if name in options and options[name] not in harmless:
            raise UsageError(
                f"{name}={options[name]!r} would split words in another way",
                fix=f"leave it out: {UNUSED[name]}",
            )
    return take_unused(options, UNUSED)


def absent(owner: object, name: str) -> AttributeError:
    """The error for an attribute that a tokenizer does not have."""
    kind = type(owner).__name__
    if name.startswith("__"):  # what copying and pickling ask for before there is any state
        return AttributeError(f"{kind} has no {name}")
    close = nearest(name, [each for each in dir(type(owner)) if not each.startswith("_")])
    hint = f"use {close}" if close else f"dir({kind}) lists what there is"
    return AbsentNameError(f"{kind} has no {name}", fix=ABSENT.get(name, hint))


def cut_ids(
    ids: Sequence[int],
    pair: Sequence[int] | None,
    surplus: int,
    strategy: str,
    stride: int,
    side: str,
) -> tuple[list[int], list[int] | None, list[int]]:
    """A text and its pair without `surplus` tokens, and what was cut with `stride` tokens before.

    Of a pair that is cut "longest_first" nothing is given back of what was cut, and where an odd
    token has to go it is the pair's: so does the peer where it cuts ids.

    Raises:
        DataError: the text that is to be cut has too few tokens, or is not there.
    """
    first, second = list(ids), None if pair is None else list(pair)
    if surplus <= 0 or strategy == "do_not_truncate":
        return first, second, []
    if strategy == "longest_first" and second is not None:
        gap = len(first) - len(second)
        alone = min(abs(gap), surplus)
        both = surplus - alone
        of_first = both // 2 + (alone if gap > 0 else 0)
        first = _without(first, of_first, side)
        return first, _without(second, surplus - of_first, side), []
    target = second if strategy == "only_second" else first
    if target is None:
        raise DataError("truncation='only_second', and there is no pair", fix="use truncation=True")
    window = min(len(target), stride + surplus)
    overflow = target[-window:] if side == "right" else target[:window]
    rest = _without(target, surplus, side)
    return (first, rest, overflow) if strategy == "only_second" else (rest, second, overflow)


def _without(ids: list[int], surplus: int, side: str) -> list[int]:
    if surplus > len(ids):
        raise DataError(
            f"{surplus} tokens are to be cut from a text of {len(ids)}",
            fix="use truncation=True, which may cut both texts, or a larger max_length",
        )
    return ids[surplus:] if side == "left" else ids[: len(ids) - surplus]
