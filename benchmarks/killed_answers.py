"""`bertolt predict` killed at random moments, until it comes to its end: are the bytes the same?

    python -m benchmarks.killed_answers [--kills 40] [--rows 3000]

For each format a command runs to its end once, which takes so long. Then others with the same
output are killed by SIGKILL after a random part of that time and run again, until all kills are
spent. Models are tiny and their weights random; windows have 64 texts, so that much is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import torch

import bertolt.commands.kept_answers
import bertolt.tasks.predictor
from bertolt import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    SentenceEncoder,
)
from bertolt.base.files import write_text
from bertolt.cli import main as bertolt_main

WORDS = ["good", "bad", "fine", "dull", "the", "film", "was", "and", "very", "plot"]
FORMATS = {
    "labels": ("jsonl", "json", "csv", "tsv.gz", "jsonl.zst", "parquet"),
    "tags": ("conll",),
    "vectors": ("npy",),
}
"""What each model writes."""
WINDOW = 64


def build(folder: Path) -> None:
    """Three models with random weights, in folders of their own."""
    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    tagged = config.changed(id2label={0: "O", 1: "B-X", 2: "I-X"})
    models = {
        "labels": BertForSequenceClassification(config),
        "tags": BertForTokenClassification(tagged),
        "vectors": SentenceEncoder(config),
    }
    for name, model in models.items():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.has_learned = True
        model.save_pretrained(folder / name)
        write_text(folder / name / "vocab.txt", "\n".join(vocabulary) + "\n")


def write_rows(path: Path, count: int) -> None:
    """Texts of many lengths, some of them empty."""
    choose = random.Random(0)
    texts = [" ".join(choose.choices(WORDS, k=choose.randrange(0, 40))) for _ in range(count)]
    write_text(path, "id,text\n" + "".join(f"{n},{text}\n" for n, text in enumerate(texts)))


def begin(words: list[str], log: Path) -> int:
    """A command in a process of its own, which has everything imported; its number."""
    child = os.fork()
    if child:
        return child
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code = 1
    try:
        bertolt_main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """How a process ended, once it has."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_until_done(words: list[str], out: Path, seconds: float, kills: int, log: Path) -> int:
    """Runs that are killed, and one that is not; how many were killed."""
    choose, done = random.Random(out.name), 0
    for _ in range(kills):
        child = begin([*words, str(out)], log)
        time.sleep(choose.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        if ended(child) == 0:
            return done
        done += 1
    assert ended(begin([*words, str(out)], log)) == 0, log.read_text()
    return done


def main() -> None:
    """Measure every format, and print a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--rows", type=int, default=3000)
    options = parser.parse_args()
    bertolt.tasks.predictor.WINDOW = WINDOW
    bertolt.commands.kept_answers.EVERY = 0.0
    each = -(-options.kills // sum(map(len, FORMATS.values())))
    total, same, resumed = 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        write_rows(folder / "rows.csv", options.rows)
        for model, endings in FORMATS.items():
            for ending in endings:
                log = folder / f"{ending}.log"
                words = ["predict", str(folder / model), str(folder / "rows.csv")]
                words += ["--precision", "fp32", "--out"]
                whole, out = folder / f"whole.{ending}", folder / f"out.{ending}"
                start = time.monotonic()
                assert ended(begin([*words, str(whole)], log)) == 0, log.read_text()
                seconds = time.monotonic() - start
                count = killed_until_done(words, out, seconds, each, log)
                equal = out.read_bytes() == whole.read_bytes()
                goings = log.read_text().count("Going on behind")
                print(f"{ending}: {count} kills, gone on {goings} times, same bytes: {equal}")
                total, same, resumed = total + count, same + equal, resumed + goings
    formats = sum(map(len, FORMATS.values()))
    print(f"{total} kills, gone on {resumed} times, {same} of {formats} ends with the same bytes")


if __name__ == "__main__":
    main()
