"""The figures of all runs as tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.task_scores.ours import PRETRAINING
from bertolt.base.format import gibibytes, plural

Record = dict[str, Any]
Line = tuple[str, list[Record], str]
"""What is in a line of a table: its title, the runs, and which of their scores."""
MAIN = {
    "f1": "F1 of entities",
    "f1_answers": "F1 of answers",
    "f1_micro": "micro F1",
    "rmse": "RMSE",
    "accuracy": "accuracy",
}
REFERENCE = "bertolt"
_FIGURES = {
    "questions": ("exact_match", "f1_answers", "exact of answers", "f1 of answers", "none told"),
    "reviews": ("accuracy", "f1_macro"),
    "better": ("accuracy", "f1_macro"),
    "next": ("accuracy", "f1_macro"),
    "speech": ("accuracy", "f1_macro"),
    "names": ("precision", "recall", "f1", "f1(PER)", "f1(LOC)", "f1(ORG)"),
    "characters": ("precision", "recall", "f1", "f1(PER)", "f1(LOC)", "f1(ORG)"),
    "opinions": (
        "f1_micro",
        "f1_macro",
        "f1_samples",
        "subset_accuracy",
        "f1(positive)",
        "f1(negative)",
        "f1(strong)",
        "f1(disputed)",
    ),
    "ratings": ("rmse", "mae", "r2", "pearson", "spearman"),
    "endings": ("accuracy",),
}
_LEGEND = """\
Both sides start from the same checkpoint, learn from the same rows with the same settings and
seeds, in bfloat16, and answer the same test rows. Entities are scored by seqeval, labels by
scikit-learn, numbers by scikit-learn and SciPy, for both alike. A seed decides the new head, the
order and dropout; the two libraries draw different numbers from it. ± is the standard deviation
over the seeds. The seconds of a run are those of the whole commands, from the start of the process
to the written answers (`bertolt finetune` and `bertolt predict`, two processes; the peer's program
is one); the machine was shared with other work, so they show the order of magnitude and no more."""


def markdown(record: Record) -> str:
    """The whole record as a page."""
    machine = record["machine"]
    installed = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts = [
        f"# Scores of tasks, measured on {record['date']}",
        f"{machine['cpu']}, {plural(machine['cores'], 'core')}, {gibibytes(machine['memory'])}; "
        f"{plural(record['threads'], 'thread')} each; Bertolt of commit {record['commit']}.",
        f"{installed}.",
        f"`{' '.join(record['command'])}`",
        _LEGEND,
        *(_section(name, entry) for name, entry in record["comparisons"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def _section(name: str, entry: Record) -> str:
    of, rows, longer = entry["settings"], entry["rows"], entry["longer"]
    settings = (
        f"{rows['train']:,} rows to train on, {rows['watched']:,} watched, {rows['test']:,} test "
        f"rows; epochs: {of['epochs']:g}; batches of {of['batch_size']}, order {of['order']}, "
        f"learning rate {of['learning_rate']:g}, {of['schedule']} with {of['warmup']:.0%} warmup, "
        f"weight decay {of['weight_decay']:g}, limit {of['max_length']} tokens: "
        f"{longer['train']} training and {longer['test']} test rows are longer."
    )
    parts = [f"## {entry['settings']['title']}", settings, *_notes(name, entry)]
    return "\n\n".join([*parts, seeds_table(entry), figures_table(name, entry)])


def _notes(name: str, entry: Record) -> Iterator[str]:
    """What one has to know beside the figures."""
    if "encoder" in entry:
        metrics = entry["encoder"]["metrics"]
        loss = metrics["eval"]["eval_loss"]
        yield (
            f"The encoder ({PRETRAINING['config']}: 4 layers, hidden 256) was pretrained with "
            f"Bertolt on the paragraphs that are not test rows, {PRETRAINING['steps']} steps of "
            f"{PRETRAINING['batch_tokens']:,} tokens on masked tokens alone: short, held-out "
            f"loss {loss:.2f}."
        )
    if entry["settings"]["task"] == "token-classification":
        yield "Training rows fit the limit, so both sides learn from the same tokens."
        if lost := _notes_of(entry, "peer"):
            yield (
                f"Of the test rows, the peer cuts {lost[0]['rows_cut']} and gives no tag to "
                f"{lost[0]['words_lost']:,} words, which count as O; Bertolt reads them in windows."
            )
        if name != "characters":
            yield (
                "The peer's examples label the first piece of each word, and Bertolt every unit of "
                "its tokenizer, here every character: those behind the first of a name are inside "
                "of it. Both answer a word by its first piece."
            )
    if name == "questions":
        yield (
            "A row asks for the one person, place or organisation of a paragraph, which may name "
            "it several times; a quarter asks for what is not named. Exact match and F1 are of "
            "characters, as SQuAD's are of words. The peer gives no answer where that is likelier "
            "than the best one, as its example does; Bertolt by odds that it chose on the watched "
            "rows, and in the first line as the peer does."
        )
    if name == "opinions":
        thresholds = [notes["thresholds"] for notes in _notes_of(entry, REFERENCE)]
        shown = "; ".join(
            ", ".join(f"{label} {limit:.2f}" for label, limit in each.items())
            for each in thresholds
        )
        yield f"Bertolt's own thresholds, chosen on the watched rows: {shown}."
    if name == "ratings":
        raw = (
            " `ratings as they are` is the peer without it." if "peer-raw" in entry["sides"] else ""
        )
        yield (
            "The peer learns ratings that are scaled to mean 0 and deviation 1 of the training "
            f"rows, as Bertolt does by itself.{raw}"
        )


def _notes_of(entry: Record, side: str) -> list[Record]:
    """What each run of a side noted."""
    return [run["notes"] for run in entry["sides"].get(side, {"runs": []})["runs"]]


def lines_of(entry: Record) -> Iterator[Line]:
    """A line for each side, and each way in which its answers are scored."""
    for side in entry["sides"].values():
        for way in side["runs"][0]["scores"] if side["runs"] else ():
            title = f"{side['title']}, {way}" if way else side["title"]
            yield title, side["runs"], way


def seeds_table(entry: Record) -> str:
    """The main figure of each seed, with time and memory of the runs."""
    main = entry["settings"]["main"]
    lines = list(lines_of(entry))
    seeds = [f"seed {run['seed']}" for run in lines[0][1]] if lines else []
    head = [MAIN[main], *seeds, "mean", "seconds a run", "peak memory, MB"]
    rows = []
    for title, runs, way in lines:
        values = [run["scores"][way][main] for run in runs]
        rows.append(
            [
                title,
                *(f"{value:.4f}" for value in values),
                *[""] * (len(seeds) - len(values)),
                spread(values),
                _span([run["seconds"] for run in runs]),
                _span([run["peak_memory_mb"] for run in runs]),
            ]
        )
    return table(head, rows)


def figures_table(name: str, entry: Record) -> str:
    """All figures, over the seeds."""
    figures = _FIGURES[name]
    rows = [
        [title, *(spread([run["scores"][way][figure] for run in runs]) for figure in figures)]
        for title, runs, way in lines_of(entry)
    ]
    return table(["mean ± deviation", *figures], rows)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    mean = statistics.fmean(values)
    return f"{mean:.4f} ± {statistics.stdev(values):.4f}" if len(values) > 1 else f"{mean:.4f}"


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,.0f}–{high:,.0f}" if len(values) > 1 else f"{low:,.0f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    parts = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in parts)
