"""What `bertolt search` does: the texts of a file whose vectors are nearest to those of queries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.console import counting, info
from bertolt.base.errors import DataError, UsageError
from bertolt.base.files import require_apart, write_atomically, write_text
from bertolt.base.format import clean, plural, shorten
from bertolt.base.json_files import JsonError, read_json
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.commands.questions import require_text
from bertolt.commands.search_options import SearchOptions
from bertolt.commands.wording import options_called
from bertolt.data.describe import describe_table
from bertolt.data.load import Table, read_table
from bertolt.data.spill import IN_MEMORY, Numbers
from bertolt.data.table_file import is_blank
from bertolt.metrics import nearest
from bertolt.tasks.predictor import Predictor

_SHOWN = 160  # characters of a text on the terminal
_CALLED = {"--text-pair": "--column", "--text": "--column", " and --label name": " names"}


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A text that was found: its rank from 1, the cosine, its row from 1, and the text itself."""

    rank: int
    score: float
    row: int
    text: str


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What was found for each query, in their order."""

    hits: list[tuple[str, list[Hit]]]

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        return {
            "queries": [
                {"query": query, "results": [vars(hit) for hit in hits]}
                for query, hits in self.hits
            ]
        }

    def __str__(self) -> str:
        parts = []
        for query, hits in self.hits:
            lines = [
                f"{hit.rank:>4}  {hit.score:.4f}  row {hit.row:<8} {_shown(hit.text)}"
                for hit in hits
            ]
            parts.append("\n".join([_shown(query), *lines]))
        return "\n\n".join(parts)


def _shown(text: str) -> str:
    return clean(shorten(text, _SHOWN))


def search_file(corpus: Path, options: SearchOptions) -> SearchResult:
    """Look for texts of a file that are near to queries.

    Args:
        corpus: a table in any of the formats that are read.
        options: settings.

    Raises:
        DataError: the file or the vectors beside it cannot be used.
        CheckpointError: the model cannot be used.
        UsageError: the model gives no vectors, or an option does not fit.
    """
    queries = _queries(options)
    with options_called(_CALLED):
        table = read_table(
            corpus,
            text=options.column,
            need_label=False,
            encoding=options.encoding,
            layout=options.layout,
        )
    _require_one_column(table, options)
    describe_table(table, {"text": "--column"})
    model = demo_checkpoint() if options.model is None else Path(options.model)
    if options.vectors is not None:
        require_apart(options.vectors, [corpus, model, options.queries], "--vectors")
    predictor = Predictor.from_pretrained(options.model or model, precision=options.precision)
    _require_vectors(predictor, str(model))
    vectors = nearest.Units(_vectors_of(table, predictor, options))
    asked = nearest.unit(_encode(predictor, queries, "Encoding queries"))
    if options.top >= len(vectors):
        texts = plural(len(vectors), "text")
        verb = "is" if len(vectors) == 1 else "are"
        info(f"There {verb} {texts} for --top {options.top:,}: all are listed, whatever is asked")
    cosines, places = nearest.nearest(asked, vectors, options.top)
    if not np.isfinite(cosines).all():
        raise DataError(
            "some of its vectors are not finite",
            place=str(options.vectors or model),
            fix="make them again with --overwrite, by another model or --precision fp32",
        )
    return SearchResult(
        hits=[
            (query, _hits(table, *each))
            for query, *each in zip(queries, cosines, places, strict=True)
        ]
    )


def _hits(table: Table, cosines: NDArray[np.float32], places: NDArray[np.int64]) -> list[Hit]:
    rows = table.examples(places.tolist())
    pairs = zip(rows, cosines.tolist(), strict=True)
    return [
        Hit(rank=rank, score=round(score, 6), row=row["row"], text=row["text"])
        for rank, (row, score) in enumerate(pairs, start=1)
    ]


def _queries(options: SearchOptions) -> list[str]:
    """The queries of the command line, then those of the file.

    Raises:
        DataError: a query is empty or no text, or the file has none.
    """
    queries = list(options.query or ())
    for number, query in enumerate(queries, start=1):
        place = f"--query {number}"
        require_text(query, place, "give it in UTF-8")
        if is_blank(query):
            raise DataError("the query is empty", place=place, fix="say what to look for")
    if options.queries is None:
        return queries
    try:
        text = options.queries.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"the file is no text in UTF-8 ({error.reason} at byte {error.start + 1})",
            place=str(options.queries),
            fix="save it as UTF-8",
        ) from error
    except FileNotFoundError as error:
        raise DataError(
            "there is no such file", place=str(options.queries), fix="check --queries"
        ) from error
    lines = [line for line in text.split("\n") if not is_blank(line)]
    if not lines:
        raise DataError(
            "the file has no query", place=str(options.queries), fix="write one query a line"
        )
    return queries + lines


def _require_one_column(table: Table, options: SearchOptions) -> None:
    if "text_pair" in table.roles and options.column is None:
        names = [table.roles[role][0] for role in ("text", "text_pair")]
        raise UsageError(
            f"the columns {names[0]!r} and {names[1]!r} hold two texts a row",
            place=table.path,
            fix=f"say in which to look: --column {names[1]}",
        )


def _require_vectors(predictor: Predictor, model: str) -> None:
    if not predictor.task.vectors:
        raise UsageError(
            f"the model is for {predictor.task.name}, and gives no vectors",
            place=model,
            fix="train one: bertolt finetune FILE --task sentence-similarity",
        )


def _encode(predictor: Predictor, texts: Sequence[str], what: str) -> NDArray[np.float32]:
    """(N, H) the vectors of texts; many are in a temporary file, mapped."""
    vectors = Numbers("f")
    with counting(what, len(texts), "texts") as show:
        for number, prediction in enumerate(predictor.predict(texts), start=1):
            vectors.extend(prediction.answer["vector"])
            show(number)
    whole: NDArray[np.float32] = vectors.whole()
    return whole.reshape(len(texts), predictor.model.config.hidden_size)


def _vectors_of(table: Table, predictor: Predictor, options: SearchOptions) -> NDArray[np.float32]:
    """(N, H) the vectors of the corpus: made, or mapped from the file beside.

    Raises:
        DataError: the file is of another corpus or another model.
    """
    path = options.vectors
    made_of = _fingerprint(table, predictor) if path is not None else {}
    if path is not None and path.exists() and not options.overwrite:
        vectors = _read(path, made_of, predictor.model.config.hidden_size)
        info(f"Vectors: read from {path}")
        return vectors
    vectors = _encode(predictor, _Texts(table), "Encoding")
    size = f"{len(vectors):,} of {vectors.shape[1]} numbers, {vectors.nbytes / 1e6:,.1f} MB"
    if path is None:
        where = "memory" if vectors.nbytes <= IN_MEMORY else "a temporary file"
        info(f"Vectors: {size} in {where}; --vectors FILE.npy keeps them")
        return vectors

    def write(target: Path) -> None:
        with target.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)

    # Without its fingerprint no file of vectors is read, so it goes first and comes last.
    _about(path).unlink(missing_ok=True)
    write_atomically(path, write)
    write_text(_about(path), json.dumps(made_of, indent=2) + "\n")
    info(f"Vectors: {size}, kept in {path}")
    return vectors


class _Texts(Sequence[str]):
    """The texts of a table, read in slices."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, part: Any) -> Any:
        return self._table.data["text"][part].as_py()

    def __iter__(self) -> Any:
        return (row["text"] for row in self._table.examples())


def _about(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _fingerprint(table: Table, predictor: Predictor) -> dict[str, Any]:
    """What vectors are made of: the texts, the weights, and how texts are prepared."""
    digest = hashlib.blake2b(digest_size=16)
    for row in table.examples():
        text = row["text"].encode(errors="surrogatepass")
        digest.update(len(text).to_bytes(8, "little") + text)
    return {
        "texts": len(table),
        "corpus": digest.hexdigest(),
        "model": huggingface.digest(predictor.model),
        "settings": predictor.task.settings(),
        "max_length": predictor.max_length,
        "long": vars(predictor.long),
        "precision": predictor.precision.name,
    }


_OTHERWISE = {"texts": "texts", "corpus": "texts", "model": "weights", "precision": "precision"}


def _read(path: Path, made_of: dict[str, Any], width: int) -> NDArray[np.float32]:
    again = "make them again with --overwrite, or name another file"
    try:
        before = read_json(_about(path))
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        # What NumPy says of a file that is none would have it unpickled.
        why = f" ({error})" if isinstance(error, OSError | JsonError) else ""
        raise DataError(
            f"these are no vectors that bertolt search has kept{why}", place=str(path), fix=again
        ) from error
    for name, value in made_of.items():
        if not isinstance(before, dict) or before.get(name) != value:
            what = _OTHERWISE.get(name, "settings of the model")
            raise DataError(
                f"the vectors were made of other {what} than these",
                place=str(path),
                fix=again,
            )
    shape = (made_of["texts"], width)
    if vectors.shape != shape or vectors.dtype != np.float32:
        raise DataError(
            f"it holds {vectors.dtype} numbers of the shape {vectors.shape}, and vectors of these "
            f"texts are float32 of {shape}",
            place=str(path),
            fix=again,
        )
    kept: NDArray[np.float32] = vectors
    return kept
