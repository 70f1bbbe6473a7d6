"""`bertolt serve` as a process of its own, on a port of this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

SECONDS = 120.0


@dataclass(frozen=True)
class Live:
    """A server that runs.

    Attributes:
        port: on which it listens.
        log: what it writes to standard error, and to standard output.
    """

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    def status(self, path: str) -> int:
        """With which status it answers; 0: nobody answers."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def post(self, path: str, value: Any, key: str = "") -> tuple[int, bytes]:
        """Send a value as JSON; the status and the body of what comes back."""
        body = json.dumps(value).encode()
        request = urllib.request.Request(self.address + path, body)
        request.add_header("Content-Type", "application/json")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return int(response.status), response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


def free_port() -> int:
    """One that nobody has at the moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def live(log: Path, *words: object, port: int | None = None) -> Iterator[Live]:
    """A server with these words, once it is ready; it ends with the block."""
    port = port or free_port()
    command = [sys.executable, "-m", "bertolt", "serve", *map(str, words), "--port", str(port)]
    with log.open("wb") as target:
        process = subprocess.Popen(
            command, stdout=target, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUTF8": "1"}
        )
    server = Live(port, process, log)
    try:
        end = time.monotonic() + SECONDS
        while server.status("/ready") != 200:
            said = log.read_text(encoding="utf-8")
            assert process.poll() is None, f"it ended: {said}"
            assert time.monotonic() < end, f"it is not ready: {said}"
            time.sleep(0.05)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # which does not drain
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(SECONDS)


@contextmanager
def answering(app: Any) -> Iterator[str]:
    """The address at which an app is served in this process."""
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(SECONDS)
