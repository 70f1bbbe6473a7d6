"""The description of the server's API, made of the tasks' own schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from bertolt.base.version import __version__
from bertolt.data.table_file import is_blank
from bertolt.serve.limits import Limits
from bertolt.serve.models import ServedModel, request_example, request_schema

Schema = dict[str, Any]

_ERROR: Schema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
                "fix": {"type": "string"},
            },
            "required": ["message", "type", "code", "param", "fix"],
        }
    },
    "required": ["error"],
}
_STATUSES = {
    "400": "The request is not understood.",
    "401": "The key is missing, or none of the server's.",
    "403": "The key may not do this.",
    "404": "There is no such model or task.",
    "408": "The body came too slowly.",
    "409": "The new version of the model cannot be loaded.",
    "413": "The body, the list or a text is too large.",
    "415": "The body is of another type.",
    "421": "The server is not asked by this name.",
    "422": "The text cannot be answered by this model.",
    "429": "The client asks too often.",
    "500": "The forward pass failed.",
    "503": "The queue is full, or nothing answers.",
    "504": "The time for an answer is over.",
    "507": "There is no space to keep the file while it is answered.",
}
_TEXT: Schema = {"type": "string"}
_MODEL: Schema = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("id", "object", "owned_by", "version", "task"), _TEXT),
        "created": {"type": "integer"},
        "labels": {"type": ["array", "null"], "items": _TEXT},
        "vectors": {"type": "boolean"},
        "max_length": {"type": "integer"},
        **dict.fromkeys(("long", "precision", "engine"), _TEXT),
        "ready": {"type": "boolean"},
        "request": {"type": "object"},
        "answer": {"type": "object"},
    },
}
_MODEL["required"] = list(_MODEL["properties"])
_CHANGED = {"name": "changed", "in": "query", "schema": {"enum": ["yes", "no"]}}
_COUNT: Schema = {"type": "integer", "minimum": 0}
ACCOUNT: dict[str, Schema] = {
    "tokens": _COUNT,
    "tokens_cut": _COUNT,
    "truncated": {"type": "boolean"},
    "windows": _COUNT,
}
"""What the server adds to each answer."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """What the route of files takes.

    Attributes:
        parameters: the schema of each.
        kinds: of bodies, as Content-Type has them.
    """

    parameters: Mapping[str, Schema]
    kinds: Sequence[str]


def openapi(
    models: Sequence[ServedModel],
    limits: Limits,
    *,
    keys: bool,
    files: Files | None = None,
    ids: int | None = None,
) -> Schema:
    """The description of a server, as OpenAPI 3.1 has it.

    Args:
        models: that answer.
        limits: of requests.
        keys: whether a key is needed.
        files: what is taken; None: no files are answered.
        ids: in the vocabulary of clients, if the server reads ids by one; None: each model's own.
    """
    tasks: dict[str, list[ServedModel]] = {}
    for model in models:
        tasks.setdefault(model.predictor.task.name, []).append(model)
    paths: Schema = {
        f"/v1/{task}": {"post": _task(task, each, limits)} for task, each in tasks.items()
    }
    if vectors := [model for model in models if model.predictor.task.vectors]:
        paths["/v1/embeddings"] = {"post": _embeddings(vectors, limits, ids)}
    if files is not None and models:
        paths["/v1/files/{model}"] = {"post": _files(models, files)}
    paths |= _of_models(models)
    paths["/metrics"] = {"get": _get("metrics", "Counts for Prometheus.", _TEXT, "text/plain")}
    paths["/openapi.json"] = {"get": _get("openapi", "This description.", {"type": "object"})}
    for name, words in (("health", "Whether the process lives."), ("ready", "Whether it answers.")):
        asked = _get(name, words, _object({"status": _TEXT}))
        paths[f"/{name}"] = {"get": {**asked, "security": []}}
    described: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "Bertolt", "version": __version__},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }
    if keys:
        described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
    return described


def _task(task: str, models: Sequence[ServedModel], limits: Limits) -> Schema:
    asked = _any([request_schema(model.predictor) for model in models])
    answer = _any([_with_account(model.predictor.task.answer_schema()) for model in models])
    refused = {"type": "object", "properties": {"error": {"type": "object"}}, "required": ["error"]}
    body = {
        "type": "object",
        "properties": {
            "model": _model(models),
            "input": {"anyOf": [_shown(asked), *(_list(form, limits) for form in _alike(asked))]},
        },
        "required": ["input"] if len(models) == 1 else ["input", "model"],
        "additionalProperties": False,
    }
    answers = {"type": "array", "items": {"anyOf": [answer, refused]}}
    names = {"model": models[0].name} if len(models) > 1 else {}
    example = {**names, "input": [request_example(models[0].predictor)]}
    times: Schema = {f"{stage}_ms": {"type": "number"} for stage in ("queue", "tokenize", "model")}
    account = {"usage": _object({"tokens": _COUNT}), "time": _object(times)}
    fields = {"model": _TEXT, "version": _TEXT, "task": _TEXT, "answers": answers, **account}
    return _post(f"Answer texts: {task}.", task, body, fields, example)


def _shown(schema: Schema) -> Schema:
    """A form whose texts show something: alone, one that does not is refused, and of a list it has
    an error in the place of its answer. Of the words of a text some may be empty, of choices none.
    """
    if schema.get("type") == "string":
        return {**schema, "minLength": 1, "pattern": f"[^{_blanks()}]"}
    if schema.get("type") == "array":
        return {**schema, "contains": _shown(schema["items"])}
    changed = dict(schema)
    if "anyOf" in schema:
        changed["anyOf"] = [_shown(each) for each in schema["anyOf"]]
    if "properties" in schema:
        fields = schema["properties"].items()
        changed["properties"] = {
            name: _shown(each)
            if name == "text" or each.get("type") != "array"
            else {**each, "items": _shown(each["items"])}
            for name, each in fields
        }
    return changed


@cache
def _blanks() -> str:
    """The characters that show nothing, as regular expressions of JSON Schema have ranges; but for
    those beyond U+FFFF, which not all of them can name."""
    blank = [code for code in range(1 << 16) if is_blank(chr(code))]
    starts = [code for code, before in zip(blank, [-2, *blank], strict=False) if code > before + 1]
    ends = [
        code for code, after in zip(blank, [*blank[1:], 1 << 20], strict=True) if after > code + 1
    ]
    both = zip(starts, ends, strict=True)
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in both)


def _alike(asked: Schema) -> list[Schema]:
    """The forms of examples that one list may have: those of a task that takes single texts and
    pairs are all of them the one or the other."""
    example = next((each for each in asked.get("anyOf", []) if "properties" in each), None)
    if example is None or "text_pair" not in example["properties"]:
        return [asked]
    properties = dict(example["properties"])
    del properties["text_pair"]
    single = {"anyOf": [properties["text"], {**example, "properties": properties}]}
    return [single, {**example, "required": [*example["required"], "text_pair"]}]


def _of_models(models: Sequence[ServedModel]) -> Schema:
    """What is asked of the models themselves."""
    known = {"enum": [model.name for model in models]} if models else {"type": "string"}
    other: Schema = {"type": "string", "minLength": 1}
    gone = _object({"id": _TEXT, "version": _TEXT, "unloaded": {"type": "boolean"}})
    listed = _object({"object": _TEXT, "data": {"type": "array", "items": _MODEL}})
    load, unload = "Load a model, or its new version.", "Take no more requests for a model."
    each = {
        "": ("get", "model", "One of them.", known, _MODEL),
        "/load": ("post", "load", f"{load} With an administrator's key.", other, _MODEL),
        "/unload": ("post", "unload", f"{unload} With an administrator's key.", known, gone),
    }
    paths: Schema = {"/v1/models": {"get": _get("models", "The models that answer.", listed)}}
    for end, (method, name, words, schema, answer) in each.items():
        parameter = {"name": "name", "in": "path", "required": True, "schema": schema}
        more = [_CHANGED] if end == "/load" else []
        asked = {**_get(name, words, answer), "parameters": [parameter, *more]}
        paths[f"/v1/models/{{name}}{end}"] = {method: asked}
    return paths


def _embeddings(models: Sequence[ServedModel], limits: Limits, others: int | None) -> Schema:
    text = _shown(_TEXT)  # in a list too, for a vector has no place for an error
    size = others or min(model.predictor.tokenizer.vocab_size for model in models)
    ids: Schema = {"type": "array", "minItems": 1, "items": {**_COUNT, "maximum": size - 1}}
    if others is None:  # texts of other ids have as many tokens as they have
        ids["maxItems"] = min(model.predictor.max_length for model in models)
    body = {
        "type": "object",
        "properties": {
            "model": _model(models),
            "input": {"anyOf": [text, _list(text, limits), ids, _list(ids, limits)]},
            "encoding_format": {"enum": ["float", "base64", None]},
            "dimensions": {"type": ["integer", "null"], "minimum": 1},
            "user": {"type": ["string", "null"]},
        },
        "required": ["input"] if len(models) == 1 else ["input", "model"],
        "additionalProperties": False,
    }
    form: Schema = {"anyOf": [{"type": "array", "items": {"type": "number"}}, text]}
    vector = _object({"object": _TEXT, "index": _COUNT, "embedding": form})
    return _post(
        "Vectors of texts, as OpenAI's API gives them.",
        "embeddings",
        body,
        {
            **{"object": _TEXT, "data": {"type": "array", "items": vector}, "model": _TEXT},
            "usage": _object({"prompt_tokens": _COUNT, "total_tokens": _COUNT}),
            **{"tokens_cut": _COUNT, "truncated": _COUNT},
        },
        {"model": models[0].name, "input": ["How do I send it back?"]},
    )


def _files(models: Sequence[ServedModel], files: Files) -> Schema:
    tasks = {model.predictor.task for model in models}
    roles = {role: {"type": "string"} for task in tasks for role in task.request_roles}
    named = {"enum": [model.name for model in models]}
    rows: Schema = {"type": "array", "minItems": 1, "items": {"type": "object"}}
    kinds = {
        kind: {"schema": rows if kind == "application/json" else {"type": "string"}}
        for kind in files.kinds
    }
    return {
        "summary": "The table in the body with answers beside its rows.",
        "operationId": "files",
        "parameters": [
            {"name": "model", "in": "path", "required": True, "schema": named},
            *(
                {"name": name, "in": "query", "schema": schema}
                for name, schema in {**roles, **files.parameters}.items()
            ),
        ],
        "requestBody": {"required": True, "content": kinds},
        "responses": {**_responses({}), "200": {"description": "The table.", "content": kinds}},
    }


def _model(models: Sequence[ServedModel]) -> Schema:
    """The name of a model, which may be left out where there is one."""
    names: list[str | None] = [model.name for model in models]
    return {"enum": names if len(names) > 1 else [*names, None]}


def _list(item: Schema, limits: Limits) -> Schema:
    return {"type": "array", "minItems": 1, "maxItems": limits.texts, "items": item}


def _any(schemas: list[Schema]) -> Schema:
    different = [each for n, each in enumerate(schemas) if each not in schemas[:n]]
    return different[0] if len(different) == 1 else {"anyOf": different}


def _with_account(schema: Schema) -> Schema:
    """An answer with what the server adds to it."""
    if "anyOf" in schema:
        return {"anyOf": [_with_account(each) for each in schema["anyOf"]]}
    if "properties" not in schema:
        return schema
    required = [*schema.get("required", []), *ACCOUNT]
    return {**schema, "properties": {**schema["properties"], **ACCOUNT}, "required": required}


def _post(summary: str, name: str, body: Schema, fields: Schema, example: Schema) -> Schema:
    content = {"application/json": {"schema": body, "example": example}}
    return {
        **_get(name, summary, _object(fields)),
        "requestBody": {"required": True, "content": content},
    }


def _get(name: str, summary: str, answer: Schema, kind: str = "application/json") -> Schema:
    return {"summary": summary, "operationId": name, "responses": _responses(answer, kind)}


def _object(fields: Schema) -> Schema:
    """An object that has all of these fields."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def _responses(answer: Schema, kind: str = "application/json") -> Schema:
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    good = {"description": "The answer.", "content": {kind: {"schema": answer}}}
    others = {each: {"description": words, "content": refused} for each, words in _STATUSES.items()}
    return {"200": good, **others}
