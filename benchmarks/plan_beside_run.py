"""A measured plan beside real runs: python -m benchmarks.plan_beside_run SHARDS [--repeats 5].

SHARDS is a corpus that `bertolt prepare` made. The plan takes its efficiency from some seconds of
training on random ids of one length; the run is `bertolt pretrain` on the corpus, with its texts of
all lengths, its masks, and whatever else a command does between steps. Both are timed in turn, so
that what else the machine does hits both. Exits with 1 if the median is off by more than 20%.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.plan import PlanOptions, plan
from bertolt.pretrain.run import pretrain

ALLOWED = 0.2
_WARMUP = 5  # steps of a run that are left out


def rate_of_a_run(shards: Path, shape: str, steps: int, out: Path) -> tuple[float, PlanOptions]:
    """Tokens a second of a run, and the same run to be planned."""
    options = PretrainOptions(
        config=shape, steps=steps, eval_every=steps, save_every=steps, eval_tokens=1, out=out
    )
    run = pretrain(shards, options)
    counted = run.history.steps[_WARMUP:]
    arguments = json.loads((out / "arguments.json").read_text(encoding="utf-8"))
    sequences = sum(log.sequences for log in counted)
    tokens = sum(log.tokens for log in counted)
    planned = PlanOptions(
        config=str(out),
        tokens=str(tokens),
        length=round(tokens / sequences),
        masked=options.mask,
        precision=arguments["precision"],
        measure=True,
    )
    return tokens / sum(log.seconds for log in counted), planned


def main() -> None:
    """Print each pair, and the median of what the plan was off by."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--config", default="small")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    off = []
    for repeat in range(given.repeats):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / str(repeat)
            found, options = rate_of_a_run(given.shards, given.config, given.steps, out)
            planned = plan(options).tokens_per_second
        off.append(planned / found - 1)
        print(f"plan {planned:,.0f} tokens/s, run {found:,.0f}: {off[-1]:+.1%}", flush=True)
    median = statistics.median(off)
    print(f"median {median:+.1%}")
    sys.exit(1 if abs(median) > ALLOWED else 0)


if __name__ == "__main__":
    main()
