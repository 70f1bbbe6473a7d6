"""Sentence similarity beside sentence-transformers: the same rows, settings and start.

    python -m benchmarks.similarity OUT [--train 600] [--test 200] [--seeds 0,1,2]

Pairs are the two halves of sentences of film reviews, which `bertolt data fetch movie-sentences`
brings; scores say how close the ratings of two sentences are. Each side trains in a process of its
own, with as many threads as OMP_NUM_THREADS says; the peer's evaluators measure both results. The
third way are pairs with `--micro-batch` beside the peer's cached gradients, of as many rows at a
time. OUT/similarity.json keeps each run, and a table is printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.task_scores.page import spread
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.data import sample_data

RATE, BATCH, LIMIT = 5e-5, 32, 128
KINDS = ("pairs", "scores")
_LEAST = 16  # words of a sentence that is cut in halves


def make(out: Path, train: int, test: int, seed: int) -> None:
    """The rows of both kinds, in a file for training and one to measure on."""
    with Path(sample_data.fetch("movie-sentences")).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    draw = random.Random(seed)
    words = [row["text"].split() for row in rows]
    long = [place for place, each in enumerate(words) if len(each) >= _LEAST]
    places = draw.sample(long, train + test)
    pairs = []
    for each in (words[place] for place in places):
        middle = len(each) // 2
        pairs.append({"anchor": " ".join(each[:middle]), "positive": " ".join(each[middle:])})
    scores = []
    for place in places:
        other = rows[draw.randrange(len(rows))]
        gap = abs(float(rows[place]["rating"]) - float(other["rating"]))
        scores.append(
            {
                "sentence1": rows[place]["text"],
                "sentence2": other["text"],
                "score": round(5 * (1 - gap / 8), 3),
            }
        )
    for kind, made in (("pairs", pairs), ("scores", scores)):
        for part, some in (("train", made[:train]), ("test", made[train:])):
            lines = (json.dumps(row) + "\n" for row in some)
            (out / f"{kind}-{part}.jsonl").write_text("".join(lines))


def read(out: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a file."""
    return [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]


def ours(out: Path, kind: str, seed: int, micro: int | None) -> float:
    """Train here; processor seconds of the steps."""
    from bertolt.commands.finetune.options import FinetuneOptions
    from bertolt.commands.finetune.run import finetune
    from bertolt.train.loop import Callback

    class Clock(Callback):
        begun = ended = 0.0

        def on_begin(self, history: Any) -> None:
            self.begun = time.process_time()

        def on_step(self, log: Any, total_steps: int) -> None:
            self.ended = time.process_time()

    clock = Clock()
    options = FinetuneOptions(
        model=str(demo_checkpoint()), task="sentence-similarity", out=out / f"ours-{kind}",
        overwrite=True, test_size=0.0, epochs=1, batch_size=BATCH, lr=RATE, max_length=LIMIT,
        precision="fp32", seed=seed, micro_batch=micro,
    )  # fmt: skip
    finetune(out / f"{kind}-train.jsonl", options, callbacks=[clock])
    return float(clock.ended - clock.begun)


def peer(out: Path, kind: str, seed: int, micro: int | None) -> float:
    """Train there; processor seconds of the steps."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )

    model = SentenceTransformer(str(demo_checkpoint()), device="cpu")
    model.max_seq_length = LIMIT
    if kind == "scores":
        rows = [row | {"score": row["score"] / 5} for row in read(out, "scores-train")]
        loss: Any = losses.CosineSimilarityLoss(model)
    else:
        rows = read(out, "pairs-train")
        loss = (
            losses.MultipleNegativesRankingLoss(model)
            if micro is None
            else losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=micro)
        )
    args = SentenceTransformerTrainingArguments(
        output_dir=str(out / f"peer-{kind}-run"), num_train_epochs=1, learning_rate=RATE,
        per_device_train_batch_size=BATCH, warmup_steps=0.1, weight_decay=0.01, seed=seed,
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model=model, args=args, train_dataset=Dataset.from_list(rows), loss=loss
    )
    begun = time.process_time()
    trainer.train()
    seconds = time.process_time() - begun
    model.save_pretrained(str(out / f"peer-{kind}"))
    return seconds


def score(out: Path, folder: str, kind: str) -> dict[str, float]:
    """A folder's scores on the held-out rows, by the peer's evaluators."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import evaluation

    model, rows = SentenceTransformer(folder, device="cpu"), read(out, f"{kind}-test")
    if kind == "scores":
        columns = ([row[name] for row in rows] for name in ("sentence1", "sentence2", "score"))
        return {
            "spearman": evaluation.EmbeddingSimilarityEvaluator(*columns)(model)["spearman_cosine"]
        }
    queries = {row["anchor"]: row["anchor"] for row in rows}
    corpus = {row["positive"]: row["positive"] for row in rows}
    relevant: dict[str, set[str]] = {}
    for row in rows:
        relevant.setdefault(row["anchor"], set()).add(row["positive"])
    ranks = evaluation.InformationRetrievalEvaluator(
        queries, corpus, relevant, mrr_at_k=[len(corpus)], precision_recall_at_k=[1, 10]
    )(model)
    return {
        "mrr": ranks[f"cosine_mrr@{len(corpus)}"],
        "recall@1": ranks["cosine_recall@1"],
        "recall@10": ranks["cosine_recall@10"],
    }


def main(words: list[str]) -> None:
    """Run one side, or all of them, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.similarity")
    add = parser.add_argument
    add("out", type=Path)
    add("--train", type=int, default=600)
    add("--test", type=int, default=200)
    add("--seed", type=int, default=0, help="of one side's run")
    add("--seeds", default="0,1,2")
    add("--micro", type=int)
    add("--side", choices=("ours", "peer", "score"))
    add("--kind", choices=KINDS, default="pairs")
    given = parser.parse_args(words)
    if given.side == "score":
        scored = score(given.out.parent, str(given.out), given.kind)
        print(json.dumps({"folder": given.out.name, "kind": given.kind, **scored}), flush=True)
        return
    if given.side:
        train = ours if given.side == "ours" else peer
        seconds = train(given.out, given.kind, given.seed, given.micro)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        told = {"side": given.side, "kind": given.kind, "micro": given.micro}
        print(json.dumps(told | {"processor_s": seconds, "peak_mb": memory}), flush=True)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    runs: list[dict[str, Any]] = []
    for seed in given.seeds.split(","):
        make(given.out, given.train, given.test, int(seed))
        for name, (kind, micro) in WAYS.items():
            for side in ("start", "ours", "peer"):
                runs.append(
                    {"way": name, "seed": seed, **measured(given.out, side, kind, micro, seed)}
                )
                print(json.dumps(runs[-1]), flush=True)
                (given.out / "similarity.json").write_text(json.dumps(runs))
    print(table(runs))


WAYS = {"pairs": ("pairs", None), "scores": ("scores", None), "pairs, cached": ("pairs", 8)}
"""What is learned, and the rows of a part of a batch."""


def measured(out: Path, side: str, kind: str, micro: int | None, seed: str) -> dict[str, Any]:
    """One side's run in processes of its own: processor time, memory and scores."""
    again = [sys.executable, "-m", "benchmarks.similarity"]

    def said(*words: str) -> dict[str, Any]:
        done = subprocess.run(
            [*again, *words, "--kind", kind], check=True, capture_output=True, encoding="utf-8"
        )
        return dict(json.loads(done.stdout.splitlines()[-1]))

    folder = out / "start"
    cost: dict[str, Any] = {"side": side}
    if side == "start":
        if not folder.exists():
            folder.symlink_to(demo_checkpoint())
    else:
        parts = ["--micro", str(micro)] if micro else []
        cost = said(str(out), "--side", side, "--seed", seed, *parts)
        folder = out / f"{side}-{kind}"
    return cost | said(str(folder), "--side", "score")


def table(runs: list[dict[str, Any]]) -> str:
    """A line for each way and side: the mean and the deviation of each score over the seeds."""
    lines = [
        "| | | score over the seeds | processor s | peak MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for way in WAYS:
        for side in ("start", "ours", "peer"):
            some = [run for run in runs if (run["way"], run["side"]) == (way, side)]
            scores = ", ".join(
                f"{name} {spread([run[name] for run in some])}"
                for name in ("spearman", "mrr", "recall@1", "recall@10")
                if name in some[0]
            )
            cost = ["", ""]
            if side != "start":
                cost = [
                    ", ".join(f"{run[name]:,.0f}" for run in some)
                    for name in ("processor_s", "peak_mb")
                ]
            lines.append(f"| {way} | {side} | {scores} | {' | '.join(cost)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
