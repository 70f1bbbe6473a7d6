"""Chinese text to encoders, and what they are worth: python examples/pretrain_zh [--help].

Two encoders are pretrained on the People's Daily of January 1998 and reviews without labels: one
on masked tokens, one on pairs of sentences too. Each is fine-tuned on 1,000 labelled reviews beside
a model of the same shape with random weights, and measured on 5,000 test reviews that neither its
tokenizer nor its encoder has seen. The same command goes on where an earlier one was stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from page import write_page
from results import gather, write_results
from steps import EPOCHS, OBJECTIVES, Options, Places, begin, finetune, pretrain
from texts import tell, write_texts

from bertolt.base.console import ended_by_sigterm, info
from bertolt.base.errors import BertoltError, UsageError
from bertolt.base.process import INTERRUPTED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, fix="see python examples/pretrain_zh --help")


def parse(words: list[str]) -> Options:
    """The options of a command line.

    Raises:
        UsageError: one of them cannot be.
    """
    parser = _Parser(
        prog="pretrain_zh",
        description="Pretrain Chinese encoders, and measure what they add to a classifier.",
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("pretrain-zh"), help="folder (default: pretrain-zh)")
    add("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES, metavar="OBJECTIVE",
        help="mlm, mlm+nsp or both (default: both)")  # fmt: skip
    add("--seeds", type=int, default=3, help="fine-tuning runs from each start (default: 3)")
    add("--steps", type=int, help="of pretraining (default: as bertolt pretrain has it)")
    add("--rows", type=int, help="rows of each dataset, for a quick try (default: all)")
    add("--config", default="small", help="shape of the encoders (default: small)")
    add("--epochs", type=float, default=EPOCHS, help=f"of fine-tuning (default: {EPOCHS})")
    given = vars(parser.parse_args(words))
    return Options(**{**given, "objectives": tuple(given["objectives"])})


def example(options: Options) -> None:
    """All of it, from text to the table."""
    begin(options)
    tell(write_texts(Places(options.out).texts, options.rows))
    pretrain(options)
    for seed in range(1, options.seeds + 1):
        for start in options.starts:
            finetune(options, start, seed)
    results = gather(options)
    print(write_results(results, options.out))
    write_page(results, options.out / "results.html")
    info(f"Results: {options.out / 'results.html'}, with results.md and results.json beside it")


def main() -> None:
    """Exits with 2 for an error, 130 after Ctrl-C, or with the code of the command that failed."""
    try:
        with ended_by_sigterm():
            example(parse(sys.argv[1:]))
    except BertoltError as error:
        info(f"pretrain_zh: error: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        info("pretrain_zh: interrupted")
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
