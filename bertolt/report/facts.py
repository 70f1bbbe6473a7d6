"""`run.json`: the facts of a run as plain JSON values, of which its page is a function."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertolt.base.errors import BertoltError, UsageError
from bertolt.base.files import write_text
from bertolt.base.json_files import JsonError, read_json

Facts = Mapping[str, Any]

RUN = "run.json"
FORMAT = 1
"""Of the file. A change that an older reader would misread counts it up."""

_NEEDED: dict[str, tuple[str, ...]] = {
    "": ("kind", "title", "command", "started", "duration_seconds", "version", "arguments"),
    "machine": ("device", "precision", "attention", "versions"),
    "model": ("source", "architecture", "parameters", "load_report"),
    "training": ("curve", "eval_points", "steps", "epochs"),
}
"""Keys without which there is no page, by the part that holds them."""
_AGAIN = "run it again, with --overwrite and the command that `report.html` shows"


def plain(value: Any) -> Any:
    """A value as it comes back from JSON: NaN and infinities are None, a tuple a list, a path text.

    Arrays and tensors become lists of numbers.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return str(value)


def write_facts(facts: Facts, path: Path) -> None:
    """Write the facts, one line for each part of them, whole or not at all.

    Raises:
        BertoltError: the file cannot be written there.
    """
    parts = (
        f"{json.dumps(key)}: {json.dumps(plain(value), ensure_ascii=False)}"
        for key, value in facts.items()
    )
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    # Half a surrogate pair, as of a file name that is no UTF-8, stands as an escape.
    write_text(path, text)


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts of the run that filled a folder.

    Raises:
        UsageError: there is no such folder, or no `run.json` in it.
        BertoltError: the file cannot be read, or does not hold the facts of a run.
    """
    path = folder / RUN
    if not path.is_file():
        raise _missing(folder)
    try:
        facts = read_json(path, constant=lambda _: None)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise BertoltError(problem, place=str(path), fix="make it readable") from error
    except JsonError as error:
        raise BertoltError(f"it is no JSON: {error}", place=str(path), fix=_AGAIN) from error
    wrong = _wrong(facts)
    if wrong:
        raise BertoltError(wrong, place=str(path), fix=_AGAIN)
    if facts["format"] > FORMAT:
        raise BertoltError(
            f"its format is {facts['format']}, and this version reads up to {FORMAT}",
            place=str(path),
            fix="use the version of Bertolt that wrote it, or a newer one",
        )
    return dict(facts)


def _missing(folder: Path) -> UsageError:
    """What to say of a folder without `run.json`."""
    if not folder.is_dir():
        return UsageError(
            "there is no such folder", place=str(folder), fix="give the folder of a run, its --out"
        )
    if (folder / "metrics.json").is_file():
        return UsageError(
            f"the run is of a version that wrote no {RUN}, and its page cannot be drawn again",
            place=str(folder),
            fix=_AGAIN,
        )
    if (folder / "log.jsonl").is_file():
        return UsageError(
            f"the run has not come to its end, which is when {RUN} is written",
            place=str(folder),
            fix="let it end: bertolt pretrain … --resume",
        )
    return UsageError(
        f"there is no {RUN} in it",
        place=str(folder),
        fix="give a folder that `bertolt finetune` or `bertolt pretrain` wrote",
    )


def _wrong(facts: Any) -> str:
    """Why these are not the facts of a run, or nothing."""
    if not isinstance(facts, dict) or not isinstance(facts.get("format"), int):
        return "it does not hold the facts of a run: there is no number under `format`"
    for part, keys in _NEEDED.items():
        holder = facts.get(part) if part else facts
        if not isinstance(holder, dict):
            return f"it does not hold the facts of a run: `{part}` is missing"
        for key in keys:
            if key not in holder:
                name = f"{part}.{key}" if part else key
                return f"it does not hold the facts of a run: `{name}` is missing"
    return ""
