"""Make a work ready: its texts and its model.

python -m benchmarks.prepare WORK FOLDER --threads N [--quick] [--steps N]
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.job import BLOCKS, HYPER, LABELS, Job, batches_of, write_rows
from benchmarks.works import WORKS, Work
from bertolt import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    Trainer,
    TrainingArguments,
)
from bertolt.checkpoint.demo import SENTENCES, demo_checkpoint
from bertolt.corpus.options import PrepareOptions
from bertolt.corpus.prepare import tokenize_corpus
from bertolt.data import sample_data
from bertolt.data.encode import encode_texts
from bertolt.models.shapes import find_config
from bertolt.pretrain.flops import forward_flops, training_flops
from bertolt.pretrain.options import PretrainOptions

VOCABULARY = 8000
MASKED = 0.15
TUNING_STEPS = 40  # of the classifiers that predict, so that their answers mean something
_LINES = 200  # of a document
_DATASETS = {"movie": SENTENCES, "joined": SENTENCES, "zh": "zh-reviews"}

Rows = list[tuple[str, int]]


def prepare(work: Work, folder: Path, *, threads: int) -> Job:
    """Fill `folder` with what the work needs.

    Raises:
        BertoltError: the texts or the model cannot be had.
    """
    if work.kind == "pretrain":
        lines = [line for part in ("people-daily", "zh-reviews") for line in _lines(part)]
        return fill_corpus(work, folder, lines, threads=threads)
    rows = _rows(work.texts)
    make_model(work.model, folder / "model", [text for text, _ in rows])
    return fill(work, folder, rows, threads=threads)


def fill(work: Work, folder: Path, rows: Rows, *, threads: int) -> Job:
    """The same with texts that are given, and a model that lies in `folder/model` already."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = [rows[row] for row in np.random.default_rng(0).permutation(len(rows))]
    if work.texts == "joined":
        rows = list(_join(rows, tokenizer, work.max_length))
    parts = dict(zip(("eval", "train"), _split(work, rows), strict=True))
    for name, part in parts.items():
        write_rows(folder / f"{name}.csv", [text for text, _ in part], [label for _, label in part])
    measured = parts["eval" if work.kind in ("predict", "single") else "train"]
    encoded = encode_texts(tokenizer, [text for text, _ in measured], work.max_length)
    lengths = encoded.lengths
    (folder / "lengths.json").write_text(json.dumps(lengths.tolist()), encoding="utf-8")
    timed = lengths[work.warmup * work.batch_size :] if measured is parts["eval"] else lengths
    config = BertConfig.from_pretrained(folder / "model")
    labelled = MASKED if work.kind == "mlm" else 0.0
    if work.kind == "mlm":
        attended = float((timed.astype(float) ** 2).sum() / timed.sum())
        needed = training_flops(config, attended, labelled) / 3
    else:
        needed = forward_flops(config, timed, labelled=labelled, first_token_only=True)
    job = _job(
        work,
        folder,
        threads,
        mean_tokens=float(timed.mean()),
        flops=forward_flops(config, timed, labelled=labelled),
        flops_needed=needed,
    )
    if measured is parts["eval"]:
        tune(job, min(TUNING_STEPS, 4 * work.steps))  # a short look needs no good answers
    job.save()
    return job


def _job(work: Work, folder: Path, threads: int, **measures: float) -> Job:
    """The work in a folder, with its epochs and what its texts take."""
    return Job(
        kind=work.kind,
        folder=str(folder),
        steps=work.steps,
        warmup=work.warmup,
        batch_size=work.batch_size,
        threads=threads,
        max_length=work.max_length,
        epochs=work.epochs,
        **measures,
    )


def fill_corpus(work: Work, folder: Path, lines: list[str], *, threads: int) -> Job:
    """Shards of a corpus of long documents, the same tokens in blocks, and a new model.

    No sequence goes beyond its document. With short ones Bertolt would be given much shorter
    sequences, and less attention, than the loop by hand has in its blocks; as it is they are a
    fifth shorter, for sentences stay whole.
    """
    corpus = folder / "corpus.txt"
    documents = ("\n".join(part) for part in batches_of(lines, _LINES))
    corpus.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer.train(lines, VOCABULARY)
    config = find_config(work.model).changed(
        vocab_size=len(tokenizer), max_position_embeddings=work.max_length
    )
    config.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    options = PrepareOptions(
        tokenizer=str(folder / "model"),
        max_length=work.max_length,
        out=folder / "shards",
    )
    tokenize_corpus([str(corpus)], options)
    blocks = _blocks(tokenizer, lines, work.max_length)
    np.save(folder / BLOCKS, blocks)
    lengths = np.full(len(blocks), work.max_length)
    masks = PretrainOptions().mask
    needed = training_flops(config, work.max_length, masks) / 3
    job = _job(
        work,
        folder,
        threads,
        mean_tokens=float(work.max_length),
        flops=forward_flops(config, lengths, labelled=masks),
        flops_needed=needed,
    )
    job.save()
    return job


def _blocks(tokenizer: BertTokenizer, lines: list[str], length: int) -> NDArray[np.int32]:
    """(N, length) ids: [CLS], tokens of one line after the other, [SEP]."""
    inside = length - 2
    ids = np.concatenate([np.asarray(each[1:-1]) for each in tokenizer.encode_ids(lines)])
    whole = ids[: len(ids) // inside * inside].reshape(-1, inside)
    ends = [np.full((len(whole), 1), id) for id in (tokenizer.cls_token_id, tokenizer.sep_token_id)]
    return np.hstack([ends[0], whole, ends[1]]).astype(np.int32)


def _lines(name: str) -> list[str]:
    """The texts of a sample dataset, without labels."""
    path = sample_data.fetch(name)
    if path.with_suffix(".txt").is_file():
        return path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    with path.open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def _rows(texts: str) -> Rows:
    path = sample_data.fetch(_DATASETS[texts])
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], LABELS.index(row["label"])) for row in csv.DictReader(file)]


def _join(rows: Rows, tokenizer: BertTokenizer, tokens: int) -> Iterator[tuple[str, int]]:
    """Texts one after the other, in parts that are just long enough to fill `tokens`."""
    counts = [len(ids) - 2 for ids in tokenizer.encode_ids([text for text, _ in rows])]
    part: list[str] = []
    count = 2
    for (text, label), more in zip(rows, counts, strict=True):
        part.append(text)
        count += more
        if count >= tokens:
            yield " ".join(part), label
            part, count = [], 2


def _split(work: Work, rows: Rows) -> tuple[Rows, Rows]:
    """Evaluation and training rows."""
    if work.kind in ("predict", "single"):
        held_out = (work.warmup + work.steps) * work.batch_size
    else:
        held_out = min(len(rows), work.rows) // 5
    return rows[:held_out], rows[held_out:][: work.rows]


def make_model(name: str, folder: Path, texts: list[str]) -> None:
    """Write an encoder and its tokenizer: "mini", "zh" or "base"."""
    start = demo_checkpoint()
    tokenizer = BertTokenizer.from_pretrained(start)
    torch.manual_seed(0)
    if name == "base":
        model = BertModel(BertConfig(vocab_size=len(tokenizer)))
    else:
        model = BertModel.from_pretrained(start, verbose=False)
    if name == "zh":
        tokenizer = BertTokenizer.train(texts, VOCABULARY, limit_alphabet=VOCABULARY // 2)
        model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tune(job: Job, steps: int) -> None:
    """Train the encoder in `job.model` a little and put the classifier in its place."""
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    texts, labels = job.rows()
    model = BertForSequenceClassification.from_pretrained(
        job.model, verbose=False, id2label=dict(enumerate(LABELS))
    )
    args = TrainingArguments(
        per_device_train_batch_size=32, max_steps=steps, disable_tqdm=True, use_cpu=True, **HYPER
    )
    rows = encode_texts(tokenizer, texts, job.max_length, np.array(labels))
    Trainer(model, args, train_dataset=rows).train()
    model.save_pretrained(job.model)


def main() -> None:
    """Prepare one work in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    work = WORKS[options.work]
    work = work.shortened() if options.quick else work
    if options.steps:
        work = work.with_steps(options.steps)
    prepare(work, options.folder, threads=options.threads)


if __name__ == "__main__":
    main()
