"""The held-out loss of hidden tokens beside the peer's model, on the very same hidden tokens.

    python -m benchmarks.held_out_loss ENCODER TEXTS.jsonl [--rows 600]

`bertolt evaluate` hides the same tokens of a text each time; the peer's model is asked for them in
batches of 16 rows, padded, in the way of its own examples. Each side is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.task_scores.texts import paragraph, read_rows, write_rows

LIMIT, ROWS = 256, 16


def ours(model: str, file: Path) -> dict[str, float]:
    """Loss and hidden tokens by `bertolt evaluate`."""
    from bertolt.commands.evaluate import evaluate_file
    from bertolt.commands.evaluate_options import EvaluateOptions

    options = EvaluateOptions(task="fill-mask", precision="fp32", sample=1)
    scores = evaluate_file(model, file, options)
    values = scores.to_dict()
    return {name: values[name] for name in ("loss", "accuracy", "hidden_tokens")}


def peer(model: str, file: Path) -> dict[str, float]:
    """The same by the peer's model."""
    import torch
    import transformers

    from bertolt import AutoTokenizer, DataCollatorForLanguageModeling

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    encoder = transformers.AutoModelForMaskedLM.from_pretrained(model).eval()
    hide = DataCollatorForLanguageModeling(
        AutoTokenizer.from_pretrained(model), mlm_probability=0.15, seed=0
    )
    texts = [row["text"] for row in read_rows(file)]
    total = right = count = 0.0
    for start in range(0, len(texts), ROWS):
        ids = tokenizer(texts[start : start + ROWS])["input_ids"]
        batch = hide([{"input_ids": each} for each in ids])
        with torch.inference_mode():
            logits = encoder(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        hidden = batch["labels"] != -100
        labels, asked = batch["labels"][hidden], logits[hidden]
        total += float(torch.nn.functional.cross_entropy(asked, labels, reduction="sum"))
        right += float((asked.argmax(-1) == labels).sum())
        count += len(labels)
    return {"loss": total / count, "accuracy": right / count, "hidden_tokens": count}


def main() -> None:
    """Ask both sides, one after the other, and print a line each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out_loss")
    parser.add_argument("model")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--side", choices=("ours", "peer"))
    given = parser.parse_args()
    if given.side:
        begun = time.perf_counter()
        values: dict[str, Any] = (ours if given.side == "ours" else peer)(given.model, given.file)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        values |= {"seconds": time.perf_counter() - begun, "peak_mb": memory}
        print(json.dumps({"side": given.side} | values))
        return
    with tempfile.TemporaryDirectory() as folder:
        texts = [paragraph(row) for row in read_rows(given.file)]
        fitting = [{"text": text} for text in texts if len(text) <= LIMIT - 2][: given.rows]
        file = write_rows(Path(folder) / "texts.jsonl", fitting)
        for side in ("ours", "peer"):
            words = ["-m", "benchmarks.held_out_loss", given.model, file, "--side", side]
            subprocess.run([sys.executable, *map(str, words)], check=True)


if __name__ == "__main__":
    main()
