"""The command line: one table of commands, a function each.

Only light modules are imported here; each command imports what it needs when it runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from bertolt.config import FinetuneOptions, Precision
from bertolt.console import say
from bertolt.errors import BertoltError
from bertolt.version import __version__

INTERRUPTED = 130
BROKEN_PIPE = 141

app = App(
    name="bertolt",
    help="Fine-tune, measure and use BERT encoders: a CSV in, a measured model out.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)
data = App(name="data", help="Real texts to try things on, fetched from the package index.")
app.command(data)


@app.command
def finetune(
    train: Path,
    *,
    options: Annotated[FinetuneOptions | None, Parameter(name="*")] = None,
) -> int:
    """Fine-tune a classifier on a file of texts and labels, measure it, and write a report.

    Args:
        train: CSV, TSV, JSON, JSON lines or Parquet, also gzipped.
        options: settings.
    """
    from bertolt.finetune import finetune as run

    result = run(train, options)
    return INTERRUPTED if result.history.interrupted else 0


@app.command
def demo(
    *,
    out: Path = Path("demo-out"),
    seed: int = 0,
    overwrite: bool = False,
    precision: Precision = "auto",
) -> int:
    """Fine-tune a real pretrained BERT on 10,605 rated movie sentences.

    Args:
        out: folder for the model, its metrics and its report.
        seed: seed of the new head, the order and dropout.
        overwrite: replace what an earlier run left in that folder.
        precision: number format.
    """
    from bertolt.data import material
    from bertolt.demo import SENTENCES
    from bertolt.finetune import finetune as run

    options = FinetuneOptions(
        out=out, seed=seed, overwrite=overwrite, precision=precision, lr=1e-4, label="label"
    )
    result = run(material.fetch(SENTENCES, progress=say), options)
    return INTERRUPTED if result.history.interrupted else 0


@app.command
def evaluate(
    model: str,
    file: Path,
    *,
    text: str | None = None,
    label: str | None = None,
    precision: Precision = "auto",
    on_bad_row: Literal["drop", "error"] = "drop",
    encoding: str = "utf-8",
    json: bool = False,
) -> None:
    """Measure a fine-tuned model on a labelled file.

    Args:
        model: folder of the model.
        file: rows with texts and labels.
        text: column of the texts; by default the one the model was trained on, if it is there.
        label: column of the labels; likewise.
        precision: number format.
        on_bad_row: what to do with a row that cannot be used.
        encoding: of the text files.
        json: print JSON instead of a table.
    """
    from bertolt.commands import evaluate_file

    scores = evaluate_file(
        model,
        file,
        text=text,
        label=label,
        precision=precision,
        on_bad_row=on_bad_row,
        encoding=encoding,
    )
    if json:
        from json import dumps

        sys.stdout.write(dumps(scores.to_dict(), indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(f"{scores}\n")


@app.command
def predict(
    model: str,
    file: str = "-",
    *,
    text: Annotated[list[str] | None, Parameter(consume_multiple=False)] = None,
    column: str | None = None,
    format: Literal["jsonl", "csv"] = "jsonl",
    out: Path | None = None,
    precision: Precision = "auto",
    on_bad_row: Literal["drop", "error"] = "error",
    encoding: str = "utf-8",
) -> None:
    """Answer texts, in their order, with labels and probabilities.

    Args:
        model: folder of the model.
        file: a table of texts, or - for one text a line from standard input.
        text: a text to answer, instead of a file; may be given several times.
        column: column of the texts; by default the one the model was trained on, if it is there.
        format: JSON lines or CSV.
        out: file to write to instead of standard output.
        precision: number format.
        on_bad_row: what to do with a row that cannot be used.
        encoding: of the text files.
    """
    from bertolt.commands import predict_texts

    predict_texts(
        model,
        file,
        texts=text,
        column=column,
        style=format,
        out=out,
        precision=precision,
        on_bad_row=on_bad_row,
        encoding=encoding,
    )


@app.command
def inspect(model: str, *, selftest: bool = False) -> int:
    """Show what a model folder holds, and how its weights load.

    Args:
        model: folder of the model, or an id on the hub.
        selftest: answer the golden texts again and compare.
    """
    from bertolt.commands import inspect_model

    return inspect_model(model, selftest=selftest)


@data.command(name="list")
def list_data() -> None:
    """List the material that can be fetched, and what is here already."""
    from bertolt.data import material

    for row in material.listing():
        state = f"{row.size / 1e6:.1f} MB at {row.path}" if row.ready else "not fetched"
        sys.stdout.write(f"{row.name:<16} {row.description}  [{state}]\n")


@data.command
def fetch(name: str) -> None:
    """Fetch a material and print where it is.

    Args:
        name: as in `bertolt data list`.
    """
    from bertolt.data import material

    sys.stdout.write(f"{material.fetch(name, progress=say)}\n")


@data.command
def path(name: str) -> None:
    """Print where a fetched material is.

    Args:
        name: as in `bertolt data list`.
    """
    from bertolt.data import material

    sys.stdout.write(f"{material.path(name)}\n")


@contextlib.contextmanager
def _told_plainly() -> Iterator[None]:
    """Turn what a person can mend into one message and an exit code, without a traceback."""
    try:
        yield
    except BertoltError as error:
        say(f"bertolt: error: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        say("bertolt: interrupted")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read the output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE) from None


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 0, 2 for an error, 130 after Ctrl-C."""
    with _told_plainly():
        code = app(arguments, result_action="return_value")
        raise SystemExit(code or 0)
