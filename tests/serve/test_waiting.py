"""A request that waits for its answer: whose client leaves, and whose time is over."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from bertolt import Predictor
from bertolt.serve.app import Server
from bertolt.serve.limits import Limits
from bertolt.serve.models import Models

PATH = "/v1/text-classification"
SCOPE = {
    **{"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "scheme": "http"},
    **{"query_string": b"", "headers": [], "client": ("127.0.0.1", 1), "server": None},
    **{"http_version": "1.1", "root_path": ""},
}


class Held:
    """Passes that wait until the gate is open, and what was answered in them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate, self.begun, self.texts = threading.Event(), threading.Event(), list[str]()
        answer = Predictor.answer

        def held(predictor: Predictor, examples: Any, encoded: Any) -> Any:
            self.begun.set()
            assert self.gate.wait(30)
            self.texts += [each["text"] for each in examples]
            return answer(predictor, examples, encoded)

        monkeypatch.setattr(Predictor, "answer", held)


@pytest.fixture(scope="module")
def predictor(tuned: Path) -> Predictor:
    return Predictor.from_pretrained(tuned, precision="fp32")


def serving(predictor: Predictor, tuned: Path, **limits: Any) -> Server:
    models = Models({"mine": str(tuned)}, lambda folder: predictor)
    models.load("mine")
    return Server(models, Limits(**limits))


async def asked(app: Any, text: str, gone: asyncio.Event) -> int:
    """The status of an answer to a client that stays until `gone`."""
    body, sent = [b'{"input": "%s"}' % text.encode()], list[Any]()

    async def receive() -> Any:
        if body:
            return {"type": "http.request", "body": body.pop()}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(SCOPE, receive, send)
    return int(sent[0]["status"])


async def until(true: Any) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_a_client_that_leaves_frees_its_work_and_its_place(
    predictor: Predictor, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all_of_it() -> tuple[int, int, int]:
        gone, stays = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(asked(app, "first", stays))
        await until(held.begun.is_set)
        leaves = asyncio.create_task(asked(app, "leaves", gone))
        await until(lambda: server.queue.waiting == 2)
        gone.set()
        left = await asyncio.wait_for(leaves, 10)  # though the pass before it is not over
        waiting = server.queue.waiting
        held.gate.set()
        return left, waiting, await asyncio.wait_for(first, 20)

    server = serving(predictor, tuned)
    app, held = server.app(), Held(monkeypatch)
    assert asyncio.run(all_of_it()) == (499, 1, 200)
    assert server.queue.close(10)
    assert held.texts == ["first"]


def test_whose_time_is_over_is_told_though_its_pass_goes_on(
    predictor: Predictor, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serving(predictor, tuned, seconds=0.3)
    app, held, begun = server.app(), Held(monkeypatch), time.monotonic()

    async def both() -> list[int]:
        stays = asyncio.Event()
        tasks = [asyncio.create_task(asked(app, text, stays)) for text in ("one", "two")]
        return [await asyncio.wait_for(each, 10) for each in tasks]

    assert asyncio.run(both()) == [504, 504]
    assert time.monotonic() - begun < 5
    assert server.queue.waiting == 0
    held.gate.set()
    assert server.queue.close(10)
