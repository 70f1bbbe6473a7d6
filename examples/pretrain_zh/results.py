"""What came of it: numbers gathered from the folders of the runs, as JSON and as tables."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from steps import LEARNING_RATE, SCRATCH, Options, Places

from bertolt.base.files import write_text
from bertolt.base.format import is_number, number, percent
from bertolt.base.machine import cores, cpu_name, versions
from bertolt.base.version import __version__

Results = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table in words; the first column names the rows."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def gather(options: Options) -> Results:
    """All results of a folder whose steps are done."""
    places = Places(options.out)
    seeds = range(1, options.seeds + 1)
    scores = {
        start: {seed: _read(places.scores(start, seed)) for seed in seeds}
        for start in options.starts
    }
    last = max(places.scores(start, seed).stat().st_mtime for start in scores for seed in seeds)
    first = scores[SCRATCH][1]
    return {
        # When it was measured, so that a look at what is there says the same again.
        "measured": f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC",
        "bertolt": __version__,
        "machine": {"cpu": cpu_name(), "cores": cores(), "python": platform.python_version()},
        "versions": versions(),
        "texts": _read(places.texts / "counts.json"),
        "pretraining": {name: _pretrained(places.encoder(name, 0)) for name in options.objectives},
        "finetuning": {
            "epochs": options.epochs,
            "learning_rate": LEARNING_RATE,
            # The format is measured anew by each run, and could come out otherwise in one of them.
            "precision": sorted(
                {
                    _read(places.classifier(start, seed) / "arguments.json")["precision"]
                    for start in options.starts
                    for seed in seeds
                }
            ),
            "rows": first["rows"],
            "baseline_accuracy": first["baseline_accuracy"],
            "starts": _compared(scores),
        },
    }


def write_results(results: Results, out: Path) -> str:
    """Write results.json and results.md, and return what the latter says."""
    write_text(out / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    parts = [
        f"Measured {results['measured']} by Bertolt {results['bertolt']} on "
        f"{results['machine']['cores']} cores of {results['machine']['cpu']}, "
        f"torch {results['versions']['torch']}.",
        *map(_markdown, tables(results)),
    ]
    text = "\n\n".join(parts)
    write_text(out / "results.md", text + "\n")
    return text


def tables(results: Results) -> list[Table]:
    """What fine-tuning reached from each start, and what pretraining came to."""
    return [_finetuning(results), _pretraining(results)]


def _pretrained(folder: Path) -> Results:
    """One pretraining run. Its last evaluation is of the weights that were saved."""
    metrics, arguments = _read(folder / "metrics.json"), _read(folder / "arguments.json")
    train, last = metrics["train"], metrics["eval"] or {}
    return {
        "steps": train["steps"],
        "epochs": train["epochs"],
        "tokens": train["tokens"],
        "tokens_per_second": train["tokens_per_second"],
        "minutes": train["seconds"] / 60,
        "peak_share": train["peak_share"],
        "precision": arguments["precision"],
        "token_entropy": metrics["token_entropy"],
        "pairs_baseline": metrics["pairs_baseline"],
        **_point(last),
        "curve": [{"step": step, **_point(values)} for step, values in _evaluations(folder)],
    }


def _point(values: dict[str, float]) -> dict[str, float | None]:
    # With pairs, the loss is a sum, and the part of masked tokens has a name of its own.
    masked = values.get("eval_masked_loss", values.get("eval_loss"))
    return {
        "masked_loss": masked,
        "masked_accuracy": values.get("eval_masked_accuracy"),
        "pairs_accuracy": values.get("eval_next_sentence_accuracy"),
    }


def _evaluations(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        if "eval_loss" in values:
            yield values["step"], values


def _compared(scores: dict[str, dict[int, Results]]) -> Results:
    """Accuracies of each start by seed, with their mean and spread, and points over scratch."""
    found: Results = {}
    for start, runs in scores.items():
        accuracies = {seed: float(run["accuracy"]) for seed, run in runs.items()}
        mean = sum(accuracies.values()) / len(accuracies)
        found[start] = {
            "accuracy": accuracies,
            "interval": {seed: run["accuracy_interval"] for seed, run in runs.items()},
            "mean": mean,
            "spread": max(accuracies.values()) - min(accuracies.values()),
            "points_over_scratch": 100 * (mean - found[SCRATCH]["mean"]) if found else 0.0,
        }
    return found


def _finetuning(results: Results) -> Table:
    found = results["finetuning"]
    rows = []
    for start, run in found["starts"].items():
        over = "" if start == SCRATCH else f"{run['points_over_scratch']:+.1f}"
        shares = [*run["accuracy"].values(), run["mean"]]
        spread = f"{100 * run['spread']:.1f}"
        rows.append([start, *(percent(share, 2) for share in shares), spread, over])
    seeds = found["starts"][SCRATCH]["accuracy"]
    low, high = next(iter(found["starts"][SCRATCH]["interval"].values()))
    texts = results["texts"]
    return Table(
        f"Accuracy on {found['rows']:,} reviews after fine-tuning on {texts['train']:,}",
        ["start", *(f"seed {seed}" for seed in seeds), "mean", "spread", "points over scratch"],
        rows,
        [
            f"The same for all: {number(found['epochs'])} epochs, learning rate "
            f"{found['learning_rate']:g}, {' and '.join(found['precision'])}. "
            f"Always the same answer: {percent(found['baseline_accuracy'], 2)}.",
            "Spread: from the lowest to the highest, in points. The 95% interval of one accuracy "
            f"is about {50 * (high - low):.1f} points to each side.",
            "No test text was in the corpus of the tokenizer and the encoders.",
        ],
    )


def _pretraining(results: Results) -> Table:
    rows = []
    for objective, run in results["pretraining"].items():
        rows.append([
            objective,
            f"{run['tokens'] / 1e6:,.1f} M",
            f"{run['tokens_per_second']:,.0f}",
            f"{run['minutes']:,.1f}",
            percent(run["peak_share"], 0),
            number(run["masked_loss"], 4),
            percent(run["masked_accuracy"]),
            percent(run["pairs_accuracy"]) if is_number(run["pairs_accuracy"]) else "",
        ])  # fmt: skip
    runs = results["pretraining"].values()
    entropies = sorted({f"{run['token_entropy']:.3f}" for run in runs})
    notes = [f"Entropy of single tokens: {' and '.join(entropies)}."]
    notes += [
        f"Always the same answer to pairs: {percent(run['pairs_baseline'])}."
        for run in runs
        if is_number(run["pairs_baseline"])
    ]
    return Table(
        "Pretraining",
        [
            "objective",
            "tokens",
            "tokens/s",
            "minutes",
            "of the machine's products",
            "loss of masked tokens, held out",
            "masked tokens right",
            "pairs right",
        ],
        rows,
        notes,
    )


def _markdown(table: Table) -> str:
    """A table that reads well as text too."""
    lines = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "| "
        + " | ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    ]
    rule = "|".join(
        "-" * (width + 1) + (":" if place else "-") for place, width in enumerate(widths)
    )
    shown.insert(1, f"|{rule}|")
    return "\n".join([f"## {table.title}", "", *shown, "", *(f"- {note}" for note in table.notes)])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
