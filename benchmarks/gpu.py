"""BERT on one GPU beside its peer: pretraining, fine-tuning and prediction, in ten minutes.

    python -m benchmarks.gpu --out benchmarks/results [--minutes 9.5] [--only mlm] [--smoke]

Each measurement is a process of its own; `gpu_measures` says what is done in it. What fails or has
no time left is listed with its reason. `--smoke` runs all of it in tiny sizes on a CPU: it shows
that the script works, and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu_measures import (
    SMOKE,
    Found,
    Scale,
    finetune,
    peer_finetune,
    peer_predict,
    peer_pretrain,
    predict,
    pretrain,
    products,
)

ROOT = Path(__file__).parents[1]
RESERVE = 15  # seconds at the end that no measurement is started in


@dataclass(frozen=True)
class Job:
    """One measurement: what it is called, how it is made, and what counts of it."""

    title: str
    run: Callable[..., Found]
    options: Found = field(default_factory=dict)
    unit: str = "sequences"
    limit: int = 90


JOBS: dict[str, Job] = {
    "products": Job("bf16 product", products, limit=60),
    "mlm-base": Job(
        "masked LM, base, 512", pretrain, {"size": "base", "lengths": "full"}, "tokens"
    ),
    "finetune-32": Job("fine-tuning, batch 32", finetune, {"batch": 0}),
    "peer-finetune-32": Job(
        "… the peer's Trainer, sdpa",
        peer_finetune,
        {"batch": 0, "attention": "sdpa", "grouped": False},
    ),
    "peer-finetune-32-flash": Job(
        "… the peer's Trainer, flash",
        peer_finetune,
        {"batch": 0, "attention": "flash_attention_2", "grouped": True},
    ),
    "predict-short": Job("prediction, short texts", predict, {"kind": "short"}),
    "peer-predict-short": Job(
        "… the peer's pipeline, sorted, batches of 512",
        peer_predict,
        {"kind": "short", "ordered": True, "batch": 512},
    ),
    "mlm-large": Job(
        "masked LM, large, 512", pretrain, {"size": "large", "lengths": "full"}, "tokens"
    ),
    "finetune-256": Job("fine-tuning, batch 256", finetune, {"batch": 1}),
    "peer-finetune-256": Job(
        "… the peer's Trainer, sdpa, grouped",
        peer_finetune,
        {"batch": 1, "attention": "sdpa", "grouped": True},
    ),
    "predict-mixed": Job("prediction, mixed lengths", predict, {"kind": "mixed"}),
    "peer-predict-mixed": Job(
        "… the peer's pipeline, as they come, batches of 64",
        peer_predict,
        {"kind": "mixed", "ordered": False, "batch": 64},
    ),
    "peer-predict-mixed-sorted": Job(
        "… the peer's pipeline, sorted, batches of 256",
        peer_predict,
        {"kind": "mixed", "ordered": True, "batch": 256},
    ),
    "mlm-base-mixed": Job(
        "masked LM, base, mixed lengths", pretrain, {"size": "base", "lengths": "mixed"}, "tokens"
    ),
    "peer-mlm-base": Job("… the peer in a plain loop, sdpa", peer_pretrain, {}, "tokens"),
    "mlm-large-mixed": Job(
        "masked LM, large, mixed lengths", pretrain, {"size": "large", "lengths": "mixed"}, "tokens"
    ),
    "mlm-base-30522": Job(
        "masked LM, base, 512, 30,522 words",
        pretrain,
        {"size": "base", "lengths": "full", "vocab_size": 30_522},
        "tokens",
    ),
    "mlm-base-compiled": Job(
        "masked LM, base, 512, layers compiled",
        pretrain,
        {"size": "base", "lengths": "full", "compiled": True},
        "tokens",
        limit=150,
    ),
}
"""In the order of what should not fall out where the time is short."""

TARGETS: tuple[tuple[str, str, tuple[str, ...], float], ...] = (
    ("masked LM, base: tokens a second", "mlm-base", (), 670_000),
    ("masked LM, large: tokens a second", "mlm-large", (), 200_000),
    (
        "fine-tuning at 32: times the faster of the peer's",
        "finetune-32",
        ("peer-finetune-32", "peer-finetune-32-flash"),
        3.0,
    ),
    ("fine-tuning at 256: times the peer's", "finetune-256", ("peer-finetune-256",), 3.0),
    ("prediction, short: times the peer's", "predict-short", ("peer-predict-short",), 3.0),
    (
        "prediction, mixed: times the faster of the peer's",
        "predict-mixed",
        ("peer-predict-mixed", "peer-predict-mixed-sorted"),
        3.0,
    ),
)


# ---- running all of them ----


def measure(name: str, smoke: bool, limit: float) -> Found:
    """One measurement in a process of its own; a failure is a result too."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--worker", name]
    command += ["--smoke"] if smoke else []
    # One GPU for both: the peer would spread a step over all that it sees.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": first, "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, cwd=ROOT, env=environment
        )
    except subprocess.TimeoutExpired:
        return {"failure": f"not done after {limit:.0f} seconds"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failure": lines[-1][:300]}
    result: Found = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def run_all(names: list[str], smoke: bool, minutes: float, keep: Callable[[Found], None]) -> None:
    """Measure one after the other until the time is up, and keep what there is after each."""
    end = time.monotonic() + 60 * minutes - RESERVE
    results: Found = {}
    record = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "smoke": smoke,
        "results": results,
    }
    for name in names:
        left = end - time.monotonic()
        if left < RESERVE:
            results[name] = {"failure": "no time was left"}
        else:
            print(f"{JOBS[name].title} ({left:.0f} s left)", file=sys.stderr, flush=True)
            results[name] = measure(name, smoke, min(JOBS[name].limit, left))
        keep(record)


def commit() -> str:
    """Which commit this is, where git can tell."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def rate_of(results: Found, name: str) -> float | None:
    """What counts of a measurement, if it was made."""
    rate: float | None = results.get(name, {}).get(f"{JOBS[name].unit}_per_second")
    return rate


def reached(results: Found, name: str, peers: tuple[str, ...]) -> float | None:
    """A rate, or how many times the faster peer's it is."""
    ours = rate_of(results, name)
    if ours is None or not peers:
        return ours
    theirs = [rate for peer in peers if (rate := rate_of(results, peer)) is not None]
    return ours / max(theirs) if theirs else None


def markdown(record: Found) -> str:
    """The record as tables."""
    results = record["results"]
    on = results.get("products", {}).get("machine", {})
    yardstick, paper = results.get("products", {}).get("tflops"), on.get("paper_peak")
    lines = [
        f"# One GPU, {record['made'][:10]}",
        "",
        f"{on.get('gpu', 'unknown GPU')}, torch {on.get('torch')}, CUDA {on.get('cuda')}, "
        f"transformers {on.get('transformers')}, commit {record['commit']}.",
        *(["", "**A smoke test in tiny sizes: no number means anything.**"] * record["smoke"]),
        "",
        "| measurement | sequences/s | tokens/s | ms a step | TFLOP/s | of the product | "
        "on paper | GB | attention |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, result in results.items():
        if "failure" in result:
            lines.append(f"| {JOBS[name].title} | {result['failure'].replace('|', '/')} |")
            continue
        tflops = result.get("tflops")
        cells = [
            JOBS[name].title,
            show(result.get("sequences_per_second"), ",.0f"),
            show(result.get("tokens_per_second"), ",.0f"),
            show(result.get("step_ms"), ".1f"),
            show(tflops, ".0f"),
            show(tflops and yardstick and tflops / yardstick, ".0%"),
            show(tflops and paper and tflops * 1e12 / paper, ".0%"),
            show(result.get("memory_gb"), ".1f"),
            result.get("attention", ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| target | at least | found | |", "|---|---:|---:|---|"]
    for title, name, peers, least in TARGETS:
        value = reached(results, name, peers)
        verdict = "met" if value is not None and value >= least else "missed"
        if value is None or record["smoke"]:
            verdict = "not measured"
        digits = ",.0f" if least > 100 else ".2f"
        lines.append(f"| {title} | {least:,.0f} | {show(value, digits)} | {verdict} |")
    reasons = {result["why"]: result["attention"] for result in results.values() if "why" in result}
    lines += ["", *(f"Attention {name}: {why}." for why, name in reasons.items())]
    return "\n".join(lines) + "\n"


def show(value: float | None, digits: str) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else format(value, digits)


def main() -> None:
    """Measure everything, or be the process that measures one thing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all of it")
    parser.add_argument("--only", default="", help="measurements whose name begins with this")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--worker", choices=JOBS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        job = JOBS[options.worker]
        print(json.dumps(job.run(SMOKE if options.smoke else Scale(), **job.options)))
        return
    from bertolt.base.files import write_text

    stem = f"gpu-{'smoke-' * options.smoke}{datetime.now(UTC):%Y%m%d-%H%M%S}"
    options.out.mkdir(parents=True, exist_ok=True)

    def keep(record: Found) -> None:
        write_text(options.out / f"{stem}.json", json.dumps(record, indent=2) + "\n")
        write_text(options.out / f"{stem}.md", markdown(record))

    names = [name for name in JOBS if name.removeprefix("peer-").startswith(options.only)]
    chosen = ["products", *(name for name in names if name != "products")]
    run_all(chosen, options.smoke, options.minutes, keep)
    print((options.out / f"{stem}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
