"""What SECURITY.md promises of the server, a test for each line."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hmac
import io
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from starlette.datastructures import URL
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from bertolt import Predictor
from bertolt.base.errors import CheckpointError, UsageError
from bertolt.commands import serve as command
from bertolt.commands.serve_options import ServeOptions
from bertolt.serve import clients, run
from bertolt.serve.app import Server
from bertolt.serve.asked import _is_unicode
from bertolt.serve.clients import Keys
from bertolt.serve.embeddings import ids_of
from bertolt.serve.hosts import Hosts
from bertolt.serve.limits import Limits
from bertolt.serve.log import log_to_stderr
from bertolt.serve.models import Models

KEY, RULER = "a-key-that-nobody-guesses", "another-key-that-rules-here"
PATH = "/v1/text-classification"
SECRET = "a text that only its writer may read"


@pytest.fixture(scope="module")
def predictor(tuned: Path) -> Predictor:
    return Predictor.from_pretrained(tuned, precision="fp32")


@contextmanager
def serving(
    predictor: Predictor, tuned: Path, *, parent: Path | None = None, **limits: Any
) -> Iterator[tuple[TestClient, list[dict[str, Any]]]]:
    """The server with keys, and what it logs."""
    models = Models({"my-model": str(tuned)}, lambda folder: predictor, parent=parent)
    models.load("my-model")
    log: list[dict[str, Any]] = []
    server = Server(
        models,
        Limits(**limits),
        Keys([KEY], [RULER]),
        lambda event, **values: log.append({"event": event, **values}),
    )
    with TestClient(server.app(), raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client, log


@pytest.fixture(scope="module")
def served(predictor: Predictor, tuned: Path) -> Iterator[tuple[TestClient, list[dict[str, Any]]]]:
    with serving(predictor, tuned) as both:
        yield both


@pytest.fixture
def client(served: tuple[TestClient, list[dict[str, Any]]]) -> TestClient:
    return served[0]


def test_it_listens_to_this_machine_alone_unless_told() -> None:
    assert ServeOptions().host == "127.0.0.1"


@pytest.fixture(scope="module")
def without_keys(predictor: Predictor, tuned: Path) -> Iterator[TestClient]:
    models = Models({"my-model": str(tuned)}, lambda folder: predictor)
    models.load("my-model")
    with TestClient(Server(models, hosts=Hosts(["mine.example"])).app()) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((each, 200) for each in ("localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:8000")),
        *((each, 200) for each in ("localhost:", "[::1]:")),  # a number may be left out
        *((each, 200) for each in ("[::1]", "[::1]:8000", "192.0.2.7:80", "mine.example:8000")),
        *((each, 421) for each in ("evil.example", "evil.example:8000", "localhost.evil.example")),
        *((each, 421) for each in ("127.0.0.1.evil.example", "localhost@evil.example", "x", "")),
        *((each, 421) for each in ("[::1].evil.example", "[evil.example]", "evil.example:::1")),
    ],
)
def test_without_keys_it_is_asked_by_names_that_it_knows(
    without_keys: TestClient, host: str, status: int
) -> None:
    headers = {"Host": host}
    for path in ("/v1/models", "/ready", "/metrics", "/", "/static/page.js"):
        answer = without_keys.get(path, headers=headers)
        assert answer.status_code == status, (path, answer.text)
    told = without_keys.post(PATH, json={"input": SECRET}, headers=headers)
    assert told.status_code == status
    assert without_keys.get("/health", headers=headers).status_code == 200
    if status == 421:
        error = told.json()["error"]
        assert (error["type"], error["param"]) == ("misdirected", "Host")
        assert "--allowed-hosts" in error["fix"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"localhost", "127.0.0.1"}),
        (
            {"host": "My.Example", "allowed_hosts": "a, b.c"},
            {"localhost", "my.example", "a", "b.c"},
        ),
        ({"keys": KEY}, None),  # a page of somebody's has none
        ({"keys": KEY, "allowed_hosts": "a"}, {"localhost", "127.0.0.1", "a"}),
    ],
)
def test_the_command_holds_to_names_where_no_key_is_asked_for(
    tuned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    names: set[str] | None,
) -> None:
    if "keys" in options:
        (path := tmp_path / "keys").write_text(options["keys"])
        options = {**options, "keys": path}
    served: list[Server] = []
    monkeypatch.setattr(command, "_bound", lambda host, port: socket.socket())
    monkeypatch.setattr(command, "_open_port", lambda listener: None)
    monkeypatch.setattr(run, "listen", lambda server, *given: served.append(server))
    command.serve([str(tuned)], ServeOptions(precision="fp32", **options))
    assert (served[0].hosts and served[0].hosts.names) == names


@pytest.mark.parametrize("name", ["http://a", "a:80", "*", "a/b"])
def test_what_is_no_name_of_a_host_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name of a host") as refused:
        ServeOptions(allowed_hosts=f"good.example,{name}")
    assert refused.value.place == "--allowed-hosts"


@pytest.mark.parametrize(
    "header", ["", "Bearer", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", f"Basic {KEY}", "Bearer é"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", PATH), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/openapi.json")],
)
def test_without_a_key_there_is_nothing(
    client: TestClient, header: str, method: str, path: str
) -> None:
    headers = {"Authorization": header.encode("latin-1")}
    answer = client.request(method, path, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert set(answer.json()) == {"error"}


def test_keys_are_compared_in_constant_time_and_kept_as_digests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(clients, "hmac", type("hmac", (), {"compare_digest": compare}))
    keys = Keys([KEY, "k" * 16], [RULER])
    assert not keys.client(f"Bearer {KEY}").rules
    assert len(compared) == 3  # the first is right, and the others are compared all the same
    assert {len(each) for pair in compared for each in pair} == {32}
    assert KEY not in repr(vars(keys))


@pytest.mark.parametrize(
    "text",
    ["", "# a note\n", "short\n", "with a space in it, long\n", "é" * 20, f"admin\t{'k' * 20}\n"],
)
def test_a_file_without_good_keys_is_refused(text: str, tmp_path: Path) -> None:
    (path := tmp_path / "keys").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        Keys.read(path)
    assert not text.strip() or text.strip() not in str(refused.value)


def test_a_file_of_keys_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    (path := tmp_path / "keys").write_text(f"admin {RULER}\n{KEY}\n", encoding="utf-8-sig")
    assert Keys.read(path).client(f"Bearer {RULER}").rules


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
def test_a_pipe_of_keys_is_read_once(tmp_path: Path) -> None:
    """As of `--keys <(command)`."""
    os.mkfifo(path := tmp_path / "keys")
    with ThreadPoolExecutor() as pool:
        pool.submit(path.write_text, f"{KEY}\n", "utf-8")
        keys = Keys.read(path)
    with pytest.raises(UsageError, match="no file that can be read again"):
        keys.read_again()
    assert keys.client(f"Bearer {KEY}")


def test_keys_are_read_again_at_sighup_and_those_before_stay_if_that_fails(
    predictor: Predictor, tuned: Path, tmp_path: Path
) -> None:
    (path := tmp_path / "keys").write_text(f"{KEY}\n", encoding="utf-8")
    models = Models({"my-model": str(tuned)}, lambda folder: predictor)
    models.load("my-model")
    log: list[Any] = []
    server = Server(models, keys=Keys.read(path), log=lambda event, **_: log.append(event))
    with TestClient(server.app()) as client:

        def statuses() -> list[int]:
            headers = [{"Authorization": f"Bearer {key}"} for key in (KEY, RULER)]
            return [client.get("/v1/models", headers=each).status_code for each in headers]

        for text, expected in ((f"{RULER}\n", [401, 200]), ("short\n", [401, 200])):
            path.write_text(text, encoding="utf-8")
            server.take_over()
            assert statuses() == expected
    assert [event for event in log if event.startswith("keys")] == ["keys read", "keys not read"]


def test_only_an_administrator_loads_and_unloads(client: TestClient) -> None:
    for what in ("load", "unload"):
        assert client.post(f"/v1/models/my-model/{what}").status_code == 403
        assert client.request("TRACE", f"/v1/models/my-model/{what}").status_code == 405
    rules = {"Authorization": f"Bearer {RULER}"}
    assert client.post("/v1/models/my-model/load", headers=rules).status_code == 200


def test_without_keys_nobody_loads_and_unloads(without_keys: TestClient) -> None:
    for what in ("load", "unload"):
        refused = without_keys.post(f"/v1/models/my-model/{what}", headers={"Host": "localhost"})
        assert refused.status_code == 403
        assert "--keys" in refused.json()["error"]["fix"]
    assert without_keys.get("/ready", headers={"Host": "localhost"}).status_code == 200


@pytest.mark.parametrize(
    "name", ["..%2F..%2Fetc", "%2Fetc", "%2E%2E", "secret", "my-model%2F..", "%00", "a%5Cb"]
)
def test_no_name_of_a_request_is_opened(
    predictor: Predictor, tuned: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/config.json").write_text("{}")
    (models := tmp_path / "models").mkdir()
    rules = {"Authorization": f"Bearer {RULER}"}
    with serving(predictor, tuned, parent=models) as (client, _):
        for path in (f"/v1/models/{name}/load", f"/v1/models/{name}", f"/static/{name}"):
            for method in ("GET", "POST"):
                answer = client.request(method, path, headers=rules)
                assert answer.status_code in (403, 404, 405), (path, answer.text)


@pytest.mark.parametrize(
    ("limits", "body", "status"),
    [
        ({"body_bytes": 100}, {"input": "a" * 100}, 413),
        ({"texts": 2}, {"input": ["a", "b", "c"]}, 413),
        ({"characters": 5}, {"input": "abcdef"}, 413),
    ],
    ids=["body", "list", "text"],
)
def test_what_is_taken_is_bounded(
    predictor: Predictor, tuned: Path, limits: dict[str, int], body: Any, status: int
) -> None:
    with serving(predictor, tuned, **limits) as (client, _):
        answer = client.post(PATH, json=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["fix"]
        assert client.post(PATH, json={"input": "good"}).status_code == 200


def test_a_body_that_does_not_say_its_size_is_bounded_too(
    predictor: Predictor, tuned: Path
) -> None:
    def parts() -> Iterator[bytes]:  # sent by chunks, without a Content-Length
        yield b'{"input": "'
        yield from [b"a" * 10] * 20
        yield b'"}'

    with serving(predictor, tuned, body_bytes=100) as (client, _):
        answer = client.post(PATH, content=parts(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (413, "body")


def test_who_asks_too_often_waits(predictor: Predictor, tuned: Path) -> None:
    with serving(predictor, tuned, rate=1.0) as (client, _):
        statuses = [client.get("/v1/models").status_code for _ in range(3)]
        assert statuses[0] == 200
        assert statuses[-1] == 429
        assert client.get("/health").status_code == 200  # a supervisor is not counted
        assert int(client.get("/v1/models").headers["retry-after"]) >= 1


def test_without_keys_an_address_is_a_client(predictor: Predictor, tuned: Path) -> None:
    models = Models({"my-model": str(tuned)}, lambda folder: predictor)
    models.load("my-model")
    app = Server(models, Limits(rate=1.0)).app()
    with TestClient(app) as client, TestClient(app, client=("192.0.2.7", 1)) as other:
        assert [client.get("/v1/models").status_code for _ in range(2)] == [200, 429]
        assert other.get("/v1/models").status_code == 200


def test_one_key_is_one_client_however_it_is_written(
    predictor: Predictor, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[str] = []
    take = clients.Rate.take

    def takes(self: clients.Rate, client: str) -> None:
        known.append(client)
        take(self, client)

    monkeypatch.setattr(clients.Rate, "take", takes)
    with serving(predictor, tuned, rate=1.0) as (client, _):
        written = [f"Bearer {KEY}", f"bearer {KEY}", f"Bearer  {KEY}", f"BEARER   {KEY} "]
        headers = [{"Authorization": each} for each in written]
        statuses = [client.get("/v1/models", headers=each).status_code for each in headers]
        assert statuses == [200, 429, 429, 429]
    assert len(set(known)) == 1
    assert KEY not in known[0]


@pytest.mark.parametrize("host", ["here/health?", "here/static/?", "here", "here/health#"])
def test_no_path_is_read_in_the_header_host(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    def url(self: HTTPConnection) -> URL:  # as older versions of starlette make it
        return URL(f"http://{self.headers['host']}{self.scope['path']}")

    monkeypatch.setattr(HTTPConnection, "url", property(url))
    headers = {"Host": host, "Authorization": ""}
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/models/my-model/unload")):
        assert client.request(method, path, headers=headers).status_code == 401
    assert client.get("/health", headers=headers).status_code == 200


def test_who_guesses_keys_waits_too(predictor: Predictor, tuned: Path) -> None:
    with serving(predictor, tuned, rate=2.0) as (client, _):
        guesses = [
            client.get("/v1/models", headers={"Authorization": f"Bearer guess-{n}"}).status_code
            for n in range(4)
        ]
        assert guesses == [401, 401, 429, 429]
        assert client.get("/v1/models").status_code == 200  # who has a key does not


def test_a_mistake_of_the_server_is_told_without_what_it_says(
    predictor: Predictor, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(self: Models, task: str, name: str | None) -> None:
        raise ValueError(SECRET)

    with serving(predictor, tuned) as (client, log):
        monkeypatch.setattr(Models, "of_task", mistake)
        answer = client.post(PATH, json={"input": SECRET})
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "the server made a mistake"
    assert answer.headers["x-frame-options"] == "DENY"
    assert {each["event"] for each in log} == {"error", "request"}
    assert log[-1]["status"] == 500
    assert SECRET not in json.dumps(log)


def test_a_pass_that_failed_is_logged_and_told_without_what_it_says(
    predictor: Predictor, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Predictor, *given: Any) -> Any:
        raise ValueError(SECRET) from KeyError(SECRET)

    with serving(predictor, tuned) as (client, log):
        monkeypatch.setattr(Predictor, "answer", fails)
        answer = client.post(PATH, json={"input": SECRET})
        ready = client.get("/ready", headers={"Authorization": ""})
    assert answer.status_code == 500
    assert "the log has the error" in answer.json()["error"]["fix"]
    assert (ready.status_code, ready.json()["models"]) == (503, {"my-model": "ValueError"})
    failed = [each for each in log if each["event"] == "pass failed"]
    assert failed[0].keys() == {"event", "model", "version", "error", "where"}
    assert failed[0]["error"] == "KeyError"  # what caused it
    assert SECRET not in json.dumps(log) + ready.text


def test_a_graph_that_cannot_be_run_is_a_fault_of_the_server_and_names_no_path(
    predictor: Predictor, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Predictor, *given: Any) -> Any:
        raise CheckpointError("the graph cannot be run", place=str(tuned))

    with serving(predictor, tuned) as (client, _):
        monkeypatch.setattr(Predictor, "answer", fails)
        answer = client.post(PATH, json={"input": "a text"})
        ready = client.get("/ready")
    assert answer.status_code == 500
    assert str(tuned) not in answer.text
    assert ready.json()["models"] == {"my-model": "CheckpointError"}


def test_a_text_that_is_refused_is_named_by_its_part_of_the_request(tuned: Path) -> None:
    models = Models({"my-model": str(tuned)}, partial(Predictor.from_pretrained, long="error"))
    models.load("my-model")
    long = "good " * 2000
    with TestClient(Server(models).app()) as client:
        body = json.dumps({"input": ["fine", "\ud800", "so", long]})
        told = client.post(PATH, content=body).json()["answers"]
        alone = client.post(PATH, json={"input": long})
    errors = [each["error"] for each in told if "error" in each]
    assert [each["param"] for each in errors] == ["input[1]", "input[3]"]
    assert (alone.status_code, alone.json()["error"]["param"]) == (422, "input")
    assert errors[1]["code"] == "text_too_long"
    assert errors[1]["fix"].startswith("send it in parts")


@pytest.mark.parametrize(
    ("length", "status"), [("", 408), ("5", 408), ("9000000000", 413), ("9" * 30, 413)]
)
def test_a_body_that_dribbles_is_given_up_and_one_that_is_said_to_be_too_large_at_once(
    predictor: Predictor, tuned: Path, length: str, status: int
) -> None:
    models = Models({"my-model": str(tuned)}, lambda folder: predictor)
    models.load("my-model")
    app = Server(models, Limits(body_seconds=0.2)).app()
    headers = [(b"content-length", length.encode())] if length else []
    scope = {
        **{"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode()},
        **{"query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "server": None},
        **{"http_version": "1.1", "scheme": "http", "root_path": ""},
    }
    sent: list[Any] = []

    async def receive() -> Any:
        assert status == 408, "a body that is too large is not waited for"
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(app(scope, receive, send), 10))  # type: ignore[arg-type]
    assert sent[0]["status"] == status


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/health", "/v1/models", "/nothing"])
def test_every_answer_has_headers_that_keep_a_browser_in(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_the_log_has_no_text_and_no_key(served: tuple[TestClient, list[dict[str, Any]]]) -> None:
    client, log = served
    for body in ({"input": SECRET}, {"input": [SECRET, 3]}, {SECRET: 1}, {"input": {"text": 1}}):
        client.post(PATH, json=body)
        client.post(f"/v1/{SECRET}", json=body)
    client.post(PATH, content=SECRET)
    client.get(f"/v1/models/{SECRET}?{SECRET}")
    said = json.dumps(log)
    assert '"status": 200' in said
    assert '"status": 404' in said
    assert SECRET not in said
    assert SECRET.replace(" ", "%20") not in said
    assert KEY not in said


def test_the_counts_have_no_word_of_a_request(client: TestClient) -> None:
    client.post(f"/v1/{SECRET}", json={"model": SECRET, "input": SECRET})
    client.get(f"/{SECRET}")
    assert SECRET not in client.get("/metrics").text


def test_a_large_body_is_looked_at_without_a_loop_over_its_characters() -> None:
    text, ids = "é" * 4_000_000, [7] * 2_000_000
    begun = time.process_time()
    assert _is_unicode(text)
    assert not _is_unicode(text + "\udfff")
    assert ids_of(ids) == [ids]
    assert ids_of([ids, [True]]) is None
    assert time.process_time() - begun < 0.6  # by loops it takes seconds


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b'"a"', b"\xff\xfe", b"[" * 100_000, b'{"input": 1e999}'),
        *(b'{"input": NaN}', b'{"input": "\\ud800"}', b'{"input": [[]]}', b'{"input": {}}'),
        *(b'{"input": null}', b'{"input": [{"text": {"a": 1}}]}', b'{"input": "a", "x": 1}'),
        b'{"input": "a", "model": 3}',
        b'{"input": "a", "input": "b"}',
        b'{"input": {"text": "a", "text": "b"}}',
        b'{"input": "a", "model": "../../etc"}',
        b'{"input": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_is_none_is_refused_in_words(client: TestClient, body: bytes) -> None:
    answer = client.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert {"message", "type", "code", "param", "fix"} == set(error)
    assert "Traceback" not in answer.text


def test_a_packed_body_is_refused_in_words(client: TestClient) -> None:
    body = gzip.compress(b'{"input": "good"}')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = client.post(PATH, content=body, headers=headers)
    assert answer.status_code == 415
    error = answer.json()["error"]
    assert "gzip" in error["message"]
    assert error["fix"] == "send it as it is, without Content-Encoding"


def test_a_log_that_cannot_be_written_takes_no_answer(
    predictor: Predictor, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    models = Models({"mine": str(tuned)}, lambda folder: predictor)
    served = models.load("mine")
    server, body = Server(models, log=log_to_stderr), {"input": "good"}
    with TestClient(server.app()) as client:
        monkeypatch.setattr(sys, "stderr", Full())
        for _ in range(2):
            assert client.post(PATH, json=body).status_code == 200
        served.failed(RuntimeError("of a pass"))  # in a thread that has to live on
        assert client.post(PATH, json=body).status_code == 200
        monkeypatch.setattr(sys, "stderr", target := io.StringIO())
        for _ in range(2):
            assert client.post(PATH, json=body).status_code == 200
    first, second = map(json.loads, target.getvalue().splitlines())
    assert first["lines_lost"] == 4
    assert "lines_lost" not in second
