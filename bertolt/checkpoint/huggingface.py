"""The Hugging Face layout in and out: `config.json` and `model.safetensors`.

Nothing is unpickled: safetensors, or a legacy `pytorch_model.bin` read with `weights_only`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import pickle
import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bertolt.checkpoint.report import LoadReport, Mismatch
from bertolt.errors import CheckpointError
from bertolt.files import write_atomically
from bertolt.hub import find_folder

if TYPE_CHECKING:
    from bertolt.model.pretrained import PreTrainedModel

WEIGHTS = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"
LEGACY_WEIGHTS = "pytorch_model.bin"

# Old spellings in files, and what they are called here. One-way: they are never written.
OLD_SPELLINGS = (
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)

# Tensors that old versions saved although they are computed from the configuration.
_DERIVED = (r"embeddings\.position_ids$",)


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a model: the path itself, or a hub id fetched into the hub's cache.

    Raises:
        CheckpointError: neither such a folder nor such a model.
    """
    return find_folder(name_or_path, ["*.json", "*.safetensors", "vocab.txt", LEGACY_WEIGHTS])


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
        if (folder / WEIGHTS).is_file():
            self.path = folder / WEIGHTS
            self._add_safetensors(self.path)
        elif (folder / SHARD_INDEX).is_file():
            self.path = folder / SHARD_INDEX
            for shard in _shards(self.path):
                self._add_safetensors(shard)
        elif (folder / LEGACY_WEIGHTS).is_file():
            self.path = folder / LEGACY_WEIGHTS
            self._loaded = _read_legacy(self.path)
            self.shapes = {name: tuple(value.shape) for name, value in self._loaded.items()}
        else:
            raise CheckpointError(
                "there are no weights here",
                place=str(folder),
                fix=f"name a folder that holds {WEIGHTS}",
            )

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
                yield from ((name, file.get_tensor(name)) for name in members)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"the weights are truncated or corrupted ({how})",
        place=str(path),
        fix="fetch or copy the model again",
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [index.parent / name for name in sorted(names)]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"not a readable index of shards ({error})", place=str(index), fix="fetch it again"
        ) from error


def _read_legacy(path: Path) -> dict[str, Tensor]:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"cannot be read without running code from it ({_first_line(error)})",
            place=str(path),
            fix="convert it to safetensors where you trust it",
        ) from error
    except Exception as error:  # a damaged pickle fails in whatever way its damage leads to
        raise _damaged(path, _first_line(error)) from error
    if not isinstance(values, dict):
        raise _damaged(path, f"it holds a {type(values).__name__}, not tensors by name")
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def load(
    model: PreTrainedModel,
    folder: Path,
    *,
    seed: int,
    ignore_mismatched_sizes: bool,
    ignore_missing: Iterable[str] = (),
    ignore_unexpected: Iterable[str] = (),
) -> LoadReport:
    """Initialise what the folder's weights lack, copy what they have, compare each copy.

    Args:
        model: built and on the CPU, its values undefined.
        folder: holds the weights.
        seed: of the initialised values.
        ignore_mismatched_sizes: initialise instead of refusing where shapes differ.
        ignore_missing, ignore_unexpected: patterns beside those of the class.

    Raises:
        CheckpointError: no weights, a broken file, a shape that does not fit, a failed comparison.
    """
    weights = Weights(folder)
    _untie_where_the_file_differs(model, weights)
    report = match_keys(
        model,
        weights,
        str(folder),
        ignore_missing=(*model._keys_to_ignore_on_load_missing, *ignore_missing),
        ignore_unexpected=(*model._keys_to_ignore_on_load_unexpected, *ignore_unexpected),
    )
    if report.mismatched and not ignore_mismatched_sizes:
        first = report.mismatched[0]
        raise CheckpointError(
            f"{first.key} has shape {list(first.file_shape)} in the file and "
            f"{list(first.model_shape)} in the model",
            place=str(weights.path),
            fix="build the model in the file's shape, or start this tensor anew with "
            "ignore_mismatched_sizes=True",
        )
    _initialise(model, report, seed)
    parameters = dict(model.named_parameters())
    ours = {name: key for key, name in report.loaded.items()}
    with torch.no_grad():
        for name, tensor in weights.read(ours):
            _copy_and_compare(parameters[ours[name]], tensor, name, weights.path)
    return report


def _copy_and_compare(parameter: Tensor, tensor: Tensor, name: str, path: Path) -> None:
    parameter.copy_(tensor)
    if not torch.equal(parameter, tensor.to(parameter.dtype)):
        found = "holds NaN" if bool(tensor.isnan().any()) else "does not equal its copy"
        raise CheckpointError(
            f"the tensor {name} {found}", place=str(path), fix="fetch or train the model again"
        )


def match_keys(
    model: PreTrainedModel,
    weights: Weights,
    source: str,
    *,
    ignore_missing: Iterable[str] = (),
    ignore_unexpected: Iterable[str] = (),
) -> LoadReport:
    """Decide for every parameter and every tensor of the file what becomes of it."""
    report = LoadReport(source=source, tied=model.tied_weights())
    expected = {key: tuple(value.shape) for key, value in model.named_parameters()}
    found, homeless = _find_keys(model, weights, expected)
    for key, shape in expected.items():
        name = found.get(key)
        if name is not None and weights.shapes[name] == shape:
            report.loaded[key] = name
            continue
        if name is not None:
            report.mismatched.append(Mismatch(key, shape, weights.shapes[name]))
        elif pattern := _matching(key, ignore_missing):
            report.ignored[key] = pattern
        report.initialised[key] = model.initial_rule(key)
    for name in homeless:
        pattern = _matching(name, (*_DERIVED, *ignore_unexpected))
        if pattern:
            report.ignored[name] = pattern
        else:
            report.unexpected.append(name)
    return report


def _find_keys(
    model: PreTrainedModel, weights: Weights, expected: Container[str]
) -> tuple[dict[str, str], list[str]]:
    """Parameter to the file's name for it, and the names that no parameter goes by."""
    tied = model.tied_weights()
    known = {**dict.fromkeys(dict(model.named_parameters())), **dict.fromkeys(tied)}
    found: dict[str, str] = {}
    homeless: list[str] = []
    # Where a file has a parameter twice, its own name wins over an old spelling of it.
    for name in sorted(weights.shapes, key=lambda name: name not in known):
        key = _translate(name, known, model.base_model_prefix)
        if key in known and key not in found:
            found[key] = name
        else:
            homeless.append(name)
    for alias, source in tied.items():
        # The module that computes is the one that has the alias, so its value is the one to take.
        if alias in found:
            found[source] = found.pop(alias)
    return found, homeless


def _untie_where_the_file_differs(model: PreTrainedModel, weights: Weights) -> None:
    """Give a tied weight its own memory where the file has two values for the two names.

    Its config says that they are one, and the numbers say otherwise; the numbers count.
    """
    alias = "cls.predictions.decoder.weight"
    source = model.tied_weights().get(alias)
    names = {
        _translate(name, {alias, source or ""}, model.base_model_prefix): name
        for name in weights.shapes
    }
    if source is None or not {alias, source} <= names.keys():
        return
    values = dict(weights.read([names[alias], names[source]]))
    if not torch.equal(values[names[alias]], values[names[source]]):
        model.untie_weights()


def _translate(name: str, expected: Container[str], prefix: str) -> str:
    """The model's key for a name in the file: old spellings mended, the prefix put on or off."""
    for old, new in OLD_SPELLINGS:
        name = re.sub(old, new, name)
    candidates = (name, f"{prefix}.{name}", name.removeprefix("bert."))
    return next((key for key in candidates if key in expected), name)


def _matching(name: str, patterns: Iterable[str]) -> str:
    return next((pattern for pattern in patterns if re.search(pattern, name)), "")


def _initialise(model: PreTrainedModel, report: LoadReport, seed: int) -> None:
    """Run the model's own rule on every module that the file leaves without some value.

    Children come before parents, as in `Module.apply`: a parent's rule may set what is below it.
    """
    lacking = {path for key in report.initialised for path in _modules_above(key)}
    values = {key: model.get_parameter(key) for key in report.initialised}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for value in values.values():
            value.fill_(math.nan)
        for path, module in reversed(list(model.named_modules())):
            if path in lacking:
                model._init_weights(module)
    for key, value in values.items():
        if bool(value.isnan().any()):
            raise CheckpointError(
                f"{key} is not in the file, and no rule sets its first values",
                place=report.source,
                fix=f"set them in {type(model).__name__}._init_weights",
            )


def _modules_above(key: str) -> Iterator[str]:
    path = key
    while path:
        path = path.rpartition(".")[0]
        yield path


def save(model: PreTrainedModel, directory: str | os.PathLike[str]) -> None:
    """Write `config.json` and `model.safetensors`, each whole or not at all.

    Raises:
        BertoltError: the folder cannot be written.
    """
    folder = Path(directory)
    # A tied parameter is written once. A reader that knows of no ties needs every name.
    once = model.tied_weights() if model.config.tie_word_embeddings else {}
    tensors = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
        if key not in once
    }

    def write(path: Path) -> None:
        try:
            save_file(tensors, path, metadata={"format": "pt"})
        except SafetensorError as error:
            # The library reports a full disk in its own exception.
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code.group(1)) if code else errno.EIO, str(error)) from error

    write_atomically(folder / WEIGHTS, write)
    config = model.config.changed(architectures=[type(model).__name__])
    # Readers take the number format from here; what an earlier file said is about its own weights.
    config.extra = {key: value for key, value in config.extra.items() if key != "torch_dtype"}
    config.extra["dtype"] = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    config.save_pretrained(folder)
