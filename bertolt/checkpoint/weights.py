"""The tensors of a model folder: safetensors, shards of it, or a legacy `pytorch_model.bin`.

Nothing is unpickled: the legacy file is read with `weights_only`.
"""

from __future__ import annotations

import contextlib
import errno
import pickle
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bertolt.base.console import held_interrupts
from bertolt.base.errors import BertoltError, CheckpointError
from bertolt.base.json_files import read_json
from bertolt.base.paths import has_file, is_utf8
from bertolt.base.threads import ignored_warnings
from bertolt.checkpoint.exported import Exported

WEIGHTS = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"
LEGACY_WEIGHTS = "pytorch_model.bin"


class Weights:
    """The tensors of a model folder, by name, read one at a time.

    Attributes:
        path: the file, or the index of a sharded checkpoint.
        shapes: every name in the file, with its shape.

    Raises:
        CheckpointError: no file of weights, or one that is truncated, corrupted or not safe.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        self._loaded: dict[str, Tensor] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        if has_file(folder / WEIGHTS):
            self.path = folder / WEIGHTS
            self._add_safetensors(self.path)
        elif has_file(folder / SHARD_INDEX):
            self.path = folder / SHARD_INDEX
            self._add_shards(_read_index(self.path))
        elif has_file(folder / LEGACY_WEIGHTS):
            self.path = folder / LEGACY_WEIGHTS
            self._loaded = _read_legacy(self.path)
            self.shapes = {name: tuple(value.shape) for name, value in self._loaded.items()}
        else:
            if (exported := Exported.read(folder)) is not None:
                raise _is_exported(folder, exported)
            raise CheckpointError(
                "there are no weights here",
                place=str(folder),
                fix=f"name a folder that holds {WEIGHTS}; ONNX and TensorFlow are not read",
            )

    def _add_shards(self, index: Mapping[str, str]) -> None:
        for file in sorted(set(index.values())):
            self._add_safetensors(self.path.parent / file)
        for name, file in index.items():
            if self._files.get(name) != self.path.parent / file:
                raise _damaged(self.path, f"{name} is not in {file}, where it should be")

    def _add_safetensors(self, path: Path) -> None:
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118
                self._files[name] = path
                self.shapes[name] = tuple(file.get_slice(name).get_shape())

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors, one after the other, each file opened once."""
        by_file: dict[Path | None, list[str]] = {}
        for name in names:
            by_file.setdefault(self._files.get(name), []).append(name)
        for path, members in by_file.items():
            if path is None:
                yield from ((name, self._loaded[name]) for name in members)
                continue
            with _opened(path) as file:
                for name in members:
                    yield name, _undisturbed(file.get_tensor, name)

    def same(self, first: str, second: str) -> bool:
        """Whether two tensors of the file have the same shape and values."""
        values = dict(self.read((first, second)))
        return torch.equal(values[first], values[second])


def _is_exported(folder: Path, exported: Exported) -> CheckpointError:
    return CheckpointError(
        f"it was exported to {exported.format}: a graph is here, and no weights for PyTorch",
        place=str(folder),
        fix=f"answer with --engine {exported.engine}, in Python Predictor.from_pretrained(…, "
        f'engine="{exported.engine}"); else name the folder that it was exported from',
    )


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; on the CPU straight from where the tensors are, without a copy.

    Args:
        path: the file.
        tensors: no two of them in the same memory.

    Raises:
        OSError: the file system refused.
    """
    here = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(here, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # The library reports a full disk in its own exception.
        code = re.search(r"os error (\d+)", str(error))
        raise OSError(int(code.group(1)) if code else errno.EIO, str(error)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in memory of their own.

    Raises:
        CheckpointError: it is not there, truncated or corrupted.
    """
    with _opened(path) as file:
        # A mapped file would have to stay where it is.
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not is_utf8(path):
        raise CheckpointError(
            "the path is not in UTF-8, and weights are opened by no other",
            place=str(path),
            fix="rename the folder",
        )
    try:
        with _undisturbed(safe_open, path, framework="pt") as file:
            yield file
    except BertoltError:
        raise
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error


def _undisturbed(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a call gives, with Ctrl-C after it: inside, torch would take it for a wrong value."""
    with held_interrupts() as asked:
        value = call(*given, **named)
    if (number := asked()) is not None:
        signal.raise_signal(number)
    return value


def _damaged(path: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"the weights are truncated or corrupted ({how})",
        place=str(path),
        fix="fetch or copy the model again",
    )


def _read_index(path: Path) -> dict[str, str]:
    """Each tensor's name, and the file that it is in."""
    try:
        names = read_json(path)["weight_map"]
        for file in names.values():
            if not isinstance(file, str):
                raise TypeError("a file's name is not a text")
            if Path(file).name != file or not (path.parent / file).is_file():
                raise ValueError(f"{file!r} is not a file of this folder")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"not a readable index of shards ({error})", place=str(path), fix="fetch it again"
        ) from error
    return dict(names)


def _read_legacy(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        start = file.read(len(max(_LEGACY_STARTS, key=len)))
    if not start.startswith(_LEGACY_STARTS):
        raise _damaged(path, "it is no file of PyTorch's")
    try:
        with ignored_warnings():  # of what it then refuses
            values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"cannot be read without running code from it ({_culprit(error)})",
            place=str(path),
            fix="convert it to safetensors where you trust it",
        ) from error
    except Exception as error:  # a damaged pickle fails in whatever way its damage leads to
        raise _damaged(path, _first_line(error)) from error
    if not isinstance(values, dict):
        raise _damaged(path, f"it holds a {type(values).__name__}, not tensors by name")
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


# A zip archive, or a pickle of protocol 2 and later.
_LEGACY_STARTS = (b"PK\x03\x04", b"\x80")


def _culprit(error: Exception) -> str:
    """What a pickle asks for; torch's own words go on to advise to run it all the same."""
    match = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"it asks for {match.group(1)}" if match else "it is damaged, or holds more than tensors"


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), "")
    if "TorchScript" in line:
        return "it is a program in TorchScript, not tensors by name"
    return type(error).__name__ if not line or "weights_only" in line else line
