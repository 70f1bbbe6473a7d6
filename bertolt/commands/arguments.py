"""Files and folders on the command line: which comes first, and which may be written."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from bertolt.base.console import info
from bertolt.base.errors import UsageError
from bertolt.base.files import require_apart
from bertolt.base.paths import is_circle, kind_of
from bertolt.tasks.predictor import Predictor
from bertolt.train.folder import RESULT

_MODEL_FILES = (*RESULT, "*.safetensors", "*.bin", "*.index.json", "added_tokens.json")


def require_model_first(command: str, model: str, file: str | None) -> None:
    """Refuse a file where the model should be, as when the two are typed in the wrong order.

    Args:
        command: its name.
        model: the first argument.
        file: the second one; None: there is no other.

    Raises:
        UsageError: the first argument is a file; the fix is what to type.
    """
    path = Path(model)
    if not path.is_file():
        return
    folder = "MODEL" if file is None or not Path(file).is_dir() else shlex.quote(file)
    behind = "" if command == "inspect" else f" {shlex.quote(model)}"
    if _is_of_model(path) and (path.parent / "config.json").is_file():
        folder, behind = shlex.quote(str(path.parent)), f" {shlex.quote(file)}" if file else ""
    raise UsageError(
        "it is a file, and the folder of the model comes first",
        place=model,
        fix=f"bertolt {command} {folder}{behind}",
    )


def reads_like_text(file: str) -> bool:
    """Whether what stands in the place of a file may rather be a text."""
    path = Path(file)
    return any(map(str.isspace, file)) or not (path.suffix or len(path.parts) > 1)


def require_file(model: str, file: str) -> None:
    """Refuse a text where a file of texts should be.

    Raises:
        UsageError: there is no such file, and its name reads like a text.
    """
    if os.path.exists(file) or not reads_like_text(file):  # noqa: PTH110 - of any length
        return
    raise UsageError(
        "there is no such file",
        place=file,
        fix=f"if it is a text: bertolt predict {shlex.quote(model)} --text {shlex.quote(file)}",
    )


def require_output(path: Path, option: str, *, overwrite: bool, inputs: Sequence[str] = ()) -> None:
    """Refuse an output that is one of the inputs, or a file that nobody gave leave to replace.

    A device or a pipe is written to and not replaced, so it is always fine.

    Args:
        path: of the output, a link perhaps.
        option: that names it.
        overwrite: whether `--overwrite` was given.
        inputs: files that are read, and folders of models; what is neither is passed over.

    Raises:
        UsageError: the file may not be written.
    """
    place = f"{option} {path}"
    if is_circle(path):
        raise UsageError(f"it is {kind_of(path)}", place=place, fix="name a file")
    if not path.exists():
        return
    if path.is_dir():
        raise UsageError("there is a folder of this name", place=place, fix="name a file")
    fix = f"choose another name for {option}"
    require_apart(path, inputs, option)
    for each in map(Path, inputs):
        if each.is_dir() and _is_part_of(path, each):
            raise UsageError(f"it would replace a part of the model {each}", place=place, fix=fix)
    if path.is_file() and not overwrite:
        raise UsageError(
            "there is a file of this name", place=place, fix=f"{fix}, or add --overwrite"
        )


def require_outputs(
    outputs: Mapping[str, Path | None], *, overwrite: bool, inputs: Sequence[str] = ()
) -> None:
    """Refuse outputs of one command that `require_output` refuses, and one file for two of them.

    Args:
        outputs: by the options that name them; None: not asked for.
        overwrite: whether `--overwrite` was given.
        inputs: as for `require_output`.

    Raises:
        UsageError: a file may not be written, or would be written twice.
    """
    named: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        require_output(path, option, overwrite=overwrite, inputs=inputs)
        if path.exists() and not path.is_file():
            continue  # such as /dev/null, which takes any number
        other = named.setdefault(path.resolve(), option)
        if other != option:
            place = f"{option} {path}"
            raise UsageError(f"{other} names it too", place=place, fix="name another file")


def _is_part_of(path: Path, folder: Path) -> bool:
    """Whether a file is one of a model in a folder, also through a link of either kind."""
    return any(
        each.is_file() and path.samefile(each) for each in folder.iterdir() if _is_of_model(each)
    )


def _is_of_model(path: Path) -> bool:
    """Whether a file is called like one of a model."""
    return any(fnmatch(path.name, pattern) for pattern in _MODEL_FILES)


def tell_missing_contract(predictor: Predictor, model: str) -> None:
    """Say what nobody knows of a model that another library wrote, or that lost a file.

    A model of a task that `finetune` does not teach never has a contract, and lacks nothing.
    """
    if predictor.contract is None and not predictor.task.taught_by:
        info(
            f"No bertolt.json in {model}: the answers are the model's own outputs, without units, "
            "thresholds, pairs and limit of its training"
        )
