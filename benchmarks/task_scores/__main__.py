"""The command: choose tasks and seeds, do the runs, and write down what they scored."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

from benchmarks import session
from benchmarks.task_scores.comparisons import COMPARISONS, SIDES
from benchmarks.task_scores.page import markdown
from benchmarks.task_scores.session import Plan, Record, measure
from bertolt.base.console import info
from bertolt.base.files import write_text
from bertolt.base.machine import cores


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.task_scores",
        description="Score tasks beside the peer's Trainer, and write down the results.",
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="rows, models and answers; done runs are kept")
    add("--tasks", type=_names, default=list(COMPARISONS), help="by name, with commas between")
    add("--sides", type=_names, default=list(SIDES), help=", ".join(SIDES))
    add("--seeds", type=_names, default=["0", "1", "2"], help="with commas between (0,1,2)")
    add("--threads", type=int, default=cores(), help="for everyone")
    add("--zh-encoder", type=Path, help="the Chinese encoder; default: pretrain one")
    add("--quick", action="store_true", help="few rows, to see that all of it runs")
    add("--results", type=Path, default=session.ROOT / "benchmarks" / "results")
    options = parser.parse_args(words)
    for chosen, known in ((options.tasks, COMPARISONS), (options.sides, SIDES)):
        if unknown := set(chosen) - set(known):
            parser.error(f"there is no {min(unknown)!r}; there are: {', '.join(known)}")
    return options


def main(words: list[str]) -> int:
    """Run the command."""
    options = _options(words)
    chosen = [COMPARISONS[name] for name in options.tasks]
    # Where things lie is this machine's affair.
    local = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--out", "--results", "--zh-encoder"):
        local.add_argument(name)
    shown = ["--out", "DIR", *local.parse_known_args(words)[1]]
    plan = Plan(
        comparisons=[each.quick() for each in chosen] if options.quick else chosen,
        sides=options.sides,
        seeds=[int(seed) for seed in options.seeds],
        out=options.out.resolve(),
        threads=options.threads,
        encoder=options.zh_encoder.resolve() if options.zh_encoder else None,
        words=["python", "-m", "benchmarks.task_scores", *map(shlex.quote, shown)],
    )
    target = options.results / time.strftime("%Y-%m-%d-task-scores", time.gmtime())

    def keep(record: Record) -> None:
        write_text(target.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
        write_text(target.with_suffix(".md"), markdown(record))

    print(markdown(measure(plan, say=info, keep=keep)))
    info(f"Saved to {target}.md and .json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
