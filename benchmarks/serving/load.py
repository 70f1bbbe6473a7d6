"""Interleave servers and loads: all servers run, and one after the other is asked.

A load is short, and all servers have it before the next one comes, so that what else a machine does
meanwhile is the same for all; those that are not asked take no part of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import session
from benchmarks.serving.client import Load
from benchmarks.serving.prepare import CHINESE, Material
from benchmarks.serving.servers import READY_SECONDS, SERVERS, Running, Server, running, settings_of
from bertolt.base.machine import cores, cpu_name, memory_bytes

CLIENTS = (1, 8, 64)
SHARES = (0.5, 0.8, 1.0, 1.2)
"""Of the most that a server answers to clients: how many requests come to it in an open loop."""
SAME = (0.8, 1.2)
"""Of the most that the best other server answers: what comes to everyone, in further open loops."""
ENGINES = ("torch", "auto", "ort-int8")
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
            f"Requests at random moments, {share:.0%} of the most that the server answers",
            "open",
        )
        for share in SHARES
    }
    same = {
        f"same-{share:.0%}".replace("%", ""): (
            f"The same for everyone: {share:.0%} of the most that the best other server answers",
            "open",
        )
        for share in SAME
    }
    return closed | opened | same


def _load_of(work: str, name: str, capacity: Mapping[str, float]) -> dict[str, Any]:
    """How many clients a work has, or how many requests a second come to a server."""
    kind, size = work.split("-")
    if kind == "closed":
        return {"clients": int(size)}
    others = [rate for other, rate in capacity.items() if not SERVERS[other].ours]
    most = capacity[name] if kind == "open" else max(others, default=capacity[name])
    return {"rate": int(size) / 100 * most}


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
        "waiting": os.environ.get("OMP_WAIT_POLICY", "as OpenMP does by itself"),
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
    with contextlib.ExitStack() as stack:
        processes = {}
        for name in names:
            try:
                server = running(SERVERS[name], material, threads=record["threads"])
                processes[name] = stack.enter_context(server)
                _send(SERVERS[name], processes[name], material, seconds=WARM_UP, clients=8)
                say(f"{name} is ready")
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                for entry in record["works"].values():
                    entry["contestants"][name]["state"] = f"failed: {str(error).splitlines()[-1]}"
        for repeat in range(record["repeats"]):
            for _ in _round(record, processes, material, repeat, seconds, say):
                keep(record)
    return record


def _round(
    record: Record,
    processes: Mapping[str, Running],
    material: Material,
    repeat: int,
    seconds: float,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Every load on every server in turn; the order of servers moves on with each load.

    Yields:
        None after each load, when what it found is in the record: a round takes a quarter of an
        hour, and what was measured is not lost with what comes after.
    """
    before = products(record["threads"], material.folder)
    for engine, runs in record["engines"].items():
        runs.append(alone(material, engine, seconds, record["threads"]))
        say(f"round {repeat + 1}  {engine} alone  {runs[-1]}")
    names = list(processes)
    capacity: dict[str, float] = {}
    for turn, work in enumerate(record["works"]):
        entries = record["works"][work]["contestants"]
        record["works"][work]["products"].append(before)
        first = (repeat + turn) % len(names)
        for name in names[first:] + names[:first]:
            about = _load_of(work, name, capacity)
            run = _send(SERVERS[name], processes[name], material, seconds=seconds, **about)
            if "clients" in about:
                capacity[name] = max(capacity.get(name, 0.0), run["requests_per_second"])
            run["offered_per_second"] = about.get("rate")
            entries[name]["runs"].append(run)
            rate, middle = run["requests_per_second"], run["p50_ms"] or 0
            say(f"round {repeat + 1}  {work}  {name}  {rate:.1f}/s, p50 {middle:.1f} ms")
        yield
    after = products(record["threads"], material.folder)
    faster = {kind: max(before[kind], after[kind]) for kind in before}
    for entry in record["works"].values():
        entry["products"][-1] = faster
    yield


def _send(
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
        timeout=seconds + READY_SECONDS,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def products(threads: int, folder: Path) -> dict[str, float]:
    """GFLOP/s of this machine's matrix products."""
    words = ["benchmarks.worker", "--products"]
    told: dict[str, float] = json.loads(session._python(words, threads, folder).splitlines()[-1])
    return told
