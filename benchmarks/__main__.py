"""The command: choose works and contestants, measure them, and write down what was found."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

from benchmarks import session
from benchmarks.contestants import CONTESTANTS
from benchmarks.drawing import draw
from benchmarks.results import markdown
from benchmarks.works import WORKS, Work
from bertolt.base.console import info
from bertolt.base.files import write_text
from bertolt.base.machine import cores


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Bertolt beside its peers, interleaved, and write down the results.",
    )
    parser.add_argument("--works", type=_names, help="what to do, by name, with commas between")
    parser.add_argument("--contestants", type=_names, help="who takes part, by name")
    parser.add_argument("--repeats", type=int, help="of each measurement (3; quick: 1)")
    parser.add_argument("--steps", type=int, help="timed steps or batches, instead of each work's")
    parser.add_argument("--quick", action="store_true", help="a few works, in about ten minutes")
    parser.add_argument("--threads", type=int, default=cores(), help="for everyone")
    parser.add_argument("--out", type=Path, default=session.ROOT / "benchmarks" / "results")
    parser.add_argument("--list", action="store_true", help="list works and contestants, and end")
    options = parser.parse_args(words)
    for given, known in ((options.works, WORKS), (options.contestants, CONTESTANTS)):
        unknown = set(given or ()) - set(known)
        if unknown:
            parser.error(f"there is no {min(unknown)!r}; there are: {', '.join(known)}")
    return options


def chosen_works(options: argparse.Namespace) -> list[Work]:
    """The works that the options ask for, with the contestants that they ask for."""
    if options.works is not None:
        works = [WORKS[name] for name in options.works]
    else:
        works = [work for work in WORKS.values() if not work.asked]
    if options.quick:
        works = [work.shortened() for work in works if work.quick]
    works = [session.select(work, options.contestants) for work in works]
    return [work for work in works if work.contestants]


def _list() -> None:
    for work in WORKS.values():
        asked = " [only by name]" if work.asked else ""
        print(f"{work.name:<16}{work.title}{asked}")
        print(f"{'':<16}{', '.join(work.contestants)}")
    print()
    for each in CONTESTANTS.values():
        missing = f"  [not installed: {', '.join(each.missing)}]" if each.missing else ""
        print(f"{each.name:<16}{each.title}{missing}")


def _without_folder(words: list[str]) -> list[str]:
    """The command line as others would type it: where the results went is this machine's affair."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out")
    return parser.parse_known_args(words)[1]


def main(words: list[str]) -> int:
    """Run the command; 1 if a contestant failed."""
    options = _options(words)
    if options.list:
        _list()
        return 0
    works = chosen_works(options)
    target = options.out / time.strftime("%Y-%m-%d-%H%M", time.gmtime())

    def keep(record: session.Record) -> None:
        write_text(target.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
        write_text(target.with_suffix(".md"), markdown(record))
        write_text(target.with_suffix(".svg"), draw(record))

    record = session.run(
        works,
        repeats=options.repeats or (1 if options.quick else 3),
        threads=options.threads,
        words=["python", "-m", "benchmarks", *map(shlex.quote, _without_folder(words))],
        quick=options.quick,
        steps=options.steps,
        say=info,
        keep=keep,
    )
    print(markdown(record))
    info(f"Saved to {target}.md, .json and .svg")
    states = [e["state"] for w in record["works"].values() for e in w["contestants"].values()]
    return int(any(state.startswith("failed") for state in states))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
