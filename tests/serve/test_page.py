"""The page in a real browser, over an API that answers by heart, and as it is served."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from bertolt.commands.file_answers import FileAnswers
from bertolt.serve import page
from bertolt.serve.app import Server
from bertolt.serve.files import file_routes
from bertolt.serve.models import Models
from tests.serve.browser import Page, browser, chromium

FOLDER = Path(page.__file__).parent
SCRIPTS = ("docs.js", "words.js", "page.js")
KEY = "sesame"
EVIL = "<img src=x onerror=\"document.title='broken in'\">"
needs_browser = pytest.mark.skipif(chromium() is None, reason="there is no Chromium here")


# ---- an API that answers by heart


def _example(*roles: str) -> dict[str, Any]:
    several = {"type": "array", "items": {"type": "string"}}
    forms = {role: several if role == "choices" else {"type": "string"} for role in roles}
    example = {"type": "object", "properties": forms, "required": list(roles)}
    return {"anyOf": [{"type": "string"}, example]}


MODELS = [
    {"id": "reviews", "task": "text-classification", "request": _example("text")},
    {"id": "names", "task": "token-classification", "request": _example("text")},
    {"id": "pages", "task": "question-answering", "request": _example("question", "context")},
    {"id": "words", "task": "fill-mask", "request": _example("text")},
    {"id": "endings", "task": "multiple-choice", "request": _example("text", "choices")},
    {"id": "stars", "task": "regression", "request": _example("text")},
    {"id": "near", "task": "sentence-similarity", "request": _example("text"), "vectors": True},
]


def _span(text: str, part: str) -> dict[str, Any]:
    return {"text": part, "start": text.index(part), "end": text.index(part) + len(part)}


def _answer(model: str, asked: dict[str, Any]) -> dict[str, Any]:
    text = asked.get("text", "")
    if model == "reviews":
        shares = {f"label {n}": 0.01 for n in range(12)} | {EVIL: 0.88}
        return {"label": EVIL, "probability": 0.88, "probabilities": shares}
    if model == "names":
        found = [_span(text, "London") | {"label": "LOC"}, _span(text, "😀 Ada") | {"label": "PER"}]
        return {"spans": [each | {"probability": 0.9} for each in found]}
    if model == "pages":
        words = "1843" if "1843" in asked["context"] else "القاهرة"
        best = _span(asked["context"], words) | {"probability": 0.8}
        return {"answer": best["text"], **best, "best": [best], "no_answer": 0.0001}
    if model == "words":
        best = [{"token": "fine", "probability": 0.6}, {"token": EVIL, "probability": 0.1}]
        mask = _span(text, "[MASK]") | {"best": best}
        return {"filled": text.replace("[MASK]", "fine"), "masks": [mask]}
    if model == "endings":
        return {"choice": asked["choices"][1], "label": "B", "probabilities": [0.2, 0.8]}
    return {"value": 3.25} if model == "stars" else {"vector": [float(len(text)), 1.0, -2.0]}


async def _models(request: Request) -> Response:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        error = {"message": "no key was given", "fix": "send Authorization: Bearer KEY"}
        return JSONResponse({"error": error}, 401)
    return JSONResponse({"data": MODELS})


async def _answers(request: Request) -> Response:
    body = await request.json()
    asked = body["input"] if isinstance(body["input"], list) else [body["input"]]
    account = {"tokens": 600, "tokens_cut": 88, "truncated": True, "windows": 1}
    answers = [_answer(body["model"], each) | account for each in asked]
    time_taken = {"queue_ms": 0.1, "tokenize_ms": 0.2, "model_ms": 3.0}
    return JSONResponse({"answers": answers, "time": time_taken, "task": "", "model": ""})


async def _file(request: Request) -> Response:
    lines = (await request.body()).decode().splitlines()
    if request.query_params.get("text") == "nothing":
        error = {
            "message": "there is no such text",
            "param": "the file, row 3",
            "fix": "name it with ?text=, or leave it out with ?on_bad_row=drop, or ask ?other=1",
        }
        return JSONResponse({"error": error}, 422)

    async def rows() -> Any:
        yield b"row,text,label\n"
        for number, line in enumerate(lines[1:], start=1):
            yield f'{number},"{line}\nand a line more",good\n'.encode()

    return StreamingResponse(rows(), headers={"X-Rows": str(len(lines) - 1)})


def _app() -> Starlette:
    routes = [
        Route("/v1/models", _models),
        Route("/openapi.json", _models),
        Route("/v1/files/{model}", _file, methods=["POST"]),
        Route("/v1/{task}", _answers, methods=["POST"]),
    ]
    return Starlette(routes=[*page.page_routes(), *routes])


# ---- as it is served


def test_the_page_lets_a_browser_fetch_from_this_server_alone() -> None:
    with TestClient(_app()) as client:
        for path in ("/", "/docs", *(f"/static/{name}" for name in ("style.css", *SCRIPTS))):
            told = client.get(path)
            assert told.status_code == 200
            assert told.headers["content-security-policy"] == page.POLICY
            assert told.headers["x-content-type-options"] == "nosniff"
            # Addresses of others would not be fetched; here there is not even one.
            assert not re.search(r"https?://|//\w+\.", told.text.replace("http://www.w3.org", ""))
        for path in ("/static/__init__.py", "/static/../page.js", "/static/%2e%2e/page.js"):
            assert client.get(path).status_code == 404
    assert "unsafe" not in page.POLICY


def test_the_page_has_no_script_or_style_inside() -> None:
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", text)
    script = "".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


def test_both_languages_have_the_same_words() -> None:
    script = "".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    words = script[script.index("const WORDS") : script.index("const KINDS")]
    languages = [
        dict(re.findall(r'(\w+): "([^"]*)"', part)) for part in words.split("zh: {", maxsplit=1)
    ]
    english, chinese = languages
    assert english.keys() == chinese.keys()
    gaps = [
        {name: set(re.findall(r"\{\w+\}", text)) for name, text in each.items()}
        for each in languages
    ]
    assert gaps[0] == gaps[1]
    page_words = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'data-word="(\w+)"', page_words)) <= english.keys()
    assert set(re.findall(r'word\("(\w+)"', script)) <= english.keys()


# ---- in a browser


@contextmanager
def _served(app: Starlette) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with _served(_app()) as address:
        yield address


@pytest.fixture(scope="module")
def tab(address: str) -> Iterator[Page]:
    """A tab that has been given the key."""
    with browser() as page:
        page.speak("en-US")
        page.open(address)
        page.until("!document.getElementById('gate').hidden")
        assert not page.run("document.getElementById('trouble').innerText")  # nobody did a thing
        page.until("document.activeElement.id === 'key'")
        page.type("another")
        page.press("Enter", text="\r")
        page.until("document.getElementById('trouble').innerText.includes('Type a key of')")
        page.type(KEY)  # in place of what was there
        page.press("Enter", text="\r")
        page.until("document.querySelectorAll('#model option').length === 7")
        page.until("document.activeElement.id === 'field-text'")  # whoever has no mouse goes on
        page.faults.clear()
        yield page


def _ask(tab: Page, model: str, **values: str) -> str:
    """Choose a model, type into its fields, and read what is shown."""
    choose = f"const s = document.getElementById('model'); s.value = {json.dumps(model)};"
    tab.run(f"{{ {choose} s.dispatchEvent(new Event('change')); }}")
    for name, text in values.items():
        tab.run(f"document.getElementById('field-{name}').focus()")
        tab.type(text)
    tab.press("Enter", control=True)
    tab.until("document.querySelector('.account')")
    return str(tab.run("document.getElementById('result').innerText"))


@needs_browser
def test_each_answer_is_shown_in_its_way(tab: Page) -> None:
    told = _ask(tab, "reviews", text="A good film.")
    for words in (EVIL, "88.0%", "Show all 13", "88 of 600 tokens were cut", "all (waiting 0.1"):
        assert words in told
    assert tab.run("document.querySelectorAll('.bars li').length") == 8
    tab.run("document.querySelector('#result button').click()")
    assert tab.run("document.querySelectorAll('.bars li').length") == 13
    _ask(tab, "names", text="😀 Ada 说 London 好")
    marks = tab.run("[...document.querySelectorAll('mark')].map((m) => m.firstChild.textContent)")
    assert marks == ["😀 Ada", "London"]  # in the order of the text, and not a half of the face
    _ask(tab, "pages", question="When?", context="😀 It appeared in 1843.")
    assert tab.run("document.querySelector('mark').textContent") == "1843"
    assert tab.run("document.querySelector('.words').textContent") == "😀 It appeared in 1843."
    assert "< 0.1%" in tab.run("document.getElementById('result').innerText")
    terminal = tab.run("[...document.querySelectorAll('#result pre')].at(-1).textContent")
    assert "-H 'Authorization: Bearer KEY'" in terminal
    assert KEY not in tab.run("document.getElementById('result').textContent")
    _ask(tab, "pages", question="متى؟", context="ولد أحمد في القاهرة عام ١٩٩٠")
    assert tab.run("getComputedStyle(document.querySelector('.words')).direction") == "rtl"
    pieces = "document.querySelector('.said small').getClientRects().length"
    assert tab.run(pieces) == 1  # no part of "80.0%" is before the words, and another behind them
    told = _ask(tab, "words", text="It is [MASK].")
    assert "It is fine." in told
    assert EVIL in told
    told = _ask(tab, "endings", text="She left", choices="at once\n\n later ")
    assert tab.run("document.querySelector('.said').textContent") == "later"
    assert "80.0%" in told
    assert "3.25" in _ask(tab, "stars", text="Fine")
    told = _ask(tab, "near", text="abc", others="abcd\nabcdef")
    assert [line for line in told.splitlines() if line in ("abcd", "abcdef")] == ["abcd", "abcdef"]
    assert tab.run("document.title") == "Bertolt"
    assert not tab.faults


@needs_browser
def test_a_file_comes_back_with_answers(tab: Page, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text\n" + "fine\n" * 500, encoding="utf-8")
    tab.choose_file(path)
    tab.until("document.querySelector('#filed a')")
    assert "500 rows answered" in tab.run("document.getElementById('filed').innerText")
    assert tab.run("document.querySelector('#filed a').download") == "reviews-answers.csv"
    text = tab.run("fetch(document.querySelector('#filed a').href).then((r) => r.text(), String)")
    assert text.startswith("row,text,label\n1,") or "Failed" in text  # the policy forbids it
    tab.run("document.getElementById('column-text').value = 'nothing'")
    tab.run("document.getElementById('file').value = ''")
    tab.choose_file(path)
    tab.until("document.querySelector('#filed .trouble')")
    told = tab.run("document.getElementById('filed').innerText")
    assert "row 3: there is no such text" in told
    assert "name it with “Column of the Text”, or leave it out with" in told
    assert "“Rows that cannot be used: left out”, or ask ?other=1" in told
    assert tab.run("document.querySelector('#filing details').open")
    tab.run("document.getElementById('column-on_bad_row').value = 'drop'")
    tab.run("document.getElementById('column-text').value = ''")
    tab.run("document.getElementById('file').click()")  # so that the same file may come again
    tab.choose_file(path)
    tab.until("document.querySelector('#filed a')")
    sent = "performance.getEntriesByType('resource').map((e) => e.name)"
    sent += ".filter((name) => name.includes('/files/')).at(-1)"
    assert tab.run(sent).endswith("?header=yes&on_bad_row=drop")
    assert tab.run("document.getElementById('progress').hidden")
    other = tmp_path / "photo.png"
    other.write_bytes(b"no table")
    tab.choose_file(other)
    assert "Not such a file" in tab.run("document.getElementById('filed').innerText")


@needs_browser
def test_times_are_told_as_people_say_them(tab: Page) -> None:
    told = tab.run("[0.04, 9.97, 59.4, 59.7, 119.6, 3599.8].map(duration)")
    assert told == ["0.0 s", "10 s", "59 s", "1 min 0 s", "2 min 0 s", "1 h 0 min"]


@needs_browser
def test_it_is_used_on_a_phone_in_chinese_and_by_keys_alone(tab: Page, address: str) -> None:
    tab.speak("zh-CN")
    tab.open(f"{address}#pages", width=360, height=740, prefers_color_scheme="dark")
    tab.until("document.querySelector('#field-context')")
    assert tab.run("document.documentElement.lang") == "zh-Hans"
    assert tab.run("document.querySelector('#answer').textContent") == "回答"
    assert tab.run("document.documentElement.scrollWidth") <= 360
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 150
    reached = []
    for _ in range(9):
        tab.press("Tab")
        reached.append(tab.run("document.activeElement.id || document.activeElement.tagName"))
    assert reached[:3] == ["A", "model", "language"]
    assert reached[3:6] == ["field-question", "field-context", "answer"]
    assert {"file", "SUMMARY"} <= set(reached)
    tab.run("document.getElementById('language').focus()")
    tab.press("Enter", text="\r")
    assert tab.run("document.querySelector('#answer').textContent") == "Answer"
    tab.open(f"{address}#pages", width=360)
    tab.until("document.querySelector('#field-context')")
    assert tab.run("document.documentElement.lang") == "en"  # what was chosen is kept
    small = "[...document.querySelectorAll('button, select, input:not([type=file]), .drop')]"
    small += ".filter((e) => e.offsetParent && e.offsetHeight < 40).map((e) => e.id)"
    assert tab.run(small) == []


@needs_browser
@pytest.mark.parametrize(("behind", "chosen"), [("stars", "stars"), ("%", "reviews")])
def test_the_model_of_an_address_is_chosen_and_what_is_none_harms_nothing(
    tab: Page, address: str, behind: str, chosen: str
) -> None:
    tab.open(f"{address}?{len(behind)}#{behind}")  # another query: a page of its own
    tab.until("document.querySelectorAll('#model option').length === 7")
    tab.until("!document.getElementById('typing').hidden")
    assert tab.run("document.getElementById('model').value") == chosen
    assert tab.run("document.getElementById('trouble').innerText") == ""


@needs_browser
def test_the_description_is_shown_to_who_has_a_key(tab: Page, address: str) -> None:
    tab.open(address)
    tab.until("document.querySelectorAll('#model option').length === 7")
    tab.run("document.getElementById('api').click()")
    tab.until("location.protocol === 'blob:' && document.body.innerText.includes('stars')")


@needs_browser
def test_the_server_itself_is_behind_it(tab: Page, tuned: Path, tmp_path: Path) -> None:
    models = Models({"reviews": str(tuned)})
    models.load("reviews")
    server = Server(models)
    with _served(server.app(file_routes(server, FileAnswers))) as address:
        tab.faults.clear()
        tab.speak("en-US")
        tab.open(address)
        tab.until("document.getElementById('field-text')")
        assert "text-classification" in tab.run("document.getElementById('about').textContent")
        tab.run("document.getElementById('field-text').focus()")
        tab.type("a good film, lovely and warm")
        tab.press("Enter", control=True)
        tab.until("document.querySelector('.account')")
        assert tab.run("document.querySelector('.said').firstChild.textContent") == "pos"
        assert tab.run("document.querySelectorAll('.bars li').length") == 2
        path = tmp_path / "films.csv"
        path.write_text("review\n" + "a bad film\n" * 300, encoding="utf-8")
        tab.choose_file(path)
        tab.until("document.querySelector('#filed a')")
        assert "300 rows answered" in tab.run("document.getElementById('filed').innerText")
        typed = "['column-sep', 'column-on_bad_row'].map((name) => document.getElementById(name))"
        tab.run(f"{typed}.forEach((each, n) => {{ each.value = ['|', 'drop'][n]; }})")
        for _ in range(2):
            tab.run("document.getElementById('language').click()")
            assert tab.run(f"{typed}.map((each) => each.value).join()") == "|,drop"
        tab.run("document.getElementById('to-docs').click()")
        tab.until("document.querySelectorAll('#docs section').length === 10")
        told = tab.run("document.getElementById('docs').innerText")
        for words in (
            "POST /v1/text-classification",
            "What comes back",
            f"curl {address}v1/text-c",
        ):
            assert words in told
        assert not tab.run("document.getElementById('typing').offsetParent")
        tab.open(f"{address}docs", width=360)
        tab.until("document.querySelectorAll('#docs section').length === 10")
        assert tab.run("document.documentElement.scrollWidth") <= 360
        tab.run("document.getElementById('language').click()")
        assert "POST /v1/text-classification\n\n回答文本：" in tab.run("document.body.innerText")
        tab.run("document.getElementById('language').click()")
        assert not tab.faults
