"""How well wrong labels are found that were planted: `python -m benchmarks.label_errors`.

Of the rows of a sample set 5% get another label. The rows are ranked by models that have not seen
them (`bertolt check --label-errors`), by a model that was trained on all of them, and at random;
beside it the formulas of cleanlab (Northcutt et al. 2021; its `prune_by_noise_rate` with the margin
of `normalized_margin`), written out here. Precision is that of the first rows, as many as were
flipped; average precision is scikit-learn's.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from bertolt import BertModel
from bertolt.base.console import info
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.commands.check.folds import out_of_fold
from bertolt.commands.check.options import CheckOptions
from bertolt.commands.finetune.data import SharedRows, load_rows
from bertolt.commands.finetune.fitting import Fitting
from bertolt.data import sample_data
from bertolt.data.groups import folds as fold_of
from bertolt.data.load import Table
from bertolt.models.families.base import read_config
from bertolt.tasks.doubts import ClassDoubts
from bertolt.tasks.rows import Columns, read_for_task
from bertolt.tokenization import BertTokenizer

Answers = tuple[Table, list[tuple[int, dict[str, Any]]], list[dict[str, Any]]]
SHARE = 0.05
LIMIT = 64


def planted(name: str, rows: int, seed: int, path: Path) -> np.ndarray:
    """Write some rows of a sample set, each text once, and flip labels; which ones were."""
    with Path(sample_data.fetch(name, progress=info)).open(encoding="utf-8", newline="") as file:
        labels: dict[str, str] = {}
        for row in csv.DictReader(file):
            labels.setdefault(row["text"], row["label"])
    random = np.random.default_rng(seed)
    texts = [list(labels)[at] for at in random.choice(len(labels), rows, replace=False)]
    flipped = np.zeros(rows, bool)
    flipped[random.choice(rows, round(SHARE * rows), replace=False)] = True
    names = sorted(set(labels.values()))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for text, odd in zip(texts, flipped, strict=True):
            others = [each for each in names if each != labels[text]]
            writer.writerow([text, random.choice(others) if odd else labels[text]])
    return flipped


def rankings(
    table: Table,
    answers: Iterable[tuple[int, Mapping[str, Any]]],
    seen: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, np.ndarray], float]:
    """How suspicious each row is by each way, and the share of given labels that models agree with.

    Args:
        table: of the rows.
        answers: places, and the answers of models that have not seen these rows.
        seen: the answer to each row by a model that has.
    """
    labels = sorted(set(table.labels))
    given = np.array([labels.index(label) for label in table.labels])
    shares = np.empty((len(table), len(labels)))
    doubts = ClassDoubts(labels)
    for place, answer in answers:
        shares[place] = [answer["probabilities"].get(name, 0.0) for name in labels]
        doubts.add(place, answer, table.labels[place])
    ours = np.empty(len(table))
    for rank, doubt in enumerate(doubts.ranked()):
        ours[doubt.place] = -rank
    of_all = np.array([each["probabilities"][table.labels[i]] for i, each in enumerate(seen)])
    own = shares[np.arange(len(given)), given]
    agreed = float((shares.argmax(axis=1) == given).mean())
    return {
        "out of fold (bertolt check)": ours,
        "out of fold, by probability alone": -own,
        "cleanlab's formulas": cleanlab(given, shares),
        "in sample, by probability": -of_all,
        "at random": np.random.default_rng(0).random(len(given)),
    }, agreed


def cleanlab(given: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Rows that `prune_by_noise_rate` picks first, by their normalised margin, then all others."""
    count = shares.shape[1]
    means = np.array([shares[given == j, j].mean() for j in range(count)])
    reached = np.where(shares >= means, shares, -1.0)
    confident = reached.max(axis=1) >= 0
    joint = np.zeros((count, count))
    np.add.at(joint, (given[confident], reached[confident].argmax(axis=1)), 1)
    joint *= (np.bincount(given, minlength=count) / np.maximum(joint.sum(axis=1), 1))[:, None]
    own = shares[np.arange(len(given)), given]
    rest = shares.copy()
    rest[np.arange(len(given)), given] = -1
    margin = own - rest.max(axis=1)
    picked = np.zeros(len(given), bool)
    for i in range(count):
        for j in range(count):
            rows = np.flatnonzero(given == i)
            wanted = round(joint[i, j]) if i != j else 0
            order = rows[np.argsort((shares[:, i] - shares[:, j])[rows], kind="stable")]
            picked[order[:wanted]] = True
    return np.where(picked, 2.0, 0.0) + (1 - margin) / 2


def fine_tuned(path: Path, seed: int, given: argparse.Namespace) -> Answers:
    """Answers of `bertolt check --label-errors`, and of a model that has learned all rows."""
    source = given.model or demo_checkpoint()
    tokenizer = BertTokenizer.from_pretrained(source)
    options = CheckOptions(
        label_errors=True,
        folds=given.folds,
        epochs=given.epochs,
        lr=given.lr,
        batch_size=16,
        max_length=LIMIT,
        seed=seed,
        split_seed=seed,
    )
    settings, shared = options.of_finetune(model=str(source)), SharedRows()
    data = load_rows([path], settings, tokenizer, read_config(source), source, shared=shared)
    table, answers = data.train.table, list[tuple[int, dict[str, Any]]]()
    out_of_fold(data, options, source, shared, lambda *answered: answers.append(answered))
    model = Fitting(table, type(data.task), replace(settings, test_size=0.0)).predictor()
    return table, answers, [each.answer for each in model.predict(table.texts)]


def head_alone(path: Path, seed: int, folds: int) -> Answers:
    """The same where the encoder stays as it is, and logistic regression is the head: much faster.

    A text is the mean of its last hidden states.
    """
    table, kind = read_for_task(path, Columns())
    vectors = np.stack([vector_of(text) for text in table.texts])
    labels = np.array(table.labels)
    fold = fold_of(kind.strata(table), folds, seed)

    def shares(train: np.ndarray, asked: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        model = LogisticRegression(max_iter=400).fit(vectors[train], labels[train])
        for place, row in zip(asked, model.predict_proba(vectors[asked]), strict=True):
            yield (
                int(place),
                {"probabilities": dict(zip(model.classes_, map(float, row), strict=True))},
            )

    parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]
    everything = np.arange(len(labels))
    answers = [each for train, asked in parts for each in shares(train, asked)]
    return table, answers, [answer for _, answer in shares(everything, everything)]


@cache
def vector_of(text: str) -> np.ndarray:
    """The mean of the last hidden states of a text."""
    model, tokenizer = encoder()
    with torch.inference_mode():
        ids = torch.tensor([tokenizer.encode_ids([text])[0][:LIMIT]])
        return np.asarray(model(ids).last_hidden_state[0].mean(dim=0))


@cache
def encoder() -> tuple[BertModel, BertTokenizer]:
    """The demo's encoder, which answers."""
    source = demo_checkpoint()
    return BertModel.from_pretrained(source, verbose=False).eval(), BertTokenizer.from_pretrained(
        source
    )


def measure(name: str, options: argparse.Namespace, seed: int) -> None:
    """Plant, rank and print one line of a table for each way."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        flipped = planted(name, options.rows, seed, path)
        table, answers, seen = (
            head_alone(path, seed, options.folds)
            if options.head_alone
            else fine_tuned(path, seed, options)
        )
        ranked, agreed = rankings(table, answers, seen)
    print(f"{name}, seed {seed}: {flipped.sum()} of {len(flipped)} flipped, agreement {agreed:.3f}")
    for way, doubt in ranked.items():
        first = np.argsort(-doubt, kind="stable")[: flipped.sum()]
        precision, average = flipped[first].mean(), average_precision_score(flipped, doubt)
        print(f"| {name} | {seed} | {way} | {precision:.3f} | {average:.3f} |", flush=True)


def main() -> None:
    """Measure on both sets with three seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=["movie-sentences", "zh-reviews"])
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--model", type=Path, help="to fine-tune; default: the demo's checkpoint")
    parser.add_argument("--head-alone", action="store_true", help="the encoder stays as it is")
    options = parser.parse_args()
    for name in options.sets:
        for seed in range(options.seeds):
            measure(name, options, seed)


if __name__ == "__main__":
    main()
