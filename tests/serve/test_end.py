"""The server as a process: how it refuses to start, and how it ends."""

from __future__ import annotations

import http.client
import json
import logging
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")

from safetensors.torch import load_file, save_file

from bertolt import Predictor
from bertolt.serve.app import Server
from bertolt.serve.clients import Keys
from bertolt.serve.limits import Limits
from bertolt.serve.models import Models
from bertolt.serve.run import _logged, _Process, configured
from tests.serve.live import Live, free_port, live
from tests.serve.opened import RULER

pytestmark = pytest.mark.slow

PATH = "/v1/text-classification"


class Clients:
    """Threads that ask one request after the other, each on a connection of its own, until the
    server says that it closes them or is gone."""

    def __init__(self, port: int, count: int) -> None:
        self.port, self.statuses, self.faults = port, [], []
        self.threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _ask(self) -> None:
        body = json.dumps({"input": ["a text of some words " * 10] * 20})
        closing = False
        while not closing:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.connect()
            except OSError:
                return
            try:
                connection.request("POST", PATH, body, {"Content-Type": "application/json"})
                with connection.getresponse() as told:
                    answers = json.loads(told.read())["answers"]
                    self.statuses.append((told.status, len(answers)))
                    closing = told.headers["Connection"] == "close"
            except Exception as error:  # noqa: BLE001 - whatever it is, a request was lost
                self.faults.append(repr(error))
                return

    def end(self) -> None:
        for thread in self.threads:
            thread.join(60)
        assert not self.faults
        assert set(self.statuses) == {(200, 20)}


def test_at_sigterm_it_is_ready_no_more_then_closes_the_port_and_answers_all(
    tuned: Path, tmp_path: Path
) -> None:
    with live(tmp_path / "log", tuned, "--drain", 1, "--timeout", 20) as server:
        clients = Clients(server.port, 4)
        while len(clients.statuses) < 8:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        while server.status("/ready") == 200:
            time.sleep(0.01)
        assert server.status("/ready") == 503
        assert time.monotonic() - asked < 0.9
        status, told = server.post(PATH, {"input": "a late but fine text"})
        assert (status, "answers" in json.loads(told)) == (200, True)
        while server.status("/health"):
            time.sleep(0.01)
        assert time.monotonic() - asked > 0.9  # till then the port is open
        assert server.process.wait(20) == 0
        assert 0.9 < time.monotonic() - asked < 20
        clients.end()
    said = server.log.read_text(encoding="utf-8")
    assert '"event": "leaving"' in said
    assert "Traceback" not in said


def test_at_ctrl_c_it_answers_what_it_has_and_takes_no_more(tuned: Path, tmp_path: Path) -> None:
    with live(tmp_path / "log", tuned, "--timeout", 20) as server:
        body = json.dumps({"input": ["a text of some words " * 10] * 200}).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", server.port), 60) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            time.sleep(0.2)
            server.process.send_signal(signal.SIGINT)
            while server.status("/health"):
                time.sleep(0.01)
            told = b"".join(iter(lambda: client.recv(1 << 20), b""))
        assert told.startswith(b"HTTP/1.1 200")
        assert told.count(b'"label"') == 200
        assert server.process.wait(20) == 0
    assert "Traceback" not in server.log.read_text(encoding="utf-8")


def test_what_has_no_answer_when_the_time_is_over_is_counted(tuned: Path) -> None:
    models = Models({"mine": str(tuned)})
    models.load("mine")
    server = Server(models, Limits(seconds=0.4))
    process = _Process(configured(server, server.app()), server, drain=0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=process.run, args=([listener],))
        thread.start()
        with socket.create_connection(listener.getsockname(), 60) as client:
            head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            client.sendall(head.encode())
            until = time.monotonic() + 30
            while not process.server_state.tasks:
                assert time.monotonic() < until, client.recv(4096)
                time.sleep(0.01)
            process.handle_exit(signal.SIGTERM, None)
            thread.join(3)
            assert not thread.is_alive()
    assert server.unanswered == 1


def test_a_model_that_is_being_loaded_holds_no_end_up(tuned: Path) -> None:
    def load(folder: str) -> Predictor:
        loading.set()
        assert over.wait(30)
        return predictor

    predictor, loading, over = (
        Predictor.from_pretrained(tuned),
        threading.Event(),
        threading.Event(),
    )
    models = Models({"mine": str(tuned), "slow": str(tuned)}, load)
    over.set()
    models.load("mine")
    loading.clear()
    over.clear()
    server = Server(models, Limits(seconds=0.4), Keys([], [RULER]))
    process = _Process(configured(server, server.app()), server, drain=0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=process.run, args=([listener],))
        thread.start()
        try:
            with socket.create_connection(listener.getsockname(), 60) as client:
                head = "POST /v1/models/slow/load HTTP/1.1\r\nHost: localhost"
                client.sendall(f"{head}\r\nAuthorization: Bearer {RULER}\r\n\r\n".encode())
                assert loading.wait(30)
                process.handle_exit(signal.SIGTERM, None)
                thread.join(5)
                assert not thread.is_alive()
        finally:
            over.set()
            thread.join(30)
    assert server.unanswered == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_hangup_while_models_are_loaded_is_kept_till_they_are(
    tuned: Path, tmp_path: Path
) -> None:
    """systemd sends it to a service that has been started, whether or not it is ready."""
    port = free_port()
    words = [sys.executable, "-m", "bertolt", "serve", tuned, "--port", port]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(list(map(str, words)), stdout=log, stderr=log)
    server = Live(port, process, tmp_path / "log")
    status = Path(f"/proc/{process.pid}/status")
    while not int(re.findall(r"SigCgt:\s*(\w+)", status.read_text("utf-8"))[0], 16) & 1:
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    assert "Serving at" not in server.log.read_text(encoding="utf-8")
    try:
        while '"event": "loaded"' not in server.log.read_text(encoding="utf-8"):
            assert process.poll() is None, process.returncode
            time.sleep(0.05)
        assert server.status("/ready") == 200
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def refusal(folder: Path) -> tuple[subprocess.Popen[str], int]:
    port = free_port()
    words = [sys.executable, "-m", "bertolt", "serve", folder, "--selftest", "--port", port]
    return subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ), port


def test_a_changed_weight_or_golden_answer_keeps_the_port_closed(
    tuned: Path, tmp_path: Path
) -> None:
    weights, golden = (Path(shutil.copytree(tuned, tmp_path / name)) for name in "wg")
    changed = load_file(weights / "model.safetensors")
    changed["classifier.weight"][0, :8] += 0.5
    save_file(changed, weights / "model.safetensors", {"format": "pt"})
    contract: dict[str, Any] = json.loads((golden / "bertolt.json").read_text(encoding="utf-8"))
    contract["golden"][0]["answer"]["probability"] = 0.123
    (golden / "bertolt.json").write_text(json.dumps(contract), encoding="utf-8")
    for process, port in [refusal(weights), refusal(golden)]:
        while process.poll() is None:
            with socket.socket() as client:
                assert client.connect_ex(("127.0.0.1", port)) != 0
            time.sleep(0.02)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.returncode == 2, said
        assert "golden answer" in said
        assert "Serving at" not in said


def test_what_uvicorn_warns_of_is_in_the_log_without_what_it_says_of_an_error(tuned: Path) -> None:
    def log(event: str, **values: Any) -> None:
        told.append({"event": event, **values})

    told: list[dict[str, Any]] = []
    models = Models({"mine": str(tuned)})
    server = Server(models, Limits(seconds=0.2), log=log)
    process: list[_Process] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, _logged(server.log):
        process.append(_Process(configured(server, server.app()), server, drain=0.0))
        thread = threading.Thread(target=process[0].run, args=([listener],))
        thread.start()
        with socket.create_connection(listener.getsockname(), 60) as client:
            client.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400")
        logging.getLogger("asyncio").error("It broke\ntask: the text", exc_info=ValueError("text"))
        process[0].handle_exit(signal.SIGTERM, None)
        thread.join(20)
    warned = [each for each in told if each["event"] == "warning"]
    assert [each["logger"] for each in warned] == ["uvicorn.error", "asyncio"]
    assert "Invalid HTTP request" in warned[0]["message"]
    assert warned[1]["message"] == "It broke"
    assert not logging.getLogger("asyncio").handlers
