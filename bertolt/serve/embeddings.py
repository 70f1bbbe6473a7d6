"""Vectors of texts in the form of OpenAI's API, which its clients read unchanged."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.data.encode import EncodedExample, Window
from bertolt.serve.errors import RefusedError
from bertolt.serve.limits import Limits
from bertolt.tasks.predictor import Prediction, Predictor

FIELDS = ("input", "model", "encoding_format", "dimensions", "user")


def ids_of(asked: Any) -> list[list[int]] | None:
    """The lists of token ids of an input; None: it is of texts."""
    if not isinstance(asked, list) or not asked:
        return None
    if all(map(_is_id, asked)):
        return [asked]
    if all(isinstance(each, list) and each and all(map(_is_id, each)) for each in asked):
        return asked
    return None


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def encoded_ids(
    predictor: Predictor, lists: Sequence[Sequence[int]], limits: Limits
) -> list[EncodedExample]:
    """Token ids of the model's own vocabulary; its special tokens are put around them if they are
    not there.

    Raises:
        RefusedError: an id is of another vocabulary, or there are too many.
    """
    if len(lists) > limits.texts:
        raise RefusedError(413, f"a request may have {limits.texts:,} lists of ids", param="input")
    tokenizer = predictor.tokenizer
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    encoded = []
    for number, ids in enumerate(lists):
        place = f"input[{number}]"
        other = next((each for each in ids if not 0 <= each < tokenizer.vocab_size), None)
        if other is not None:
            raise RefusedError(
                422,
                f"the model's vocabulary has {tokenizer.vocab_size:,} tokens, and no id {other}",
                fix="send texts (in LangChain: check_embedding_ctx_length=False), or ids of this "
                "model's own tokenizer",
                param=place,
            )
        whole = list(ids) if ids[0] == first and ids[-1] == last else [first, *ids, last]
        if len(whole) > predictor.max_length:
            raise RefusedError(
                422,
                f"it has {len(whole):,} tokens, and the limit is {predictor.max_length:,}",
                fix="send fewer ids, or the text, which is read as the model was trained",
                param=place,
                code="text_too_long",
            )
        encoded.append(EncodedExample([Window(whole)], len(whole)))
    return encoded


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
    if not _is_id(dimensions) or not 1 <= dimensions <= width:
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
    """ "float" or "base64".

    Raises:
        RefusedError: another form.
    """
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
