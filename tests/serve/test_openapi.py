"""The description of the server: what it tells is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from bertolt.serve import openapi
from bertolt.serve.limits import Limits


def test_all_routes_are_described_with_examples_that_are_answered(
    client: TestClient, folder: Path
) -> None:
    described = client.get("/openapi.json").json()
    served: set[str] = set()
    for route in client.app.routes:  # type: ignore[attr-defined]
        path = route.path.replace("{task}", "text-classification")
        served.add(path)
    assert {*described["paths"]} == served - {
        *("/", "/docs", "/static/style.css"),  # for people
        *("/static/words.js", "/static/docs.js", "/static/page.js"),
        "/v1/embeddings",  # which no model here answers
    }
    body = described["paths"]["/v1/text-classification"]["post"]["requestBody"]["content"]
    told = client.post("/v1/text-classification", json=body["application/json"]["example"])
    assert told.status_code == 200, told.text
    model = described["paths"]["/v1/models/{name}"]["get"]["responses"]["200"]["content"]
    schema = model["application/json"]["schema"]
    assert schema["properties"].keys() == client.get("/v1/models/mine").json().keys()


@pytest.mark.parametrize(
    ("text", "is_shown"),
    [
        ("a", True),
        ("\u200b 電", True),
        ("", False),
        (" \n\u3000", False),
        ("\u200b\ufeff\x07", False),
    ],
)
def test_the_description_allows_a_text_alone_that_shows_something(
    client: TestClient, text: str, is_shown: bool
) -> None:
    described = client.get("/openapi.json").json()["paths"]["/v1/text-classification"]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    alone, listed, *_ = schema["properties"]["input"]["anyOf"]
    for form in (alone["anyOf"][0], alone["anyOf"][1]["properties"]["text"]):
        fits = len(text) >= form["minLength"] and bool(re.search(form["pattern"], text))
        assert fits == is_shown
    told = client.post("/v1/text-classification", json={"input": text})
    assert told.status_code == (200 if is_shown else 422)
    assert "pattern" not in json.dumps(listed)  # there it has an error in its place
    assert client.post("/v1/text-classification", json={"input": [text]}).status_code == 200


def test_lists_of_ids_are_as_long_and_of_the_vocabulary_that_is_read() -> None:
    predictor = SimpleNamespace(max_length=384, tokenizer=SimpleNamespace(vocab_size=30_000))
    models: Any = [SimpleNamespace(name="mine", predictor=predictor)]

    def ids(others: int | None) -> dict[str, Any]:
        content = openapi._embeddings(models, Limits(), others)["requestBody"]["content"]
        forms = content["application/json"]["schema"]["properties"]["input"]["anyOf"]
        lists: dict[str, Any] = forms[2]
        assert forms[3]["items"] == lists
        return lists

    own = ids(None)
    assert (own["maxItems"], own["items"]["maximum"]) == (384, 29_999)
    assert "maxItems" not in ids(100_256)
    assert ids(100_256)["items"]["maximum"] == 100_255
