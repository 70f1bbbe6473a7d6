"""Encoded texts kept on disk, so that the same texts are tokenised once.

An entry is one Arrow file, named by a digest of all that decides its content: the texts, the
tokenizer, the limit, and the version of the code that made it. It is read without copying. A
disk that will not have it is no error: what cannot be read is made again, what cannot be written is
not kept, and both are said.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import BertoltError, UsageError
from bertolt.base.files import disk_errors, write_atomically
from bertolt.base.format import plural
from bertolt.data.arrow import pa
from bertolt.data.encode import (
    Encode,
    EncodedTexts,
    encode_examples,
    encode_texts,
    require_one_each,
)
from bertolt.data.sample_data import cache_dir
from bertolt.tokenization import BertTokenizer

FORMAT = 3
"""Part of every name. Raise it when entries look otherwise, or `encode_texts` gives other ids."""
SIZE_VARIABLE = "BERTOLT_CACHE_TOKENS"
USUAL_SIZE = "2GB"

_CHUNK = 2048  # texts that are taken from a table at a time
_DIGEST_BYTES = 20
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
_ABANDONED = 86_400.0  # seconds after which a draft is one that a killed run has left
_ARRAYS = {
    "ids": "int32",
    "offsets": "int64",
    "full_lengths": "int64",
    "segments": "uint8",
    "places": "int32",
    "example": "int64",
    "cut": "int64",
    "document": "int64",
}
"""An entry is one record: each array of the rows is a list in it, null where they have none."""


def encode_once(
    tokenizer: BertTokenizer,
    texts: Sequence[Any],
    max_length: int,
    labels: NDArray[Any] | None = None,
    progress: Callable[[int], None] | None = None,
    *,
    encode: Encode | None = None,
    key: str = "",
) -> tuple[EncodedTexts, str]:
    """`encode_texts`, or the same rows from the cache; and in words, which of both and where.

    Args:
        tokenizer, max_length, labels, progress: as there.
        texts: texts or examples, read twice, in slices: once for their digest, and again if they
            are not kept yet.
        encode: gives the windows of some of them; None: each text cut at its end.
        key: all that decides how `encode` works, beside the tokenizer and the limit.

    Raises:
        UsageError: as there, or a size in the environment that is none.
    """

    def made() -> EncodedTexts:
        source = chain.from_iterable(_slices(texts))
        if encode is None:
            return encode_texts(tokenizer, source, max_length, labels, progress)
        return encode_examples(encode, source, max_length, labels, progress)

    bound = cache_size()
    if not bound:
        return made(), f"made, not kept: {SIZE_VARIABLE} is 0"
    try:
        folder = cache_dir() / "tokens"
    except RuntimeError as error:  # a user without a home, as in some containers
        return made(), f"made, not kept: {error}"
    path = folder / f"{_digest_of(tokenizer, texts, max_length, key)}.arrow"
    entry, words = _find(path, max_length)
    if entry is not None:
        require_one_each(labels, entry.examples)
        return replace(entry, labels=labels), words
    rows = made()
    return rows, f"{words}, {_keep(rows, path, bound)}"


def cache_size() -> int:
    """Most bytes that all entries together may take, from the environment; 0: keep none.

    Raises:
        UsageError: the variable holds no size.
    """
    size = os.environ.get(SIZE_VARIABLE, "").strip() or USUAL_SIZE
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]B)", size.upper())
    if parts:
        return int(float(parts[1]) * _UNITS[parts[2]])
    if size == "0":
        return 0
    raise UsageError(
        f"{size!r} is no size for the cache of tokens",
        place=SIZE_VARIABLE,
        fix="give it a unit, as in 500MB or 2GB, or 0 to keep nothing",
    )


def _slices(texts: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The texts in slices: a table gives those in a sixth of the time that it takes for each."""
    for start in range(0, len(texts), _CHUNK):
        yield texts[start : start + _CHUNK]


# ---- names ----


def _digest_of(tokenizer: BertTokenizer, texts: Sequence[Any], max_length: int, key: str) -> str:
    """Of all that decides the rows; equal for equal content, wherever it lies."""
    settings = {
        "format": FORMAT,
        "tokenizers": metadata.version("tokenizers"),
        "kind": f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}",
        "split_special_tokens": tokenizer.split_special_tokens,
        "closed_by": tokenizer.sep_token_id,
        "max_length": max_length,
        "encoded": key,
        "texts": len(texts),
    }
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    _add(digest, [json.dumps(settings), tokenizer.backend_tokenizer.to_str()])
    for part in _slices(texts):
        _add(digest, chain.from_iterable(map(_strings, part)))
    return digest.hexdigest()


def _strings(example: Any) -> Iterator[str]:
    """The texts of an example; of a list its length first, so that no two read the same."""
    if isinstance(example, str):
        yield example
        return
    for role, value in example.items():
        yield role
        if isinstance(value, list):
            yield str(len(value))
            yield from value
        else:
            yield str(value)


def _add(digest: hashlib.blake2b, texts: Iterable[str]) -> None:
    """Take texts in with their lengths, so that no two lists of as many texts read the same."""
    # Half a character is no UTF-8. The tokenizer refuses it, with a better message than this would.
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    digest.update(np.array([len(text) for text in encoded], dtype="<i8").tobytes())
    digest.update(b"".join(encoded))


# ---- one entry ----


def _find(path: Path, max_length: int) -> tuple[EncodedTexts | None, str]:
    """The rows of an entry, or None for one that is not there or damaged; and that in words."""
    try:
        rows = _read(path, max_length)
        with contextlib.suppress(OSError):  # a cache that may only be read
            os.utime(path)
    except FileNotFoundError:
        return None, "made"
    except (OSError, ValueError, KeyError, IndexError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        return None, f"made again, for the entry in the cache could not be read ({reason})"
    return rows, f"from the cache, {path}"


def _read(path: Path, max_length: int) -> EncodedTexts:
    """Map an entry from disk. All of it is compared with its digest: no row is ever a wrong one."""
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    batch.validate()  # no array is longer than its part of the file
    if not batch.schema.equals(_schema()) or batch.num_rows != 1:
        raise ValueError("its columns are others")
    arrays = {name: _array(batch.column(name)) for name in _ARRAYS}
    if (batch.schema.metadata or {}).get(b"digest") != _checksum(arrays):
        raise ValueError("it does not agree with its digest")
    if arrays["cut"] is not None:
        examples = len(arrays["full_lengths"])
        arrays["cut"] = arrays["cut"].reshape(examples, -1 if examples else 1)
    if arrays["places"] is not None:
        arrays["places"] = arrays["places"].reshape(-1, 2)
    return EncodedTexts(max_length=max_length, **arrays)


def _array(column: Any) -> Any:
    return column.values.to_numpy(zero_copy_only=True) if column[0].is_valid else None


def _checksum(arrays: Mapping[str, Any]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for name, values in arrays.items():
        digest.update(f"{name} {None if values is None else values.size} ".encode())
        if values is not None:
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest().encode()


def _keep(rows: EncodedTexts, path: Path, bound: int) -> str:
    """Put an entry in its place, older ones making room for it; in words, what came of it."""
    arrays = {name: getattr(rows, name) for name in _ARRAYS}
    size = sum(values.nbytes for values in arrays.values() if values is not None)
    if size > bound:
        return f"not kept: they take {size:,} bytes, and {SIZE_VARIABLE} is {bound:,}"
    schema = _schema().with_metadata({"digest": _checksum(arrays)})
    lists = [_one_list(values, pa.type_for_alias(_ARRAYS[name])) for name, values in arrays.items()]
    batch = pa.RecordBatch.from_arrays(lists, schema=schema)

    def write(draft: Path) -> None:
        with draft.open("wb") as file, pa.ipc.new_file(file, schema) as target:
            target.write_batch(batch)

    try:
        with disk_errors(path.parent):
            # Texts can be read off their tokens: the folder is for its owner alone.
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            removed = _make_room(path.parent, bound - size)
        write_atomically(path, write)
    except BertoltError as error:
        return f"not kept: {error.place} {error.problem}"
    older = f"; {plural(removed, 'older entry', 'older entries')} removed" if removed else ""
    return f"kept in {path}{older}"


def _schema() -> pa.Schema:
    kinds = {name: pa.type_for_alias(alias) for name, alias in _ARRAYS.items()}
    return pa.schema([(name, pa.large_list(kind)) for name, kind in kinds.items()])


def _one_list(values: Any, kind: pa.DataType) -> pa.Array:
    """An array as the only list of a column, or null."""
    if values is None:
        return pa.nulls(1, pa.large_list(kind))
    flat = pa.array(values.ravel(), kind)
    return pa.LargeListArray.from_arrays(pa.array([0, len(flat)], pa.int64()), flat)


def _make_room(folder: Path, bound: int) -> int:
    """Remove the entries that were not used for longest until the rest fits; how many they were.

    Another run may remove the same ones at the same time, or be reading one, which it then still
    can: its file goes when it is done.
    """
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if path.suffix == ".arrow":
                entries.append((status.st_mtime, status.st_size, path))
            elif path.suffix == ".part" and status.st_mtime < time.time() - _ABANDONED:
                path.unlink()
    total, removed = sum(size for _, size, _ in entries), 0
    for _, size, path in sorted(entries):
        if total <= bound:
            break
        path.unlink(missing_ok=True)
        total -= size
        removed += 1
    return removed
