"""The body of a request: from JSON to the examples of a task, or to the place that is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bertolt.base.chunks import characters_of
from bertolt.base.errors import BertoltError, DataError, meant
from bertolt.base.format import plural
from bertolt.data.table_file import is_blank
from bertolt.serve.errors import RefusedError
from bertolt.serve.limits import Limits
from bertolt.tasks.base import Example
from bertolt.tasks.predictor import Predictor

_FIELDS = ("input", "model")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request asks.

    Attributes:
        model: its name; None: the one there is.
        input: a text, an example, or a list.
    """

    model: str | None
    input: Any


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RefusedError: the body is none, or has a field twice.
    """
    try:
        values = _READER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except UnicodeDecodeError as error:
        raise RefusedError(
            400, f"the body is no UTF-8: {str(error)[:200]}", fix="send JSON in UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RefusedError(
            400, f"the body is no JSON: {str(error)[:200]}", fix='send {"input": "a text"}'
        ) from error
    if not isinstance(values, dict):
        raise RefusedError(400, "the body is no JSON object", fix='send {"input": "a text"}')
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two values by one name JSON leaves open which one counts, so it is refused."""
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = counts.most_common(1)[0][0][:80]
        raise RefusedError(
            400, f"the field {twice!r} is there twice", fix="send it once", param=twice
        )
    return values


_READER = json.JSONDecoder(object_pairs_hook=_object)  # to make one takes as long as to read


def asked_in(values: Mapping[str, Any], fields: tuple[str, ...] = _FIELDS) -> Asked:
    """The model and the input of a request.

    Raises:
        RefusedError: a field is unknown, missing or of another type.
    """
    for name in values:
        if name not in fields:
            raise RefusedError(
                400,
                f"there is no field {name[:80]!r}",
                fix=meant(name, list(fields)) or f"the fields are {', '.join(fields)}",
                param=name[:80],
            )
    if "input" not in values:
        raise RefusedError(400, "there is no input", fix='send {"input": "a text"}', param="input")
    model = values.get("model")
    if model is not None and not isinstance(model, str):
        raise RefusedError(
            400, "the name of a model is a text", fix="GET /v1/models lists them", param="model"
        )
    return Asked(model=model, input=values["input"])


def examples_of(predictor: Predictor, asked: Any, limits: Limits) -> list[Example | BertoltError]:
    """The examples of an input by role; in the place of one that is too large, why it is refused.

    Raises:
        RefusedError: the input is no text, example or list of them, or has too many.
    """
    items = asked if isinstance(asked, list) else [asked]
    if not items:
        raise RefusedError(400, "the input is an empty list", fix="give a text", param="input")
    if len(items) > limits.texts:
        raise RefusedError(
            413,
            f"a request may have {limits.texts:,} texts, and this one has {len(items):,}",
            fix="send them in several requests",
            param="input",
            code="too_many_texts",
        )
    listed = isinstance(asked, list)
    schema = predictor.task.request_schema(predictor.trained_on_pairs)
    return [
        _example(predictor, schema, item, f"input[{n}]" if listed else "input", limits)
        for n, item in enumerate(items)
    ]


def _example(
    predictor: Predictor, schema: Mapping[str, Any], item: Any, place: str, limits: Limits
) -> Example | BertoltError:
    fields, required = schema["properties"], schema["required"]
    if isinstance(item, str):
        if required != ["text"]:
            raise RefusedError(
                422,
                f"an example of this model has {' and '.join(required)}",
                fix=f'give an object: {{"{required[0]}": "…", …}}',
                param=place,
            )
        item = {"text": item}
    if not isinstance(item, dict):
        raise RefusedError(
            422,
            f"an example is a text or an object, and this is {_kind(item)}",
            fix=f"give {_shape(fields, required)}",
            param=place,
        )
    example: dict[str, Any] = {}
    for name, value in item.items():
        if name not in fields:
            raise RefusedError(
                422,
                f"an example has no field {name[:80]!r}",
                fix=meant(name, list(fields)) or f"its fields are {', '.join(fields)}",
                param=place,
            )
        if misfit := _misfit(name, value, fields[name]):
            raise RefusedError(
                422,
                misfit,
                fix=f"give {_wanted(fields[name])}",
                param=f"{place}.{name}",
            )
        example[predictor.task.request_roles.get(name, name)] = value
    for name in required:
        if name not in item:
            raise RefusedError(
                422, f"the example has no {name}", fix=f"give {' and '.join(required)}", param=place
            )
    return _refusal(predictor, example, item, place, limits) or example


def _refusal(
    predictor: Predictor, example: Example, asked: Mapping[str, Any], place: str, limits: Limits
) -> BertoltError | None:
    """Why an example that is well formed is refused by itself; `asked` has it as it was sent."""
    characters = characters_of(example)
    if characters > limits.characters:
        return RefusedError(
            413,
            f"a text may have {limits.characters:,} characters, and this one has {characters:,}",
            fix="send it in parts",
            param=place,
            code="text_too_long",
        )
    if not all(map(_is_unicode, texts_of(example))):
        return DataError(
            "the text has half of a surrogate pair", place=place, fix="send it as UTF-8"
        )
    if empty := _empty(asked):
        field, what = empty
        listed = place != "input"
        fix = "leave it out" if listed and len(asked) == 1 else "give a text that shows something"
        return DataError(f"{what} is empty", place=f"{place}{field}", fix=fix)
    fault = predictor.task.question_fault(example)
    return DataError(fault.detail, place=place, fix=fault.fix) if fault else None


def _empty(asked: Mapping[str, Any]) -> tuple[str, str] | None:
    """Where an example shows nothing, and what it is that shows nothing; None: all of it does.

    Of the words of a text some may be empty; a choice may not, as in a file.
    """
    for name, value in asked.items():
        if isinstance(value, list) and name != "text":
            blank = next((n for n, text in enumerate(value) if is_blank(text)), None)
            if blank is not None:
                return f".{name}[{blank}]", f"{name}[{blank}]"
        elif all(map(is_blank, texts_of(value))):
            return ("", "the text") if len(asked) == 1 else (f".{name}", name)
    return None


def _is_unicode(text: str) -> bool:
    """Whether a text can be written; the encoder looks, as no loop over characters is as fast."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def texts_of(value: Any) -> list[str]:
    """All texts in an example."""
    if isinstance(value, str):
        return [value]
    values = value.values() if isinstance(value, Mapping) else value
    return [text for each in values for text in texts_of(each)]


def _misfit(name: str, value: Any, schema: Mapping[str, Any]) -> str:
    """Why a field of a request does not take a value: a text, or a list of texts; empty: it does.

    Args:
        name: of the field, or of the place in its list.
        value: that a request has there.
        schema: of the field.
    """
    if "anyOf" in schema:
        reasons = [_misfit(name, value, each) for each in schema["anyOf"]]
        return "" if "" in reasons else reasons[-1 if isinstance(value, list) else 0]
    if schema["type"] != "array" or not isinstance(value, list):
        fits = schema["type"] != "array" and isinstance(value, str)
        return "" if fits else f"{name} is {_kind(value)}"
    least = schema.get("minItems", 0)
    if len(value) < least:
        return f"{name} has {plural(len(value), 'text')}, and takes {least} at least"
    wrong = (_misfit(f"{name}[{n}]", each, schema["items"]) for n, each in enumerate(value))
    return next(filter(None, wrong), "")


def _wanted(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_wanted(each) for each in schema["anyOf"])
    if schema["type"] == "array":
        least = schema.get("minItems", 0)
        return f"a list of texts, {least} at least" if least else "a list of texts"
    return "a text"


def _shape(fields: Mapping[str, Any], required: Sequence[str]) -> str:
    """An example of a task, as it is written."""
    named = ", ".join(f'"{name}": {_wanted(fields[name])}' for name in required)
    return f"{{{named}}}" if required != ["text"] or "array" in str(fields["text"]) else "a text"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")
