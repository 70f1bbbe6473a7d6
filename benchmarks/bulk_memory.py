"""Memory of `bertolt predict` over a large file, and whether a killed run ends with the same bytes.

    python -m benchmarks.bulk_memory --gigabytes 2 [--folder DIR] [--most SECONDS]

A CSV is generated; a tiny model with random weights answers it, once whole, and once killed by
SIGKILL after 0.6 of that time and begun again. Memory is what the system could not take back
(RssAnon), and all that is resident, with the table that is mapped from the disk, looked at twice a
second. It is flat if the four quarters have the same peaks. File, table and answers take about four
times the size on the disk; all of it is removed at the end. With --most both runs are killed after
so many seconds, and bytes are not compared.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from benchmarks.corpus_memory import documents, phrases
from benchmarks.killed_answers import build

PAUSE = 0.5
KILLED_AFTER = 0.6
_POOL = 20_000  # different texts


def write_file(path: Path, size: int) -> int:
    """A CSV of so many bytes; the number of its rows."""
    choose = random.Random(0)
    texts = [text.strip() for text in islice(documents(choose, phrases(choose)), _POOL)]
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "text"))
        while file.tell() < size:
            for text in choose.choices(texts, k=5000):
                writer.writerow((rows, text))
                rows += 1
    return rows


def resident(child: int) -> tuple[float, float]:
    """MB of a process that the system could not take back, and all that are resident."""
    try:
        lines = Path(f"/proc/{child}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0, 0.0
    values = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    kinds = [float(value) / 1000 for value in values.values()]
    return float(values.get("RssAnon", 0)) / 1000, sum(kinds)


def answer(words: list[str], log: Path, most: float | None = None) -> list[tuple[float, float]]:
    """Run a command, or kill it after so many seconds; the memory at each look."""
    begun, curve = time.monotonic(), []
    with log.open("a", encoding="utf-8") as file:
        child = subprocess.Popen([sys.executable, "-m", "bertolt", *words], stderr=file)
        while child.poll() is None:
            time.sleep(PAUSE)
            curve.append(resident(child.pid))
            if most is not None and time.monotonic() - begun > most:
                child.kill()
        assert child.wait() == (0 if most is None else -9), log.read_text(encoding="utf-8")
    print(f"{'ended' if most is None else 'killed'} after {time.monotonic() - begun:,.0f} s")
    return curve


def tell(curve: list[tuple[float, float]]) -> None:
    """Print the peaks of the quarters."""
    size = -(-len(curve) // 4)
    for number in range(4):
        part = curve[number * size : (number + 1) * size]
        own, every = (max(values) for values in zip(*part, strict=True))
        print(f"  quarter {number + 1}: {own:,.0f} MB of its own, {every:,.0f} MB resident")


def digest(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def main() -> None:
    """Generate, answer, kill and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--most", type=float)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bulk-memory-", dir=options.folder) as name:
        folder = Path(name)
        os.environ["TMPDIR"] = str(folder)
        build(folder)
        file, log = folder / "rows.csv", folder / "log"
        rows = write_file(file, int(options.gigabytes * 1e9))
        print(f"{file.stat().st_size / 1e9:.2f} GB, {rows:,} rows", flush=True)
        words = ["predict", str(folder / "labels"), str(file), "--keep", "id", "--out"]
        whole, out = folder / "whole.jsonl", folder / "out.jsonl"
        if options.most is not None:
            for _ in range(2):
                tell(answer([*words, str(out)], log, options.most))
            print(*[line for line in log.read_text("utf-8").splitlines() if "Going on" in line])
            return
        begun = time.monotonic()
        tell(answer([*words, str(whole)], log))
        seconds = time.monotonic() - begun
        answer([*words, str(out)], log, KILLED_AFTER * seconds)
        tell(answer([*words, str(out)], log))
        going = [line for line in log.read_text("utf-8").splitlines() if "Going on" in line]
        print(*going, f"the same bytes: {digest(out) == digest(whole)}", sep="\n")


if __name__ == "__main__":
    main()
