"""The steps between text and classifiers: real commands, each said before it runs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bertolt.base.console import held_interrupts, info
from bertolt.base.errors import UsageError
from bertolt.base.files import write_text
from bertolt.models.config import BertConfig
from bertolt.tokenization import BertTokenizer

VOCABULARY, MAX_LENGTH, HELD_OUT = 8000, 128, 0.02
SCRATCH = "scratch"
OBJECTIVES = ("mlm", "mlm+nsp")

# Set before any test score was seen, and the same for every start.
EPOCHS = 10
LEARNING_RATE = 3e-4


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the example is asked for.

    Attributes:
        out: folder for everything.
        objectives: what encoders are pretrained for.
        seeds: fine-tuning runs from each start, with the seeds 1, 2, ….
        steps: of pretraining; None: as long as `bertolt pretrain` takes by itself.
        rows: of each sample dataset; None: all.
        config: shape of the encoders.
        epochs: of fine-tuning.
    """

    out: Path
    objectives: tuple[str, ...] = OBJECTIVES
    seeds: int = 3
    steps: int | None = None
    rows: int | None = None
    config: str = "small"
    epochs: float = EPOCHS

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("steps", 1), ("rows", 30)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name} is {value}", fix=f"give {least} or more")
        if not self.epochs > 0:
            raise UsageError(f"--epochs is {self.epochs:g}", fix="give more than 0")
        if len(set(self.objectives)) < len(self.objectives):
            raise UsageError("--objectives names one twice", fix="name each once")

    @property
    def starts(self) -> tuple[str, ...]:
        """What the classifiers begin from."""
        return (SCRATCH, *self.objectives)


class Places:
    """Where each step leaves what it makes."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.texts = out / "texts"
        self.tokenizer = out / "tokenizer"

    def shards(self, objective: str) -> Path:
        return self.out / "shards" / objective

    def encoder(self, start: str, seed: int) -> Path:
        """A new model for each seed from scratch; one pretrained model for all seeds."""
        name = f"{SCRATCH}-{seed}" if start == SCRATCH else start
        return self.out / "encoders" / name

    def classifier(self, start: str, seed: int) -> Path:
        return self.out / "classifiers" / f"{start}-{seed}"

    def scores(self, start: str, seed: int) -> Path:
        return self.out / "scores" / f"{start}-{seed}.json"


def begin(options: Options) -> None:
    """Note what decides the results: a run with other settings would mix with what is there.

    Raises:
        UsageError: the folder is of another run, or of none.
    """
    record = options.out / "arguments.json"
    free = ("out", "objectives", "seeds")  # more of these are only added to what is there
    values = {name: value for name, value in asdict(options).items() if name not in free}
    if record.exists():
        before = json.loads(record.read_text(encoding="utf-8"))
        other = [name for name, value in values.items() if before.get(name) != value]
        if other:
            raise UsageError(
                f"a run with another --{other[0]} is in this folder ({before.get(other[0])})",
                place=str(options.out),
                fix="choose another --out, or give the same",
            )
        return
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UsageError(
            "this is not empty, and no run of this example is in it",
            place=str(options.out),
            fix="choose another --out",
        )
    write_text(record, json.dumps(values, indent=2) + "\n")


def pretrain(options: Options) -> None:
    """A vocabulary, shards, and an encoder for each objective."""
    places = Places(options.out)
    corpus = [str(places.texts / name) for name in ("news.txt", "reviews.txt")]
    lines = ["--documents", "lines"]
    run(
        ["tokenizer", *corpus, *lines, "--vocab-size", VOCABULARY, "--out", places.tokenizer],
        done=places.tokenizer / "tokenizer.json",
    )
    for objective in options.objectives:
        shards = places.shards(objective)
        settings = ["--max-length", MAX_LENGTH, "--held-out", HELD_OUT, "--objective", objective]
        settings += ["--tokenizer", places.tokenizer, "--out", shards]
        run(
            ["prepare", *corpus, *lines, *settings],
            done=shards / "manifest.json",
        )
    for objective in options.objectives:
        encoder = places.encoder(objective, 0)
        settings = [] if options.config == "small" else ["--config", options.config]
        settings += [] if options.steps is None else ["--steps", options.steps]
        run(
            ["pretrain", places.shards(objective), *settings, "--out", encoder, "--resume"],
            done=encoder / "metrics.json",
        )


def new_encoder(folder: Path, like: Path, seed: int) -> None:
    """Save an encoder of the same shape as it begins pretraining, and the same tokenizer."""
    if (folder / "model.safetensors").exists():
        return
    import torch

    from bertolt import BertModel
    from bertolt.models.initialize import sinusoids

    info(f"New encoder with random weights, seed {seed}: {folder}")
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    BertTokenizer.from_pretrained(like).save_pretrained(folder)
    model = BertModel(BertConfig.from_pretrained(like))
    positions = model.embeddings.position_embeddings.weight
    rows, width = positions.shape
    with torch.no_grad():
        positions.copy_(sinusoids(rows, width, model.config.initializer_range))
    model.save_pretrained(folder)


def finetune(options: Options, start: str, seed: int) -> None:
    """A classifier from one start, and its scores on the test texts, which it sees once."""
    places = Places(options.out)
    encoder, classifier = places.encoder(start, seed), places.classifier(start, seed)
    if start == SCRATCH:
        new_encoder(encoder, places.encoder(options.objectives[0], seed), seed)
    train, watched = places.texts / "train.csv", places.texts / "watched.csv"
    settings = ["--epochs", f"{options.epochs:g}", "--lr", LEARNING_RATE, "--seed", seed]
    run(
        ["finetune", train, "--eval", watched, "--model", encoder, *settings, "--out", classifier],
        done=classifier / "metrics.json",
    )
    scores = places.scores(start, seed)
    run(["evaluate", classifier, places.texts / "test.csv", "--json"], done=scores, into=scores)


def run(words: Sequence[object], *, done: Path, into: Path | None = None) -> None:
    """Say a command and run it, unless an earlier run has done it.

    Args:
        words: behind `bertolt`.
        done: the file that is there once the command is complete.
        into: a file for what it prints to standard output.

    Raises:
        SystemExit: with the command's own exit code.
    """
    if done.exists():
        info(f"Done before: {done.parent if into is None else done}")
        return
    line = [str(word) for word in words]
    info(f"\n$ {shlex.join(['bertolt', *line])}" + (f" > {shlex.quote(str(into))}" if into else ""))
    # Ctrl-C reaches the command too, which ends by itself and saves what there is.
    with held_interrupts():
        finished = subprocess.run(
            [sys.executable, "-m", "bertolt", *line],
            stdout=subprocess.PIPE if into else None,
            encoding="utf-8",
            check=False,
        )
    if finished.returncode:
        info("Ended there; the same command goes on from what is done")
        raise SystemExit(finished.returncode if finished.returncode > 0 else 1)
    if into:
        write_text(into, finished.stdout)
