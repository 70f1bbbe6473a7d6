"""Interleave the measurements: every repeat goes through all contestants of a work in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.contestants import CONTESTANTS
from benchmarks.job import Found, Job
from benchmarks.works import Work
from bertolt.base.machine import cores, cpu_name, memory_bytes

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "bertolt",
    "torch",
    "transformers",
    "accelerate",
    "sentence-transformers",
    "onnx",
    "onnxruntime",
    "openvino",
    "tokenizers",
    "numpy",
)
TIMEOUT = 3600  # seconds of one measurement, before it counts as failed

Record = dict[str, Any]
Say = Callable[[str], None]


def run(
    works: list[Work],
    *,
    repeats: int,
    threads: int,
    words: list[str],
    quick: bool,
    steps: int | None,
    say: Say,
    keep: Callable[[Record], None],
) -> Record:
    """Measure all works, and call `keep` with what there is after each round.

    Args:
        works: to do, with their contestants.
        repeats: of each measurement.
        threads: that everyone may use.
        words: the command line, for the record.
        quick, steps: for `prepare`, as on the command line.
        say: shows a line of progress.
        keep: saves the record so far.
    """
    record = describe_session(works, repeats=repeats, threads=threads, words=words)
    with tempfile.TemporaryDirectory(prefix="bertolt-bench-") as name:
        jobs = {}
        for work in works:
            say(f"preparing {work.name}")
            more = [*(["--quick"] if quick else []), *(["--steps", str(steps)] if steps else [])]
            job = _prepare(work, Path(name) / work.name, threads, more)
            _export(record["works"][work.name]["contestants"], job)
            # Where it lay is nobody's business afterwards.
            record["works"][work.name]["job"] = {**asdict(job), "folder": work.name}
            jobs[work.name] = job
        for repeat in range(repeats):
            for work in works:
                _round(record["works"][work.name], jobs[work.name], repeat, say)
                keep(record)
    return record


def describe_session(works: list[Work], *, repeats: int, threads: int, words: list[str]) -> Record:
    """The record before anything is measured: when, where, with what, and who takes part."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "command": words,
        "machine": {"cpu": cpu_name(), "cores": cores(), "memory": memory_bytes()},
        "threads": threads,
        "repeats": repeats,
        "versions": versions(PACKAGES),
        "works": {
            work.name: {
                "title": work.title,
                "kind": work.kind,
                "products": [],
                "contestants": {name: _entry(name) for name in work.contestants},
            }
            for work in works
        },
    }


def _entry(name: str) -> Record:
    missing = CONTESTANTS[name].missing
    state = f"not installed: {', '.join(missing)}" if missing else "ok"
    return {"title": CONTESTANTS[name].title, "state": state, "runs": []}


def _prepare(work: Work, folder: Path, threads: int, more: list[str]) -> Job:
    folder.mkdir()
    words = ["benchmarks.prepare", work.name, str(folder), "--threads", str(threads), *more]
    _python(words, threads, folder)
    return Job.load(str(folder / "job.json"))


def _export(contestants: dict[str, Record], job: Job) -> None:
    """Make the exports that are needed; where one cannot be made, those who need it fail."""
    taking_part = {name: each for name, each in contestants.items() if each["state"] == "ok"}
    for export in sorted({CONTESTANTS[name].export for name in taking_part} - {""}):
        words = ["benchmarks.runtimes", export, str(job.path("job.json"))]
        try:
            _python(words, job.threads, Path(job.folder))
        except subprocess.SubprocessError as error:
            for name, each in taking_part.items():
                if CONTESTANTS[name].export == export:
                    each["state"] = f"failed: export: {_reason(error)}"


def _round(entry: Record, job: Job, repeat: int, say: Say) -> None:
    """One measurement of each contestant, between two of the products of this machine.

    The faster of the two counts: what else a shared machine did meanwhile is no limit of its own.
    """
    before = _worker(["--products"], job)
    entry["products"].append(before)
    for name, each in entry["contestants"].items():
        if each["state"] != "ok":
            continue
        begin = time.perf_counter()
        words = [str(job.path("job.json")), name, "--seed", str(repeat)]
        try:
            each["runs"].append(_worker([*words, "--started", str(time.time())], job))
        except subprocess.SubprocessError as error:
            each["state"] = f"failed: {_reason(error)}"
        seconds = time.perf_counter() - begin
        say(f"repeat {repeat + 1}  {entry['title']}  {name}  {each['state']}  {seconds:.0f} s")
    after = _worker(["--products"], job)
    entry["products"][-1] = {kind: max(before[kind], after[kind]) for kind in before}


def _worker(words: list[str], job: Job) -> Found:
    said = _python(["benchmarks.worker", *words], job.threads, Path(job.folder))
    found: Found = json.loads(said.splitlines()[-1])
    return found


def _python(words: list[str], threads: int, folder: Path) -> str:
    """What a module of this package prints when it is run."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        check=True,
        cwd=ROOT,
        env=environment(threads, folder),
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
    ).stdout


def environment(threads: int, folder: Path) -> dict[str, str]:
    """The same for everyone: threads, no network, and no cache of an earlier run."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / f"hub-{time.time_ns()}"),
        "BERTOLT_CACHE_TOKENS": "0",
        "PYTHONWARNINGS": "ignore",
    }


def _reason(error: subprocess.SubprocessError) -> str:
    said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return said[-1] if said else type(error).__name__


def _commit() -> str:
    """The commit, with a mark where files differ from it."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of each package that is installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def select(work: Work, names: list[str] | None) -> Work:
    """The work with those of its contestants that are named, all if none are."""
    if names is None:
        return work
    return replace(work, contestants=tuple(name for name in work.contestants if name in names))
