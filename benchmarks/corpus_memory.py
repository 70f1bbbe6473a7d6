"""Memory and rate of `bertolt prepare` on a corpus that is generated here, of any size.

    python -m benchmarks.corpus_memory --gigabytes 2
    python -m benchmarks.corpus_memory --gigabytes 2 --learn      # and of `bertolt tokenizer`

Half of the text is one plain file, a quarter JSON lines, a quarter packed with zstd; two thirds are
English-like, one third is Chinese. The command runs as a user would run it; meanwhile the resident
memory of its process and of its workers is read from /proc ten times a second. It is flat if the
four quarters of the run have the same peaks.

Text, shards and what the command writes on its way take about three times the size on the disk, in
the temporary folder or in --folder; all of it is removed at the end, however that comes.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from bertolt.base.console import ended_by_sigterm
from bertolt.corpus.shards import Corpus

BLOCK = 4 << 20  # bytes that are generated at a time
PHRASES = 20_000  # a sentence is three of them, so hardly one comes twice
SAMPLE = 24 << 20  # bytes that the tokenizer is learned from, unless --learn
PAUSE = 0.1  # seconds between two looks at the memory
PREFIX = "corpus-memory-"
ROOM = 3.0  # bytes on the disk for each byte of text


class Reading(NamedTuple):
    """Resident memory at one moment, in MB."""

    seconds: float
    parent: float
    workers: tuple[float, ...]


# ---- a corpus ----


def phrases(choose: random.Random) -> list[str]:
    """Pieces of sentences over a vocabulary in which few words are frequent, as in any language."""
    letters = "etaoinshrdlucmfwygpbvk"
    words = ["".join(choose.choices(letters, k=choose.randrange(2, 10))) for _ in range(30_000)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    signs = [chr(code) for code in range(0x4E00, 0x4E00 + 4000)]
    heavy = list(accumulate(1 / (rank + 3) for rank in range(len(signs))))
    pieces = []
    for number in range(PHRASES):
        if number % 3:
            pieces.append(
                " ".join(choose.choices(words, cum_weights=weights, k=choose.randrange(3, 8)))
            )
        else:
            pieces.append(
                "".join(choose.choices(signs, cum_weights=heavy, k=choose.randrange(4, 12)))
            )
    return pieces


def documents(choose: random.Random, pool: list[str]) -> Iterator[str]:
    """Documents of some lines without end."""
    while True:
        lines = []
        for _ in range(choose.randrange(2, 12)):
            first, second, third = choose.choices(pool, k=3)
            lines.append(f"{first.capitalize()}, {second}. {third.capitalize()}。")
        yield "\n".join(lines)


def blocks(size: int, style: str, pool: list[str], seed: int) -> Iterator[bytes]:
    """About `size` bytes of documents as plain text or JSON lines."""
    stream = documents(random.Random(seed), pool)
    while size > 0:
        texts, gathered = [], 0
        while gathered < min(BLOCK, size):
            text = next(stream)
            whole = json.dumps({"text": text}, ensure_ascii=False) if style == "jsonl" else text
            texts.append(whole + ("\n" if style == "jsonl" else "\n\n"))
            gathered += len(texts[-1].encode())
        yield "".join(texts).encode()
        size -= gathered


def generate(folder: Path, size: int) -> int:
    """Write the corpus; returns how many bytes of text it has, unpacked."""
    pool, total = phrases(random.Random(0)), 0
    folder.mkdir(parents=True)
    plans = (("plain.txt", "text", 2), ("lines.jsonl", "jsonl", 4), ("packed.txt.zst", "text", 4))
    for seed, (name, style, share) in enumerate(plans):
        # Named .zst, it is packed.
        with pa.output_stream(str(folder / name), compression="detect") as out:
            for block in blocks(size // share, style, pool, seed):
                out.write(block)
                total += len(block)
    return total


# ---- watching a command ----


def resident(pid: int) -> float:
    """Resident memory of a process in MB; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def watch(argv: list[str]) -> tuple[list[Reading], float]:
    """Run a command of Bertolt; returns its memory over time, and its seconds."""
    start, readings = time.monotonic(), []
    with subprocess.Popen([sys.executable, "-m", "bertolt", *argv]) as process:
        try:
            while process.poll() is None:
                workers = tuple(sorted((resident(n) for n in children(process.pid)), reverse=True))
                readings.append(Reading(time.monotonic() - start, resident(process.pid), workers))
                time.sleep(PAUSE)
        except BaseException:
            # It would go on writing into a folder that is removed.
            process.terminate()
            raise
    if process.returncode:
        raise SystemExit(process.returncode)
    return readings, time.monotonic() - start


def peaks(readings: list[Reading]) -> dict[str, Any]:
    """Peaks in MB: of the run, and of each quarter of it."""
    quarter = max(1, -(-len(readings) // 4))
    parts = [readings[at : at + quarter] for at in range(0, len(readings), quarter)]
    return {
        "parent_mb": round(max(r.parent for r in readings)),
        "worker_mb": round(max((max(r.workers, default=0) for r in readings), default=0)),
        "all_mb": round(max(r.parent + sum(r.workers) for r in readings)),
        "all_mb_by_quarter": [
            round(max(r.parent + sum(r.workers) for r in part)) for part in parts
        ],
    }


def main() -> None:
    """Generate, learn, prepare, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--learn", action="store_true", help="learn the tokenizer from all of it")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    where = options.folder or Path(tempfile.gettempdir())
    require_room(where, int(options.gigabytes * 1e9))
    with ended_by_sigterm(), tempfile.TemporaryDirectory(dir=where, prefix=PREFIX) as folder:
        print(json.dumps(measure(Path(folder), options), indent=2))


def require_room(where: Path, size: int) -> None:
    """End here if the disk would be full before the end."""
    needed, free = ROOM * size + SAMPLE, shutil.disk_usage(where).free
    if free < needed:
        raise SystemExit(
            f"{where}: {needed / 1e9:.1f} GB are needed, and {free / 1e9:.1f} GB are free; give a "
            "smaller --gigabytes, or another --folder"
        )


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured."""
    size = generate(folder / "text", int(options.gigabytes * 1e9))
    start, results = folder / "text", {"text_bytes": size}
    results["file_bytes"] = sum(path.stat().st_size for path in start.iterdir())
    if not options.learn:
        generate(folder / "sample", min(SAMPLE, size))
    text = str(start if options.learn else folder / "sample")
    size_and_out = ["--vocab-size", "16000", "--out", str(folder / "tokenizer")]
    learned, seconds = watch(["tokenizer", text, *size_and_out])
    if options.learn:
        results["tokenizer"] = {"seconds": round(seconds, 1), **peaks(learned)}
    argv = ["prepare", str(start), "--tokenizer", str(folder / "tokenizer")]
    argv += ["--objective", "mlm+nsp", "--out", str(folder / "corpus")]
    argv += ["--workers", str(options.workers)] if options.workers else []
    readings, seconds = watch(argv)
    manifest = Corpus.open(folder / "corpus").manifest
    tokens = manifest.train.tokens + manifest.held_out.tokens
    results["prepare"] = {
        "seconds": round(seconds, 1),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds),
        "megabytes_of_text_per_second": round(size / 1e6 / seconds, 2),
        "shards": len(manifest.shards),
        "shard_bytes": sum(shard.bytes for shard in manifest.shards),
        **peaks(readings),
    }
    return results


if __name__ == "__main__":
    main()
