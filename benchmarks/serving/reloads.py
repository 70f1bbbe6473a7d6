"""New versions of a model taken over under load: no request may be lost or answered wrongly.

Two versions of one layer, so that a thousand take minutes, with other answers each; a link names
the one that is next. Each answer is held against the version that it says it is from.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop
from safetensors.torch import load_file, save_file

from benchmarks.serving import bad
from benchmarks.serving.client import connect, percentile
from benchmarks.serving.prepare import Material
from benchmarks.serving.servers import SERVERS, Running, running
from benchmarks.serving.soak import CLIENTS, PAUSE, Seen, growth, watch
from benchmarks.session import _commit
from bertolt.base.console import info
from bertolt.base.files import write_text
from bertolt.serve.models import version_of
from bertolt.tasks.predictor import Predictor

KEY = "the-key-of-the-benchmark"
Expected = dict[str, list[dict[str, float]]]
"""By version, the probabilities of each text."""


def versions(material: Material) -> list[Path]:
    """Two folders with a model of one layer; the second leans to the other label."""
    folders = []
    for number in range(2):
        folder = material.folder / f"version-{number}"
        folder.mkdir(exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "bertolt.json"):
            (folder / name).write_bytes((material.model / name).read_bytes())
        config = json.loads((material.model / "config.json").read_text(encoding="utf-8"))
        config["num_hidden_layers"] = 1
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        tensors = load_file(material.model / "model.safetensors")
        kept = {name: t for name, t in tensors.items() if not re.search(r"layer\.[1-9]", name)}
        kept["classifier.bias"] = kept["classifier.bias"].clone()
        kept["classifier.bias"][number] += 1
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        folders.append(folder)
    return folders


async def _client(
    port: int, texts: list[str], expected: Expected, seen: Seen, tally: bad.Tally, first: int
) -> None:
    number, connection = first, await connect(port)
    head = f"Authorization: Bearer {KEY}\r\n"
    while tally.going:
        rows = [(number + n) % len(texts) for n in range(1 + number % 4)]
        number += len(rows)
        body = json.dumps({"model": "live", "input": [texts[row] for row in rows]}).encode()
        try:
            status, told = await connection.ask(bad.request(body, head=head))
        except (OSError, TimeoutError):
            status, told = 0, b""
        seen.statuses[status] += 1
        if status == 200:
            values = json.loads(told)
            for row, answer in zip(rows, values["answers"], strict=True):
                seen.compare(row, expected[values["version"]][row], answer)
        if not status or not connection.open:
            connection.close()
            connection = await connect(port)
        await asyncio.sleep(PAUSE)
    connection.close()


async def take_over(
    server: Running, material: Material, folders: list[Path], expected: Expected, times: int
) -> dict[str, Any]:
    """So many new versions, while clients ask."""
    seen, tally = Seen(), bad.Tally()
    tasks = [
        asyncio.create_task(_client(server.port, material.texts, expected, seen, tally, 97 * n))
        for n in range(CLIENTS)
    ]
    tasks.append(asyncio.create_task(watch(server, seen, tally)))
    connection, taken, statuses = await connect(server.port), [], []
    path, head = "/v1/models/live/load", f"Authorization: Bearer {KEY}\r\n"
    for number in range(times):
        point_at(material.folder / "live", folders[number % 2])
        begin = time.perf_counter()
        status, told = await connection.ask(bad.request(b"", path=path, head=head))
        taken.append(time.perf_counter() - begin)
        new = status == 200 and json.loads(told)["version"] == list(expected)[number % 2]
        statuses.append(str(status) if new or status != 200 else "200, not the new version")
        if not connection.open:
            connection = await connect(server.port)
    tally.going = False
    await asyncio.gather(*tasks)
    return {
        "commit": _commit(),
        "times": times,
        "reloads": {status: statuses.count(status) for status in sorted(set(statuses))},
        "median_seconds": statistics.median(taken),
        "p99_seconds": percentile(taken, 0.99),
        "requests": {str(status): count for status, count in sorted(seen.statuses.items())},
        "answers": seen.answers,
        "wrong_answers": len(seen.wrong),
        "wrong": seen.wrong[:20],
        "furthest": seen.furthest,
        "growth_mb": growth(seen.curve),
        "curve": seen.curve,
    }


def point_at(link: Path, folder: Path) -> None:
    """Let a link name a folder, at no moment nothing."""
    fresh = link.with_name(f"{link.name}-next")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name)
    os.replace(fresh, link)  # noqa: PTH105 - of the link itself


def main(material: Material, target: Path, *, times: int, threads: int) -> int:
    """Reload a server's model; 1 if a request was lost, refused or answered wrongly."""
    folders = versions(material)
    expected: Expected = {}
    for folder in folders:
        answers = Predictor.from_pretrained(folder).predict(material.texts)
        expected[version_of(str(folder))] = [each.answer["probabilities"] for each in answers]
    point_at(material.folder / "live", folders[1])
    keys = material.folder / "keys.txt"
    keys.write_text(f"admin {KEY}\n", encoding="utf-8")
    base = SERVERS["bertolt"]
    server = replace(base, words=lambda _, port: _words(base.words(material, port), material, keys))
    log = material.folder / "reloads.log"
    with running(server, material, threads=threads, log=log) as process:
        record = uvloop.run(take_over(process, material, folders, expected, times))
    said = log.read_text(encoding="utf-8", errors="replace")
    record["tracebacks"] = said.count("Traceback (most recent call last)")
    write_text(target.with_suffix(".json"), json.dumps(record) + "\n")
    lost = {status: n for status, n in record["requests"].items() if status != "200"}
    failed = {status: n for status, n in record["reloads"].items() if status != "200"}
    page = (
        f"# {times:,} versions taken over under load\n\nCommit {record['commit']}. "
        f"{CLIENTS} clients asked for one to four texts at a time. Reloads by status: "
        f"{record['reloads']}, median {record['median_seconds']:.2f} s, 99% within "
        f"{record['p99_seconds']:.2f} s. Requests by status: {record['requests']}; "
        f"{record['answers']:,} answers were compared with those of `Predictor` for the version "
        f"that they name, {record['wrong_answers']} wrong. Requests lost or refused: "
        f"{sum(lost.values())}. Memory: {record['curve'][0][1]:.0f} MB at first, "
        f"{record['curve'][-1][1]:.0f} MB at last; the median of the last third "
        f"{record['growth_mb']:+.1f} MB beside that of the second. "
        f"{record['tracebacks']} tracebacks in the log.\n"
    )
    write_text(target.with_suffix(".md"), page)
    info(page)
    return int(bool(lost or failed or record["wrong_answers"] or record["tracebacks"]))


def _words(words: list[str], material: Material, keys: Path) -> list[str]:
    """The same command with the link as its model, and keys."""
    named = f"live={material.folder / 'live'}"
    return [*(named if "=" in word else word for word in words), "--keys", str(keys)]
