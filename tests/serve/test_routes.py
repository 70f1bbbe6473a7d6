"""Routes that there are, that there are not, and that are asked by another method."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

pytest.importorskip("starlette")

from starlette.responses import Response
from starlette.testclient import TestClient

from bertolt.serve.routes import Route


def test_a_route_that_is_none_is_told_with_those_there_are(client: TestClient) -> None:
    near = ("text-classifications", "text-classification/", "nothing", "a/b/c")
    bodies = b"{}", b"no JSON", b'{"input": "a"}'
    for path in (*(f"/v1/{each}" for each in near), "/other"):
        for method, body in itertools.product(("POST", "GET", "PUT"), bodies):
            require_no_route(client, method, path, body)


def require_no_route(client: TestClient, method: str, path: str, body: bytes) -> None:
    told = client.request(method, path, content=body)
    assert told.status_code == 404, (method, told.text)
    error = told.json()["error"]
    assert error["message"] == f"there is no route {method} {path}"
    for route in ("POST /v1/text-classification", "GET /v1/models", "GET /health"):
        assert f" {route}," in error["fix"].replace(";", ",")
    assert "{task}" not in error["fix"]
    assert "embeddings" not in error["fix"]  # no model gives vectors


def test_a_task_that_no_model_does_is_told_before_its_body_is_looked_at(client: TestClient) -> None:
    for path, words in (("/v1/fill-mask", "does fill-mask"), ("/v1/embeddings", "gives vectors")):
        told = client.post(path, content=b"no JSON")
        assert told.status_code == 404
        assert told.json()["error"]["message"].startswith(f"no model {words}")
    client.post("/v1/models/mine/unload")
    assert client.post("/v1/text-classification", content=b"{}").status_code == 404


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/fill-mask"])
def test_what_no_model_answers_is_told_alike_by_every_method(client: TestClient, path: str) -> None:
    for method in ("POST", "GET", "PUT"):
        told = client.request(method, path, content=b"{}")
        assert (told.status_code, told.headers.get("allow")) == (404, None), method
        assert told.json() == client.post(path).json()
        assert "there is text-classification (model 'mine')" in told.json()["error"]["fix"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/text-classification", {"POST"}),
        ("DELETE", "/v1/text-classification", {"POST"}),
        ("GET", "/v1/models/mine/load", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("PUT", "/v1/models", {"GET", "HEAD"}),
        ("POST", "/health", {"GET", "HEAD"}),
    ],
)
def test_another_method_is_told_with_those_that_are_allowed(
    client: TestClient, method: str, path: str, allowed: set[str]
) -> None:
    told = client.request(method, path)
    assert told.status_code == 405, told.text
    assert set(told.headers["allow"].split(", ")) == allowed
    error = told.json()["error"]
    assert error["type"] == "method_not_allowed"
    assert all(each in error["fix"] for each in allowed)


def test_every_route_is_told_by_itself_and_not_by_the_router(client: TestClient) -> None:
    """So that requests are counted by their routes by a Starlette whose router does not tell."""

    async def answer(request: Any) -> Response:
        return Response("well")

    async def sent(message: Any) -> None:
        pass

    route = Route("/mine", answer)
    scope = {"type": "http", "method": "GET", "path": "/mine", "headers": []}
    asyncio.run(route.handle(scope, asyncio.sleep, sent))
    assert scope["route"] is route
    assert all(isinstance(each, Route) for each in client.app.routes)  # type: ignore[attr-defined]
