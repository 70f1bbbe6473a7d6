"""A file in the body of a request, and the same with answers."""

from __future__ import annotations

import asyncio
import csv
import errno
import gzip
import io
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from starlette.testclient import TestClient

from bertolt import Predictor
from bertolt.commands.file_answers import FileAnswers
from bertolt.serve import files
from bertolt.serve.app import Server
from bertolt.serve.errors import RefusedError
from bertolt.serve.files import ForNobodyError, file_routes
from bertolt.serve.limits import Limits
from bertolt.serve.models import Models

ROUTE = "/v1/files/reviews"
CSV = {"Content-Type": "text/csv"}


@pytest.fixture(scope="module")
def server(tuned: Path) -> Server:
    models = Models({"reviews": str(tuned)})
    models.load("reviews")
    return Server(models, replace(Limits(), file_bytes=20_000, body_seconds=0.5, characters=100))


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[TestClient]:
    with TestClient(server.app(file_routes(server, FileAnswers))) as client:
        yield client


def _said(told: Any) -> tuple[int, str]:
    error = told.json()["error"]
    return told.status_code, f"{error['message']} | {error['param']} | {error['fix']}"


def test_rows_come_back_in_their_order_with_the_answers_of_predict(
    client: TestClient, server: Server
) -> None:
    texts = [f"the film was {'good' if n % 3 else 'bad'} and {n}" for n in range(150)]
    texts[70] = ""
    rows = [[str(n), text, "a, b\nc"] for n, text in enumerate(texts)]
    body = io.StringIO()
    csv.writer(body).writerows([["id", "text", "note"], *rows])
    told = client.post(ROUTE, content=body.getvalue().encode(), headers=CSV)
    assert told.status_code == 200
    assert told.headers["x-rows"] == "150"
    assert told.headers["content-type"].startswith("text/csv")
    answered = list(csv.DictReader(io.StringIO(told.text)))
    assert [[row["id"], row["text"], row["note"]] for row in answered] == rows
    assert answered[70]["reason"] == "empty text"
    asked = [text for text in texts if text]
    predictions = server.models.named("reviews").predictor.predict(asked)
    given = [row for row in answered if row["text"]]
    for row, prediction in zip(given, predictions, strict=True):
        assert row["label"] == prediction.label
        assert float(row["probability"]) == pytest.approx(prediction.probability, abs=2e-3)


def test_the_user_s_columns_come_back_under_their_own_names_and_in_their_order(
    client: TestClient,
) -> None:
    body = "id,opinion,all\n1,good,x\n2,,y\n3,b\0d,z\n"
    query = "?text=opinion&on_bad_row=answer-all"
    told = client.post(ROUTE + query, content=body.encode(), headers=CSV)
    assert told.status_code == 200, told.text
    head, first, *others = csv.reader(io.StringIO(told.text))
    assert head[:5] == ["row", "id", "opinion", "all", "label"]
    assert first[:4] == ["1", "1", "good", "x"]
    assert [row[:4] for row in others] == [["2", "2", "", "y"], ["3", "3", "", "z"]]
    rows = [{"all": 1, "opinion": "good", "text": "mine"}, {"all": 2, "opinion": "", "text": "too"}]
    told = client.post(f"{ROUTE}?text=opinion", json=rows)
    assert [{name: row[name] for name in rows[0]} for row in told.json()] == rows
    assert [list(row)[:4] for row in told.json()] == [["row", "all", "opinion", "text"]] * 2
    assert told.json()[0]["label"]


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/jsonl", "application/json"])
def test_json_comes_back_as_json(client: TestClient, kind: str) -> None:
    rows = [{"text": "good", "id": 1}, {"text": "坏 😀", "id": 2}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    body = f"[{','.join(lines)}]" if kind.endswith("/json") else "\n".join(lines)
    told = client.post(ROUTE, content=body.encode(), headers={"Content-Type": kind})
    given = told.json() if kind.endswith("/json") else list(map(json.loads, told.text.splitlines()))
    assert [{"text": row["text"], "id": row["id"]} for row in given] == rows
    assert {"label", "probabilities"} <= given[0].keys()


@pytest.mark.parametrize(
    ("body", "query", "words"),
    [
        ("text\ngood\n\0\n", "", ("NUL byte in column 'text'", "row 2", "?on_bad_row=drop")),
        ("a,b\nx,y\n", "", ("no column is surely the text", "the file", "?text=")),
        ("a,b\nx,y\n", "?text=c", ("no column 'c'", "the file", "?text=")),
        ("", "", ("nothing in it", "the file", "")),
        (f"text\ngood\n{'bad ' * 30}\n", "", ("120 characters, and 100", "row 2", "?on_bad_row")),
        ("text\ngood\n", "?colour=red", ("no such parameter", "?colour=", "text_pair")),
        ("text\ngood\n", "?on_bad_row=eat", ("'eat'", "?on_bad_row=", "drop")),
        ("text\ngood\n", "?skip_rows=-1", ("'-1'", "?skip_rows=", "whole number")),
        ("text\ngood\n", "?sep=ab", ("'ab' cannot part cells", "?sep=", "?sep=")),
        ("text\ngood\n", "?encoding=no", ("no text encoding", "?encoding=", "gb18030")),
        ('text\n"open\n', "", ("never closed", "line 2", "close it")),
        ("PK\3\4 xl/workbook.xml", "", ("a ZIP archive", "the file", "save it as CSV")),
        ("PAR1 PAR1", "", ("a Parquet file", "the file", "save it as CSV")),
    ],
)
def test_what_is_wrong_is_told_with_its_row_and_parameter(
    client: TestClient, body: str, query: str, words: tuple[str, ...]
) -> None:
    status, said = _said(client.post(ROUTE + query, content=body.encode(), headers=CSV))
    assert status == 422
    for each in words:
        assert each in said
    assert tempfile.gettempdir() not in said
    assert "--" not in said
    assert "its name" not in said


def test_the_description_has_what_a_file_may_be_and_what_may_be_said_of_it(
    client: TestClient,
) -> None:
    described = client.get("/openapi.json").json()["paths"]["/v1/files/{model}"]["post"]
    assert described["requestBody"]["content"].keys() == files.ENDINGS.keys()
    assert described["parameters"][0]["schema"] == {"enum": ["reviews"]}
    said = {each["name"]: each["schema"] for each in described["parameters"][1:]}
    assert said == FileAnswers.parameters
    values = {"text": "a", "encoding": "utf-8", "sep": "comma", "header": "yes", "skip_rows": "0"}
    for bad_row in said["on_bad_row"]["enum"]:
        told = client.post(
            ROUTE, params={**values, "on_bad_row": bad_row}, content=b"a,b\nx,y\n", headers=CSV
        )
        assert told.status_code == 200, told.text


def test_a_model_that_is_none_is_told_alike_by_every_method(client: TestClient) -> None:
    for method in ("GET", "PUT", "POST"):
        told = client.request(method, "/v1/files/none", content=b"text\ngood\n", headers=CSV)
        assert _said(told)[0] == 404, method
        assert "there is no model 'none' | model | there is text-" in _said(told)[1]
    assert client.get(ROUTE).status_code == 405


def test_models_kinds_and_sizes_that_are_none_are_refused(client: TestClient) -> None:
    refused = client.post("/v1/files/other", content=b"text\na\n", headers=CSV)
    assert refused.status_code == 404
    for kind in ("image/png", "", "text/csv2"):
        told = client.post(ROUTE, content=b"text\na\n", headers={"Content-Type": kind})
        assert told.status_code == 415
        assert "text/csv" in told.json()["error"]["fix"]
    for size in (b"a\n" * 20_000, iter([b"a\n" * 1000] * 20)):  # the second does not say its own
        assert client.post(ROUTE, content=size, headers=CSV).status_code == 413
    assert client.post(ROUTE, content=b"text\ngood\n", headers=CSV).status_code == 200


def test_no_file_is_left_and_no_place_is_held(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # others write to the usual one
    for _ in range(files.MOST + 1):  # more than are answered at a time, so a lost place would tell
        assert client.post(ROUTE, content=b"text\nfine\n", headers=CSV).status_code == 200
        assert client.post(ROUTE, content=b"a,b\nx,y\n", headers=CSV).status_code == 422
        with client.stream("POST", ROUTE, content=b"text\n" + b"x\n" * 500, headers=CSV) as told:
            assert told.status_code == 200  # and whoever leaves in the middle
    assert not list(tmp_path.iterdir())


def test_so_many_files_are_answered_at_a_time(server: Server) -> None:
    server = Server(server.models)
    (route,) = routes = file_routes(server, FileAnswers)
    with TestClient(server.app(routes)) as client:
        route.endpoint.__self__._busy = files.MOST
        refused = client.post(ROUTE, content=b"text\nfine\n", headers=CSV)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        route.endpoint.__self__._busy -= 1
        assert client.post(ROUTE, content=b"text\nfine\n", headers=CSV).status_code == 200


def test_a_file_waits_where_the_queue_is_full(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(server.models)
    put, full = server.queue.put, [True, True, False] * 4

    def puts(ask: Any) -> None:
        if full.pop(0):
            raise RefusedError(503, "no room", code="queue_full")
        put(ask)

    monkeypatch.setattr(files, "_PAUSE", 0.01)
    monkeypatch.setattr(server.queue, "put", puts)
    with TestClient(server.app(file_routes(server, FileAnswers))) as client:
        told = client.post(ROUTE, content=b"text\n" + b"x\n" * (2 * files.PART), headers=CSV)
    assert len(told.text.splitlines()) == 1 + 2 * files.PART
    assert len(full) == 6  # each part was offered three times


def test_files_are_read_one_after_the_other(server: Server) -> None:
    server, reading, most = Server(server.models), 0, 0

    def slowly(*given: Any) -> FileAnswers:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        time.sleep(0.05)
        reading -= 1
        return FileAnswers(*given)

    slowly.parameters = FileAnswers.parameters  # type: ignore[attr-defined]
    with TestClient(server.app(file_routes(server, slowly))) as client:  # type: ignore[arg-type]
        statuses: list[int] = []

        def send() -> None:
            statuses.append(client.post(ROUTE, content=b"text\nfine\n", headers=CSV).status_code)

        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 3
    assert most == 1


class Read:
    """Reads a file for as long as somebody waits for it."""

    parameters = FileAnswers.parameters

    def __init__(self, begun: Callable[[], object]) -> None:
        self.begun, self.status = begun, 0

    def __call__(self, *given: Any) -> FileAnswers:
        self.begun()
        end = time.monotonic() + 20
        try:
            while time.monotonic() < end:
                given[-1](1)
                time.sleep(0.01)
        except ForNobodyError as error:
            self.status = error.why.status
            raise
        raise AssertionError("it is read for nobody")


def test_a_file_is_read_no_further_once_its_client_is_gone(server: Server) -> None:
    async def asked() -> list[Any]:
        gone, loop = asyncio.Event(), asyncio.get_running_loop()
        reading.begun = lambda: loop.call_soon_threadsafe(gone.set)
        body, sent = [{"type": "http.request", "body": b"text\ngood\n"}], list[Any]()

        async def receive() -> Any:
            if body:
                return body.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": ROUTE, "query_string": b""}
        await app({**scope, "headers": [(b"content-type", b"text/csv")]}, receive, send)
        return sent

    server, reading = Server(server.models), Read(lambda: None)
    app = server.app(file_routes(server, reading))
    begun = time.monotonic()
    sent = asyncio.run(asked())
    assert time.monotonic() - begun < 10
    assert reading.status == sent[0]["status"] == 499


def test_a_file_is_read_no_further_than_the_end_of_the_server(server: Server) -> None:
    server = Server(server.models, Limits(seconds=0.3))
    reading = Read(server.leave)
    with TestClient(server.app(file_routes(server, reading))) as client:
        status, said = _said(client.post(ROUTE, content=b"text\ngood\n", headers=CSV))
    assert reading.status == status == 504
    assert "ends before the file is read" in said


@pytest.mark.parametrize("cell", ["good", ""])
def test_who_reads_tells_how_far_it_is_whatever_the_rows_are(
    tuned: Path, tmp_path: Path, cell: str
) -> None:
    def watch(rows: int) -> None:
        seen.append(rows)
        if len(seen) > 1:
            raise ForNobodyError(RefusedError(499, "the client is gone"))

    seen: list[int] = []
    path = tmp_path / "body.csv"
    path.write_text("text,n\n" + f"{cell},1\n" * 9000, encoding="utf-8")
    with pytest.raises(ForNobodyError):
        FileAnswers(Predictor.from_pretrained(tuned), path, {}, 100, watch)
    assert 0 < seen[0] < seen[1] < 9000


def test_a_parameter_that_is_there_twice_is_refused(client: TestClient) -> None:
    status, said = _said(client.post(f"{ROUTE}?text=a&text=b", content=b"a,b\nx,y\n", headers=CSV))
    assert (status, said) == (400, "the parameter 'text' is there 2 times | ?text= | send it once")


def test_what_is_packed_is_refused(client: TestClient) -> None:
    body = gzip.compress(b"text\ngood\n")
    status, said = _said(client.post(ROUTE, content=body, headers=CSV))
    assert (status, said) == (422, "it is packed | the file | send it as it is")
    told = client.post(ROUTE, content=body, headers={**CSV, "Content-Encoding": "gzip"})
    status, said = _said(told)
    assert status == 415
    assert "packed as 'gzip'" in said
    assert "without Content-Encoding" in said
    plain = {**CSV, "Content-Encoding": "identity"}
    assert client.post(ROUTE, content=b"text\ngood\n", headers=plain).status_code == 200


@pytest.mark.parametrize("kind", ["application/jsonl", "application/json"])
def test_half_a_surrogate_pair_in_a_column_comes_back_as_it_came(
    client: TestClient, kind: str
) -> None:
    row = '{"text": "good", "id": "\\ud83d", "\\udc00": 1}'
    body = row if kind.endswith("jsonl") else f"[{row}]"
    told = client.post(ROUTE, content=body.encode(), headers={"Content-Type": kind})
    assert told.status_code == 200, told.text
    given = json.loads(told.text)
    given = given if kind.endswith("jsonl") else given[0]
    assert (given["id"], given["\udc00"]) == ("\ud83d", 1)
    assert given["label"]


def test_a_file_that_does_not_fit_on_the_disk_is_refused_and_the_next_one_is_answered(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "read", full)
        for _ in range(files.MOST + 1):
            status, said = _said(client.post(ROUTE, content=b"text\nfine\n", headers=CSV))
            assert status == 507
            assert "No space left on device" in said
    assert client.post(ROUTE, content=b"text\nfine\n", headers=CSV).status_code == 200


def test_answers_that_break_off_at_the_end_are_counted_and_told(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[dict[str, Any]] = []
    ending = Server(
        server.models, log=lambda event, **values: log.append({"event": event, **values})
    )
    put = ending.queue.put
    over = [None, RefusedError(504, "the time for an answer is over")]

    def puts(ask: Any) -> None:
        if error := over.pop(0):
            raise error
        put(ask)
        ending.leave()

    monkeypatch.setattr(ending.queue, "put", puts)
    with TestClient(ending.app(file_routes(ending, FileAnswers))) as client:
        told = client.post(ROUTE, content=b"text\n" + b"x\n" * 200, headers=CSV)
        counts = client.get("/metrics").text
    assert len(told.text.splitlines()) < 100
    assert ending.unanswered == 1
    assert [(each["event"], each.get("error")) for each in log[:2]] == [
        ("error", "RefusedError"),  # and not what starlette makes of it
        ("request", None),
    ]
    assert log[1]["broken"] is True
    assert 'status="broken"' in counts


def test_a_row_beyond_the_limit_is_refused_by_itself(tuned: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_pretrained(tuned, long="error")
    path = tmp_path / "body.csv"
    path.write_text("text\ngood\n" + "bad " * 2000 + "\nfine\n", encoding="utf-8")
    file = FileAnswers(predictor, path, {})
    (examples,) = file.parts(10)
    answers = list(predictor.answer(examples, predictor.encode(examples)[1]))
    rows = list(csv.DictReader(io.StringIO(file.text(answers) + file.end())))
    assert [bool(row["label"]) for row in rows] == [True, False, True]
    assert "limit" in rows[1]["reason"]
