"""The Hugging Face layout in and out: `config.json` and `model.safetensors`."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertolt.base.errors import CheckpointError, UsageError
from bertolt.base.files import write_atomically
from bertolt.base.hub import find_folder
from bertolt.base.paths import has_file
from bertolt.checkpoint.loadable import Loadable
from bertolt.checkpoint.report import WRAPPERS, LoadReport, Mismatch
from bertolt.checkpoint.weights import (
    LEGACY_WEIGHTS,
    SHARD_INDEX,
    WEIGHTS,
    Weights,
    write_tensors,
)

# What weights are stored in; whole numbers would need scales to mean anything.
_FORMATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# Old spellings in files, and what they are called here. One-way: they are never written.
OLD_SPELLINGS = (
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)

# Tensors that old versions saved although they are computed from the configuration.
_DERIVED = (r"embeddings\.position_ids$",)

# What a model and its tokenizer have on the hub. A star also stands for folders, and those beside
# the model hold it in other formats.
_FILES = (
    "config.json",
    WEIGHTS,
    SHARD_INDEX,
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "bertolt.json",
    "metrics.json",
)


def resolve(name_or_path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Path:
    """The folder of a model: the path itself, or a hub id fetched into the hub's cache.

    The legacy file of weights is fetched only where there is no other.

    Args:
        name_or_path: a folder, or an id on the hub.
        options: more arguments of the hub's client: `revision`, `local_files_only`, …

    Raises:
        CheckpointError: neither such a folder nor such a model.
    """
    folder = find_folder(name_or_path, _FILES, options)
    if has_file(folder / WEIGHTS) or has_file(folder / SHARD_INDEX):
        return folder
    return find_folder(name_or_path, (*_FILES, LEGACY_WEIGHTS), options)


def load(
    model: Loadable,
    folder: Path,
    *,
    seed: int,
    ignore_mismatched_sizes: bool,
    ignore_missing: str | Iterable[str] = (),
    ignore_unexpected: str | Iterable[str] = (),
    anew: str | Iterable[str] = (),
) -> LoadReport:
    """Initialise what the folder's weights lack, copy what they have, compare each copy.

    Args:
        model: built and on the CPU, its values undefined. It is untied where its config says that
            two weights are one and the file has different values for them.
        folder: holds the weights.
        seed: of the initialised values.
        ignore_mismatched_sizes: initialise instead of refusing where shapes differ.
        ignore_missing, ignore_unexpected: patterns beside the class's own.
        anew: patterns of parameters that are initialised whatever the file has.

    Raises:
        CheckpointError: no weights, none that belong to this model, a broken file, a shape that
            does not fit, a failed comparison.
        UsageError: a pattern that is no regular expression.
    """
    weights = Weights(folder)
    report = _match(
        model,
        weights,
        str(folder),
        _patterns(model._keys_to_ignore_on_load_missing, ignore_missing),
        _patterns(model._keys_to_ignore_on_load_unexpected, ignore_unexpected),
        _patterns(anew),
    )
    if report.mismatched and not ignore_mismatched_sizes:
        raise _misfit(report.mismatched, weights.path)
    if not report.loaded and not report.mismatched:
        raise CheckpointError(
            f"none of its {len(weights.shapes)} tensors has a place in {type(model).__name__}",
            place=str(weights.path),
            fix=f"name the folder of a {model.config.model_type} model",
        )
    _initialise(model, report, seed)
    ours = {name: key for key, name in report.loaded.items()}
    with torch.no_grad():
        for name, tensor in weights.read(ours):
            _copy_and_compare(model.get_parameter(ours[name]), tensor, name, weights.path)
    return report


def _misfit(mismatched: list[Mismatch], path: Path) -> CheckpointError:
    first, others = mismatched[0], len(mismatched) - 1
    rest = f" (and {others} more that do not fit)" if others else ""
    return CheckpointError(
        f"{first.key} has shape {list(first.file_shape)} in the file and "
        f"{list(first.model_shape)} in the model{rest}",
        place=str(path),
        fix="name a folder whose config.json is that of its weights; in Python, build the model in "
        "the file's shape, or start this tensor anew with ignore_mismatched_sizes=True",
    )


def _copy_and_compare(parameter: Tensor, tensor: Tensor, name: str, path: Path) -> None:
    if tensor.dtype not in _FORMATS:
        raise CheckpointError(
            f"the tensor {name} holds {str(tensor.dtype).removeprefix('torch.')} values, which are "
            "no weights as they stand",
            place=str(path),
            fix="name a checkpoint that is not quantised",
        )
    parameter.copy_(tensor)
    finite = bool(parameter.isfinite().all())
    if not finite or not torch.equal(parameter, tensor.to(parameter.dtype)):
        found = "does not equal its copy"
        if not finite:
            found = "holds NaN" if bool(parameter.isnan().any()) else "holds infinite values"
        raise CheckpointError(
            f"the tensor {name} {found}", place=str(path), fix="fetch or train the model again"
        )


def _match(
    model: Loadable,
    weights: Weights,
    source: str,
    ignore_missing: Iterable[str],
    ignore_unexpected: Iterable[str],
    anew: Iterable[str],
) -> LoadReport:
    """Decide for every parameter and every tensor of the file what becomes of it."""
    report = LoadReport(source=source)
    tied = model.tied_weights()
    # A parameter with two names counts under both.
    keys = [*dict(model.named_parameters()), *tied, *tied.values()]
    shapes = {key: tuple(model.get_parameter(key).shape) for key in keys}
    found, unmatched = _find_keys(weights, shapes, model.base_model_prefix)
    _settle_ties(model, weights, found, report)
    for key, shape in shapes.items():
        name, pattern = found.get(key), _matching(key, anew)
        if name is not None and pattern:
            report.ignored[name] = pattern
        elif name is not None and weights.shapes[name] == shape:
            report.loaded[key] = name
        elif name is not None:
            report.mismatched.append(Mismatch(key, shape, weights.shapes[name]))
    settled = report.tied.keys() | {report.tied.get(key, key) for key in report.loaded}
    for key in shapes:
        if key in settled:
            continue
        report.initialised[key] = model.initial_rule(key)
        pattern = _matching(key, ignore_missing)
        if pattern and key not in found:
            report.ignored[key] = pattern
    for name in unmatched:
        pattern = _matching(name, (*_DERIVED, *ignore_unexpected))
        if pattern:
            report.ignored[name] = pattern
        else:
            report.unexpected.append(name)
    return report


def read_some(folder: Path, keys: Iterable[str], prefix: str) -> dict[str, Tensor]:
    """What a folder's weights have for some parameters, by their keys.

    Args:
        folder: holds the weights.
        keys: of the parameters.
        prefix: that the family's checkpoints have before the keys of the backbone.

    Raises:
        CheckpointError: no weights, or a broken file.
    """
    weights = Weights(folder)
    found, _ = _find_keys(weights, set(keys), prefix)
    ours = {name: key for key, name in found.items()}
    return {ours[name]: tensor for name, tensor in weights.read(ours)}


def _find_keys(
    weights: Weights, known: Container[str], prefix: str
) -> tuple[dict[str, str], list[str]]:
    """Parameter to the file's name for it, and the names that no parameter goes by."""
    found: dict[str, str] = {}
    unmatched: list[str] = []
    # Where a file has a parameter twice, its own name wins over an old spelling of it.
    for name in sorted(weights.shapes, key=lambda name: name not in known):
        key = _translate(name, known, prefix)
        if key in known and key not in found:
            found[key] = name
        else:
            unmatched.append(name)
    return found, unmatched


def _translate(name: str, known: Container[str], prefix: str) -> str:
    """The model's key for a name in the file: old spellings mended, the prefix put on or off."""
    for old, new in OLD_SPELLINGS:
        name = re.sub(old, new, name)
    bare = WRAPPERS.sub("", name, count=1) if WRAPPERS.match(name) else name
    candidates = [
        key
        for each in (name, bare)
        for key in (each, f"{prefix}.{each}", each.removeprefix(f"{prefix}."))
    ]
    return next((key for key in candidates if key in known), name)


def _settle_ties(
    model: Loadable, weights: Weights, found: dict[str, str], report: LoadReport
) -> None:
    """Where the file has two values for what is one parameter, let its numbers count.

    Word embeddings and output matrix are then untied, whatever the config says. A bias stays one
    parameter under two names: the module that computes has the alias, so its value is taken.
    """
    for alias, source in model.tied_weights().items():
        if not {alias, source} <= found.keys() or weights.same(found[alias], found[source]):
            continue
        if model.get_parameter(source) is model.get_input_embeddings().weight:
            model.untie_weights()
            report.untied[alias] = source
        else:
            report.conflicting[found.pop(source)] = found[alias]
    report.tied = model.tied_weights()


def _patterns(*given: str | Iterable[str]) -> tuple[str, ...]:
    """The patterns of the class and of the call in one; a single pattern may be a string."""
    patterns = [
        pattern for some in given for pattern in ((some,) if isinstance(some, str) else some)
    ]
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(
                f"{pattern!r} is no regular expression ({error})", fix="for anything, write .*"
            ) from error
    return tuple(patterns)


def _matching(name: str, patterns: Iterable[str]) -> str:
    return next((pattern for pattern in patterns if re.search(pattern, name)), "")


def _initialise(model: Loadable, report: LoadReport, seed: int) -> None:
    """Run the model's own rule on every module that the file leaves without some value."""
    names = [*report.initialised, *(a for a, s in report.tied.items() if s in report.initialised)]
    lacking = {path for key in names for path in _modules_above(key)}
    values = {key: model.get_parameter(key) for key in report.initialised}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for value in values.values():
            value.fill_(math.nan)
        model.run_init_rule(lacking)
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


def _is_one(model: Loadable, key: str, other: str) -> bool:
    """Whether the two names still are of one parameter; somebody may have set one of them."""
    return model.get_parameter(key) is model.get_parameter(other)


def save(
    model: Loadable,
    directory: str | os.PathLike[str],
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write `config.json` and `model.safetensors`, each whole or not at all.

    Args:
        model: to write.
        directory: where.
        weights: in place of the model's, by the same names.

    Raises:
        BertoltError: the folder cannot be written.
    """
    folder = Path(directory)
    tensors = _named_once(model, weights)
    write_atomically(folder / WEIGHTS, lambda path: write_tensors(path, tensors))
    config = model.config.changed(architectures=[type(model).__name__])
    # Readers take the number format from here; what an earlier file said is about its own weights.
    config.extra = {key: value for key, value in config.extra.items() if key != "torch_dtype"}
    config.extra["dtype"] = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    config.save_pretrained(folder)


def digest(model: Loadable) -> str:
    """Twelve digits that tell the weights of a model from others."""
    # Sums of the bits: enough to tell one model from another, and fast.
    weights = [int(v.float().view(torch.int32).sum()) for v in model.state_dict().values()]
    return hashlib.sha256(str(weights).encode()).hexdigest()[:12]


def restore(model: Loadable, folder: Path) -> None:
    """Give a model the weights that `save` wrote of one of the same shape, bit by bit.

    Raises:
        CheckpointError: a tensor more or less, of another shape or another format.
    """
    weights = Weights(folder)
    ours = _named_once(model)
    found = dict(weights.read(weights.shapes))
    for name in sorted(ours.keys() ^ found.keys()):
        side = "is not in the file" if name in ours else "has no place in the model"
        raise _unlike(folder, f"the tensor {name} {side}")
    for name, value in found.items():
        if (value.shape, value.dtype) != (ours[name].shape, ours[name].dtype):
            here = f"{list(ours[name].shape)} of {ours[name].dtype} in the model"
            raise _unlike(folder, f"{name} is {list(value.shape)} of {value.dtype}, and {here}")
    for name, value in found.items():
        ours[name].copy_(value)


def _unlike(folder: Path, how: str) -> CheckpointError:
    return CheckpointError(how, place=str(folder / WEIGHTS), fix="build the model as it was")


def _named_once(model: Loadable, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The model's tensors as they are written: in no gradient's graph, no memory twice."""
    tied = model.tied_weights() if model.config.tie_word_embeddings else {}
    # What is one parameter is written once. A reader that knows of no ties needs every name.
    once = {key for key, other in tied.items() if _is_one(model, key, other)}
    tensors: dict[str, Tensor] = {}
    places: set[int] = set()
    for key, value in (model.state_dict() if weights is None else weights).items():
        key = key.replace("_orig_mod.", "")  # of a part that was compiled
        if key in once:
            continue
        tensors[key] = value.clone() if value.data_ptr() in places else value
        places.add(value.data_ptr())
    return tensors
