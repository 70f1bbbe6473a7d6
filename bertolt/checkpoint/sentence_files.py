"""The files of sentence-transformers beside an encoder: how the states of tokens become one vector.

They are read as plain values; nothing that they name is imported or run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bertolt.base.checks import is_whole
from bertolt.base.errors import CheckpointError
from bertolt.base.files import write_text
from bertolt.base.json_files import read_json

MODULES = "modules.json"
POOLING = "1_Pooling"
ABOUT = "config_sentence_transformers.json"
LIMITS = "sentence_bert_config.json"
WRITTEN = (MODULES, POOLING, ABOUT, LIMITS)
"""Files and folders that are written beside an encoder."""
Pooling = Literal["mean", "cls"]

_KINDS = ("Transformer", "Pooling", "Normalize")
_PLACES = "sentence_transformers.models"  # old and new versions read these names
_OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ELSEWHERE = "encode with sentence-transformers, or take a model with mean or CLS pooling"


@dataclass(frozen=True, kw_only=True)
class SentenceFiles:
    """How an encoder makes a vector of a text.

    Attributes:
        pooling: "mean" of the states of all tokens, or the state of the first one, "cls".
        normalized: whether vectors are brought to length 1.
        max_length: most tokens of a text; None: all that the position table has.
    """

    pooling: Pooling = "mean"
    normalized: bool = True
    max_length: int | None = None

    def write(self, folder: Path, width: int) -> None:
        """Write them into the folder of an encoder whose vectors have `width` numbers.

        Raises:
            BertoltError: the folder cannot be written.
        """
        kinds = _KINDS[: 3 if self.normalized else 2]
        paths = ("", POOLING, "2_Normalize")
        modules = [
            {"idx": number, "name": str(number), "path": path, "type": f"{_PLACES}.{kind}"}
            for number, (kind, path) in enumerate(zip(kinds, paths, strict=False))
        ]
        modes = {name: mode == self.pooling for name, mode in _OLD_MODES.items()}
        (folder / POOLING).mkdir(parents=True, exist_ok=True)
        limits = {"max_seq_length": self.max_length, "do_lower_case": False}
        about: dict[str, Any] = {
            "similarity_fn_name": "cosine",
            "prompts": {},
            "default_prompt_name": None,
        }
        for name, values in {
            f"{POOLING}/config.json": {"word_embedding_dimension": width, **modes},
            LIMITS: limits,
            ABOUT: about,
            MODULES: modules,
        }.items():
            write_text(folder / name, json.dumps(values, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> SentenceFiles | None:
        """Read them; None for a folder without `modules.json`.

        Raises:
            CheckpointError: a file is broken, or asks for what is not made here.
        """
        if not os.path.lexists(folder / MODULES):
            return None
        modules = _read(folder / MODULES, list)
        kinds = [_kind(folder, module) for module in modules]
        if kinds not in (list(_KINDS[:2]), list(_KINDS)):
            raise _refused(
                folder / MODULES,
                f"its modules are {', '.join(kinds) or 'none'}, and vectors are made here by "
                "Transformer, Pooling and perhaps Normalize, in this order",
            )
        if modules[0].get("path"):
            raise _refused(
                folder / MODULES,
                f"its encoder is in {modules[0]['path']!r}, and not beside it",
                "save it anew with sentence-transformers 3 or later",
            )
        _require_plain(folder)
        values = _read(_settings(folder, modules[1]), dict)
        return cls(
            pooling=_pooling(folder, values), normalized=len(kinds) == 3, max_length=_limit(folder)
        )


def in_folders(folder: Path) -> list[Path]:
    """The files beside an encoder that lie in folders of their own, and decide its vectors too.

    Raises:
        CheckpointError: `modules.json` is broken.
    """
    if not os.path.lexists(folder / MODULES):
        return []
    return [_settings(folder, module) for module in _read(folder / MODULES, list)[1:2]]


def _settings(folder: Path, module: Any) -> Path:
    """The file that says how a module works."""
    path = module.get("path", POOLING) if isinstance(module, dict) else None
    if not isinstance(path, str) or Path(path).name != path or path in ("", ".."):
        shown = str(path)[:80]
        raise _refused(folder / MODULES, f"a module is in {shown!r}, which is no folder beside it")
    return folder / path / "config.json"


def _kind(folder: Path, module: Any) -> str:
    """The last name of a module's type, if it is one of the package's own."""
    name = module.get("type") if isinstance(module, dict) else None
    if not isinstance(name, str):
        raise _refused(folder / MODULES, "a module has no type")
    kind = name.rpartition(".")[2]
    if not name.startswith("sentence_transformers.") or kind not in _KINDS:
        raise _refused(
            folder / MODULES,
            f"it has a module {name[:80]!r}, and no code or weights of it run here",
        )
    return kind


def _require_plain(folder: Path) -> None:
    """Refuse a prompt before each text, and other changes of it."""
    about = _read(folder / ABOUT, dict) if (folder / ABOUT).is_file() else {}
    named, prompts = about.get("default_prompt_name"), about.get("prompts") or {}
    if named is not None and isinstance(prompts, Mapping) and prompts.get(named):
        raise _refused(
            folder / ABOUT,
            f"each text is to have the prompt {prompts[named]!r} before it, which nothing here "
            "writes",
        )
    limits = _read(folder / LIMITS, dict) if (folder / LIMITS).is_file() else {}
    tokenizer = _read(folder / "tokenizer_config.json", dict) if _has_tokenizer(folder) else {}
    if limits.get("do_lower_case") and tokenizer.get("do_lower_case") is False:
        raise _refused(folder / LIMITS, "do_lower_case is true, and the tokenizer keeps capitals")


def _pooling(folder: Path, values: Mapping[str, Any]) -> Pooling:
    modes = values.get("pooling_mode")
    if modes is None:
        modes = [mode for name, mode in _OLD_MODES.items() if values.get(name)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if modes == ["mean"]:
        return "mean"
    if modes == ["cls"]:
        return "cls"
    raise _refused(
        folder / POOLING, f"it pools by {modes!r}, and here is the mean, or the first token (cls)"
    )


def _limit(folder: Path) -> int | None:
    values = _read(folder / LIMITS, dict) if (folder / LIMITS).is_file() else {}
    limit = values.get("max_seq_length")
    if limit is None and _has_tokenizer(folder):  # where newer versions write it
        limit = _read(folder / "tokenizer_config.json", dict).get("model_max_length")
        limit = limit if is_whole(limit) and limit < 1 << 20 else None
    if limit is not None and (not is_whole(limit) or limit < 3):
        raise _refused(folder / LIMITS, f"max_seq_length is {limit!r}, and must be 3 or more")
    return limit


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer_config.json").is_file()


def _read(path: Path, kind: type) -> Any:
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise _refused(
            path, f"it cannot be read: {error}", "copy or save the model again"
        ) from error
    if not isinstance(values, kind):
        raise _refused(path, f"it holds no {'list' if kind is list else 'object'}")
    return values


def _refused(path: Path, problem: str, fix: str = _ELSEWHERE) -> CheckpointError:
    return CheckpointError(problem, place=str(path), fix=fix)
