"""Vectors of texts in the form of OpenAI's API, which its clients read unchanged."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import BertoltError, UsageError
from bertolt.data.encode import EncodedExample, Window
from bertolt.serve.errors import RefusedError
from bertolt.serve.limits import Limits
from bertolt.tasks.base import Example
from bertolt.tasks.predictor import Prediction, Predictor

_FIX = (
    "send texts (in LangChain: check_embedding_ctx_length=False), or ids of this model's own "
    "tokenizer with its special tokens; --token-ids FILE has the server read those of another one"
)
FIELDS = ("input", "model", "encoding_format", "dimensions", "user")


def ids_of(asked: Any) -> list[list[int]] | None:
    """The lists of token ids of an input; None: it is of texts."""
    if not isinstance(asked, list) or not asked:
        return None
    if _are_ids(asked):
        return [asked]
    if all(isinstance(each, list) and each and _are_ids(each) for each in asked):
        return asked
    return None


def _are_ids(values: list[Any]) -> bool:
    """Whether all of them are whole numbers; a body has millions, and others wait meanwhile."""
    return set(map(type, values)) == {int}


def encoded_ids(
    predictor: Predictor, lists: Sequence[Sequence[int]], limits: Limits
) -> list[EncodedExample]:
    """Token ids as the model's own tokenizer gives them, from its first special token to its last.

    Ids of another vocabulary would give vectors of other words, and nobody would see it. The
    special tokens tell even the ids of one word apart, and the text of the ids has to give the same
    ids again.

    Raises:
        RefusedError: ids are of another vocabulary, or there are too many.
    """
    if len(lists) > limits.texts:
        raise RefusedError(
            413,
            f"a request may have {limits.texts:,} lists of ids, and this one has {len(lists):,}",
            fix="send them in several requests",
            param="input",
            code="too_many_texts",
        )
    tokenizer = predictor.tokenizer
    size, ends = tokenizer.vocab_size, [tokenizer.cls_token, tokenizer.sep_token]
    frame = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    for number, ids in enumerate(lists):
        other = next((each for each in ids if not 0 <= each < size), None)
        if other is not None:
            raise _foreign(number, f"the model's vocabulary has {size:,} tokens, and no id {other}")
        if (ids[0], ids[-1]) != frame:
            raise _foreign(number, f"ids of this model begin with {ends[0]} and end with {ends[1]}")
        if len(ids) > predictor.max_length:
            raise RefusedError(
                422,
                f"it has {len(ids):,} tokens, and the limit is {predictor.max_length:,}",
                fix="send fewer ids, or the text, which is read as the model was trained",
                param=f"input[{number}]",
                code="text_too_long",
            )
    texts = [tokenizer.decode(ids[1:-1], clean_up_tokenization_spaces=False) for ids in lists]
    for number, (ids, again) in enumerate(zip(lists, tokenizer.encode_ids(texts), strict=True)):
        if ids != again:
            raise _foreign(number, "no text has these ids in the model's vocabulary")
    # As the task encodes texts, with which they stand in one batch.
    return [EncodedExample([Window(list(ids))], len(ids), documents=[1]) for ids in lists]


def _foreign(number: int, problem: str) -> RefusedError:
    return RefusedError(422, problem, fix=_FIX, param=f"input[{number}]", code="other_vocabulary")


class OtherVocabulary:
    """Pieces of text by their ids in a vocabulary that is not the model's.

    Args:
        pieces: bytes by id.

    Attributes:
        size: one more than the largest id.
    """

    def __init__(self, pieces: Mapping[int, bytes]) -> None:
        self._pieces = pieces
        self.size = max(pieces) + 1

    @classmethod
    def read(cls, path: Path) -> OtherVocabulary:
        """Read a file as tiktoken keeps them: in each line a piece, as base64, and its id.

        Raises:
            UsageError: the file cannot be read, or is none.
        """
        try:
            rows = [line.split() for line in path.read_bytes().splitlines() if line]
            pieces = {int(id_): base64.b64decode(piece, validate=True) for piece, id_ in rows}
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{path} is no vocabulary of tiktoken: {error}",
                place="--token-ids",
                fix="name its file, such as cl100k_base.tiktoken, or leave --token-ids out",
            ) from error
        if not pieces:
            raise UsageError(
                f"{path} has no piece", place="--token-ids", fix="name a file of tiktoken"
            )
        return cls(pieces)

    def texts(self, lists: Sequence[Sequence[int]]) -> list[str]:
        """The texts of lists of ids.

        Raises:
            RefusedError: an id is not in the vocabulary.
        """
        texts = []
        for number, ids in enumerate(lists):
            try:
                text = b"".join(self._pieces[each] for each in ids)
            except KeyError as error:
                raise RefusedError(
                    422,
                    f"the vocabulary of --token-ids has no id {error}",
                    fix="send texts",
                    param=f"input[{number}]",
                ) from error
            texts.append(text.decode("utf-8", "replace"))
        return texts


def refuse_pairs(examples: Sequence[Example | BertoltError], task: str) -> None:
    """Refuse examples of two texts, which have a similarity and no vector.

    Raises:
        RefusedError: there is one.
    """
    for number, each in enumerate(examples):
        if not isinstance(each, BertoltError) and "text_pair" in each:
            fix = f"send texts, or ask /v1/{task} how alike they are"
            raise RefusedError(422, "a pair has no vector", fix=fix, param=f"input[{number}]")


def vectors_of(
    predictions: Sequence[Prediction], dimensions: Any, *, normalized: bool
) -> list[NDArray[np.float32]]:
    """The vectors, or the first numbers of each; those are brought to length 1 if all were.

    Raises:
        RefusedError: the vectors have not so many numbers.
    """
    vectors = [np.asarray(each.answer["vector"], np.float32) for each in predictions]
    if dimensions is None:
        return vectors
    width = len(vectors[0])
    if not _are_ids([dimensions]) or not 1 <= dimensions <= width:
        raise RefusedError(
            400,
            f"a vector has {width} numbers, and {str(dimensions)[:20]} are asked for",
            fix=f"take 1 to {width}",
            param="dimensions",
        )
    short = [vector[:dimensions] for vector in vectors]
    if not normalized or dimensions == width:
        return short
    return [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in short]


def form_of(values: Mapping[str, Any]) -> str:
    """ "float" or "base64"; that the other fields are of their types is looked at too.

    Raises:
        RefusedError: another form, or a field of another type.
    """
    if not isinstance(values.get("user", ""), str | None):
        raise RefusedError(400, "the user is a text", fix="leave it out", param="user")
    form = values.get("encoding_format", "float")
    if form is None:
        return "float"
    if form not in ("float", "base64"):
        raise RefusedError(
            400, "the form is none", fix="take float or base64", param="encoding_format"
        )
    return str(form)


def written(vector: NDArray[np.float32], form: str) -> list[float] | str:
    """A vector as numbers, or as the base64 of their float32 in little-endian order."""
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(f"{value:.9g}") for value in vector.tolist()]
