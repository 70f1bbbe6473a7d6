"""What this machine does with a model: products, training, prediction, latency and memory."""

from __future__ import annotations

import re
import shlex
import statistics
import time
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertolt.base import torch_private
from bertolt.base.console import info
from bertolt.base.errors import UsageError
from bertolt.base.format import gibibytes, millions, number, percent, plural
from bertolt.base.machine import cores, cpu_name, memory_bytes, peak_bytes
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.commands.wording import options_called
from bertolt.data.encode import EncodedTexts, encode_texts
from bertolt.data.load import read_table
from bertolt.data.several import require_no_model
from bertolt.models.config import Precision
from bertolt.models.families.base import read_config
from bertolt.models.precision import product_rate
from bertolt.models.pretrained import PreTrainedModel
from bertolt.pretrain.flops import forward_flops
from bertolt.tasks.predictor import Predictor
from bertolt.tasks.registry import USUAL
from bertolt.tokenization import BertTokenizer
from bertolt.train.arguments import TrainingArguments
from bertolt.train.trainer import Trainer

FORMATS = {"bf16": torch.bfloat16, "fp32": torch.float32}
BATCH = 32
TEXTS = 2000
SECONDS = 6.0
"""Of each measurement, about."""
_WARMUP_STEPS, _TRIAL, _FIRST = 3, 4 * BATCH, 5
# Tokens of English reviews and the like follow a log-normal course; these are the movie sentences'.
_LOG_LENGTH, _LOG_SPREAD, _LONGEST = 3.1, 0.5, 400

# Of the options that tell how a table is read, there is one for the column of its texts alone.
_CALLED: dict[str | re.Pattern[str], str] = {
    "whether --text and --label name the right columns": "whether --column names the right one",
    re.compile(
        r"(let its bytes tell its encoding: --encoding auto; or )?"
        r"name the encoding that the file was written in, for instance"
    ): "save it as UTF-8; finetune and predict take",
    re.compile(r"let its bytes tell its encoding: --encoding auto; or (?=save)"): "",
    ", or name its encoding, for instance --encoding utf-16-le": "",
    re.compile(r"if a title .* --skip-rows \d+; else"): "if a title stands above the column names, "
    "take it out; else",
    re.compile(r" \(where a file .*?\)"): "",
    "if that is a row already, add --no-header; else ": "",
    "--text": "--column",
}


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast texts went through.

    Attributes:
        texts_per_second, tokens_per_second: real ones.
        share: of the machine's rate of matrix products in the same number format, counting those
            that a classifier needs; see `forward_flops`.
    """

    texts_per_second: float
    tokens_per_second: float
    share: float


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """What `bench` measured.

    Attributes:
        machine: the processor or the GPU, and what it has.
        model: its name and shape.
        texts: what went through, in words.
        precision: "fp32" or "bf16", and why.
        products: GFLOP/s of plain matrix products, by number format.
        training: steps of fine-tuning with batches of `BATCH` texts in random order.
        prediction: many texts at once, from text to label.
        milliseconds: median time of one text at a time.
        milliseconds_95: which 95% of them do not exceed.
        peak_memory: bytes, of the whole process, or of the GPU; None where nobody tells.
        slower_with: shortcuts through PyTorch that could not be taken, and why.
    """

    machine: str
    model: str
    texts: str
    precision: str
    products: dict[str, float]
    training: Rate
    prediction: Rate
    milliseconds: float
    milliseconds_95: float
    peak_memory: int | None
    slower_with: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        return asdict(self)

    def __str__(self) -> str:
        products = ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in self.products.items())
        rows = [
            ("matrix products", products),
            ("fine-tuning", _describe(self.training)),
            ("prediction in bulk", _describe(self.prediction)),
            (
                "one text at a time",
                f"{self.milliseconds:.1f} ms, 95% within {self.milliseconds_95:.1f} ms",
            ),
            ("peak memory", gibibytes(self.peak_memory)),
            *(("slower", each) for each in self.slower_with),
        ]
        head = f"{self.machine}\n{self.model}\n{self.texts}\nprecision {self.precision}\n\n"
        return head + "\n".join(f"{name:<20}{value}" for name, value in rows)


def _describe(rate: Rate) -> str:
    return (
        f"{number(rate.texts_per_second)} texts/s, {number(rate.tokens_per_second)} tokens/s, "
        f"{percent(rate.share, 0)} of the products"
    )


def bench(
    model: str | None = None,
    file: Path | None = None,
    *,
    column: str | None = None,
    precision: Precision = "auto",
) -> BenchResult:
    """Measure Bertolt on this machine; with the demo's model it takes less than a minute.

    Args:
        model: a folder, or an id on the hub; None: the demo's. A head that it lacks is made up.
        file: texts to use instead of generated ones.
        column: of the texts in the file; None: found by its name.
        precision: number format.

    Raises:
        CheckpointError: the model cannot be used.
        DataError: the file cannot be used.
        UsageError: a column without a file, or no model although the demo's is not installed.
    """
    if column is not None and file is None:
        raise UsageError(
            "--column names a column of a file, and no file was given", fix="give the file too"
        )
    source = huggingface.resolve(model) if model else demo_checkpoint()
    config = read_config(source)
    task = USUAL.restore(config, {})
    classifier = task.head.from_pretrained(source, verbose=False, **task.config_changes())
    tokenizer = BertTokenizer.from_pretrained(source)
    tokenizer.check_fits(classifier.config.vocab_size)
    texts = generate_texts(tokenizer) if file is None else _read(file, column)
    limit = classifier.config.max_tokens
    rows = encode_texts(tokenizer, islice(cycle(texts), TEXTS), limit)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    info("Measuring matrix products")
    products = {name: product_rate(dtype, device) for name, dtype in FORMATS.items()}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # the products are no part of the work
    info("Measuring fine-tuning")
    trained = _train(classifier, rows, precision)
    info("Measuring prediction")
    predictor = Predictor(classifier, tokenizer, task=task, precision=precision, device=device)
    predicted = _predict(predictor, texts)
    latencies = _one_at_a_time(predictor, texts)
    choice = predictor.precision
    # Seconds of a token's forward pass, if it ran at the rate of the products.
    flops = forward_flops(classifier.config, rows.lengths, first_token_only=True)
    ideal = flops / (1e9 * products[choice.name])
    return BenchResult(
        machine=_machine(device),
        model=_model(source, classifier),
        texts=_texts(file, rows),
        precision=f"{choice.name}: {choice.reason}",
        products=products,
        training=trained.rate(3 * ideal),
        prediction=predicted.rate(ideal),
        milliseconds=1000 * statistics.median(latencies),
        milliseconds_95=1000 * float(np.percentile(latencies, 95)),
        peak_memory=peak_memory(device),
        slower_with=torch_private.off(),
    )


def generate_texts(tokenizer: BertTokenizer, count: int = TEXTS, seed: int = 0) -> list[str]:
    """Texts of random words of the vocabulary, as long as sentences of reviews are."""
    special = set(tokenizer.all_special_tokens)
    vocabulary = sorted(set(tokenizer.get_vocab()) - special)
    # As they are written: a byte-level vocabulary has the space before a word in its token.
    written = {tokenizer.convert_tokens_to_string([token]).strip() for token in vocabulary}
    words = sorted(word for word in written if word.isalpha()) or vocabulary
    generator = np.random.default_rng(seed)
    lengths = generator.lognormal(_LOG_LENGTH, _LOG_SPREAD, count).clip(1, _LONGEST).astype(int)
    return [" ".join(words[i] for i in generator.integers(len(words), size=n)) for n in lengths]


def peak_memory(device: torch.device) -> int | None:
    """Bytes that a GPU has held at most, or this process; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_bytes()


def _read(file: Path, column: str | None) -> list[str]:
    with options_called(_CALLED):
        require_no_model(file, f"bertolt bench --model {shlex.quote(str(file))}")
        return read_table(file, text=column, need_label=False).texts


@dataclass(frozen=True)
class Throughput:
    """What went through, and how long it took."""

    texts: int
    tokens: int
    seconds: float

    def rate(self, ideal: float) -> Rate:
        """The rates; `ideal` are the seconds of a token at the rate of the products."""
        return Rate(
            texts_per_second=self.texts / self.seconds,
            tokens_per_second=self.tokens / self.seconds,
            share=self.tokens * ideal / self.seconds,
        )


def _train(model: PreTrainedModel, rows: EncodedTexts, precision: Precision) -> Throughput:
    """Steps of fine-tuning, the first ones left out."""
    labels = np.arange(len(rows)) % model.config.num_labels
    data = replace(rows, labels=labels)

    def run(steps: int) -> Trainer:
        args = TrainingArguments(
            per_device_train_batch_size=BATCH,
            max_steps=steps,
            learning_rate=1e-5,
            precision=precision,
            disable_tqdm=True,
        )
        trainer = Trainer(model, args, train_dataset=data)
        trainer.train()
        return trainer

    trial = run(_WARMUP_STEPS).history.steps
    steps = min(200, max(3, int(SECONDS / trial[-1].seconds)))
    logs = run(_WARMUP_STEPS + steps).history.steps[_WARMUP_STEPS:]
    texts, tokens = sum(log.sequences for log in logs), sum(log.tokens for log in logs)
    return Throughput(texts, tokens, sum(log.seconds for log in logs))


def _predict(predictor: Predictor, texts: list[str]) -> Throughput:
    """Many texts at once, after a trial run."""

    def run(count: int) -> tuple[int, float]:
        """Tokens of some texts, and seconds from text to label."""
        start = time.perf_counter()
        answers = predictor.predict(islice(cycle(texts), count))
        tokens = sum(answer.tokens - answer.tokens_cut for answer in answers)
        return tokens, time.perf_counter() - start

    run(_TRIAL)
    count = max(_TRIAL, int(SECONDS * _TRIAL / run(_TRIAL)[1]))
    return Throughput(count, *run(count))


def _one_at_a_time(predictor: Predictor, texts: list[str]) -> list[float]:
    """Seconds of single texts, the first few left out."""
    seconds: list[float] = []
    end = time.perf_counter() + SECONDS / 2
    for text in cycle(texts):
        start = time.perf_counter()
        next(predictor.predict([text]))
        seconds.append(time.perf_counter() - start)
        if time.perf_counter() > end and len(seconds) > 2 * _FIRST:
            return seconds[_FIRST:]
    return seconds


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    memory = gibibytes(memory_bytes())
    threads = plural(torch.get_num_threads(), "thread")
    return (
        f"{cpu_name()}, {plural(cores(), 'core')}, {memory}, torch {torch.__version__}, {threads}"
    )


def _model(source: Path, model: PreTrainedModel) -> str:
    config = model.config
    return (
        f"{source}: {plural(config.num_hidden_layers, 'layer')}, hidden {config.hidden_size}, "
        f"{millions(model.num_parameters())} parameters"
    )


def _texts(file: Path | None, rows: EncodedTexts) -> str:
    kind = "generated texts" if file is None else f"texts of {file}"
    mean = number(float(rows.lengths.mean()))
    return f"{len(rows):,} {kind}, {mean} tokens each on average, batches of {BATCH}"
