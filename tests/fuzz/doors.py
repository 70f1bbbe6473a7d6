"""What reads files of others, with an example of each file: the doors that damage comes in by."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from bertolt import BertConfig, BertForSequenceClassification, BertTokenizer, Predictor
from bertolt.base.distributed import ALONE
from bertolt.base.json_files import read_json
from bertolt.base.randomness import random_state
from bertolt.checkpoint.state import (
    RunFacts,
    TrainingState,
    read_run_facts,
    restore_state,
    write_state,
)
from bertolt.checkpoint.store import Store, seal
from bertolt.commands.finetune import run as finetune
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.inspect import look_into
from bertolt.commands.report import draw_again
from bertolt.corpus.options import PrepareOptions
from bertolt.corpus.prepare import tokenize_corpus
from bertolt.corpus.shards import Corpus
from bertolt.tasks.base import Reading
from bertolt.tasks.rows import Columns, encode_rows, read_for_task
from bertolt.train.folder import RunFolder
from bertolt.train.optim import AdamW, parameter_groups


@dataclass(frozen=True)
class Door:
    """Something that is read.

    Attributes:
        folder: an example that can be read, which is never changed.
        files: those of its files that are damaged.
        read: reads a folder as a user would.
        mend: makes sums right again after a file was changed, so that what is behind them is tried.
        damage: changes a file; None: values of JSON, or bytes.
        alone: a file is read by itself, and the others are not beside it.
    """

    folder: Path
    files: tuple[str, ...]
    read: Callable[[Path], object]
    mend: Callable[[Path], None] | None = None
    damage: Callable[[random.Random, Path], None] | None = None
    alone: bool = False


TABLES: Mapping[str, str] = {
    "plain.csv": 'review,label\n"good, film",pos\nbad plot,neg\n"a ""fine"" end",pos\ndull,neg\n',
    "rows.csv": "text,label,id\ngood film,1,a\nbad,0,b\nfine,1,c\ndull,0,d\n",
    "numbers.tsv": "text\tscore\ngood film\t1.5\nbad plot\t-2\nfine\t3e0\ndull\t0\n",
    "pairs.csv": "premise,hypothesis,label\na film,good,yes\nbad plot,fine,no\nthe end,dull,no\n",
    "lines.jsonl": '{"text": "good", "label": "pos"}\n{"text": "bad", "label": "neg"}\n' * 2,
    "array.json": '[{"text": "good", "labels": ["a", "b"]}, {"text": "bad", "labels": []}]',
    "spans.jsonl": '{"text": "good film", "spans": [{"start": 0, "end": 4, "label": "X"}]}\n' * 3,
    "tokens.jsonl": '{"tokens": ["good", "film"], "tags": ["B-X", "O"]}\n' * 3,
    "names.conll": "good B-X\nfilm I-X\nwas O\n\nbad O\nplot B-Y\n\n",
}


def every_door(folder: Path, encoder: Path, rows: Path) -> dict[str, Door]:
    """All doors, with their examples below `folder`.

    Args:
        folder: is made.
        encoder: a tiny one with a vocabulary.
        rows: a CSV to fine-tune on.
    """
    folder.mkdir()
    tables, trained = folder / "tables", folder / "trained"
    _write_tables(tables)
    options = FinetuneOptions(model=str(encoder), out=trained, epochs=1, save_every=3)
    with contextlib.redirect_stderr(io.StringIO()):
        finetune.finetune(rows, options)
        corpus = _corpus(folder / "corpus", encoder)
    checkpoint = _checkpoint(folder / "checkpoint")
    tokenizer = BertTokenizer.from_pretrained(encoder)
    return {
        "table": Door(
            tables,
            tuple(path.name for path in tables.iterdir()),
            lambda path: _read_tables(path, tokenizer),
            alone=True,
        ),
        "model": Door(trained, files_below(trained, "json", "safetensors", "txt"), _answer),
        "inspection": Door(trained, files_below(trained, "json"), look_into),
        "facts": Door(trained, ("run.json",), draw_again),
        "result": Door(trained, ("complete.json", "metrics.json"), _complete),
        "corpus": Door(corpus, files_below(corpus, "json", "arrow"), _open_corpus),
        "sealed corpus": Door(corpus, ("manifest.json",), _open_corpus, _sum_manifest),
        "checkpoint": Door(checkpoint, files_below(checkpoint / "checkpoint-3"), _newest),
        "sealed checkpoint": Door(
            checkpoint,
            tuple(
                name for name in files_below(checkpoint / "checkpoint-3") if "manifest" not in name
            ),
            _newest,
            _seal_again,
        ),
    }


def files_below(folder: Path, *endings: str) -> tuple[str, ...]:
    """Files below a folder, by their names within its parent of a checkpoint, or within it."""
    base = folder.parent if folder.name.startswith("checkpoint-") else folder
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple(
        str(path.relative_to(base))
        for path in found
        if not endings or path.suffix.lstrip(".") in endings
    )


def _write_tables(folder: Path) -> None:
    folder.mkdir()
    for name, text in TABLES.items():
        (folder / name).write_text(text, encoding="utf-8")
    table = pa.table({"text": ["good", "bad", "fine"], "label": ["pos", "neg", "pos"]})
    pq.write_table(table, folder / "rows.parquet")


def _read_tables(folder: Path, tokenizer: BertTokenizer) -> None:
    """Read the table that was changed: the only one in the folder."""
    (path,) = folder.iterdir()
    table, kind = read_for_task(path, Columns())
    everything = np.arange(len(table))
    task = kind.infer(table, everything, Reading())
    encode_rows(task, table, everything, tokenizer, 16)


def _answer(folder: Path) -> None:
    predictor = Predictor.from_pretrained(folder)
    list(predictor.predict(["good film", "", "the plot was bad and the end was cold " * 9]))
    predictor.selftest()


def _complete(folder: Path) -> None:
    RunFolder(out=folder, overwrite=False, resume=True).read_complete_run(ALONE)


def _corpus(folder: Path, encoder: Path) -> Path:
    folder.mkdir()
    text = folder / "text.txt"
    text.write_text("good film .\nthe end was fine .\n\nbad plot .\nit was dull .\n\n" * 40)
    out = folder / "tokens"
    tokenize_corpus(
        [text], PrepareOptions(tokenizer=str(encoder), out=out, held_out=0.2, workers=1)
    )
    return out


def _open_corpus(folder: Path) -> None:
    corpus = Corpus.open(folder)
    for shard in (*corpus.train, *corpus.held_out):
        _ = shard.tokens[:3]


def _sum_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    content = read_json(path)
    if isinstance(content, dict):
        content.pop("checksum", None)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        content["checksum"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        path.write_text(json.dumps(content), encoding="utf-8")


def _state(seed: int) -> TrainingState:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"vocab_size": 97, "hidden_size": 16, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 32}
    model = BertForSequenceClassification(BertConfig(**shape))
    optimizer = AdamW(parameter_groups(model, 0.01), lr=1e-3)
    return TrainingState(model, optimizer, None)


def _checkpoint(folder: Path) -> Path:
    state = _state(0)
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    facts = RunFacts(values={"settings": {"--lr": 0.1}}, tensors={"a": torch.ones(3)})

    def fill(path: Path) -> None:
        write_state(path, state, facts, random_state(torch.device("cpu")))

    Store(folder, 2).write(3, fill)
    return folder


def _seal_again(folder: Path) -> None:
    checkpoint = folder / "checkpoint-3"
    (checkpoint / "manifest.json").unlink()
    seal(checkpoint)


def _newest(folder: Path) -> None:
    checkpoint = Store(folder, 2).require_last()
    read_run_facts(checkpoint)
    restore_state(checkpoint, _state(1))


def copy_for(door: Door, name: str, folder: Path) -> None:
    """A copy to damage; of files that are read by themselves, the one that is damaged."""
    if door.alone:
        folder.mkdir()
        shutil.copy(door.folder / name, folder / name)
    else:
        shutil.copytree(door.folder, folder)
