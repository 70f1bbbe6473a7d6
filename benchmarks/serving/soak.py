"""Good and bad requests for ten minutes, and what the server is like meanwhile.

Every good answer is held against `Predictor`; memory, open files and threads are read every few
seconds. Floods of 10,000 requests come now and then; a good client may then be told to come again
later, which is counted apart.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.drawing import draw_curves
from benchmarks.serving import bad
from benchmarks.serving.client import connect
from benchmarks.serving.prepare import Material
from benchmarks.serving.servers import SERVERS, Running, running
from benchmarks.session import PACKAGES, _commit, versions
from bertolt.base.console import info
from bertolt.base.files import write_text
from bertolt.base.machine import cores, cpu_name
from bertolt.tasks.predictor import Predictor

CLOSE = 0.02
"""How far a probability may be from that of `Predictor`, in bfloat16 in another batch."""
CLIENTS = 6
PAUSE = 0.15  # seconds of a good client between two requests
SAMPLE = 5.0  # seconds between two looks at the process
FLOOD, BETWEEN = 10_000, 150.0
"""Requests of a flood, and seconds from one to the next."""


@dataclass
class Seen:
    """What good clients saw.

    Attributes:
        statuses: of their requests; 0 is one that was lost.
        wrong: answers that are not those of `Predictor`, in words.
        answers: that were compared.
        furthest: of a probability from that of `Predictor`.
        curve: second, MB, files, threads and good answers so far.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    answers: int = 0
    furthest: float = 0.0
    curve: list[tuple[float, float, int, int, int]] = field(default_factory=list)

    def compare(self, text: int, expected: dict[str, float], told: dict[str, Any]) -> None:
        """Hold one answer against that of `Predictor`."""
        shares = told["probabilities"]
        gap = max(abs(shares[name] - share) for name, share in expected.items())
        self.answers += 1
        self.furthest = max(self.furthest, gap)
        if gap > CLOSE or shares.keys() != expected.keys():
            self.wrong.append(f"text {text}: {shares} and not {expected}")


async def _good(
    port: int,
    texts: list[str],
    expected: list[dict[str, float]],
    seen: Seen,
    tally: bad.Tally,
    first: int,
) -> None:
    """A client that asks for one text or a few, and reads what it is told."""
    number, connection = first, await connect(port)
    while tally.going:
        rows = [(number + n) % len(texts) for n in range(1 + number % 4)]
        number += len(rows)
        body = {"model": "reviews", "input": [texts[row] for row in rows]}
        try:
            status, told = await connection.ask(bad.request(json.dumps(body).encode()))
        except (OSError, TimeoutError):
            status, told = 0, b""
        seen.statuses[status] += 1
        if status == 200:
            for row, answer in zip(rows, json.loads(told)["answers"], strict=True):
                seen.compare(row, expected[row], answer)
        if not status or not connection.open:
            connection.close()
            connection = await connect(port)
        await asyncio.sleep(PAUSE)
    connection.close()


async def watch(server: Running, seen: Seen, tally: bad.Tally) -> None:
    begin = time.monotonic()
    while tally.going:
        counts = server.counts()
        row = (round(time.monotonic() - begin, 1), round(server.memory_mb(), 1))
        seen.curve.append((*row, counts["files"], counts["threads"], seen.answers))
        await tally.pause(SAMPLE)


async def _flood(port: int, texts: list[str], tally: bad.Tally) -> None:
    while tally.going:
        await tally.pause(BETWEEN / 3)
        if tally.going:
            await bad.flood(port, tally, FLOOD, texts)
        await tally.pause(2 * BETWEEN / 3)


async def soak(
    server: Running, material: Material, expected: list[dict[str, float]], seconds: float
) -> tuple[Seen, bad.Tally]:
    """All of it at once, for so long."""
    seen, tally, port = Seen(), bad.Tally(), server.port
    texts = material.texts
    tasks = [_good(port, texts, expected, seen, tally, 97 * n) for n in range(CLIENTS)]
    tasks += [watch(server, seen, tally), _flood(port, texts, tally), bad.killed(port, tally, 1)]
    tasks += [bad.fuzzed_bodies(port, tally, n) for n in range(3)]
    tasks += [bad.fuzzed_heads(port, tally, 10), bad.half_open(port, tally, 11)]
    tasks += [bad.slow(port, tally, n) for n in range(20)] + [bad.deaf(port, tally, 12)]
    running_tasks = [asyncio.create_task(task) for task in tasks]
    done, _ = await asyncio.wait(
        running_tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION
    )
    tally.going = False
    for task in done:
        task.result()  # what fell is raised here
    await asyncio.wait_for(asyncio.gather(*running_tasks), 180)
    return seen, tally


def growth(curve: list[tuple[float, float, int, int, int]]) -> float:
    """MB by which the median of the last third is above that of the second."""
    third = len(curve) // 3
    parts = [[row[1] for row in part] for part in (curve[third : 2 * third], curve[2 * third :])]
    return statistics.median(parts[1]) - statistics.median(parts[0]) if third else 0.0


def describe(seen: Seen, tally: bad.Tally, minutes: float, log: str) -> dict[str, Any]:
    """What came of it, as plain values."""
    return {
        "commit": _commit(),
        "machine": {"cpu": cpu_name(), "cores": cores()},
        "versions": versions(PACKAGES),
        "minutes": minutes,
        "good": {str(status): count for status, count in sorted(seen.statuses.items())},
        "answers": seen.answers,
        "wrong": seen.wrong[:20],
        "wrong_answers": len(seen.wrong),
        "furthest": seen.furthest,
        "bad": {
            kind: {str(status): count for status, count in sorted(counts.items())}
            for kind, counts in sorted(tally.statuses.items())
        },
        "growth_mb": growth(seen.curve),
        "tracebacks": log.count("Traceback (most recent call last)"),
        "curve": seen.curve,
    }


def _faults(record: dict[str, Any]) -> list[str]:
    """What is not as it should be."""
    faults = [f"{record['wrong_answers']} wrong answers"] * bool(record["wrong_answers"])
    faults += [
        f"{n} good requests got {s}"
        for s, n in record["good"].items()
        if s not in ("200", "429", "503")
    ]
    faults += [
        f"{n} × {status} to a {kind}"
        for kind, counts in record["bad"].items()
        for status, n in counts.items()
        if status.startswith("5") and status != "503"
    ]
    return faults + [f"{record['tracebacks']} tracebacks in its log"] * bool(record["tracebacks"])


def _page(record: dict[str, Any]) -> str:
    curve, machine = record["curve"], record["machine"]
    rows = [
        f"| {kind} | {', '.join(f'{status}: {count:,}' for status, count in counts.items())} |"
        for kind, counts in record["bad"].items()
    ]
    first, last = curve[0], curve[-1]
    series = {"Memory, MB": 1, "Open files": 2, "Threads": 3}
    ends = [
        f"| {name} | {first[at]:.0f} | {max(row[at] for row in curve):.0f} | {last[at]:.0f} |"
        for name, at in series.items()
    ]
    parts = [
        f"# Good and bad requests together, {record['minutes']:g} minutes",
        f"{machine['cpu']}, {machine['cores']} cores; commit {record['commit']}.",
        f"Requests of good clients by status: {record['good']}. {record['answers']:,} answers were "
        f"compared with those of `Predictor`: {record['wrong_answers']} wrong, the furthest "
        f"probability {record['furthest']:.2g} away.",
        "\n".join(["| | at first | at most | at last |", "| --- | --- | --- | --- |", *ends]),
        f"The median memory of the last third is {record['growth_mb']:+.1f} MB beside that of the "
        "second.",
        "\n".join(["| what came | by status (0: no answer) |", "| --- | --- |", *rows]),
        f"Faults: {'; '.join(_faults(record)) or 'none'}.",
    ]
    return "\n\n".join(parts) + "\n"


def main(material: Material, target: Path, *, minutes: float, threads: int) -> int:
    """Soak a server of Bertolt's; 1 if something was not as it should be."""
    predictor = Predictor.from_pretrained(material.model)
    expected = [each.answer["probabilities"] for each in predictor.predict(material.texts)]
    log = material.folder / "soak.log"
    with running(SERVERS["bertolt"], material, threads=threads, log=log) as server:
        seen, tally = uvloop.run(soak(server, material, expected, 60 * minutes))
        time.sleep(5)
        counts = server.counts()
        seen.curve.append(
            (60 * minutes + 5, server.memory_mb(), counts["files"], counts["threads"], seen.answers)
        )
    record = describe(seen, tally, minutes, log.read_text(encoding="utf-8", errors="replace"))
    write_text(target.with_suffix(".json"), json.dumps(record) + "\n")
    write_text(target.with_suffix(".md"), _page(record))
    seconds = [row[0] for row in record["curve"]]
    curves = {
        "memory, MB": [row[1] for row in record["curve"]],
        "open files": [row[2] for row in record["curve"]],
    }
    write_text(
        target.with_suffix(".svg"),
        draw_curves("Good and bad requests together", "seconds", seconds, curves),
    )
    info(_page(record))
    return int(bool(_faults(record)))
