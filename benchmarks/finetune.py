"""Fine-tuning speed beside the peer's Trainer, interleaved in one run.

    python benchmarks/finetune.py [--steps 60] [--repeats 3] [--recipes bertolt,peer-best,...]

Each measurement is a process of its own: same rows, batch size, hyperparameters and threads; the
first ten steps are left out. Rates are medians over the repeats of real samples a second.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

WARMUP = 10
BATCH = 32
HYPER = {"learning_rate": 1e-4, "weight_decay": 0.01, "warmup_steps": 0.1}

# The peer's recipes: its own arguments, and how its collator pads.
PEERS = {
    "peer-best": {"train_sampling_strategy": "group_by_length", "bf16": True},
    "peer-bf16": {"bf16": True},
    "peer-fp32": {},
}
OURS = {
    "bertolt": {"precision": "auto"},
    "bertolt-grouped": {"precision": "auto", "train_sampling_strategy": "group_by_length"},
    "bertolt-fp32": {"precision": "fp32"},
}


def load_rows(material: str) -> tuple[list[str], list[int]]:
    """Texts and labels 0/1 of a material."""
    from bertolt.data import material as shelf
    from bertolt.data.load import read_table

    table = read_table(shelf.fetch(material), label="label")
    return table.texts, [int(label == "positive") for label in table.labels]


def run_ours(recipe: str, steps: int, material: str) -> dict[str, float]:
    """Bertolt's Trainer for some steps."""
    import numpy as np

    from bertolt import AutoTokenizer, BertForSequenceClassification, Trainer, TrainingArguments
    from bertolt.data.encode import encode_texts
    from bertolt.demo import demo_checkpoint

    texts, labels = load_rows(material)
    tokenizer = AutoTokenizer.from_pretrained(demo_checkpoint())
    rows = encode_texts(tokenizer, texts, 512, np.array(labels))
    model = BertForSequenceClassification.from_pretrained(demo_checkpoint(), verbose=False)
    args = TrainingArguments(
        per_device_train_batch_size=BATCH,
        max_steps=steps + WARMUP,
        disable_tqdm=True,
        use_cpu=True,
        **HYPER,
        **OURS[recipe],
    )
    trainer = Trainer(model, args, train_dataset=rows)
    trainer.train()
    kept = trainer.history.steps[WARMUP:]
    seconds = [log.seconds for log in kept]
    return summarise([log.sequences for log in kept], [log.tokens for log in kept], seconds)


def run_peer(recipe: str, steps: int, material: str) -> dict[str, float]:
    """The peer's Trainer for some steps, with dynamic padding."""
    texts, labels = load_rows(material)
    trainer, rates = peer_trainer(recipe, texts, labels, max_steps=steps + WARMUP)
    trainer.train()
    return rates()


def peer_trainer(
    recipe: str,
    texts: list[str],
    labels: list[int],
    *,
    rows: Sequence[int] | None = None,
    **settings: Any,
) -> tuple[Any, Callable[[], dict[str, float]]]:
    """The peer's Trainer on some rows, and a function that gives its rates after training."""
    import transformers
    from datasets import Dataset

    from bertolt.demo import demo_checkpoint

    chosen = range(len(texts)) if rows is None else rows
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo_checkpoint(), model_max_length=512)
    encoded = tokenizer([texts[i] for i in chosen], truncation=True)
    data = Dataset.from_dict({**encoded, "labels": [labels[i] for i in chosen]})
    transformers.set_seed(settings.get("seed", 42))
    model = transformers.BertForSequenceClassification.from_pretrained(demo_checkpoint())
    args = transformers.TrainingArguments(
        output_dir="unused",
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **HYPER,
        **PEERS[recipe],
        **settings,
    )
    marks: list[float] = []
    counts: list[tuple[int, int]] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_: object, **__: object) -> None:
            marks.append(time.perf_counter())

        def on_step_end(self, *_: object, **__: object) -> None:
            marks.append(time.perf_counter())

    padder = transformers.DataCollatorWithPadding(tokenizer)

    def collate(features: list[dict[str, object]]) -> object:
        batch = padder(features)
        counts.append((len(features), int(batch["attention_mask"].sum())))
        return batch

    trainer = transformers.Trainer(
        model=model,
        args=args,
        train_dataset=data,
        data_collator=collate,
        processing_class=tokenizer,
        callbacks=[Clock()],
    )

    def rates() -> dict[str, float]:
        seconds = [end - begin for begin, end in zip(marks[::2], marks[1::2], strict=True)]
        kept = counts[WARMUP : len(seconds)]
        samples, tokens = [n for n, _ in kept], [t for _, t in kept]
        return summarise(samples, tokens, seconds[WARMUP:])

    return trainer, rates


def summarise(samples: list[int], tokens: list[int], seconds: list[float]) -> dict[str, float]:
    """Rates over all kept steps, and from the median step, which a noisy neighbour moves less."""
    middle = statistics.median(s / n for s, n in zip(seconds, samples, strict=True))
    return {
        "samples_per_second": sum(samples) / sum(seconds),
        "median_samples_per_second": 1 / middle,
        "tokens_per_second": sum(tokens) / sum(seconds),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def matmul_rate() -> float:
    """GFLOP/s of this machine's bfloat16 product of the model's shape."""
    import torch

    a = torch.randn(896, 384, dtype=torch.bfloat16)
    b = torch.randn(1536, 384, dtype=torch.bfloat16)
    seconds = []
    for _ in range(40):
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * 896 * 384 * 1536 / statistics.median(seconds) / 1e9


def measure(recipe: str, steps: int, material: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--worker", recipe, "--steps", str(steps)]
    done = subprocess.run(
        [*command, "--material", material], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Interleave the recipes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--recipes", default="bertolt,bertolt-grouped,peer-best")
    parser.add_argument("--material", default="movie-sentences")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run = run_ours if options.worker in OURS else run_peer
        print(json.dumps(run(options.worker, options.steps, options.material)))
        return
    recipes = options.recipes.split(",")
    found: dict[str, list[dict[str, float]]] = {recipe: [] for recipe in recipes}
    rates = []
    for _ in range(options.repeats):
        rates.append(matmul_rate())
        for recipe in recipes:
            found[recipe].append(measure(recipe, options.steps, options.material))
    print(f"{platform.processor() or platform.machine()}, {options.material}, batch {BATCH}")
    print(f"bf16 products: {', '.join(f'{rate:.0f}' for rate in rates)} GFLOP/s")
    print(f"{'recipe':<16} {'samples/s':>9}  {'(each run)':<24} {'tokens/s':>9} {'peak MB':>8}")
    for recipe in recipes:
        runs = [run["median_samples_per_second"] for run in found[recipe]]
        tokens = statistics.median(run["tokens_per_second"] for run in found[recipe])
        memory = statistics.median(run["peak_memory_mb"] for run in found[recipe])
        each = " ".join(f"{rate:.0f}" for rate in runs)
        middle = statistics.median(runs)
        print(f"{recipe:<16} {middle:>9.1f}  ({each:<22}) {tokens:>9.0f} {memory:>8.0f}")


if __name__ == "__main__":
    main()
