"""The command of this package: what to measure, and where its figures go."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import session
from benchmarks.drawing import draw
from benchmarks.results import markdown
from benchmarks.serving import alone, load, outside, reloads, schema, soak
from benchmarks.serving.prepare import prepare
from benchmarks.serving.servers import SERVERS
from bertolt.base.console import info
from bertolt.base.files import write_text
from bertolt.base.format import number, percent
from bertolt.base.machine import cores

_LEGEND = """\
Each figure is the median of {repeats}; brackets hold the lowest and the highest. Every server is a
process of its own on this machine and so is the load, which takes some of the same cores; servers
take turns within a round, and the order of turns moves on by one each round. One text a request, a
quarter of them Chinese reviews with a long tail, the others movie sentences. A latency counts from
the moment at which a request is due, so in the open loops it has the time in which it waited to be
sent. *Processor of the server* counts all its threads; `Bertolt is` says how many times as fast
Bertolt is as the server of that row: in requests/s of clients that wait, in p99 of open loops. An
open loop sends each server a share of the most that it answers to 1, 8 or 64 clients, so the rows
of one table are of different rates; in the last tables all have the same. Threads of OpenMP wait
{waiting}."""

_ALONE = {
    "p50_ms": "one text, p50 ms",
    "cpu_ms_one": "processor, ms",
    "texts_per_second": f"texts/s, {alone.BATCH} at a time",
    "cpu_ms_many": "processor, ms a text",
}


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("what", choices=("load", "locust", "soak", "reloads", "schema"))
    parser.add_argument("--servers", type=lambda text: text.split(","), default=list(SERVERS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--times", type=int, default=1000, help="reloads")
    parser.add_argument("--threads", type=int, default=cores(), help="for every server")
    parser.add_argument("--material", type=Path, default=Path("served"), help="folder of the model")
    parser.add_argument("--out", type=Path, default=session.ROOT / "benchmarks" / "results")
    options = parser.parse_args(words)
    if unknown := set(options.servers) - set(SERVERS):
        parser.error(f"there is no {min(unknown)!r}; there are: {', '.join(SERVERS)}")
    return options


def _without_folders(words: list[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out")
    parser.add_argument("--material")
    return parser.parse_known_args(words)[1]


def engines(record: dict[str, Any]) -> str:
    """What the engines do without a server, and what the servers cost beside them."""
    head = ("", *_ALONE.values())
    lines = ["## The engines without a server", "", f"| {' | '.join(head)} |"]
    lines.append(f"|{' --- |' * len(head)}")
    for name, runs in record["engines"].items():
        middle = [number(statistics.median(run[key] for run in runs)) for key in _ALONE]
        lines.append(f"| {name} | {' | '.join(middle)} |")
    for server, engine in (("bertolt", "torch"), ("bertolt-auto", "auto")):
        one, many = (
            record["works"][f"closed-{count}"]["contestants"].get(server, {}).get("runs", [])
            for count in (load.CLIENTS[0], load.CLIENTS[-1])
        )
        by_itself = record["engines"].get(engine, [])
        if one and many and by_itself:
            pairs = list(zip(by_itself, one, many, strict=False))
            longer = statistics.median(each["p50_ms"] - a["p50_ms"] for a, each, _ in pairs)
            cost = statistics.median(
                a["texts_per_second"] / each["requests_per_second"] - 1 for a, _, each in pairs
            )
            more = statistics.median(
                each["cpu_ms_per_request"] / a["cpu_ms_many"] - 1 for a, _, each in pairs
            )
            lines += [
                "",
                f"{SERVERS[server].title}: the median of one client is {number(longer)} ms above "
                f"that of its engine without a server; a text of {load.CLIENTS[-1]} clients takes "
                f"{percent(cost, 0)} more time than one of {load.CLIENTS[-1]} at a time without "
                "one, the load generator's share of the processor included; of the processor the "
                f"server takes {percent(more, 0)} more.",
            ]
    return "\n".join(lines)


def _measure_load(options: argparse.Namespace, words: list[str]) -> int:
    material = prepare(options.material, threads=options.threads)
    target = options.out / f"{time.strftime('%Y-%m-%d-%H%M', time.gmtime())}-serving"

    def keep(record: dict[str, Any]) -> None:
        legend = _LEGEND.replace("{waiting}", record["waiting"])
        write_text(target.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
        write_text(target.with_suffix(".md"), f"{markdown(record, legend)}\n{engines(record)}\n")
        write_text(target.with_suffix(".svg"), draw(record))

    record = load.describe(
        options.servers,
        repeats=options.repeats,
        threads=options.threads,
        words=["python", "-m", "benchmarks.serving", *map(shlex.quote, _without_folders(words))],
    )
    load.measure(record, material, seconds=options.seconds, say=info, keep=keep)
    print(target.with_suffix(".md").read_text(encoding="utf-8"))
    info(f"Saved to {target}.md, .json and .svg")
    states = [e["state"] for w in record["works"].values() for e in w["contestants"].values()]
    return int(any(state.startswith("failed") for state in states))


def main(words: list[str]) -> int:
    """Run the command; 1 if something was not as it should be."""
    options = _options(words)
    os.environ.setdefault("PYTHONPATH", str(session.ROOT))
    if options.what == "load":
        return _measure_load(options, words)
    material = prepare(options.material, threads=options.threads)
    target = options.out / f"{time.strftime('%Y-%m-%d-%H%M', time.gmtime())}-{options.what}"
    if options.what == "locust":
        return outside.main(
            material,
            target,
            servers=options.servers,
            repeats=options.repeats,
            seconds=options.seconds,
            threads=options.threads,
            say=info,
        )
    if options.what == "soak":
        return soak.main(material, target, minutes=options.minutes, threads=options.threads)
    if options.what == "reloads":
        return reloads.main(material, target, times=options.times, threads=options.threads)
    return schema.main(material, target, threads=options.threads)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
