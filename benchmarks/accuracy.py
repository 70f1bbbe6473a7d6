"""Accuracy and speed of whole fine-tuning runs beside the peer's Trainer, seed by seed.

    python benchmarks/accuracy.py [--seeds 0 1 2] [--epochs 3]

Both train on the same rows of the movie sentences and are measured on the same held-out rows, with
batch 32, learning rate 1e-4, weight decay 0.01, 10% warmup and linear decay. The peer runs at its
best: bfloat16, length-grouped batches, dynamic padding. The two run at the same time, each on half
of the cores, so that whatever else the machine does slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

import numpy as np
from finetune import HYPER, load_rows, peer_trainer, summarise

from bertolt.machine import cores, cpu_name

SPLIT_SEED = 42


def split() -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Texts, classes, and the training and held-out rows, as `bertolt finetune` parts them."""
    from bertolt.data.labels import split_rows

    texts, labels = load_rows("movie-sentences")
    classes = np.array(labels, dtype=np.int64)
    return texts, classes, *split_rows(classes, 0.2, SPLIT_SEED)


def run_ours(seed: int, epochs: float) -> dict[str, float]:
    """Bertolt, with the settings of `bertolt demo`."""
    from bertolt import AutoTokenizer, BertForSequenceClassification, Trainer, TrainingArguments
    from bertolt.data.encode import encode_texts
    from bertolt.demo import demo_checkpoint

    texts, classes, train, held_out = split()
    tokenizer = AutoTokenizer.from_pretrained(demo_checkpoint())
    parts = [
        encode_texts(tokenizer, [texts[i] for i in rows], 512, classes[rows])
        for rows in (train, held_out)
    ]
    model = BertForSequenceClassification.from_pretrained(demo_checkpoint(), seed=seed)
    args = TrainingArguments(
        num_train_epochs=epochs, per_device_train_batch_size=32, seed=seed, use_cpu=True, **HYPER
    )
    trainer = Trainer(
        model,
        args,
        train_dataset=parts[0],
        eval_dataset=parts[1],
        compute_metrics=lambda p: {
            "accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())
        },
    )
    trainer.train()
    steps = trainer.history.steps[10:]
    rates = summarise(
        [s.sequences for s in steps], [s.tokens for s in steps], [s.seconds for s in steps]
    )
    return {"accuracy": trainer.evaluate()["eval_accuracy"], **rates}


def run_peer(seed: int, epochs: float) -> dict[str, float]:
    """The peer at its best."""
    from datasets import Dataset

    texts, classes, train, held_out = split()
    trainer, rates = peer_trainer(
        "peer-best", texts, classes.tolist(), seed=seed, num_train_epochs=epochs, rows=train
    )
    trainer.train()
    tokenizer = trainer.processing_class
    rows = Dataset.from_dict(
        {
            **tokenizer([texts[i] for i in held_out], truncation=True),
            "labels": classes[held_out].tolist(),
        }
    )
    found = trainer.predict(rows)
    accuracy = float((found.predictions.argmax(-1) == found.label_ids).mean())
    return {"accuracy": accuracy, **rates()}


def start(name: str, seed: int, epochs: float, threads: int) -> subprocess.Popen[str]:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--worker", name, "--seeds", str(seed)]
    return subprocess.Popen(
        [*command, "--epochs", str(epochs)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )


def main() -> None:
    """Alternate the two over the seeds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--worker", choices=("bertolt", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run = run_ours if options.worker == "bertolt" else run_peer
        print(json.dumps(run(options.seeds[0], options.epochs)))
        return
    found: dict[str, list[dict[str, float]]] = {"bertolt": [], "peer": []}
    threads = max(1, cores() // 2)
    print(f"{cpu_name()}, {threads} threads each, side by side")
    for seed in options.seeds:
        running = {name: start(name, seed, options.epochs, threads) for name in found}
        for name, process in running.items():
            output, _ = process.communicate()
            found[name].append(json.loads(output.splitlines()[-1]))
            print(f"seed {seed}  {name:<8} {found[name][-1]}", flush=True)
    for name, runs in found.items():
        scores = [run["accuracy"] for run in runs]
        rate = statistics.median(run["median_samples_per_second"] for run in runs)
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        each = ", ".join(f"{score:.4f}" for score in scores)
        print(
            f"{name:<8} accuracy {each}  mean {statistics.mean(scores):.4f} ± {spread:.4f}  "
            f"{rate:.0f} samples/s"
        )


if __name__ == "__main__":
    main()
