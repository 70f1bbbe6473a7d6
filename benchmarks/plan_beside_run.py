"""A measured plan beside a run: `python -m benchmarks.plan_beside_run [--repeats 5]`.

The plan takes its efficiency from some seconds of training; the run has other data, the masks, and
all that a `Trainer` does. Both are timed in turn, so that what else the machine does hits both.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from bertolt import BertForMaskedLM, Trainer, TrainingArguments
from bertolt.data.batch import PackedBatch
from bertolt.plan import PlanOptions, plan
from bertolt.rates import random_batch
from bertolt.shapes import find_config


def rate_of_a_run() -> float:
    """Tokens a second of 40 steps, the first three left out."""

    def collate(rows: list[dict[str, int]]) -> PackedBatch:
        return random_batch(find_config("tiny"), 128, 0.15, 4096, seed=rows[0]["row"])

    trainer = Trainer(
        BertForMaskedLM(find_config("tiny")),
        TrainingArguments(max_steps=40, precision="fp32", disable_tqdm=True),
        data_collator=collate,
        train_dataset=[{"row": row} for row in range(512)],
    )
    trainer.train()
    steps = trainer.history.steps[3:]
    return sum(log.tokens for log in steps) / sum(log.seconds for log in steps)


def main() -> None:
    """Print each pair, and the median of what the plan was off by."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    settings: dict[str, Any] = {"config": "tiny", "tokens": "1M", "length": 128}
    off = []
    for _ in range(parser.parse_args().repeats):
        planned = plan(PlanOptions(**settings, precision="fp32")).tokens_per_second
        found = rate_of_a_run()
        off.append(planned / found - 1)
        print(f"plan {planned:,.0f} tokens/s, run {found:,.0f}: {off[-1]:+.1%}")
    print(f"median {statistics.median(off):+.1%}")


if __name__ == "__main__":
    main()
