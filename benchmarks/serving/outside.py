"""The closed loops once more, by a load generator that is not ours: locust.

It stands in an environment of its own, which LOCUST names: `LOCUST=/path/to/locust`. Its users take
more of the processor than those of `client.py`, so rates are lower for everyone.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.load import CLIENTS
from benchmarks.serving.prepare import Material
from benchmarks.serving.servers import SERVERS, Running, Server, running
from bertolt.base.files import write_text
from bertolt.base.format import number

Run = dict[str, float]
_MEASURED = {
    "requests": "Request Count",
    "failures": "Failure Count",
    "requests_per_second": "Requests/s",
    "p50_ms": "50%",
    "p99_ms": "99%",
}


def main(
    material: Material,
    target: Path,
    *,
    servers: Sequence[str],
    repeats: int,
    seconds: float,
    threads: int,
    say: Callable[[str], None],
) -> int:
    """Measure every server in turn; 1 if a request failed."""
    runs: dict[str, list[Run]] = {}
    with contextlib.ExitStack() as stack:
        started = {
            name: stack.enter_context(running(SERVERS[name], material, threads=threads))
            for name in servers
        }
        for name in servers:
            _by_locust(SERVERS[name], started[name], material, users=8, seconds=3)
        for repeat in range(repeats):
            for turn, users in enumerate(CLIENTS):
                first = (repeat + turn) % len(servers)
                for name in [*servers[first:], *servers[:first]]:
                    server = SERVERS[name]
                    run = _by_locust(server, started[name], material, users=users, seconds=seconds)
                    runs.setdefault(f"{users} {name}", []).append(run)
                    say(f"round {repeat + 1}  {users} users  {name}  {run}")
                    write_text(target.with_suffix(".json"), json.dumps(runs, indent=1) + "\n")
    page = _page(runs, servers, repeats)
    write_text(target.with_suffix(".md"), page)
    print(page)
    return int(any(run["failures"] for each in runs.values() for run in each))


def _by_locust(
    server: Server, process: Running, material: Material, *, users: int, seconds: float
) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked.json"
        bodies = [json.dumps(server.body(text), ensure_ascii=False) for text in material.texts]
        asked.write_text(json.dumps({"path": server.path, "bodies": bodies}), encoding="utf-8")
        words = [os.environ.get("LOCUST", "locust"), "--headless", "--only-summary"]
        words += ["-f", str(Path(__file__).with_name("locustfile.py")), "--stop-timeout", "20"]
        words += ["-u", str(users), "-r", str(users), "-t", f"{max(1, round(seconds))}s"]
        words += ["--host", f"http://127.0.0.1:{process.port}", "--csv", f"{folder}/told"]
        ended = subprocess.run(
            words,
            env={**os.environ, "ASKED": str(asked), "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            timeout=seconds + 120,
            check=False,
        )
        told = Path(folder) / "told_stats.csv"
        if not told.is_file():
            raise RuntimeError(f"locust did not run: {ended.stderr.strip()[-500:]}")
        with told.open(encoding="utf-8", newline="") as file:
            row = next(each for each in csv.DictReader(file) if each["Name"] == "Aggregated")
        return {name: float(row[column]) for name, column in _MEASURED.items()}


def _page(runs: Mapping[str, Sequence[Run]], servers: Sequence[str], repeats: int) -> str:
    parts = [f"# By locust, medians of {repeats}"]
    for users in CLIENTS:
        lines = [f"## {users} user{'s' * (users > 1)}", ""]
        lines += ["|  | requests/s | bertolt is | p50, ms | p99, ms | failed |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        ours = _middle(runs[f"{users} {servers[0]}"])
        for name in servers:
            middle = _middle(runs[f"{users} {name}"])
            faster = ours["requests_per_second"] / max(1e-9, middle["requests_per_second"])
            cells: list[Any] = [SERVERS[name].title, number(middle["requests_per_second"])]
            cells += [f"{number(faster)} ×", number(middle["p50_ms"]), number(middle["p99_ms"])]
            failed = sum(run["failures"] for run in runs[f"{users} {name}"])
            lines.append(f"| {' | '.join(map(str, cells))} | {failed:.0f} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _middle(runs: Sequence[Run]) -> Run:
    return {name: statistics.median(run[name] for run in runs) for name in _MEASURED}
