"""A tokenizer's files: found in a folder or on the hub, read into a backend and its settings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer

from bertolt.base.arguments import refuse_unknown
from bertolt.base.console import info
from bertolt.base.errors import CheckpointError, UsageError
from bertolt.base.files import write_text
from bertolt.base.hub import find_folder
from bertolt.base.json_files import read_json
from bertolt.base.paths import has_file
from bertolt.tokenization.config_types import MODEL, SETTINGS, TOKEN, TOKEN_ID, require_types
from bertolt.tokenization.older import CHANGES, LOADING, without_unused
from bertolt.tokenization.vocabulary import (
    bert_backend,
    guess_lower_case,
    read_vocab,
    token_text,
    with_prefix_space,
)

# `model_max_length` of a tokenizer whose limit no file tells; the value that files use for it.
UNLIMITED = int(1e30)

# Every special token that has a name, in the order in which they are listed.
NAMED_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)

TOKENIZER, VOCAB, CONFIG = "tokenizer.json", "vocab.txt", "tokenizer_config.json"
_SPECIAL_MAP, _ADDED, _MODEL_CONFIG = "special_tokens_map.json", "added_tokens.json", "config.json"

# Classes whose vocab.txt is read by BERT's own pipeline. Others (Japanese ones, for example) split
# words in ways that vocab.txt does not tell.
_BERT_CLASSES = re.compile(r"((Bert|DistilBert|Electra|MobileBert|PreTrained)Tokenizer(Fast)?)?")

_SETTINGS = {**SETTINGS, **dict.fromkeys(NAMED_TOKENS, TOKEN)}

_CASING = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
# Models whose texts begin in the row of the position table that is behind the padding's.
_POSITIONS_BEHIND_PADDING = ("roberta", "xlm-roberta")
# Tokenizers and models whose texts have no segment ids, unless the files say otherwise.
_WITHOUT_SEGMENTS = re.compile(r"(xlm-?)?roberta", re.IGNORECASE)
_PASSED_ON = (
    "padding_side",
    "truncation_side",
    "clean_up_tokenization_spaces",
    "model_input_names",
    "split_special_tokens",
)


@dataclass(frozen=True)
class _Files:
    """Where each file is; None for one that there is not."""

    place: str
    paths: Mapping[str, Path]

    def json(self, name: str) -> dict[str, Any]:
        """The content of a JSON file; empty if there is no such file.

        Raises:
            CheckpointError: it is damaged, or a value that is read from it is of the wrong type.
        """
        path = self.paths.get(name)
        if path is None:
            return {}
        try:
            content = read_json(path)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        if not isinstance(content, dict):
            raise _unreadable(path, f"it holds a {type(content).__name__}, not an object")
        types = {_MODEL_CONFIG: MODEL, _ADDED: dict.fromkeys(content, TOKEN_ID)}
        require_types(content, types.get(name, _SETTINGS), str(path))
        return content


def read_tokenizer(
    name_or_path: str | os.PathLike[str], overrides: Mapping[str, Any], **hub: Any
) -> tuple[Tokenizer, dict[str, Any]]:
    """The backend of a folder, a file or a hub id, and the arguments for `BertTokenizer`.

    Args:
        name_or_path: a folder, a `tokenizer.json` or `vocab.txt`, or a hub id.
        overrides: keys of `tokenizer_config.json` that win over the files.
        hub: `revision`, `cache_dir`, `local_files_only`.

    Raises:
        CheckpointError: nothing there, or a file that is missing, damaged or not for BERT.
    """
    files = _locate(name_or_path, hub)
    config = {**files.json(_SPECIAL_MAP), **files.json(CONFIG), **overrides}
    special = {name: _token(config[name]) for name in NAMED_TOKENS if config.get(name)}
    if TOKENIZER in files.paths:
        backend, casing = _from_json(files.paths[TOKENIZER], config, overrides)
        # tokenizer.json already says how these tokens take the space around them.
        special = {name: token_text(token) for name, token in special.items()}
    elif VOCAB in files.paths:
        backend, casing = _from_vocab(files, config, special, overrides)
    else:
        raise CheckpointError(
            f"there is neither {TOKENIZER} nor {VOCAB} here",
            place=files.place,
            fix="copy one of them from the model that this was trained from, or save the tokenizer"
            " here: tokenizer.save_pretrained(folder)",
        )
    return backend, {
        "special_tokens": special,
        "extra_special_tokens": _extra_tokens(config),
        "model_max_length": _limit(config, files),
        "name_or_path": str(name_or_path),
        "casing": casing,
        **_input_names(files),
        **{name: config[name] for name in _PASSED_ON if config.get(name) is not None},
    }


def loading_settings(changes: Mapping[str, Any]) -> dict[str, Any]:
    """What is given to the loading of a tokenizer, as keys of `tokenizer_config.json`.

    What changes nothing is told.

    Raises:
        UsageError: a name that is none of these.
        CheckpointError: a value of another type.
    """
    rest = {name: value for name, value in changes.items() if value is not None}
    for reason in without_unused(rest):
        info(reason)
    if (longest := rest.pop("max_len", None)) is not None:
        rest.setdefault("model_max_length", longest)
    known = [*_SETTINGS.keys() - {"tokenizer_class", "added_tokens_decoder"}, *CHANGES]
    refuse_unknown("a tokenizer", rest, sorted(known), LOADING)
    settings = {name: _as_written(value) for name, value in rest.items()}
    require_types(settings, _SETTINGS, "from_pretrained")
    return settings


def _as_written(value: Any) -> Any:
    """A value as configuration files have it: tokens with flags are objects there."""
    if isinstance(value, AddedToken):
        return _flags_of(value)
    return [*map(_as_written, value)] if isinstance(value, list | tuple) else value


def write_vocab(folder: Path, backend: Tokenizer, prefix: str) -> tuple[str, ...]:
    """Write `vocab.txt`; returns its path.

    Raises:
        UsageError: such a file could not tell the vocabulary.
    """
    lines = _vocab_lines(backend)
    if lines is None:
        raise UsageError(
            f"{VOCAB} could not tell this vocabulary",
            fix="save_pretrained(folder) writes tokenizer.json, which can",
        )
    path = folder / (f"{prefix}-{VOCAB}" if prefix else VOCAB)
    write_text(path, lines)
    return (str(path),)


def write_tokenizer(
    folder: Path, backend: Tokenizer, settings: Mapping[str, Any]
) -> tuple[str, ...]:
    """Write the three files of a tokenizer; returns the paths of those written.

    Each says all: with `vocab.txt`, the tokens added to it stand in `tokenizer_config.json`.
    """
    normalizer = backend.normalizer
    config = {key: value for key, value in settings.items() if value not in ([], UNLIMITED)}
    if isinstance(normalizer, BertNormalizer):
        config["do_lower_case"] = normalizer.lowercase
        config["strip_accents"] = normalizer.strip_accents
        config["tokenize_chinese_chars"] = normalizer.handle_chinese_chars
    # Who reads vocab.txt learns from this which ids the tokens behind its lines have.
    config["added_tokens_decoder"] = {
        str(index): _flags_of(token)
        for index, token in sorted(backend.get_added_tokens_decoder().items())
    }
    config["tokenizer_class"] = "BertTokenizer" if _is_plain_bert(backend) else _GENERIC_CLASS
    # Not by the backend itself, whose error for a full disk is a bare Exception.
    write_text(folder / TOKENIZER, backend.to_str(pretty=True))
    write_text(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    written = [folder / TOKENIZER, folder / CONFIG]
    lines = _vocab_lines(backend)
    if lines is not None:
        write_text(folder / VOCAB, lines)
        written.append(folder / VOCAB)
    return tuple(map(str, written))


# Readers that know this class take tokenizer.json as it is; those that know BertTokenizer build
# the pipeline anew from the vocabulary.
_GENERIC_CLASS = "PreTrainedTokenizerFast"


def _is_plain_bert(backend: Tokenizer) -> bool:
    """Whether the pipeline is the one that `bert_backend` would build from the vocabulary."""
    normalizer, model = backend.normalizer, backend.model
    if not isinstance(model, WordPiece) or not isinstance(normalizer, BertNormalizer):
        return False
    template = json.loads(backend.to_str())
    vocab = backend.get_vocab(with_added_tokens=False)
    texts = (template["post_processor"] or {}).get("special_tokens") or {}
    if model.unk_token not in vocab or len(texts) != 2:
        return False
    same = bert_backend(
        vocab,
        do_lower_case=normalizer.lowercase,
        strip_accents=normalizer.strip_accents,
        tokenize_chinese_chars=normalizer.handle_chinese_chars,
        special_tokens={"unk_token": model.unk_token},
    )
    expected = json.loads(same.to_str())
    return all(
        template[part] == expected[part]
        for part in ("model", "normalizer", "pre_tokenizer", "decoder", "post_processor")
    )


def _vocab_lines(backend: Tokenizer) -> str | None:
    """The content of `vocab.txt`, or None when such a file could not tell this vocabulary."""
    vocab = backend.get_vocab(with_added_tokens=False)
    tokens = sorted(vocab, key=lambda token: vocab[token])
    gaps = any(vocab[token] != index for index, token in enumerate(tokens))
    # Other readers end a line at a lone \r too.
    broken = any("\n" in token or "\r" in token for token in tokens)
    if gaps or broken or not isinstance(backend.model, WordPiece):
        return None
    return "".join(f"{token}\n" for token in tokens)


def _locate(name_or_path: str | os.PathLike[str], hub: Mapping[str, Any]) -> _Files:
    path = Path(name_or_path).expanduser()
    names = (TOKENIZER, VOCAB, CONFIG, _SPECIAL_MAP, _ADDED, _MODEL_CONFIG)
    if path.is_file():
        return _Files(str(path), {TOKENIZER if path.suffix == ".json" else VOCAB: path})
    path = find_folder(name_or_path, names, hub)
    return _Files(str(name_or_path), {n: path / n for n in names if has_file(path / n)})


def _from_json(
    path: Path, config: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[Tokenizer, str]:
    """The backend of a `tokenizer.json`, and how it is known whether to lower-case."""
    try:
        backend = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exception for a file that it cannot read
        raise _unreadable(path, error) from error
    if "add_prefix_space" in overrides:
        backend = with_prefix_space(backend, bool(overrides["add_prefix_space"]))
    casing = _casing(config)
    if "strip_accents" in config:
        casing["strip_accents"] = config["strip_accents"]  # null: as lower-casing is
    normalizer = backend.normalizer
    if not isinstance(normalizer, BertNormalizer):
        changed = [name for name in _CASING if name in overrides]
        if changed:
            raise UsageError(
                f"{changed[0]} cannot be changed: the normalizer of this file is not BERT's",
                place=str(path),
                fix=f"leave {changed[0]} out",
            )
        return backend, f"{TOKENIZER}: its own normalizer"
    backend.normalizer = BertNormalizer(
        clean_text=normalizer.clean_text,
        handle_chinese_chars=casing.get("tokenize_chinese_chars", normalizer.handle_chinese_chars),
        strip_accents=casing.get("strip_accents", normalizer.strip_accents),
        lowercase=casing.get("do_lower_case", normalizer.lowercase),
    )
    source = _casing_source(casing, overrides)
    return backend, source or f"{TOKENIZER}: lowercase={normalizer.lowercase}"


def _from_vocab(
    files: _Files,
    config: Mapping[str, Any],
    special: Mapping[str, str | AddedToken],
    overrides: Mapping[str, Any],
) -> tuple[Tokenizer, str]:
    """The backend of a `vocab.txt`, and how it is known whether to lower-case."""
    name = str(config.get("tokenizer_class") or "")
    if not _BERT_CLASSES.fullmatch(name):
        raise CheckpointError(
            f"{CONFIG} asks for {name}, whose way to split words {VOCAB} does not tell",
            place=files.place,
            fix=f"load it with its own library and save a {TOKENIZER}",
        )
    vocab = read_vocab(files.paths[VOCAB])
    guessed, reason = guess_lower_case(vocab)
    casing = _casing(config)
    backend = bert_backend(
        vocab,
        do_lower_case=casing.get("do_lower_case", guessed),
        strip_accents=casing.get("strip_accents"),
        tokenize_chinese_chars=casing.get("tokenize_chinese_chars", True),
        special_tokens=special,
        added_tokens=_added_tokens(files, config, vocab, set(map(token_text, special.values()))),
        place=str(files.paths[VOCAB]),
    )
    return backend, _casing_source(casing, overrides) or reason


def _casing(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say how case, accents and Chinese characters are treated."""
    return {name: config[name] for name in _CASING if config.get(name) is not None}


def _casing_source(casing: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """Who said whether to lower-case, or an empty string when nobody did."""
    if "do_lower_case" not in casing:
        return ""
    source = "given" if "do_lower_case" in overrides else CONFIG
    return f"{source}: do_lower_case={casing['do_lower_case']}"


def _added_tokens(
    files: _Files, config: Mapping[str, Any], vocab: Mapping[str, int], named: set[str]
) -> list[AddedToken]:
    """Tokens that come after the lines of `vocab.txt`, in the order of their ids.

    Raises:
        CheckpointError: their ids do not follow on the vocabulary's.
    """
    special = named.union(_extra_tokens(config))
    by_id = {
        int(index): AddedToken(text, special=text in special, normalized=text not in special)
        for text, index in files.json(_ADDED).items()
    }
    for index, value in (config.get("added_tokens_decoder") or {}).items():
        by_id[int(index)] = _with_flags(value)
    after = {index: token for index, token in by_id.items() if token.content not in vocab}
    expected = range(max(vocab.values()) + 1, max(vocab.values()) + 1 + len(after))
    if sorted(after) != list(expected):
        raise CheckpointError(
            f"the added tokens have the ids {sorted(after)}, which do not follow on the"
            f" {len(vocab)} tokens of {VOCAB}",
            place=files.place,
            fix=f"copy {VOCAB} and {_ADDED} from the same model",
        )
    return [after[index] for index in expected]


def _extra_tokens(config: Mapping[str, Any]) -> list[str]:
    """The texts of the special tokens that have no name of their own."""
    extra: list[str] = []
    for key in ("extra_special_tokens", "additional_special_tokens"):
        value = config.get(key) or []
        if isinstance(value, str) or (isinstance(value, dict) and "content" in value):
            value = [value]
        extra += [
            token_text(_token(v)) for v in (value.values() if isinstance(value, dict) else value)
        ]
    return list(dict.fromkeys(extra))


def _limit(config: Mapping[str, Any], files: _Files) -> int:
    """The first of `model_max_length`, `max_len` and the model's positions that says a limit."""
    model = files.json(_MODEL_CONFIG)
    positions = model.get("max_position_embeddings")
    if positions and model.get("model_type") in _POSITIONS_BEHIND_PADDING:
        positions -= 1 + (model.get("pad_token_id") or 0)
    for value in (config.get("model_max_length"), config.get("max_len"), positions):
        if value and value < UNLIMITED:
            return int(value)
    return UNLIMITED


def _input_names(files: _Files) -> dict[str, list[str]]:
    """The fields of a call, where the model has no segments; else as usual."""
    kind = files.json(CONFIG).get("tokenizer_class") or files.json(_MODEL_CONFIG).get("model_type")
    if _WITHOUT_SEGMENTS.match(kind or ""):
        return {"model_input_names": ["input_ids", "attention_mask"]}
    return {}


def _token(value: str | Mapping[str, Any]) -> str | AddedToken:
    """A special token as configuration files write it: its text, or its text with flags."""
    return value if isinstance(value, str) else _with_flags({"special": True, **value})


def _with_flags(value: Mapping[str, Any]) -> AddedToken:
    special = bool(value.get("special", False))
    flags = {k: v for k, v in value.items() if k in ("lstrip", "rstrip", "single_word")}
    normalized = bool(value.get("normalized", not special))
    return AddedToken(value["content"], special=special, normalized=normalized, **flags)


def _flags_of(token: AddedToken) -> dict[str, Any]:
    """An added token as configuration files write it."""
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {flag: getattr(token, flag) for flag in flags}


def _unreadable(path: Path, reason: object) -> CheckpointError:
    return CheckpointError(
        f"this file cannot be read ({reason})",
        place=str(path),
        fix="copy it again from the model that it belongs to",
    )
