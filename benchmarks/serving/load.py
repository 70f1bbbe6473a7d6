"""Interleave servers and loads: every round takes the servers in another order."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import session
from benchmarks.serving.client import Load
from benchmarks.serving.prepare import CHINESE, Material
from benchmarks.serving.servers import SERVERS, Running, Server, running, settings_of
from bertolt.base.machine import cores, cpu_name, memory_bytes

CLIENTS = (1, 8, 64)
SHARES = (0.5, 0.8, 1.0, 1.2)
"""Of what a server answers to 64 clients: how many requests come to it in an open loop."""
ENGINES = ("torch", "ort-int8")
"""That are measured without a server too."""
WARM_UP = 3.0  # seconds
PACKAGES = (*session.PACKAGES, "fastapi", "starlette", "uvicorn", "uvloop", "httptools")

Record = dict[str, Any]


def entry_names() -> dict[str, tuple[str, str]]:
    """By name of a load its title and kind, as the tables have them."""
    closed = {
        f"closed-{count}": (
            f"{count} client{'s' * (count > 1)} that wait for the answers",
            "closed",
        )
        for count in CLIENTS
    }
    opened = {
        f"open-{share:.0%}".replace("%", ""): (
            f"Requests at random moments, {share:.0%} of what the server answers to 64 clients",
            "open",
        )
        for share in SHARES
    }
    return closed | opened


def describe(servers: Sequence[str], *, repeats: int, threads: int, words: list[str]) -> Record:
    """The record before anything is measured."""
    contestants = {
        name: {"title": SERVERS[name].title, "state": "ok", "runs": []} for name in servers
    }
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": session._commit(),
        "command": words,
        "machine": {"cpu": cpu_name(), "cores": cores(), "memory": memory_bytes()},
        "threads": threads,
        "repeats": repeats,
        "versions": session.versions(PACKAGES),
        "chinese": CHINESE,
        "engines": {name: [] for name in ENGINES},
        "works": {
            name: {
                "title": title,
                "kind": kind,
                "products": [],
                "contestants": {each: {**about, "runs": []} for each, about in contestants.items()},
            }
            for name, (title, kind) in entry_names().items()
        },
    }


def measure(
    record: Record,
    material: Material,
    *,
    seconds: float,
    say: Callable[[str], None],
    keep: Callable[[Record], None],
) -> Record:
    """Fill the record, round by round.

    Args:
        record: as `describe` gives it.
        material: what all are given.
        seconds: of each load.
        say: shows a line of progress.
        keep: saves the record so far.
    """
    names = list(next(iter(record["works"].values()))["contestants"])
    for repeat in range(record["repeats"]):
        before = products(record["threads"], material.folder)
        for engine, runs in record["engines"].items():
            runs.append(alone(material, engine, seconds, record["threads"]))
            say(f"round {repeat + 1}  {engine} alone  {runs[-1]}")
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            begin = time.perf_counter()
            state = _round(record, SERVERS[name], material, seconds)
            say(f"round {repeat + 1}  {name}  {state}  {time.perf_counter() - begin:.0f} s")
        after = products(record["threads"], material.folder)
        faster = {kind: max(before[kind], after[kind]) for kind in before}
        for entry in record["works"].values():
            entry["products"].append(faster)
        keep(record)
    return record


def _round(record: Record, server: Server, material: Material, seconds: float) -> str:
    """All loads on one server; what came of it."""
    entries = {name: each["contestants"][server.name] for name, each in record["works"].items()}
    if any(each["state"] != "ok" for each in entries.values()):
        return str(next(each["state"] for each in entries.values()))
    try:
        with running(server, material, threads=record["threads"]) as server_process:
            runs = loads(server, server_process, material, seconds)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        state = f"failed: {str(error).strip().splitlines()[-1]}"
        for each in entries.values():
            each["state"] = state
        return state
    for name, run in runs.items():
        entries[name]["runs"].append(run)
    return "ok " + " ".join(
        f"{name}={run['requests_per_second']:.0f}/s,{run['p50_ms'] or 0:.1f}"
        for name, run in runs.items()
    )


def loads(server: Server, process: Running, material: Material, seconds: float) -> dict[str, Any]:
    """Every load in turn, after a warm-up."""
    send(server, process, material, seconds=WARM_UP, clients=8)
    runs: dict[str, Any] = {}
    for count in CLIENTS:
        runs[f"closed-{count}"] = send(server, process, material, seconds=seconds, clients=count)
    capacity = runs[f"closed-{CLIENTS[-1]}"]["requests_per_second"]
    for share in SHARES:
        name = f"open-{share:.0%}".replace("%", "")
        runs[name] = send(server, process, material, seconds=seconds, rate=share * capacity)
        runs[name]["offered_per_second"] = share * capacity
    return runs


def send(
    server: Server,
    process: Running,
    material: Material,
    *,
    seconds: float,
    clients: int = 0,
    rate: float = 0.0,
) -> dict[str, Any]:
    """One load from a process of its own, and what it took of the server."""
    load = Load(
        server=server.name,
        port=process.port,
        texts=material.texts,
        seconds=seconds,
        clients=clients,
        rate=rate,
    )
    before = process.cpu_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.client"],
        input=json.dumps(asdict(load)),
        check=True,
        cwd=session.ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=seconds + 120,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    right = [max(each, key=each.__getitem__) for each in material.answers]
    labels = told.pop("labels")
    told["agree"] = sum(right[text] == label for text, label in labels) / max(1, len(labels))
    told["cpu_ms_per_request"] = 1000 * (process.cpu_seconds() - before) / max(1, told["requests"])
    told["memory_mb"] = process.memory_mb()
    refused = {status: n for status, n in told["statuses"].items() if status != "200"}
    told["refused"] = sum(refused.values())
    told["note"] = ", ".join(f"{n} × {status}" for status, n in refused.items())
    return told


def alone(material: Material, engine: str, seconds: float, threads: int) -> dict[str, Any]:
    """An engine without a server."""
    words = ["-m", "benchmarks.serving.alone", str(material.folder), engine, str(seconds)]
    done = subprocess.run(
        [sys.executable, *words],
        check=True,
        cwd=session.ROOT,
        env=settings_of(threads, material),
        capture_output=True,
        encoding="utf-8",
        timeout=seconds + 120,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def products(threads: int, folder: Path) -> dict[str, float]:
    """GFLOP/s of this machine's matrix products."""
    words = ["benchmarks.worker", "--products"]
    told: dict[str, float] = json.loads(session._python(words, threads, folder).splitlines()[-1])
    return told
