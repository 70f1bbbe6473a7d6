"""Who takes part: how each server is started, asked and read."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving.prepare import Material
from benchmarks.session import ROOT, environment

READY_SECONDS = 600.0
"""An engine that is chosen by measuring takes some minutes."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """One server.

    Attributes:
        name: what a person types.
        title: what the tables say.
        words: its command line, of the material and a port.
        path: that is asked.
        body: of a text, what is sent.
        label: of an answer as JSON, the label.
        ready: that answers 200 once it can be asked.
        ours: whether it is Bertolt's.
    """

    name: str
    title: str
    words: Callable[[Material, int], list[str]]
    path: str
    body: Callable[[str], dict[str, Any]]
    label: Callable[[Any], str]
    ready: str = "/health"
    ours: bool = False

    def request(self, text: str, port: int) -> bytes:
        """One request as bytes of HTTP."""
        body = json.dumps(self.body(text), ensure_ascii=False).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


def _ours(*more: str) -> Callable[[Material, int], list[str]]:
    def words(material: Material, port: int) -> list[str]:
        command = [sys.executable, "-m", "bertolt", "serve", f"reviews={material.model}"]
        return [*command, "--port", str(port), "--drain", "0", *more]

    return words


def _fastest(material: Material, port: int) -> list[str]:
    return _ours("--engine", "auto", "--score-on", str(material.held_out))(material, port)


def _uvicorn(app: str) -> Callable[[Material, int], list[str]]:
    def words(material: Material, port: int) -> list[str]:
        command = [sys.executable, "-m", "uvicorn", f"benchmarks.serving.{app}:app"]
        return [*command, "--port", str(port), "--log-level", "warning"]

    return words


def _infinity(material: Material, port: int) -> list[str]:
    command = [os.environ.get("INFINITY", "infinity_emb"), "v2", "--model-id", str(material.model)]
    command += ["--served-model-name", "reviews", "--port", str(port), "--host", "127.0.0.1"]
    command += ["--engine", "torch", "--device", "cpu", "--no-bettertransformer"]
    command += ["--no-compile", "--dtype", "float32"]
    return [*command, "--batch-size", "32", "--no-model-warmup"]


def _best(scores: list[dict[str, Any]]) -> str:
    return str(max(scores, key=lambda each: each["score"])["label"])


SERVERS = {
    each.name: each
    for each in (
        Server(
            name="bertolt",
            title="bertolt serve",
            words=_ours(),
            path="/v1/text-classification",
            body=lambda text: {"model": "reviews", "input": text},
            label=lambda told: str(told["answers"][0]["label"]),
            ready="/ready",
            ours=True,
        ),
        Server(
            name="bertolt-auto",
            title="bertolt serve --engine auto --score-on FILE",
            words=_fastest,
            path="/v1/text-classification",
            body=lambda text: {"model": "reviews", "input": text},
            label=lambda told: str(told["answers"][0]["label"]),
            ready="/ready",
            ours=True,
        ),
        Server(
            name="pipeline",
            title="FastAPI over a transformers pipeline",
            words=_uvicorn("pipeline_server"),
            path="/classify",
            body=lambda text: {"text": text},
            label=lambda told: str(told["label"]),
        ),
        Server(
            name="onnx",
            title="FastAPI over ONNX Runtime int8, up to 32 texts a batch, padded",
            words=_uvicorn("onnx_server"),
            path="/classify",
            body=lambda text: {"text": text},
            label=lambda told: str(told["label"]),
        ),
        Server(
            name="infinity",
            title="infinity 0.0.78, torch",
            words=_infinity,
            path="/classify",
            body=lambda text: {"model": "reviews", "input": [text]},
            label=lambda told: _best(told["data"][0]),
        ),
    )
}
"""By name, Bertolt first."""


class Running:
    """A server that runs.

    Attributes:
        port: on which it listens.
        process: of it; its children count with it.
    """

    def __init__(self, port: int, process: psutil.Popen) -> None:
        self.port = port
        self.process = process

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def cpu_seconds(self) -> float:
        """Of all its processes so far."""
        times = [each.cpu_times() for each in self._family()]
        return float(sum(each.user + each.system for each in times))

    def memory_mb(self) -> float:
        """Resident, of all its processes."""
        return float(sum(each.memory_info().rss for each in self._family()) / 2**20)

    def counts(self) -> dict[str, int]:
        """Open files and threads of all its processes."""
        family = self._family()
        files, threads = (sum(f(p) for p in family) for f in (_files_of, _threads_of))
        return {"files": files, "threads": threads}


def _files_of(process: psutil.Process) -> int:
    return int(process.num_fds())


def _threads_of(process: psutil.Process) -> int:
    return int(process.num_threads())


def settings_of(threads: int, material: Material) -> dict[str, str]:
    """The environment of every server and engine.

    How threads of OpenMP wait is left as it is. On a machine that others use too, those that spin
    take the very cores that they wait for; OMP_WAIT_POLICY=passive before the command helps there.
    """
    return {**environment(threads, material.folder), "SERVED": str(material.folder)}


def free_port() -> int:
    """One that nobody has at the moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def running(
    server: Server,
    material: Material,
    *,
    threads: int,
    log: Path | None = None,
    more: tuple[str, ...] = (),
) -> Iterator[Running]:
    """The server, once it is ready; it is asked to end with the block.

    Raises:
        RuntimeError: it ended by itself, or was not ready in time.
    """
    port = free_port()
    log = log or material.folder / f"{server.name}.log"
    settings = settings_of(threads, material)
    with log.open("wb") as target:
        process = psutil.Popen(
            [*server.words(material, port), *more],
            cwd=ROOT,
            env=settings,
            stdout=target,
            stderr=target,
        )
        try:
            _wait(server, process, port, log)
            yield Running(port, process)
        finally:
            _end(process)


def _wait(server: Server, process: psutil.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{server.ready}", timeout=2):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    raise RuntimeError(f"{server.name} did not start: {' / '.join(said)}")


def _end(process: psutil.Popen) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
