"""How fast this machine trains a model of some shape: measured for a few seconds."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from bertolt.base.console import info
from bertolt.base.format import plural
from bertolt.base.machine import cpu_name, keep_freed_memory, memory_bytes
from bertolt.data.batch import IGNORE_INDEX, PackedBatch
from bertolt.models.config import BertConfig, Precision
from bertolt.models.families.bert import BertForMaskedLM
from bertolt.models.precision import choose_precision, product_rate
from bertolt.pretrain.flops import GPUS, Device, find_gpu
from bertolt.train.optim import AdamW, parameter_groups
from bertolt.train.step import train_step

SECONDS = 8.0
"""Of a measurement, about, and as many again for a model whose steps take long."""
_WARMUP, _LEAST = 2, 5


def gpu_here() -> str | None:
    """The GPU of this machine, by its key in `GPUS`; None without one that is known."""
    return find_gpu(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def this_device(precision: Precision) -> Device:
    """The GPU of this machine, or its CPU at the rate of its plain matrix products."""
    if torch.cuda.is_available():
        name, memory = gpu_here(), float(torch.cuda.mem_get_info()[1])
        gpu = torch.device("cuda")
        peak = 1e12 * GPUS[name].teraflops if name else 1e9 * product_rate(torch.bfloat16, gpu)
        name = name or torch.cuda.get_device_name()
        return Device(name=name, count=1, peak=peak, memory=memory)
    choice = choose_precision(precision, torch.device("cpu"))
    memory_here, threads = memory_bytes(), plural(torch.get_num_threads(), "thread")
    return Device(
        name=f"{cpu_name()} ({choice.name}, {threads})",
        count=1,
        peak=1e9 * product_rate(choice.dtype),
        memory=None if memory_here is None else float(memory_here),
        on_cpu=True,
    )


def measure_training(
    config: BertConfig, precision: Precision, *, length: int, masked: float, tokens: int
) -> float:
    """Tokens a second of masked-LM training steps, updates of the weights included.

    New weights and random ids: neither changes what a step takes. There is no dropout, as there is
    none while pretraining by default. The median of the steps counts, so one that something else
    has held up does not.

    Args:
        config: shape of the model.
        precision: number format, or "auto".
        length: of each sequence.
        masked: share of the tokens that are masked.
        tokens: of a step.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    info(f"Measuring steps of {tokens:,} tokens on this machine")
    choice = choose_precision(precision, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = config.changed(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        model = BertForMaskedLM(shape).move(device, choice.dtype).train()
    keep_freed_memory()
    optimizer = AdamW(parameter_groups(model, 0.01), lr=1e-5)
    batch = random_batch(config, length, masked, tokens)
    seconds: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(seconds) < _WARMUP + _LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        train_step(model, batch, optimizer, precision=choice)
        seconds.append(time.perf_counter() - start)
    return batch.num_tokens / statistics.median(seconds[_WARMUP:])


def random_batch(
    config: BertConfig, length: int, masked: float, tokens: int, seed: int = 0
) -> PackedBatch:
    """Full sequences of random ids, a share of their tokens with a label.

    Args:
        config: whose vocabulary the ids are of.
        length: of each sequence.
        masked: share of the tokens that have a label.
        tokens: of all sequences, about: a whole number of them, and one at least.
        seed: of the ids.
    """
    generator = np.random.default_rng(seed)
    count = max(1, round(tokens / length))
    ids = generator.integers(config.vocab_size, size=(count, length))
    chosen = generator.random((count, length)) < masked
    chosen[0, 0] = True
    labels = np.where(chosen, ids, IGNORE_INDEX)
    return PackedBatch.from_sequences(list(ids), token_labels=list(labels))
